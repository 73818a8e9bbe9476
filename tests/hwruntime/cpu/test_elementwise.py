"""What models do between products, by our kernel, against torch: equal to the last bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwruntime.cpu.build import library
from hwruntime.cpu.calls import Calls, in_a_row
from hwruntime.cpu.elementwise import calls_for
from tests.hwruntime.own_kernels import needs_kernels

aten = torch.ops.aten
DTYPES = [torch.float32, torch.bfloat16]
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 3e38, 1e-40)


@st.composite
def tensors(draw, shape: tuple[int, ...], dtype: torch.dtype, broadcast: bool = False) -> Tensor:
    """Of a shape, or of one that is broadcast to it; in any order in memory, and perhaps a part of something larger."""
    if broadcast:
        shape = tuple(draw(st.sampled_from([size, 1])) for size in shape[draw(st.integers(0, len(shape))) :])
    order = draw(st.permutations(range(len(shape))))
    step = draw(st.sampled_from([1, 1, 2]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    whole = torch.randn([shape[i] for i in order] + [step], generator=generator)
    flat = whole.view(-1)
    flat[: len(SPECIAL)] = torch.tensor(SPECIAL)[: len(flat)]
    return whole.to(dtype)[..., 0].permute([order.index(i) for i in range(len(shape))])


shapes = st.lists(st.sampled_from([1, 2, 3, 5, 16, 17, 40]), min_size=0, max_size=4).map(tuple)


def check(function, args, kwargs=None) -> None:
    expected = function(*args, **(kwargs or {}))
    out = torch.empty_like(expected)
    calls = calls_for(library(), function, args, kwargs or {}, out)
    if not calls:  # no numbers that lie side by side
        return
    for call in in_a_row(calls):
        assert isinstance(call, Calls)
        call()
    torch.testing.assert_close(out, expected, atol=0, rtol=0, equal_nan=True)


@needs_kernels
@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(DTYPES), shapes)
def test_two_operands(data, dtype, shape):
    function = data.draw(st.sampled_from([aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor]))
    a, b = data.draw(tensors(shape, dtype)), data.draw(tensors(shape, dtype, broadcast=True))
    check(function, [a, b] if data.draw(st.booleans()) else [b, a])


@needs_kernels
@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(DTYPES), shapes)
def test_one_operand(data, dtype, shape):
    a = data.draw(tensors(shape, dtype))
    check(aten.neg.default, [a])
    check(aten.clone.default, [a], {"memory_format": torch.contiguous_format})


@needs_kernels
@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(DTYPES), shapes.filter(len))
def test_several_in_a_row(data, dtype, shape):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    own = [tuple(size if i == dim % len(shape) else n for i, n in enumerate(shape)) for size in sizes]
    parts = [data.draw(tensors(each, dtype)) for each in own]
    check(aten.cat.default, [parts, dim])


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_models_do_is_done_by_the_kernel(dtype):
    """Rotations, gates and residuals, as their tensors lie."""
    made = torch.randn(1, 4, 1152).to(dtype)
    q = made[..., :896].view(1, 4, 14, 64).transpose(1, 2)
    cos = torch.randn(1, 4, 64).to(dtype).unsqueeze(1)
    gate, up = torch.randn(1, 4, 200).to(dtype).split(100, -1)
    for function, args in (
        (aten.mul.Tensor, [q, cos]),
        (aten.neg.default, [q[..., 32:]]),
        (aten.cat.default, [[q[..., 32:], q[..., :32]], -1]),
        (aten.mul.Tensor, [gate, up]),
        (aten.add.Tensor, [made, made]),
        (aten.clone.default, [q]),
    ):
        out = torch.empty_like(function(*args))
        assert calls_for(library(), function, args, {}, out)
        check(function, args)


@needs_kernels
def test_many_numbers_are_shared_out():
    check(aten.mul.Tensor, [torch.randn(300, 200), torch.randn(300, 1)])


@needs_kernels
@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (aten.mul.Tensor, [torch.ones(3), torch.ones(3).bfloat16()], {}),  # of two dtypes
        (aten.mul.Tensor, [torch.ones(3).half(), torch.ones(3).half()], {}),
        (aten.mul.Tensor, [torch.ones(3), 2.0], {}),
        (aten.add.Tensor, [torch.ones(3), torch.ones(3)], {"alpha": 2}),
        (aten.cat.default, [[torch.ones(0), torch.ones(2, 2)]], {}),
        (aten.div.Tensor, [torch.ones(3), torch.ones(3)], {}),
        (aten.neg.default, [torch.ones(3, 3, 3, 3, 3, 3)[:, :2, :2, :2, :2, :2]], {}),
    ],
)
def test_what_it_does_not_know_is_left_to_torch(function, args, kwargs):
    assert not calls_for(library(), function, args, kwargs, function(*args, **kwargs))
