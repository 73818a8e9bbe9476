"""Ways to lay out a weight on a CPU, so that a product of few rows takes what reading the weight takes.

torch's own product of few rows and a large matrix lays the weight out anew every time. In float32 it takes two to five
times as long for two rows as for one, and workers are to share what one takes; in bfloat16, half as long again as
memory does. Sums are of the same numbers in another order.
"""

import ctypes
from collections.abc import Callable
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor, nn

from hwruntime.cpu.build import CannotBuild, library
from hwruntime.cpu.linear import LANES, LinearKernel, pack16, unpack16
from hwruntime.devices import cpu_info, has_amx, quick_bfloat16

ROWS = 4  # what oneDNN's layout is best for; it holds for any number
FEW = 3  # rows: fewer are made `ROWS`, where that is quicker
BLOCKS = (64, 48, 32, 24, 16, 8)  # outputs that lie side by side in oneDNN's layout, by the width of the CPU's vectors


class Layout(Protocol):
    """A way to lay out a weight [out, in], and to multiply by it."""

    name: str  # after "laid out for", in what `-v` says

    def lay_out(self, weight: Tensor) -> Tensor: ...

    def product(self, packed: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
        """Multiplies x [..., inputs] by a weight that is laid out, to [..., outputs]."""

    def dense(self, packed: Tensor, size: tuple[int, int]) -> Tensor:
        """The weight of that size [out, in] again: a copy."""

    def blocks(self, packed: Tensor, weight: Tensor) -> Tensor | None:
        """The memory of what is laid out as [out / b, in / n, b, n], padded, so that `[i // b, :, i % b]` is row i of
        `weight`; None where it is laid out in another way."""


class OneDnn:
    """As oneDNN reads weights best."""

    name = "oneDNN"

    def lay_out(self, weight: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        return packed

    def product(self, packed: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
        return partial(_onednn_product, packed, bias)

    def dense(self, packed: Tensor, size: tuple[int, int]) -> Tensor:
        return packed.to_dense()

    def blocks(self, packed: Tensor, weight: Tensor) -> Tensor | None:
        """b is one of `BLOCKS`, n the numbers that fill 4 bytes. All rows are looked at."""
        size, start = torch.ops.mkldnn._nbytes(packed), torch.ops.mkldnn.data_ptr(packed)
        flat = torch.frombuffer((ctypes.c_char * size).from_address(start), dtype=weight.dtype)
        rows, columns = weight.shape
        together = 4 // weight.dtype.itemsize
        for width in BLOCKS:
            count = -(-rows // width)
            if flat.numel() % (count * width * together) == 0 and flat.numel() >= count * width * columns:
                blocks = flat.view(count, -1, width, together)
                if _hold(blocks, weight):
                    return blocks
        return None


class Own:
    """As our own kernel for bfloat16 reads weights."""

    name = "our kernels"

    def __init__(self) -> None:
        """Raises `CannotBuild` where there is no such kernel."""
        self._kernel = LinearKernel("bfloat16", library())

    def lay_out(self, weight: Tensor) -> Tensor:
        return pack16(weight.detach())

    def product(self, packed: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
        multiply = self._kernel.product(packed, bias, inputs, outputs)
        return lambda x: multiply(x.reshape(-1, inputs)).view(*x.shape[:-1], outputs)

    def dense(self, packed: Tensor, size: tuple[int, int]) -> Tensor:
        return unpack16(packed, *size)

    def blocks(self, packed: Tensor, weight: Tensor) -> Tensor | None:
        return packed.view(len(packed), -1, LANES, 2)


def layout_for(weight: Tensor) -> Layout | None:
    """What helps products by a weight on a CPU: oneDNN's layout in float32; in bfloat16, where the CPU has instructions
    for it, ours, or oneDNN's where our kernels do not run, or the CPU has AMX, which oneDNN uses for many rows."""
    if weight.device.type != "cpu":
        return None
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    onednn = OneDnn() if has_onednn else None
    if weight.dtype is torch.float32:
        return onednn
    if weight.dtype is not torch.bfloat16 or not quick_bfloat16():
        return None
    return onednn if weight.shape[1] % 2 else own() or onednn


@cache
def own() -> Own | None:
    """Our layout, where it is the better one."""
    if has_amx():
        return None
    try:
        return Own()
    except CannotBuild:  # which the choice of attention tells
        return None


@cache
def too_few() -> int:
    """Rows: fewer than so many are filled up. On AMD's CPUs (an EPYC with AVX512-BF16) oneDNN takes a sixth longer for
    two than for `ROWS`; on Intel's (a Xeon with as much) a sixth less for one. Nothing is known of others."""
    return FEW if cpu_info().get("vendor_id") == "AuthenticAMD" else 0


def _onednn_product(packed: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Too few rows are filled up to the number that the layout is best for; what comes of the others is left."""
    rows = x.shape[-2] if x.ndim > 1 else 0
    few = 0 < rows < too_few() and x.numel() == rows * x.shape[-1]
    made: Tensor = torch.ops.mkldnn._linear_pointwise(
        nn.functional.pad(x, (0, 0, 0, ROWS - rows)) if few else x, packed, bias, "none", [], ""
    )
    return made[..., :rows, :] if few else made


def _hold(blocks: Tensor, weight: Tensor) -> bool:
    width, columns = blocks.shape[2], weight.shape[1]
    parts = zip(blocks, torch.split(weight, width), strict=True)
    return all(torch.equal(block.transpose(0, 1).flatten(1)[: len(part), :columns], part) for block, part in parts)
