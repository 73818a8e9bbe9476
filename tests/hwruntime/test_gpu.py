"""On a GPU: `python -m pytest -m gpu`. The FlashInfer executor against the slow one, captured passes against passes
that are not, and a long run that must not grow."""

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hwlang as hw
from hwruntime.attention import Heads, Layer, ModelShape
from hwruntime.attention.flashinfer import FlashInferExecutor
from hwruntime.attention.torch import TorchExecutor
from hwruntime.checkpoint import open_checkpoint
from hwruntime.engine import Engine
from hwruntime.graphs import TorchRecorder
from hwruntime.models import Model
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.rotary import Rotary
from tests.hwruntime.passes import flat, moved, random_pass, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.xdist_group("gpu"),
]

TESTS = Path(__file__).parents[1]
PARITY = TESTS / "parity"
PROGRAMS = TESTS.parent / "programs"
DTYPES = [torch.bfloat16, torch.float16]


def flashinfer(model: ModelShape, made, pads: bool, path: str) -> FlashInferExecutor:
    from hwruntime.attention.prefill import FlashInferPrefills
    from hwruntime.attention.triton import TritonKernels

    prefills = FlashInferPrefills(model.device)
    return FlashInferExecutor(model, made.pool, made.storage, prefills, TritonKernels(), pads, path)


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rng=st.randoms(use_true_random=False),
    heads=st.sampled_from([(1, 1), (4, 4), (8, 2), (6, 1), (32, 8)]),
    dim=st.sampled_from([64, 128, 256]),
    window=st.sampled_from([None, None, 1, 17]),
    softcap=st.sampled_from([None, None, 20.0]),
    sinks=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    kv_dtype=st.sampled_from([None, None, torch.float8_e4m3fn]),
    path=st.sampled_from(["blocks", "blocks", "page tables"]),
    pads=st.booleans(),
)
def test_any_views_are_what_the_torch_executor_says(
    rng, heads, dim, window, softcap, sinks, dtype, kv_dtype, path, pads
):
    """In float32, which is exact for this; and the torch executor in the same numbers for how much rounding does."""
    device = torch.device("cuda")
    tables = path == "page tables" and kv_dtype is None
    rotary = Rotary(10000.0 ** (-torch.arange(0, dim, 2) / dim))
    drawn = random_pass(rng, *heads, rotated=not tables, rotary=rotary, value_dim=dim, padded=dim)
    sink = torch.linspace(-1, 2, heads[0], device=device) if sinks else None
    layer = Layer(0, Heads(*heads, dim, dim), dim**-0.5, rotary, window, softcap, sink)
    on_cpu = Layer(0, layer.heads, layer.scale, rotary, window, softcap, None if sink is None else sink.cpu())
    made = moved(drawn, device, dtype, kv_dtype)
    executor = flashinfer(ModelShape(device, dtype, [layer]), made, pads, "page tables" if tables else "blocks")
    exact = flat(drawn, on_cpu)
    error = relative(run(made, layer, executor, device, dtype), exact)
    if not tables:
        again = moved(drawn, device, dtype, kv_dtype)
        rounding = relative(run(again, layer, TorchExecutor(again.pool, again.storage), device, dtype), exact)
        assert error < 2 * rounding + 0.01
    assert error < (0.3 if kv_dtype else 0.03)


@pytest.mark.parametrize("name", ["qwen2", "llama3"])
def test_parity_models_by_logits(name):
    """The text of a parity program, in two blocks, in bfloat16 on the GPU against float32 on the CPU."""
    expected = json.loads(next(PARITY.glob(f"{name}*.expected.json")).read_text())
    checkpoint = open_checkpoint(str(PARITY / name), device="cpu", dtype="float32", trust_remote_code=False)
    tokens = checkpoint.tokenizer.encode(next(iter(expected["workers"].values())))[:120]
    logits = []
    for device, dtype in (("cpu", "float32"), ("cuda", "bfloat16")):
        model = Model.load(str(PARITY / name), device=device, dtype=dtype)
        assert model.attention.name == ("flashinfer" if device == "cuda" else "torch")
        logits.append(two_blocks(model, tokens).cpu())
    spread = (logits[0] - logits[0].mean(-1, keepdim=True)).norm(dim=-1)
    assert float(((logits[1] - logits[0]).norm(dim=-1) / spread).median()) < 0.05


def two_blocks(model: Model, tokens: list[int]) -> torch.Tensor:
    """Logits of a text, half of it in a first block, the rest decoded token by token in a second one."""
    from tests.hwruntime.models_for_tests import Blocks

    blocks, half = Blocks(model), len(tokens) // 2
    got = [blocks.write([0], tokens[:half])]
    return torch.cat(got + [blocks.write([0, 1], [token]) for token in tokens[half:]])


@pytest.mark.parametrize("program", ["sums.hw", "vote.hw", "layouts.hw:contiguous", "layouts.hw:combined"])
def test_captured_passes_write_the_same(program):
    file, _, name = program.partition(":")
    made = hw.load(PROGRAMS / file, name or None).compiled
    texts = []
    for recorder in (None, TorchRecorder()):
        checkpoint = open_checkpoint("tiny", device="cuda", dtype="bfloat16", trust_remote_code=False)
        model = Model(checkpoint, "flashinfer", recorder=recorder)
        texts.append(Engine(model).run(made, {}, seed=3).to_json())
    assert texts[0] == texts[1]


def test_a_pass_of_one_row_does_not_depend_on_the_batch():
    """Rule 10 as far as the arithmetic allows: the same worker alone and beside another one, by logits."""
    model = Model.load("tiny", device="cuda", dtype="bfloat16")
    pool = model.pool
    from hwruntime.cache import Block

    blocks = [Block(), Block(), Block()]
    tokens = list(range(3, 43))
    for block in blocks[:1]:
        slots = pool.slots(block, pool.extend(block, 40))
        model.forward(tokens, build_plan([Row((Piece(0, 40),), 40)], {0: PlanBlock(40, block.pages)}, 16), slots, [])
    logits = []
    for writers in ([1], [1, 2]):
        slots = [slot for i in writers for slot in pool.slots(blocks[i], pool.extend(blocks[i], 1))]
        shapes = {i: PlanBlock(block.length, block.pages) for i, block in enumerate(blocks)}
        rows = [Row((Piece(0, 40), Piece(i, 1)), 1) for i in writers]
        logits.append(model.forward([7] * len(writers), build_plan(rows, shapes, 16), slots, [0])[0])
        for i in writers:
            pool.clear(blocks[i])
    assert float((logits[0] - logits[1]).norm() / logits[0].norm()) < 0.02


def test_memory_does_not_grow(pytestconfig):
    """`--soak MINUTES` says for how long; half of the time is for reaching a steady state."""
    engine = Engine(Model.load("tiny", device="cuda", dtype="bfloat16"))
    program = hw.load(PROGRAMS / "sums.hw").compiled
    seconds = 60 * pytestconfig.getoption("--soak")
    start, seed, settled = time.monotonic(), 0, 0
    while (passed := time.monotonic() - start) < seconds:
        engine.run(program, {"n": 1 + seed % 4}, seed=seed)
        seed += 1
        if passed > seconds / 2 and not settled:
            settled = torch.cuda.memory_reserved()
    assert engine.model.pool.used == 0
    assert torch.cuda.memory_reserved() <= settled * 1.01
