"""The small kernels around an attention library's own: gather and rotate queries, store K/V, merge partial results.

One seam, `Kernels`, with plain torch beside the fast ones (`attention/triton.py`). They are made for CUDA graphs: no
shape depends on data, and nothing waits for the device.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from hwruntime.attention import Rotation
from hwruntime.cache import put

LOG2E = math.log2(math.e)
LOWEST = -1e38  # below any score that counts, and finite: -inf - -inf would be nan


class Kernels(Protocol):
    """Where strides are free, the last dimension is contiguous all the same. All arithmetic is float32 and is rounded
    once, to the dtype of where it goes. P is a head's dimension as the pool pads it."""

    def gather(
        self, q: Tensor, rows: Tensor, rotation: Rotation | None, tables: tuple[Tensor, Tensor] | None, out: Tensor
    ) -> None:
        """out[g] = q[rows[g]], rotated on by the tables' positions where there is a rotation.

        q [T, heads, D] of any strides; rows [G] int32; tables: cos and sin [G, pairs] float32; out [G, heads, P] of any
        strides, P >= D: the rest is zeros.
        """

    def store(self, k: Tensor, v: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """keys[:, slots[t], :D] = k[t], and values likewise; the dimensions beyond are left as they are.

        k [T, kv heads, D], v [T, kv heads, Dv] of any strides; slots [T] int64 or int32: of tokens with the same slot,
        any one stays; keys, values [kv heads, slots, P] of any strides. An 8-bit float saturates.
        """

    def merge(
        self, outs: Tensor, lses: Tensor, indptr: Tensor, indices: Tensor, sinks: Tensor | None, out: Tensor
    ) -> None:
        """out[t] = the partial results `indices[indptr[t] : indptr[t + 1]]`, weighted by 2**lse and normalised.

        outs [G, heads, P]; lses [G, heads] float32, base 2, contiguous; indptr [T+1] int32, from 0; indices [M] int32:
        those beyond indptr[-1] are padding of any value; sinks [heads], natural logits; out [T, heads, Dv] of any
        strides, Dv <= P. A partial result of lse -inf weighs nothing, whatever its out holds; a token without any
        other gets zeros.
        """


class TorchKernels:
    """The kernels in plain torch, for any device; deterministic."""

    def gather(
        self, q: Tensor, rows: Tensor, rotation: Rotation | None, tables: tuple[Tensor, Tensor] | None, out: Tensor
    ) -> None:
        gathered = q[rows]
        if rotation is not None and tables is not None:
            gathered = rotation.apply(gathered.float(), tables)
        dim = q.shape[-1]
        out[..., :dim] = gathered
        out[..., dim:] = 0

    def store(self, k: Tensor, v: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        for new, pool in ((k, keys), (v, values)):
            put(pool[..., : new.shape[-1]], slots.long(), new.transpose(0, 1))

    def merge(
        self, outs: Tensor, lses: Tensor, indptr: Tensor, indices: Tensor, sinks: Tensor | None, out: Tensor
    ) -> None:
        partials = indices.clamp(0, len(outs) - 1)  # padding stays in range, and is no token's
        lse = lses[partials]
        sink = lses.new_full((), -math.inf) if sinks is None else sinks.float() * LOG2E  # a part that has no value
        top = _by_token("max", lse, indptr, LOWEST).maximum(sink)
        weights = torch.exp2(lse - top[_tokens(indptr, len(indices))])
        total = _by_token("sum", weights, indptr) + torch.exp2(sink - top)
        parts = (outs[partials][..., : out.shape[-1]] * weights[..., None]).masked_fill(lse.isneginf()[..., None], 0)
        out.copy_(_by_token("sum", parts, indptr) / torch.where(total == 0, 1, total)[..., None])


def _tokens(indptr: Tensor, count: int) -> Tensor:
    """The token of each of `count` partial results, [count]; padding counts as the last one's."""
    places = torch.arange(count, dtype=indptr.dtype, device=indptr.device)
    return torch.searchsorted(indptr[1:], places, right=True).clamp_max(len(indptr) - 2)


def _by_token(reduce: str, parts: Tensor, indptr: Tensor, initial: float = 0.0) -> Tensor:
    """Reduce `parts` [M, ...] token by token to [T, ...], float32, unchecked: a check would wait for the device."""
    return torch.segment_reduce(parts.float(), reduce, offsets=indptr, axis=0, unsafe=True, initial=initial)
