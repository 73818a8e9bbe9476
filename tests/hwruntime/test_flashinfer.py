"""The FlashInfer executor on a CPU: its arrays and its bookkeeping, with attention and kernels in plain torch."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwruntime.attention import Heads, Layer, ModelShape, choose
from hwruntime.attention.flashinfer import (
    BREAK_EVEN,
    MOST_PASSES,
    FlashInferExecutor,
    Path,
    choose_path,
    padded_dim,
    rope,
)
from hwruntime.attention.kernels import TorchKernels
from hwruntime.attention.prefill import Rope, TorchPrefills
from hwruntime.attention.torch import TorchExecutor
from hwruntime.cache import Block, Pool, Storage
from hwruntime.errors import DeviceError
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.rotary import Rotary
from tests.hwruntime.passes import DIM, ROTARY, VALUE_DIM, Pass, flat, moved, random_pass, run

CPU = torch.device("cpu")
FULL = 64  # a head dimension that needs no padding
FULL_ROTARY = Rotary(500000.0 ** (-torch.arange(0, FULL, 2) / FULL) / 4)


def executor(made: Pass, layers: list[Layer], pads: bool, path: Path | None = None) -> FlashInferExecutor:
    model = ModelShape(CPU, torch.float32, layers)
    return FlashInferExecutor(model, made.pool, made.storage, TorchPrefills(), TorchKernels(), pads, path)


@settings(max_examples=200, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1), (16, 1)]),
    st.sampled_from([None, None, 1, 3, 17]),
    st.sampled_from([None, None, 2.0]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_views_give_flat_attention(rng, heads, window, softcap, sinks, rotated, pads):
    made = random_pass(random.Random(rng.randrange(2**31)), *heads, rotated, padded=padded_dim(DIM))
    rotation = ROTARY if rotated else None
    sink = torch.linspace(-1, 2, heads[0]) if sinks else None
    layer = Layer(0, Heads(*heads, DIM, VALUE_DIM), DIM**-0.5, rotation, window, softcap, sink)
    got = run(made, layer, executor(made, [layer], pads))
    torch.testing.assert_close(got.double(), flat(made, layer), atol=1e-5, rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    st.sampled_from([None, 1, 3, 17]),
    st.booleans(),
    st.booleans(),
)
def test_page_tables_give_flat_attention(rng, heads, window, sinks, pads):
    """Keys are stored unrotated; the executor rotates back what the model gives."""
    made = random_pass(
        random.Random(rng.randrange(2**31)), *heads, rotated=False, rotary=FULL_ROTARY, value_dim=FULL, padded=FULL
    )
    sink = torch.linspace(-1, 2, heads[0]) if sinks else None
    layer = Layer(0, Heads(*heads, FULL, FULL), FULL**-0.5, FULL_ROTARY, window, None, sink)
    got = run(made, layer, executor(made, [layer], pads, "page tables"))
    torch.testing.assert_close(got.double(), flat(made, layer), atol=1e-4, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_layers_of_different_kinds(rng):
    """Windows, rotations and head counts of their own, in one pass."""
    rng = random.Random(rng.randrange(2**31))
    made = random_pass(rng, 4, 2, padded=padded_dim(DIM))
    keys, values = made.storage.layer(0)
    heads = Heads(4, 2, DIM, VALUE_DIM)
    layers = [
        Layer(0, heads, 1.0, ROTARY),
        Layer(1, heads, 1.0, ROTARY, window=rng.randint(1, 30)),
        Layer(2, heads, 0.3, ROTARY, softcap=3.0),
        Layer(3, heads, 1.0, ROTARY, window=rng.randint(1, 30), sinks=torch.ones(4)),
    ]
    for layer in layers[1:]:
        stored = made.storage.sized(layer.index, 2, keys.shape[-1], keys.shape[-1], keys.dtype, CPU)
        for mine, its in zip(stored, (keys, values), strict=True):
            mine.copy_(its)
    made_for = executor(made, layers, rng.random() < 0.5)
    for layer in layers:
        torch.testing.assert_close(run(made, layer, made_for).double(), flat(made, layer), atol=1e-5, rtol=1e-5)


def both(seed: int, dtype: torch.dtype, kv_dtype: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
    """A pass by the FlashInfer executor, by the torch executor, and by flat attention in float64."""
    layer = Layer(0, Heads(4, 2, DIM, VALUE_DIM), DIM**-0.5, ROTARY)
    model = ModelShape(CPU, dtype, [layer])
    made = [random_pass(random.Random(seed), 4, 2, padded=padded) for padded in (padded_dim(DIM), None)]
    fast, slow = (moved(each, CPU, dtype, kv_dtype) for each in made)
    executors = (
        FlashInferExecutor(model, fast.pool, fast.storage, TorchPrefills(), TorchKernels()),
        TorchExecutor(slow.pool, slow.storage),
    )
    outs = [run(each, layer, runs, CPU, dtype) for each, runs in zip((fast, slow), executors, strict=True)]
    return outs[0], outs[1], flat(made[0], layer)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([torch.bfloat16, torch.float16]))
def test_numbers_of_fewer_bits(seed, dtype):
    *outs, exact = both(seed, dtype, None)
    for out in outs:
        assert (out.double() - exact).norm() / exact.norm() < 0.03


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_a_cache_of_8_bits(seed):
    """Both executors read the same rounded numbers, and write them alike."""
    fast, slow, exact = both(seed, torch.float32, torch.float8_e4m3fn)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    assert (slow.double() - exact).norm() / exact.norm() < 0.5


class Decoding:
    """Workers that write a token each in every pass, over an opening that all see and one another's blocks."""

    def __init__(self, workers: int, opening: int = 40) -> None:
        self.pool, self.layer = Pool(), Layer(0, Heads(4, 2, FULL, FULL), 0.1, FULL_ROTARY)
        self.storages = [Storage(self.pool), Storage(self.pool)]
        model = ModelShape(CPU, torch.float32, [self.layer])
        self.padding = FlashInferExecutor(model, self.pool, self.storages[0], TorchPrefills(), TorchKernels())
        self.executors = [self.padding, TorchExecutor(self.pool, self.storages[1])]
        self.blocks = [Block() for _ in range(workers + 1)]
        self.step([opening] + [0] * workers)

    def step(self, counts: list[int]) -> object:
        """One pass in which the blocks grow by `counts`; asserts that both executors say the same."""
        positions = [self.pool.extend(block, n) for block, n in zip(self.blocks, counts, strict=True)]
        slots = [s for b, p in zip(self.blocks, positions, strict=True) for s in self.pool.slots(b, p)]
        lengths = [block.length for block in self.blocks]
        rows = []
        for writer, count in enumerate(counts):
            seen = [0, *(i for i in range(1, len(self.blocks)) if i != writer)] if writer else []
            if count:
                rows.append(Row(tuple(Piece(i, lengths[i]) for i in (*seen, writer) if lengths[i]), count))
        shapes = {i: PlanBlock(block.length, block.pages) for i, block in enumerate(self.blocks)}
        plan = build_plan(rows, shapes, self.pool.page_size)
        q, k, v = (torch.randn(len(slots), heads, FULL) for heads in (4, 2, 2))
        outs = []
        for runs in self.executors:
            static = runs.begin(plan, slots)
            more = static.tokens - len(slots) if static else 0
            padded = [torch.cat([x, torch.randn(more, *x.shape[1:])]) for x in (q, k, v)]
            outs.append(runs.attend(self.layer, *padded)[: len(slots)])
        torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=1e-5)
        return self.padding.begin(plan, slots)


def test_passes_of_one_shape_share_their_memory():
    decoding = Decoding(workers=3)
    first = decoding.step([0, 1, 1, 1])
    kept = [tensor.data_ptr() for tensor in first.tensors]
    seen = [decoding.step([0, 1, 1, 1]) for _ in range(40)]
    assert all(static is first for static in seen)
    assert [tensor.data_ptr() for tensor in first.tensors] == kept


def test_a_step_prefix_is_a_shape_of_its_own():
    decoding = Decoding(workers=3)
    first = decoding.step([0, 1, 1, 1])
    prefix = decoding.step([0, 1, 7, 1])
    assert prefix is not first
    assert decoding.step([0, 7, 1, 1]) is prefix, "whose prefix it is does not matter"
    assert decoding.step([0, 1, 1, 1]) is first


def test_what_was_padded_goes_when_the_pool_grows():
    decoding = Decoding(workers=2)
    first = decoding.step([0, 1, 1])
    capacity = decoding.pool.capacity
    while decoding.pool.capacity == capacity:
        decoding.step([200, 1, 1])
    assert decoding.step([0, 1, 1]) is not first


def test_only_so_many_padded_passes_are_kept():
    decoding = Decoding(workers=1)
    first = decoding.step([0, 1])
    for indices in range(MOST_PASSES):
        decoding.padding._keep(replace(first), ("another shape", indices))
    assert decoding.step([0, 1]) is not first


def test_a_long_pass_is_not_padded():
    decoding = Decoding(workers=1)
    assert decoding.step([0, 65]) is None
    assert decoding.step([0, 64]) is not None


def test_the_path_is_chosen_while_the_pool_is_empty():
    pool, layer = Pool(), Layer(0, Heads(4, 2, FULL, FULL), 0.1, FULL_ROTARY)
    model = ModelShape(CPU, torch.float32, [layer])
    runs = FlashInferExecutor(model, pool, Storage(pool), TorchPrefills(), TorchKernels())
    assert runs.rotated
    runs.expect(2, 100)
    assert not runs.rotated
    runs.expect(2, BREAK_EVEN + 1)
    assert runs.rotated
    pool.extend(Block(), 1)
    runs.expect(2, 100)
    assert runs.rotated, "keys that are there already were stored for the other path"


def test_keys_that_flashinfer_cannot_rotate_stay_rotated():
    pool, layer = Pool(), Layer(0, Heads(4, 2, DIM, DIM), 0.1, ROTARY)
    for storage in (Storage(pool), Storage(pool, torch.float8_e4m3fn)):
        runs = FlashInferExecutor(
            ModelShape(CPU, torch.float32, [layer]), pool, storage, TorchPrefills(), TorchKernels()
        )
        runs.expect(1, 1)
        assert runs.rotated


@pytest.mark.parametrize(
    ("workers", "tokens", "path"),
    [(1, 10**6, "page tables"), (2, 9_999, "page tables"), (2, 10_001, "blocks"), (8, 1000, "page tables"),
     (8, 1500, "blocks")],
)  # fmt: skip
def test_the_rule(workers, tokens, path):
    assert choose_path(workers, tokens) == path


def test_ropes_that_flashinfer_knows():
    heads = Heads(1, 1, FULL, FULL)
    found = rope(Layer(0, heads, 1.0, FULL_ROTARY))
    assert found.scale == pytest.approx(4)
    assert found.theta == pytest.approx(500000, rel=1e-4)
    frequencies = FULL_ROTARY.frequencies
    uneven = frequencies.clone()
    uneven[10] *= 1.01  # YaRN, llama 3
    for other in (
        Rotary(uneven), Rotary(-frequencies), Rotary(frequencies, interleaved=True), Rotary(frequencies[:16]),
        Rotary(frequencies[:16], start=32),
    ):  # fmt: skip
        assert rope(Layer(0, heads, 1.0, other)) is None
    assert rope(Layer(0, heads, 1.0, None)) is None
    assert isinstance(found, Rope)


@pytest.mark.parametrize(
    ("dim", "padded"), [(8, 64), (64, 64), (80, 128), (128, 128), (192, 256), (256, 256), (257, None)]
)
def test_head_dimensions_are_padded(dim, padded):
    assert padded_dim(dim) == padded


@pytest.mark.parametrize(
    ("device", "capability", "dtype", "dim", "reason"),
    [
        ("cpu", (9, 0), torch.bfloat16, 64, "it needs an NVIDIA GPU, the model is on cpu"),
        ("cuda", (7, 5), torch.bfloat16, 64, "it needs a GPU of compute capability 8.0 or more, this one has 7.5"),
        ("cuda", (9, 0), torch.float32, 64, "it computes in bfloat16 and float16, the model is in float32"),
        ("cuda", (9, 0), torch.bfloat16, 576, "it has kernels for heads of up to 256 dimensions, the model's have 576"),
        ("cuda", (9, 0), torch.bfloat16, 64, "the package `flashinfer` is not installed"),
    ],
)
def test_where_flashinfer_cannot_run(monkeypatch, device, capability, dtype, dim, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("hwruntime.attention.find_spec", lambda _: None)
    layer = Layer(0, Heads(1, 1, dim, dim), 1.0, None)
    model = ModelShape(torch.device(device), dtype, [layer])
    with pytest.raises(DeviceError) as failure:
        choose("flashinfer", model)
    assert failure.value.message == f"attention `flashinfer` cannot run here: {reason}"
    assert failure.value.help
    if device == "cuda":
        assert choose("auto", model).name == "torch"
        assert reason in choose("auto", model).why


def test_flashinfer_is_what_runs_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr("hwruntime.attention.find_spec", lambda _: object())
    layer = Layer(0, Heads(1, 1, 64, 64), 1.0, None)
    model = ModelShape(torch.device("cuda"), torch.bfloat16, [layer])
    chosen = choose("auto", model)
    assert (chosen.name, chosen.why) == ("flashinfer", "the model is on NVIDIA H200")
