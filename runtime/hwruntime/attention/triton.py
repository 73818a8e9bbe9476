"""The kernels in Triton: a short program each, one launch a call. Only a factory imports this file: not every machine
has Triton."""

# Triton has no types, and types are checked on machines without it too.
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from hwruntime.attention import Rotation
from hwruntime.attention.kernels import LOG2E, LOWEST
from hwruntime.cache import largest

GATHERED = 1024  # elements that one program of `gather` moves: a few heads of one row
BOTTOM = tl.constexpr(LOWEST)
TO_BASE_2 = tl.constexpr(LOG2E)


class TritonKernels:
    """`Kernels` in Triton. Storing 8-bit floats needs a GPU that has them: e4m3fn from compute capability 8.9 on."""

    def gather(
        self, q: Tensor, rows: Tensor, rotation: Rotation | None, tables: tuple[Tensor, Tensor] | None, out: Tensor
    ) -> None:
        cos, sin = tables or (None, None)
        assert q.stride(2) == out.stride(2) == 1
        assert cos is None or sin is None or (cos.is_contiguous() and sin.is_contiguous())
        count, heads, padded = out.shape
        dims = triton.next_power_of_2(padded)
        together = max(1, min(triton.next_power_of_2(heads), GATHERED // dims))
        with torch.accelerator.device_index(q.device.index):
            _gather[(count, triton.cdiv(heads, together))](
                *(q, q.stride(0), q.stride(1), rows, cos, sin, out, out.stride(0), out.stride(1), heads),
                DIM=q.shape[2],
                PADDED=padded,
                START=rotation.start if rotation else 0,
                PAIRS=0 if cos is None else cos.shape[1],
                INTERLEAVED=bool(rotation and rotation.interleaved),
                HEADS=together,
                DIMS=dims,
            )

    def store(self, k: Tensor, v: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        assert k.stride(2) == v.stride(2) == keys.stride(2) == values.stride(2) == 1
        with torch.accelerator.device_index(k.device.index):
            _store[k.shape[:2]](
                *(k, k.stride(0), k.stride(1), keys, keys.stride(0), keys.stride(1)),
                *(v, v.stride(0), v.stride(1), values, values.stride(0), values.stride(1)),
                *(slots, largest(keys.dtype)),
                KEY_DIM=k.shape[2],
                VALUE_DIM=v.shape[2],
                DIMS=triton.next_power_of_2(max(k.shape[2], v.shape[2])),
                num_warps=1,
            )

    def merge(
        self, outs: Tensor, lses: Tensor, indptr: Tensor, indices: Tensor, sinks: Tensor | None, out: Tensor
    ) -> None:
        assert outs.stride(2) == out.stride(2) == 1
        assert lses.is_contiguous()
        with torch.accelerator.device_index(outs.device.index):
            _merge[out.shape[:2]](
                *(outs, outs.stride(0), outs.stride(1), lses, indptr, indices, sinks),
                *(out, out.stride(0), out.stride(1), out.shape[1]),
                DIM=out.shape[2],
                DIMS=triton.next_power_of_2(out.shape[2]),
                num_warps=1,
            )


@triton.jit
def _gather(
    q: tl.tensor,
    q_row: tl.tensor,
    q_head: tl.tensor,
    rows: tl.tensor,
    cos: tl.tensor | None,
    sin: tl.tensor | None,
    out: tl.tensor,
    out_row: tl.tensor,
    out_head: tl.tensor,
    heads: tl.tensor,
    DIM: tl.constexpr,
    PADDED: tl.constexpr,
    START: tl.constexpr,
    PAIRS: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    HEADS: tl.constexpr,
    DIMS: tl.constexpr,
) -> None:
    """A program: `HEADS` heads of one gathered row, as [HEADS, DIMS]."""
    g = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    dim = tl.arange(0, DIMS)[None, :]
    source = q + tl.load(rows + g).to(tl.int64) * q_row + head * q_head
    x = tl.load(source + dim, mask=(head < heads) & (dim < DIM), other=0).to(tl.float32)
    if cos is not None:
        place = dim - START  # among the rotated dimensions
        turned = (place >= 0) & (place < 2 * PAIRS)
        if INTERLEAVED:
            pair, second = place >> 1, (place & 1) == 1
            step = 1
        else:
            second = place >= PAIRS
            pair = tl.where(second, place - PAIRS, place)
            step = PAIRS
        partner = tl.where(second, dim - step, dim + step)
        y = tl.load(source + partner, mask=(head < heads) & turned, other=0).to(tl.float32)
        c = tl.load(cos + g * PAIRS + pair, mask=turned, other=1)
        s = tl.load(sin + g * PAIRS + pair, mask=turned, other=0)
        x = x * c + tl.where(second, y, -y) * s
    target = out + g * out_row + head * out_head + dim
    tl.store(target, x.to(out.dtype.element_ty), mask=(head < heads) & (dim < PADDED))


@triton.jit
def _store(
    k: tl.tensor,
    k_token: tl.tensor,
    k_head: tl.tensor,
    keys: tl.tensor,
    keys_head: tl.tensor,
    keys_slot: tl.tensor,
    v: tl.tensor,
    v_token: tl.tensor,
    v_head: tl.tensor,
    values: tl.tensor,
    values_head: tl.tensor,
    values_slot: tl.tensor,
    slots: tl.tensor,
    limit: tl.tensor,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    DIMS: tl.constexpr,
) -> None:
    """A program: the key and the value of one token and head."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    key, value = keys + head * keys_head + slot * keys_slot, values + head * values_head + slot * values_slot
    _put(k + token * k_token + head * k_head, key, limit, KEY_DIM, DIMS)
    _put(v + token * v_token + head * v_head, value, limit, VALUE_DIM, DIMS)


@triton.jit
def _put(source: tl.tensor, target: tl.tensor, limit: tl.tensor, DIM: tl.constexpr, DIMS: tl.constexpr) -> None:
    dim = tl.arange(0, DIMS)
    x = tl.load(source + dim, mask=dim < DIM, other=0).to(tl.float32)
    x = tl.clamp(x, -limit, limit, propagate_nan=tl.PropagateNan.ALL)
    tl.store(target + dim, x.to(target.dtype.element_ty), mask=dim < DIM)


@triton.jit
def _merge(
    outs: tl.tensor,
    outs_row: tl.tensor,
    outs_head: tl.tensor,
    lses: tl.tensor,
    indptr: tl.tensor,
    indices: tl.tensor,
    sinks: tl.tensor | None,
    out: tl.tensor,
    out_token: tl.tensor,
    out_head: tl.tensor,
    heads: tl.tensor,
    DIM: tl.constexpr,
    DIMS: tl.constexpr,
) -> None:
    """A program: one token and head, in one pass over its partial results (online softmax)."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dim = tl.arange(0, DIMS)
    top = tl.full([], BOTTOM, tl.float32)
    total = tl.full([], 0, tl.float32)
    if sinks is not None:  # a part that has no value
        sink = tl.load(sinks + head).to(tl.float32) * TO_BASE_2
        top = tl.maximum(top, sink)
        total = tl.exp2(sink - top)
    merged = tl.full([DIMS], 0, tl.float32)
    for i in range(tl.load(indptr + token), tl.load(indptr + token + 1)):
        row = tl.load(indices + i).to(tl.int64)
        lse = tl.load(lses + row * heads + head)
        part = tl.load(outs + row * outs_row + head * outs_head + dim, mask=dim < DIM, other=0).to(tl.float32)
        part = tl.where(lse == float("-inf"), 0, part)  # it may be nan, which a weight of zero does not take away
        old, top = top, tl.maximum(top, lse)
        fade, weight = tl.exp2(old - top), tl.exp2(lse - top)
        total = total * fade + weight
        merged = merged * fade + part * weight
    merged = merged / tl.where(total == 0, 1, total)
    tl.store(out + token * out_token + head * out_head + dim, merged.to(out.dtype.element_ty), mask=dim < DIM)
