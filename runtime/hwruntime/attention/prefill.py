"""The one seam to FlashInfer's attention: `Prefill` plans and runs one group of requests over the paged cache.

Real: `FlashInferPrefill`. `TorchPrefill` computes the same from the same arrays in plain torch, to test without a GPU.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from hwruntime.attention.launch import Group, GroupShape
from hwruntime.devices import upload

WORKSPACE = 256 * 2**20  # bytes for the partial results of requests that FlashInfer splits; its own advice is 128 MiB
STATIC_WORKSPACE = 2**20  # bytes for the plan of a padded group


@dataclass(frozen=True)
class Rope:
    """Rotation by FlashInfer itself: positions / `scale`, frequencies theta ** (-2i / head dim), halves as pairs."""

    scale: float
    theta: float


@dataclass(frozen=True)
class Kind:
    """What FlashInfer has to know about layers: those of one kind share their plans.

    `dim`: the head dimension in the cache; `window`: of causal groups alone; `rope`: queries and keys come unrotated.
    """

    heads: int
    kv_heads: int
    dim: int
    scale: float
    softcap: float | None
    window: int | None
    dtype: torch.dtype
    kv_dtype: torch.dtype
    rope: Rope | None = None


class Prefill(Protocol):
    """Attention of one group's queries."""

    def plan(self, group: Group, kind: Kind) -> None:
        """Prepare for `run`, for every layer of a kind; group after group of the same shape where it is static."""

    def run(self, q: Tensor, keys: Tensor, values: Tensor, out: Tensor, lse: Tensor) -> None:
        """q [G, heads, dim] against keys and values [kv heads, slots, dim] of the storage; writes out [G, heads, dim]
        and lse [G, heads], base 2. Neither means anything for a query that sees no key."""


class Prefills(Protocol):
    """Makes `Prefill`s for a device."""

    def make(self, shape: GroupShape | None) -> Prefill:
        """One for all groups that are padded to `shape`, or for any group that is not padded."""


def paged(x: Tensor, page_size: int) -> Tensor:
    """A layer's keys or values [kv heads, slots, dim] as FlashInfer's HND pages [pages, kv heads, page size, dim]."""
    return x.view(len(x), -1, page_size, x.shape[-1]).transpose(0, 1)


def int32(numbers: Sequence[int]) -> Tensor:
    """A tensor in the memory of the CPU: FlashInfer plans there."""
    return torch.frombuffer(array("i", numbers), dtype=torch.int32) if numbers else torch.empty(0, dtype=torch.int32)


# --- FlashInfer ---


class FlashInferPrefills:
    """FlashInfer's wrappers on a GPU; they run one after the other and share a workspace."""

    def __init__(self, device: torch.device) -> None:
        self._workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device=device)

    def make(self, shape: GroupShape | None) -> Prefill:
        return FlashInferPrefill(self._workspace, shape)


class FlashInferPrefill:
    """`BatchPrefillWithPagedKVCacheWrapper` on the FA2 backend, which packs the query heads of a K/V head into one tile
    and splits long requests. (FA3's planner does neither.)"""

    def __init__(self, workspace: Tensor, shape: GroupShape | None) -> None:
        from flashinfer import BatchPrefillWithPagedKVCacheWrapper

        def numbers(count: int) -> Tensor:
            return torch.zeros(count, dtype=torch.int32, device=workspace.device)

        self._device = workspace.device
        if shape is None:
            self._wrapper = BatchPrefillWithPagedKVCacheWrapper(workspace, "HND", backend="fa2")
            return
        self._wrapper = BatchPrefillWithPagedKVCacheWrapper(
            workspace,
            "HND",
            use_cuda_graph=True,
            qo_indptr_buf=numbers(shape.requests + 1),
            paged_kv_indptr_buf=numbers(shape.requests + 1),
            paged_kv_indices_buf=numbers(shape.indices),
            paged_kv_last_page_len_buf=numbers(shape.requests),
            backend="fa2",
        )
        plans = torch.empty(STATIC_WORKSPACE, dtype=torch.uint8, device=workspace.device)
        self._wrapper.reset_workspace_buffer(workspace, plans)

    def plan(self, group: Group, kind: Kind) -> None:
        self._page_size = group.kind.page_size
        self._wrapper.plan(
            self._pinned(group.qo_indptr),
            self._pinned(group.kv_indptr),
            # From the CPU, FlashInfer would wait for the GPU to take these; it does not look at them for planning.
            upload(int32(group.kv_indices), self._device),
            self._pinned(group.kv_last_page_len),
            kind.heads,
            kind.kv_heads,
            kind.dim,
            group.kind.page_size,
            causal=group.kind.causal,
            pos_encoding_mode="ROPE_LLAMA" if kind.rope else "NONE",
            rope_scale=kind.rope.scale if kind.rope else None,
            rope_theta=kind.rope.theta if kind.rope else None,
            sm_scale=kind.scale,
            window_left=kind.window - 1 if kind.window and group.kind.causal else -1,
            logits_soft_cap=kind.softcap,
            q_data_type=kind.dtype,
            kv_data_type=kind.kv_dtype,
            seq_lens=self._pinned(group.kv_lengths),
            uniform_q_len=group.uniform or None,
        )

    def run(self, q: Tensor, keys: Tensor, values: Tensor, out: Tensor, lse: Tensor) -> None:
        cache = (paged(keys, self._page_size), paged(values, self._page_size))
        self._wrapper.run(q, cache, out=out, lse=lse, return_lse=True)

    def _pinned(self, numbers: Sequence[int]) -> Tensor:
        """Where the GPU can take it from by itself, while the CPU goes on."""
        return int32(numbers).pin_memory() if self._device.type == "cuda" else int32(numbers)


# --- Torch ---


class TorchPrefills:
    """The same attention in plain torch, on any device and in any dtype."""

    def make(self, shape: GroupShape | None) -> Prefill:
        return TorchPrefill(shape)


class TorchPrefill:
    """Holds callers to what FlashInfer demands of them: a padded group keeps to its shape."""

    def __init__(self, shape: GroupShape | None) -> None:
        self._shape = shape

    def plan(self, group: Group, kind: Kind) -> None:
        shape = self._shape
        if shape is not None:
            assert group.requests == shape.requests, "a padded group has a fixed number of requests"
            assert {b - a for a, b in pairwise(group.qo_indptr)} == {shape.queries}, "and of queries for each"
            assert len(group.kv_indices) <= shape.indices, "its page indices fit their buffer"
        if group.kind.causal:
            counts = (end - start for start, end in pairwise(group.qo_indptr))
            assert all(n <= keys for n, keys in zip(counts, group.kv_lengths, strict=True)), "FA2 would mask wrongly"
        self._group, self._kind = group, kind

    def run(self, q: Tensor, keys: Tensor, values: Tensor, out: Tensor, lse: Tensor) -> None:
        assert q.shape == out.shape == (self._group.queries, self._kind.heads, self._kind.dim)
        size = self._group.kind.page_size
        for request in range(self._group.requests):
            queries = slice(self._group.qo_indptr[request], self._group.qo_indptr[request + 1])
            pages = self._group.kv_indices[self._group.kv_indptr[request] : self._group.kv_indptr[request + 1]]
            length = self._group.kv_lengths[request]
            k, v = (paged(x, size)[pages].transpose(0, 1).flatten(1, 2)[:, :length] for x in (keys, values))
            out[queries], lse[queries] = self._attend(q[queries], k.to(q.dtype), v.to(q.dtype))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """q [n, heads, dim] against k, v [kv heads, length, dim]; out and base-2 lse [n, heads]."""
        n, length = len(q), k.shape[1]
        if self._kind.rope:
            q = turned(q, torch.arange(length - n, length, device=q.device), self._kind.rope)
            k = turned(k.transpose(0, 1), torch.arange(length, device=q.device), self._kind.rope).transpose(0, 1)
        k, v = (x.repeat_interleave(self._kind.heads // self._kind.kv_heads, 0) for x in (k, v))
        scores = torch.einsum("nhd,hld->nhl", q, k).float() * self._kind.scale
        if self._kind.softcap:
            scores = self._kind.softcap * torch.tanh(scores / self._kind.softcap)
        if self._group.kind.causal:
            ahead = torch.arange(length, device=q.device) - torch.arange(length - n, length, device=q.device)[:, None]
            hidden = (ahead > 0) | (ahead <= -(self._kind.window or length + n))
            scores = scores.masked_fill(hidden[:, None], float("-inf"))
        out = torch.einsum("nhl,hld->nhd", scores.softmax(-1).to(v.dtype), v)
        return out, scores.logsumexp(-1) * torch.tensor(2.0).log().reciprocal()


def turned(x: Tensor, positions: Tensor, rope: Rope) -> Tensor:
    """x [n, heads, dim] rotated to `positions` [n], as FlashInfer's ROPE_LLAMA does."""
    dim = x.shape[-1]
    frequencies = rope.theta ** (-torch.arange(0, dim, 2, device=x.device, dtype=torch.float64) / dim) / rope.scale
    angles = (positions[:, None] * frequencies)[:, None]
    first, second = x.double().chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
