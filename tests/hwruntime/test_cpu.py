"""The CPU executor against flat attention, and against the torch executor."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwruntime.attention import Heads, Layer, ModelShape, choose
from hwruntime.attention.cpu import QUERIES, STRETCH, CpuExecutor, shared_out
from hwruntime.attention.torch import TorchExecutor
from hwruntime.cache import Block, Pool, Storage
from hwruntime.cpu.attention import AttentionKernel
from hwruntime.cpu.build import CannotBuild, library
from hwruntime.errors import DeviceError
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.rotary import Rotary
from tests.hwruntime.own_kernels import needs_kernels
from tests.hwruntime.passes import DIM, ROTARY, VALUE_DIM, Pass, flat, moved, random_pass, run, scattered, turn

DEVICE = torch.device("cpu")
HEADS = [(1, 1), (4, 4), (4, 2), (6, 1), (40, 1)]


def rotary(pairs: int) -> Rotary:
    return Rotary(10000.0 ** (-torch.arange(0, pairs) / pairs))


def executor(made: Pass, most: int | None = None) -> CpuExecutor:
    return CpuExecutor(made.pool, made.storage, AttentionKernel(library()), most)


@needs_kernels
@settings(max_examples=200, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from(HEADS),
    st.sampled_from([None, None, 1, 3, 17]),
    st.sampled_from([None, None, 2.0]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(4, 6), (32, 64), (50, 40), (64, 128), (8, 33)]),
)
def test_any_views_give_flat_attention(rng, heads, window, softcap, sinks, rotated, dims):
    turns = rotary(dims[0])
    made = random_pass(random.Random(rng.randrange(2**31)), *heads, rotated, rotary=turns, value_dim=dims[1])
    sink = torch.linspace(-1, 2, heads[0]) if sinks else None
    sizes = Heads(*heads, 2 * dims[0], dims[1])
    layer = Layer(0, sizes, sizes.dim**-0.5, turns if rotated else None, window, softcap, sink)
    torch.testing.assert_close(run(made, layer, executor(made)).double(), flat(made, layer), atol=2e-5, rtol=1e-5)


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(HEADS), st.sampled_from([None, 17]))
def test_bfloat16_is_as_close_as_torch_is(rng, heads, window):
    turns = rotary(32)
    made = random_pass(random.Random(rng.randrange(2**31)), *heads, rotary=turns, value_dim=64)
    made = moved(made, DEVICE, torch.bfloat16)
    layer = Layer(0, Heads(*heads, 64, 64), 0.125, turns, window)
    expected = flat(made, layer)
    ours, torchs = (
        (run(made, layer, each, dtype=torch.bfloat16).double() - expected).norm()
        for each in (executor(made), TorchExecutor(made.pool, made.storage))
    )
    assert ours <= 1.5 * torchs + 1e-3


def long_pass(rng: random.Random, lengths: list[int], tokens: int) -> Pass:
    """Two rows that see all blocks, each at the end of one: `tokens` new ones and one."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    pool = Pool(page_size=16)
    storage = Storage(pool)
    storage.sized(0, 2, DIM, VALUE_DIM, torch.float32, DEVICE)
    blocks = scattered(rng, pool, lengths)
    raw = {
        i: (torch.randn(2, n, DIM, generator=generator), torch.randn(2, n, VALUE_DIM, generator=generator))
        for i, n in enumerate(lengths)
    }
    last = len(lengths) - 1
    written = [(last - 1, range(lengths[-2] - tokens, lengths[-2])), (last, range(lengths[-1] - 1, lengths[-1]))]
    rows = [Row((*(Piece(i, n) for i, n in enumerate(lengths) if i != own), Piece(own, lengths[own])), len(new))
            for own, new in written]  # fmt: skip
    for i, block in enumerate(blocks):
        keys = turn(raw[i][0], list(range(lengths[i])), ROTARY)
        storage.write(0, torch.tensor(pool.slots(block, range(lengths[i]))), keys, raw[i][1])
    plan = build_plan(rows, {i: PlanBlock(b.length, b.pages) for i, b in enumerate(blocks)}, 16)
    slots = [slot for own, new in written for slot in pool.slots(blocks[own], new)]
    q = torch.randn(len(slots), 4, DIM, generator=generator) * 2
    return Pass(rows, plan, slots, raw, written, q, ROTARY, pool, storage)


@needs_kernels
@pytest.mark.parametrize("window", [None, 40, 700])
@pytest.mark.parametrize("most", [None, QUERIES])
@pytest.mark.parametrize("tokens", [1, 9, QUERIES, QUERIES + 1, 150])
def test_long_blocks_and_many_queries_are_parted_and_merged(tokens, most, window):
    """More keys, or queries, than one thread attends to at a time."""
    made = long_pass(random.Random(tokens), [3 * STRETCH + 5, STRETCH, 200], tokens)
    layer = Layer(0, Heads(4, 2, DIM, VALUE_DIM), DIM**-0.5, ROTARY, window)
    got = run(made, layer, executor(made, most)).double()
    torch.testing.assert_close(got, flat(made, layer), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [1, 9, QUERIES + 1, 150])
def test_every_query_is_shared_out_once_to_every_key_of_its_block(tokens):
    plan = long_pass(random.Random(tokens), [3 * STRETCH + 5, STRETCH, 200], tokens).plan
    work = list(shared_out(plan))
    pairs = [(s.request, key, q) for s, queries in work for key in range(s.first, s.first + s.length) for q in queries]
    expected = sum(plan.kv_length(r) * (plan.qo_indptr[r + 1] - plan.qo_indptr[r]) for r in range(plan.requests))
    assert len(pairs) == len(set(pairs)) == expected
    assert max(len(queries) for _, queries in work) <= QUERIES
    assert max(s.length for s, _ in work) <= STRETCH * -(-(tokens + 1) // QUERIES)


@needs_kernels
@pytest.mark.parametrize("rotation", [Rotary(ROTARY.frequencies[:2], 2), Rotary(ROTARY.frequencies, interleaved=True)])
def test_rotations_of_any_kind_are_those_of_the_torch_executor(rotation):
    for seed in range(20):
        made = random_pass(random.Random(seed), 4, 2)
        layer = Layer(0, Heads(4, 2, DIM, VALUE_DIM), DIM**-0.5, rotation)
        got, expected = (run(made, layer, each) for each in (executor(made), TorchExecutor(made.pool, made.storage)))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@needs_kernels
def test_numbers_that_are_not_finite_reach_those_who_see_them_and_nobody_else():
    pool = Pool(page_size=4)
    storage = Storage(pool)
    plan = build_plan([Row((Piece(0, 1),), 1), Row((Piece(1, 1),), 1)], {0: PlanBlock(1, [0]), 1: PlanBlock(1, [1])}, 4)
    made = CpuExecutor(pool, storage, AttentionKernel(library()))
    made.begin(plan, [0, 4])
    v = torch.ones(2, 1, VALUE_DIM)
    v[0] = torch.nan
    got = made.attend(Layer(0, Heads(1, 1, DIM, VALUE_DIM), 1.0, None), torch.ones(2, 1, DIM), torch.ones(2, 1, DIM), v)
    assert got[0].isnan().all()
    assert (got[1] == 1).all()


@needs_kernels
def test_the_cache_grows_between_passes():
    made = random_pass(random.Random(5), 4, 2)
    layer = Layer(0, Heads(4, 2, DIM, VALUE_DIM), DIM**-0.5, ROTARY)
    here, expected = executor(made), flat(made, layer)
    made.pool.extend(Block(), 10 * made.pool.capacity)
    torch.testing.assert_close(run(made, layer, here).double(), expected, atol=1e-5, rtol=1e-5)
    assert made.storage.layer(0)[0].shape[1] > made.pool.capacity


# --- Which executor is chosen ---


USUAL = Heads(4, 2, 64, 64)


def shape(dtype: torch.dtype = torch.bfloat16, heads: Heads = USUAL, **options: object) -> ModelShape:
    return ModelShape(DEVICE, dtype, [Layer(0, heads, 1.0, None)], **options)


@needs_kernels
def test_a_model_in_bfloat16_on_a_cpu_takes_it():
    choice = choose("auto", shape())
    assert choice.name == "cpu"
    assert choice.why.startswith("the model is on a CPU, in bfloat16; kernels ")
    assert isinstance(choice.make(shape(), Pool(), Storage(Pool())), CpuExecutor)


def test_a_model_in_float32_takes_torch_unless_asked():
    assert choose("auto", shape(torch.float32)).why == "the model is on a CPU, in float32"


@needs_kernels
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (shape(torch.float16), "it computes in float32 and bfloat16, the model is in float16"),
        (shape(kv_dtype=torch.float8_e4m3fn), "the cache is in float8_e4m3fn"),
        (shape(heads=Heads(4, 2, 576, 512)), "it is for heads of up to 512 dimensions, the model's have 576"),
        (shape(heads=Heads(4, 2, 33, 64)), "it is for heads of an even number of dimensions, the model's have 33"),
    ],
)
def test_what_it_cannot_do_is_told(made, reason):
    with pytest.raises(DeviceError, match="attention `cpu` cannot run here") as failure:
        choose("cpu", made)
    assert reason in str(failure.value)
    assert failure.value.help == "use --attention torch"
    assert choose("auto", made).name == "torch"


def test_without_a_compiler_it_is_torch_and_why_is_told(monkeypatch):
    def cannot() -> None:
        raise CannotBuild("its kernels cannot be built: there is no C++ compiler", "install one (g++ or clang++)")

    monkeypatch.setattr("hwruntime.cpu.build.library", cannot)
    choice = choose("auto", shape())
    assert choice.name == "torch"
    assert choice.why == "cpu cannot run here: its kernels cannot be built: there is no C++ compiler"
    with pytest.raises(DeviceError, match="there is no C\\+\\+ compiler") as failure:
        choose("cpu", shape())
    assert failure.value.help == "install one (g++ or clang++), or use --attention torch"
