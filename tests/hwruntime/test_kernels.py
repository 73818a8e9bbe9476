"""The kernels around attention, in torch and in Triton, against plain slow definitions in float64.

Triton's run in its interpreter on the CPU, and are compiled for an H100 without one.
"""

import importlib.util
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hwruntime.attention
from hwruntime.attention.kernels import Kernels, TorchKernels
from hwruntime.rotary import Rotary

EXAMPLES = settings(max_examples=25, deadline=None)
DIMS = st.sampled_from([2, 8, 32, 80, 96])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SEEDS = st.integers(0, 2**31 - 1)
FP8 = torch.float8_e4m3fn


def interpreted() -> Kernels:
    """Triton's kernels for its interpreter, from a copy of the module that nothing else sees: which of the two a kernel
    is for is settled by the environment when it is defined."""
    pytest.importorskip("triton", reason="triton is not installed")
    path = Path(hwruntime.attention.__file__).with_name("triton.py")
    spec = importlib.util.spec_from_file_location("interpreted_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec.loader.exec_module(module)
    return module.TritonKernels()


@pytest.fixture(scope="module", params=["torch", "triton"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return TorchKernels() if request.param == "torch" else interpreted()


def laid_out(rng: random.Random, x: Tensor) -> Tensor:
    """The same values with other strides: as it is, transposed, or a part of something wider."""
    kind = rng.choice(["plain", "transposed", "part"])
    if kind == "transposed":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if kind == "part":
        return torch.cat([torch.full_like(x, torch.nan), x], 1)[:, x.shape[1] :]
    return x


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal but for float32 arithmetic and the last place of the dtype: the interpreter cuts where a GPU rounds."""
    torch.testing.assert_close(actual.double(), expected.double(), rtol=torch.finfo(actual.dtype).eps + 3e-6, atol=3e-6)


def turned(x: Tensor, angles: Tensor, rotation: Rotary) -> Tensor:
    """x [D], a pair at a time."""
    y = x.clone()
    for i, angle in enumerate(angles.tolist()):
        first, second = (2 * i, 2 * i + 1) if rotation.interleaved else (i, i + len(angles))
        a, b = x[rotation.start + first].item(), x[rotation.start + second].item()
        y[rotation.start + first] = a * math.cos(angle) - b * math.sin(angle)
        y[rotation.start + second] = b * math.cos(angle) + a * math.sin(angle)
    return y


@EXAMPLES
@given(seed=SEEDS, dim=DIMS, dtype=DTYPES, interleaved=st.booleans(), rotated=st.booleans())
def test_gather(kernels, seed, dim, dtype, interleaved, rotated):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    tokens, count, heads, padded = (
        rng.randint(1, 4),
        rng.randint(0, 5),
        rng.randint(1, 11),
        dim + rng.choice([0, 3, 48]),
    )
    q = laid_out(rng, torch.randn(tokens, heads, dim, generator=generator).to(dtype))
    rows = torch.randint(tokens, (count,), generator=generator, dtype=torch.int32)
    pairs = rng.randint(1, dim // 2)
    rotation = Rotary(torch.randn(pairs, generator=generator), rng.randint(0, dim - 2 * pairs), interleaved)
    deltas = torch.randint(100, (count,), generator=generator)
    out = laid_out(rng, torch.full((count, heads, padded), torch.nan, dtype=dtype))

    kernels.gather(q, rows, *((rotation, rotation.tables(deltas)) if rotated else (None, None)), out)

    expected = torch.zeros(count, heads, padded, dtype=torch.float64)
    for g, row in enumerate(rows.tolist()):
        for head in range(heads):
            x = q[row, head].double()
            angles = deltas[g] * rotation.frequencies.double()
            expected[g, head, :dim] = turned(x, angles, rotation) if rotated else x
    close(out, expected)
    if not rotated:
        assert torch.equal(out, expected.to(dtype))


@EXAMPLES
@given(seed=SEEDS, dim=DIMS, value_dim=DIMS, dtype=DTYPES, stored=st.sampled_from([None, FP8]), wide=st.booleans())
def test_store(kernels, seed, dim, value_dim, dtype, stored, wide):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    tokens, heads, room = rng.randint(1, 5), rng.randint(1, 3), 9
    # values that 8 bits hold exactly, as the interpreter does not round to nearest; larger ones where there is room
    held = fp8_values() * (16 if stored is None else 1)
    k, v = (
        laid_out(rng, held[torch.randint(254, (tokens, heads, d), generator=generator)].to(dtype))
        for d in (dim, value_dim)
    )
    places = rng.sample(range(room), tokens)
    slots = torch.tensor(places, dtype=torch.int64 if wide else torch.int32)
    shape = (heads, room, max(dim, value_dim) + rng.choice([0, 5]))
    keys, values = (torch.full(shape, 7.0).to(stored or dtype) for _ in range(2))

    kernels.store(k, v, slots, keys, values)

    for new, pool in ((k, keys), (v, values)):
        expected = torch.full(shape, 7.0)
        for token, slot in enumerate(places):
            expected[:, slot, : new.shape[2]] = new[token]
        assert torch.equal(pool.float(), expected)


def fp8_values() -> Tensor:
    """All finite 8-bit floats."""
    floats = torch.arange(256, dtype=torch.uint8).view(FP8).float()
    return floats[floats.isfinite()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_store_rounds_to_nearest(dtype):
    k = (torch.randn(50, 2, 16, generator=torch.Generator().manual_seed(0)) * 200).to(dtype)
    keys, values = torch.zeros(2, 50, 16).to(FP8), torch.zeros(2, 50, 16).to(FP8)
    TorchKernels().store(k, k / 1000, torch.arange(50), keys, values)
    for new, pool in ((k, keys), (k / 1000, values)):
        nearest = (new[..., None] - fp8_values()).abs().amin(-1)
        assert torch.equal((pool.float().transpose(0, 1) - new).abs(), nearest)


def test_store_saturates(kernels):
    large = torch.tensor([448.0, 449, 1e4, torch.inf, -448, -1e30, -torch.inf, 0]).view(1, 1, 8)
    keys, values = torch.zeros(1, 1, 8).to(FP8), torch.zeros(1, 1, 8).to(FP8)
    kernels.store(large, -large, torch.tensor([0]), keys, values)
    assert keys.flatten().tolist() == [448, 448, 448, 448, -448, -448, -448, 0]
    assert values.flatten().tolist() == [-448, -448, -448, -448, 448, 448, 448, 0]


def test_padding_tokens_share_a_slot(kernels):
    k = torch.arange(4.0).view(4, 1, 1).expand(4, 2, 8).contiguous()
    keys, values = torch.zeros(2, 3, 8), torch.zeros(2, 3, 8)
    kernels.store(k, k, torch.tensor([1, 2, 2, 2]), keys, values)
    assert not keys[:, :2].any()  # the key at slot 1 is token 0's
    assert set(keys[:, 2].flatten().tolist()) <= {1, 2, 3}


@EXAMPLES
@given(seed=SEEDS, dim=DIMS, dtype=DTYPES, part_dtype=DTYPES, with_sinks=st.booleans())
def test_merge(kernels, seed, dim, dtype, part_dtype, with_sinks):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    heads, parts = rng.randint(1, 5), rng.randint(1, 8)
    outs = torch.randn(parts, heads, dim + rng.choice([0, 7]), generator=generator).to(part_dtype)
    lses = torch.randn(parts, heads, generator=generator) * 10
    hidden = torch.rand(parts, heads, generator=generator) < 0.25
    outs[hidden], lses[hidden] = torch.nan, -torch.inf
    mine = [[rng.randrange(parts) for _ in range(rng.choice([0, 1, 2, 5]))] for _ in range(rng.randint(1, 5))]
    indptr = torch.tensor([0, *torch.tensor([len(m) for m in mine]).cumsum(0).tolist()], dtype=torch.int32)
    padding = [rng.choice([-1, 0, parts, 2**31 - 1]) for _ in range(rng.randint(0, 3))]
    indices = torch.tensor([i for m in mine for i in m] + padding, dtype=torch.int32)
    sinks = torch.randn(heads, generator=generator).to(dtype) * 3 if with_sinks else None
    if sinks is not None and rng.random() < 0.3:
        sinks[0] = -torch.inf
    out = laid_out(rng, torch.full((len(mine), heads, dim), torch.nan, dtype=dtype))

    kernels.merge(laid_out(rng, outs), lses, indptr, indices, sinks, out)

    close(out, merged(outs, lses, mine, sinks)[..., :dim])


def merged(outs: Tensor, lses: Tensor, mine: list[list[int]], sinks: Tensor | None) -> Tensor:
    """Token by token, head by head, as a softmax over the partial results' own (natural) scores."""
    expected = torch.zeros(len(mine), *outs.shape[1:], dtype=torch.float64)
    for token, head in [(t, h) for t in range(len(mine)) for h in range(outs.shape[1])]:
        seen = [g for g in mine[token] if lses[g, head] > -torch.inf]
        if seen:
            scores = lses[seen, head].double() * math.log(2)
            top = torch.cat([scores, sinks[head, None].double()]) if sinks is not None else scores
            weights = (scores - top.logsumexp(0)).exp()
            expected[token, head] = (weights[:, None] * outs[seen, head].double()).sum(0)
    return expected


@pytest.mark.parametrize("sinks", [None, torch.tensor([2.0])])
def test_merge_of_nothing_is_zero(kernels, sinks):
    outs, lses = torch.full((2, 1, 4), torch.nan), torch.full((2, 1), -torch.inf)
    out = torch.full((3, 1, 4), torch.nan)
    indptr, indices = (torch.tensor(x, dtype=torch.int32) for x in ([0, 0, 1, 3], [1, 0, 1]))
    kernels.merge(outs, lses, indptr, indices, sinks, out)
    assert torch.equal(out, torch.zeros(3, 1, 4))


def test_merge_does_not_hide_a_nan(kernels):
    outs, lses = torch.ones(2, 1, 4), torch.zeros(2, 1)
    outs[0] = torch.nan
    out = torch.zeros(1, 1, 4)
    indptr, indices = (torch.tensor(x, dtype=torch.int32) for x in ([0, 2], [0, 1]))
    kernels.merge(outs, lses, indptr, indices, None, out)
    assert out.isnan().all()


def test_the_largest_scores(kernels):
    """Weights are taken from the top: 2**lse itself would be inf, or 0 for all."""
    for shift in (-50000.0, 50000.0):
        outs, lses = torch.tensor([[[1.0]], [[4.0]]]), torch.tensor([[0.0], [1.0]]) + shift
        out = torch.zeros(1, 1, 1)
        indptr, indices = (torch.tensor(x, dtype=torch.int32) for x in ([0, 2], [0, 1]))
        kernels.merge(outs, lses, indptr, indices, None, out)
        assert out.item() == pytest.approx(3)


COMPILE = """
import torch
from types import SimpleNamespace
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from hwruntime.attention.triton import TritonKernels

class Driver:
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device: 0

def compiled(kernel, grid):
    def launch(*args, **options):
        made = kernel.warmup(*args, grid=grid, **options).asm
        assert ".target sm_90a" in made["ptx"] and made["cubin"]
        print(kernel.__name__, dim, "e4m3" in made["ptx"])
    return launch

driver.set_active(Driver())
JITFunction.__getitem__ = compiled  # a launch compiles, and goes no further
kernels = TritonKernels()
ints = lambda n: torch.zeros(n, dtype=torch.int32)
for dim in (64, 128, 256):
    q, pool = torch.zeros(3, 8, dim, dtype=torch.bfloat16), torch.zeros(8, 64, dim)
    tables = (torch.zeros(5, dim // 2),) * 2
    kernels.gather(q, ints(5), SimpleNamespace(start=0, interleaved=False), tables, q.new_zeros(5, 8, dim))
    kernels.merge(q.new_zeros(5, 8, dim), torch.zeros(5, 8), ints(4), ints(5), torch.zeros(8), q)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        kernels.store(q, q, ints(3).long(), pool.to(dtype), pool.to(dtype))
"""


def test_they_compile_for_an_h100(tmp_path):
    pytest.importorskip("triton", reason="triton is not installed")
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = [
        f"{name} {dim} {fp8}"
        for dim in (64, 128, 256)
        for name, fp8 in (("_gather", False), ("_merge", False), ("_store", False), ("_store", True))
    ]
    assert done.stdout.splitlines() == expected
