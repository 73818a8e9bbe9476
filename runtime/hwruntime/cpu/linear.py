"""The kernels for linear layers in bfloat16 and of 8 and 4 bits (`linear.cpp`), and how weights are laid out there."""

import ctypes
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from hwruntime.cpu.build import CannotBuild, Kernel, Library
from hwruntime.cpu.calls import KernelCall
from hwruntime.cpu.tape import launch

LANES = 16  # outputs that lie side by side
UNIT = 4  # inputs that a product takes at once
GROUP = 32  # inputs that share a scale, of 4 bits


class Linear(ctypes.Structure):
    """A layer: pointers, and its padded sizes."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        *((name, ctypes.c_int32) for name in ("outputs", "inputs")),
    ]


class Batch(ctypes.Structure):
    """Rows, and where their products go."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "out")),
        ("stride", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("count", "numbers", "width")),
    ]


class LinearKernel:
    """Products of rows by weights: of `bfloat16`, `int8` or `int4`."""

    def __init__(self, kind: str, library: Library) -> None:
        """Raises `CannotBuild` for a CPU without the instructions."""
        functions = library.functions
        plain = kind == "bfloat16"
        if not (functions.multiplies_bfloat16() if plain else functions.multiplies_bits()):
            raise CannotBuild(f"the CPU has no {'AVX512-BF16' if plain else 'AVX512-VNNI'}", "use another machine")
        dtypes = {torch.bfloat16: "bfloat16"} if plain else {torch.float32: "float32", torch.bfloat16: "bfloat16"}
        self._unit = 2 if plain else UNIT
        self._kernels = {dtype: library.kernel(f"{kind}_{name}") for dtype, name in dtypes.items()}

    def product(self, packed: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> "Product":
        """Of weights that are laid out, and a bias [outputs]."""
        return Product(self._kernels, packed, bias, -(-inputs // self._unit) * self._unit, outputs)


class Product:
    """Weights that are laid out and a bias, to be called with rows [n, in]: [n, outputs], of the rows' dtype. Rows of
    other dtypes than there are kernels for are converted, and back."""

    def __init__(
        self,
        kernels: Mapping[torch.dtype, Kernel],
        packed: Tensor,
        bias: Tensor | None,
        inputs: int,
        outputs: int,
    ) -> None:
        """`inputs`: padded to whole units."""
        self._kernels, self._outputs = kernels, outputs
        self._packed = packed  # owns the memory that is pointed at, as the bias does
        self._bias = None if bias is None else nn.functional.pad(bias.detach().float(), (0, -outputs % LANES))
        pointer = None if self._bias is None else self._bias.data_ptr()
        self._layer = Linear(packed.data_ptr(), pointer, len(packed) * LANES, inputs)

    def __call__(self, rows: Tensor) -> Tensor:
        kernel = self._kernels.get(rows.dtype)
        if kernel is None:
            return self(rows.to(next(iter(self._kernels)))).to(rows.dtype)
        rows = rows if rows.stride(-1) == 1 else rows.contiguous()
        out = rows.new_empty(len(rows), self._outputs)
        launch(partial(self._bound, kernel), rows, out)
        return out

    def _bound(self, kernel: Kernel, rows: Tensor, out: Tensor) -> KernelCall:
        batch = Batch(rows.data_ptr(), out.data_ptr(), rows.stride(0), *rows.shape, self._outputs)
        return KernelCall(kernel, self._layer, batch)


def pack16(weights: Tensor) -> Tensor:
    """Weights bfloat16 [out, in], of an even `in`, as the kernel reads them: [blocks, ..]."""
    padded = nn.functional.pad(weights, (0, 0, 0, -len(weights) % LANES))
    return padded.view(-1, LANES, padded.shape[1] // 2, 2).transpose(1, 2).flatten(1)


def unpack16(packed: Tensor, outputs: int, inputs: int) -> Tensor:
    """What `pack16` was given: a copy."""
    return packed.view(len(packed), -1, LANES, 2).transpose(1, 2).reshape(-1, inputs)[:outputs]


def pack8(weights: Tensor, scales: Tensor) -> Tensor:
    """Weights int8 [out, in] and a scale for each output, as the kernel reads them: uint8 [blocks, ..]."""
    out, numbers = weights.shape
    padded = nn.functional.pad(weights.short() + 128, (0, -numbers % UNIT, 0, -out % LANES), value=128).byte()
    blocks = padded.view(-1, LANES, padded.shape[1] // UNIT, UNIT).transpose(1, 2).flatten(1)
    return torch.cat([bytes_of(nn.functional.pad(scales.float(), (0, -out % LANES)).view(-1, LANES)), blocks], 1)


def pack4(levels: Tensor, scales: Tensor, lowest: Tensor) -> Tensor:
    """Levels 0..15 [out, groups, GROUP], and what a level and level 0 are worth, bfloat16 [out, groups], as the kernel
    reads them: uint8 [blocks, ..]."""
    more, groups = -len(levels) % LANES, levels.shape[1]
    halves = nn.functional.pad(levels.byte(), (0, 0, 0, 0, 0, more)).view(
        -1, LANES, groups, 2, GROUP // UNIT // 2, UNIT
    )
    both = halves[..., 0, :, :] | halves[..., 1, :, :] << 4  # [blocks, 16, groups, 4, UNIT]
    pairs = nn.functional.pad(torch.stack([lowest, scales], -1), (0, 0, 0, 0, 0, more)).view(-1, LANES, groups, 2)
    by_group = bytes_of(pairs.transpose(1, 2)).flatten(2), both.permute(0, 2, 3, 1, 4).flatten(2)
    return torch.cat(by_group, -1).flatten(1)


def bytes_of(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.uint8)
