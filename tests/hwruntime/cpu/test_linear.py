"""Products by weights of 8 and 4 bits, against what these weights stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwruntime.cpu.build import CannotBuild, Library, library
from hwruntime.cpu.linear import GROUP, LinearKernel, pack4, pack8
from tests.hwruntime.own_kernels import needs_products

ROUNDING = {torch.float32: 2e-4, torch.bfloat16: 1e-2, torch.float16: 1e-3}  # of what all of a row's products come to


def multiply(kind: str, x: Tensor, packed: Tensor, outputs: int, bias: Tensor | None = None) -> Tensor:
    return LinearKernel(kind, library()).product(packed, bias, x.shape[1], outputs)(x)


def check(kind: str, packed: Tensor, weights: Tensor, x: Tensor, bias: Tensor | None) -> None:
    """The product of x [rows, in] and `weights` [out, in], which are what `packed` stands for."""
    got = multiply(kind, x, packed, len(weights), bias)
    expected = x.double() @ weights.double().T + (0 if bias is None else bias.double())
    most = x.double().abs().amax(1, keepdim=True) * weights.double().norm(dim=1)
    assert got.dtype == x.dtype
    assert ((got.double() - expected).abs() <= ROUNDING[x.dtype] * (most + expected.abs()) + 1e-6).all()


sizes = st.integers(1, 70)
rows = st.sampled_from([1, 2, 3, 4, 5, 8, 11, 67])
dtypes = st.sampled_from(list(ROUNDING))


@needs_products
@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(1, 300), rows, dtypes, st.booleans(), st.integers(0, 2**31))
def test_8_bits(outputs, inputs, count, dtype, biased, seed):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(-127, 128, (outputs, inputs), generator=generator, dtype=torch.int8)
    scales = torch.rand(outputs, generator=generator) / 64
    x = torch.randn(count, inputs, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator) if biased else None
    check("int8", pack8(levels, scales), levels * scales[:, None], x, bias)


@needs_products
@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(1, 9), rows, dtypes, st.booleans(), st.integers(0, 2**31))
def test_4_bits(outputs, groups, count, dtype, biased, seed):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 16, (outputs, groups, GROUP), generator=generator)
    scales, lowest = (torch.randn(outputs, groups, generator=generator).bfloat16() / 8 for _ in range(2))
    x = torch.randn(count, groups * GROUP, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator) if biased else None
    weights = levels * scales.float()[..., None] + lowest.float()[..., None]
    check("int4", pack4(levels, scales, lowest), weights.flatten(1), x, bias)


@needs_products
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_number_that_is_large_beyond_measure_spoils_its_own_group_alone(kind):
    """Rows are rounded by groups: models have a few numbers that are thousands of times as large as all others."""
    x = torch.randn(2, 256)
    x[0, 3] = 1e6
    if kind == "int8":
        levels = torch.randint(-127, 128, (16, 256), dtype=torch.int8)
        levels[:, :64] = 0  # the number's group counts for nothing
        packed, weights = pack8(levels, torch.ones(16) / 64), levels / 64
    else:
        levels = torch.randint(0, 16, (16, 8, GROUP))
        levels[:, 0] = 0
        one = torch.ones(16, 8).bfloat16()
        packed, weights = pack4(levels, one, one * 0), levels.flatten(1).float()
    got = multiply(kind, x, packed, 16)
    torch.testing.assert_close(got, x @ weights.T, atol=0.02, rtol=1e-3)


@needs_products
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_rows_of_zeros_and_rows_that_are_not_finite(kind):
    levels = torch.ones(16, 64, dtype=torch.int8)
    one = torch.ones(16, 2).bfloat16()
    packed = pack8(levels, torch.ones(16)) if kind == "int8" else pack4(levels.view(16, 2, GROUP), one, one * 0)
    x = torch.zeros(3, 64)
    x[1, 5], x[2, 5] = torch.nan, torch.inf
    got = multiply(kind, x, packed, 16)
    assert (got[0] == 0).all()
    assert not got[1:].isfinite().any()


@needs_products
def test_rows_of_any_strides():
    levels, scales = torch.randint(-127, 128, (32, 64), dtype=torch.int8), torch.ones(32)
    wide = torch.randn(5, 200)
    for x in (wide[:, 7:71], wide.T[7:71, :].T, wide[::2, :64]):
        assert torch.equal(
            multiply("int8", x, pack8(levels, scales), 32),
            multiply("int8", x.contiguous(), pack8(levels, scales), 32),
        )


def test_a_cpu_without_the_instructions():
    class Functions:
        def multiplies_bits(self) -> int:
            return 0

    with pytest.raises(CannotBuild, match="the CPU has no AVX512-VNNI"):
        LinearKernel("int8", Library(Functions(), "for a test"))
