"""What models do between products, number by number, by our kernel (`calls.cpp`): the same numbers as torch's."""

import ctypes
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hwruntime.cpu.build import Library
from hwruntime.cpu.calls import KernelCall

DIMS = 4  # that the kernel loops over
COPY, NEGATE, ADD, SUBTRACT, MULTIPLY = range(5)

aten = torch.ops.aten
UNARY = {aten.clone.default: COPY, aten.neg.default: NEGATE}
BINARY = {aten.add.Tensor: ADD, aten.sub.Tensor: SUBTRACT, aten.mul.Tensor: MULTIPLY}
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class Loop(ctypes.Structure):
    """An operation, and how many numbers it is for."""

    _fields_ = [("operation", ctypes.c_int32), ("sizes", ctypes.c_int64 * DIMS)]


class Operand(ctypes.Structure):
    """Where a tensor is, and how many numbers lie between its numbers."""

    _fields_ = [("data", ctypes.c_void_p), ("strides", ctypes.c_int64 * DIMS)]


class Operands(ctypes.Structure):
    _fields_ = [(name, Operand) for name in ("a", "b", "out")]


class Part(NamedTuple):
    """An operation on tensors of one shape."""

    operation: int
    a: Tensor
    b: Tensor
    out: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.a, self.b, self.out


class Dim(NamedTuple):
    """A dimension of a loop: its size, and its stride in each tensor."""

    size: int
    strides: tuple[int, ...]


def calls_for(
    library: Library, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor
) -> list[KernelCall]:
    """The calls that put into `out` what a function of torch's makes of these arguments; none for what the kernel
    cannot do."""
    calls = [call_for(library, part) for part in parts_of(function, args, kwargs, out)]
    return [] if None in calls else [call for call in calls if call is not None]


def parts_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> list[Part]:
    """What a function comes to; nothing for one that the kernel does not know."""
    if function in UNARY:
        return [Part(UNARY[function], args[0], args[0], out)]
    if function in BINARY and not kwargs and isinstance(args[1], Tensor):
        return [Part(BINARY[function], args[0].expand(out.shape), args[1].expand(out.shape), out)]
    if function is aten.cat.default and all(x.ndim == out.ndim for x in args[0]):
        dim = args[1] if len(args) > 1 else 0
        sizes = [x.shape[dim] for x in args[0]]
        places = [out.narrow(dim, end - size, size) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        return [Part(COPY, x, x, place) for x, place in zip(args[0], places, strict=True)]
    return []


def call_for(library: Library, part: Part) -> KernelCall | None:
    dtypes = {x.dtype for x in part.tensors}
    dims = dims_of(part)
    spare = DIMS - len(dims)
    if len(dtypes) > 1 or part.out.dtype not in DTYPES or spare < 0 or not fits(dims[-1]):
        return None
    kernel = library.kernel(f"elementwise_{DTYPES[part.out.dtype]}")
    loop = Loop(part.operation, (*[1] * spare, *(dim.size for dim in dims)))
    operands = (
        Operand(x.data_ptr(), (*[0] * spare, *(dim.strides[i] for dim in dims))) for i, x in enumerate(part.tensors)
    )
    return KernelCall(kernel, loop, Operands(*operands))


def fits(last: Dim) -> bool:
    """Whether numbers lie side by side along the last dimension, or one of an operand is used for all."""
    return last.strides[-1] == 1 and set(last.strides) <= {0, 1}


def dims_of(part: Part) -> list[Dim]:
    """As few dimensions as the loop can have, in the order in which `out` lies in memory."""
    strides = zip(*(x.stride() for x in part.tensors), strict=True)
    dims = [Dim(size, stride) for size, stride in zip(part.out.shape, strides, strict=True) if size != 1]
    dims.sort(key=lambda dim: -dim.strides[-1])
    folded: list[Dim] = []
    for dim in dims:
        if folded and all(
            outer == dim.size * inner for outer, inner in zip(folded[-1].strides, dim.strides, strict=True)
        ):
            dim = Dim(folded.pop().size * dim.size, dim.strides)
        folded.append(dim)
    return folded or [Dim(1, (1, 1, 1))]
