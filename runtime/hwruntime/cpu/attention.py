"""The kernel for attention (`attention.cpp`), and the structures that it takes: the same there, by name and order."""

import ctypes
from array import array
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hwruntime.attention import Heads
from hwruntime.cpu.build import Library
from hwruntime.cpu.calls import KernelCall

WIDEST = 512  # dimensions of a head
DTYPES = (torch.float32, torch.bfloat16)


class Task(ctypes.Structure):
    """Keys of one request that lie next to each other, and its gathered queries."""

    _fields_ = [(name, ctypes.c_int32) for name in ("first", "slot", "length", "query", "queries", "causal", "place")]


class Pass(ctypes.Structure):
    """A pass, for all layers: pointers to arrays that somebody else holds, and their sizes."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("tasks", "rows", "positions", "slots", "starts", "parts")),
        *((name, ctypes.c_int32) for name in ("count", "tokens", "places")),
    ]


class LayerFacts(ctypes.Structure):
    """A layer: heads, window, softcap (0 for none), sinks and rotation (null for none)."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("sinks", "cosines", "sines")),
        *(
            (name, ctypes.c_int32)
            for name in ("heads", "kv_heads", "dim", "value_dim", "window", "pairs", "start", "interleaved")
        ),
        *((name, ctypes.c_float) for name in ("scale", "softcap")),
    ]


class Rows(ctypes.Structure):
    """A tensor [rows, heads, numbers]: where it is, and how many numbers lie between rows and between heads."""

    _fields_ = [("data", ctypes.c_void_p), ("row", ctypes.c_int64), ("head", ctypes.c_int64)]


class Arrays(ctypes.Structure):
    """What a layer reads and writes, and room for partial results."""

    _fields_ = [
        ("laid", ctypes.POINTER(Pass)),
        *((name, Rows) for name in ("q", "k", "v", "keys", "values", "out")),
        ("room", ctypes.c_void_p),
    ]


class Now(NamedTuple):
    """A pass, and where a layer's keys and values are in the cache by then, [kv heads, slots, ..]."""

    laid: Pass
    keys: Tensor
    values: Tensor


class AttentionKernel:
    """Attends and stores, as `attention.cpp` says."""

    def __init__(self, library: Library) -> None:
        names = {torch.float32: "attend_float32", torch.bfloat16: "attend_bfloat16"}
        self._kernels = {dtype: library.kernel(name) for dtype, name in names.items()}
        self._floats = library.functions.attention_room
        self._floats.argtypes, self._floats.restype = [ctypes.c_int64, ctypes.c_int32, ctypes.c_int32], ctypes.c_int64
        self._room = torch.empty(0)
        self._sizes: set[tuple[int, int]] = set()  # heads and value dimensions of the layers that have been seen

    def bound(
        self, layer: LayerFacts, now: Callable[[], Now], q: Tensor, k: Tensor, v: Tensor, out: Tensor
    ) -> KernelCall:
        """A call that attends, `now` being what there is when it is made ready. q [T, heads, D], k [T, kv heads, D]
        and v [T, kv heads, Dv] of a pass's tokens, to out [T, heads, Dv]: of one dtype, with numbers side by side."""
        arrays = Arrays(q=rows_of(q), k=rows_of(k), v=rows_of(v), out=rows_of(out))
        self._sizes.add((layer.heads, layer.value_dim))

        def before() -> None:
            laid, keys, values = now()
            self._make_room(laid)
            arrays.laid, arrays.room = ctypes.pointer(laid), self._room.data_ptr()
            arrays.keys, arrays.values = rows_of(keys.transpose(0, 1)), rows_of(values.transpose(0, 1))

        return KernelCall(self._kernels[q.dtype], layer, arrays, before)

    def _make_room(self, laid: Pass) -> None:
        """For any layer: calls that are ready point to it until they have been made."""
        need = max(self._floats(laid.places, *sizes) for sizes in self._sizes)
        if self._room.numel() < need:
            self._room = torch.empty(need)


def rows_of(x: Tensor) -> Rows:
    return Rows(x.data_ptr(), x.stride(0), x.stride(1))


def why_not(heads: Heads, dtype: torch.dtype) -> str | None:
    """What of a layer the kernel cannot do."""
    if dtype not in DTYPES:
        return f"it computes in float32 and bfloat16, the model is in {str(dtype).removeprefix('torch.')}"
    if max(heads.dim, heads.value_dim) > WIDEST:
        return f"it is for heads of up to {WIDEST} dimensions, the model's have {max(heads.dim, heads.value_dim)}"
    if heads.dim % 2 and dtype is torch.bfloat16:
        return f"it is for heads of an even number of dimensions, the model's have {heads.dim}"
    return None


def pointer(numbers: "array[int]") -> int:
    return numbers.buffer_info()[0]
