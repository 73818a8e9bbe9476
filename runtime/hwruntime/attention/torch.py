"""The torch executor: the plan's arrays, request by request, on any torch device.

It runs exactly what the GPU executors run, so it is also what they are tested against.
"""

import torch
from torch import Tensor

from hwruntime.attention import Layer, Rotation
from hwruntime.cache import Pool, Storage
from hwruntime.plan import Plan


class TorchExecutor:
    def __init__(self, pool: Pool, storage: Storage) -> None:
        self._pool = pool
        self._storage = storage

    @property
    def rotated(self) -> bool:
        return True

    def expect(self, workers: int, tokens: int) -> None:
        pass

    def begin(self, plan: Plan, slots: list[int]) -> None:
        self._plan = plan
        self._slots = torch.tensor(slots)
        self._rows = torch.tensor(plan.rows)
        self._positions = torch.tensor(plan.positions)
        self._deltas = torch.tensor(plan.deltas)
        self._keys = [self._keys_of(plan, r) for r in range(plan.requests)]
        self._tables: dict[Rotation, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._to(q.device)
        self._storage.write(layer.index, self._slots, k.transpose(0, 1), v.transpose(0, 1))
        gathered = self._rotate(layer.rotation, q[self._rows])
        outs, lses = [], []
        for r in range(self._plan.requests):
            queries = slice(self._plan.qo_indptr[r], self._plan.qo_indptr[r + 1])
            out, lse = self._attend_block(layer, r, gathered[queries], self._positions[queries])
            outs.append(out)
            lses.append(lse)
        merged, lse = merge(torch.cat(outs), torch.cat(lses), self._rows, len(q))
        if layer.sinks is not None:  # once, after the merge: a sink is no block's
            merged = merged * torch.sigmoid(lse - layer.sinks.float())[..., None]
        return merged.to(v.dtype)

    def _attend_block(self, layer: Layer, request: int, q: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """One request: q [n, heads, D] at `positions` [n] of the block; (out [n, heads, Dv], lse [n, heads]), fp32."""
        keys, values = (x[:, self._keys[request]].to(q.dtype) for x in self._storage.layer(layer.index))
        kv_heads, length, _ = keys.shape
        n, heads, dim = q.shape
        packed = q.reshape(n, kv_heads, heads // kv_heads, dim).transpose(0, 1).reshape(kv_heads, -1, dim)
        scores = torch.matmul(packed, keys.transpose(1, 2)).float() * layer.scale
        if layer.softcap:
            scores = layer.softcap * torch.tanh(scores / layer.softcap)
        scores = scores.view(kv_heads, n, -1, length)
        hidden = self._hidden(layer, request, positions, length)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None], float("-inf"))
        top = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)  # all hidden: no nan below
        weights = torch.exp(scores - top)
        total = weights.sum(-1, keepdim=True)
        out = torch.matmul((weights / total.clamp_min(1e-38)).to(values.dtype).flatten(1, 2), values).float()
        out = out.view(kv_heads, n, -1, values.shape[-1]).transpose(0, 1).flatten(1, 2)
        lse = (top + total.log()).squeeze(-1).transpose(0, 1).flatten(1, 2)
        return out, lse

    def _hidden(self, layer: Layer, request: int, positions: Tensor, length: int) -> Tensor | None:
        """Which keys which query may not see, [n, length]; None where all see all."""
        causal = self._plan.causal[request]
        if not causal and layer.window is None:
            return None
        distance = positions[:, None] - torch.arange(length, device=positions.device)
        hidden = distance < 0 if causal else torch.zeros_like(distance, dtype=torch.bool)
        if layer.window is not None:
            hidden |= distance >= layer.window
        return hidden

    def _keys_of(self, plan: Plan, request: int) -> slice | Tensor:
        """Where a request's keys are in the storage: a slice (no copy) where its pages lie next to each other."""
        pages = plan.kv_indices[plan.kv_indptr[request] : plan.kv_indptr[request + 1]]
        length, size = plan.kv_length(request), plan.page_size
        if pages == list(range(pages[0], pages[0] + len(pages))):
            return slice(pages[0] * size, pages[0] * size + length)
        return torch.tensor([page * size + i for page in pages for i in range(size)][:length])

    def _rotate(self, rotation: Rotation | None, q: Tensor) -> Tensor:
        if rotation is None or not any(self._plan.deltas):
            return q
        if rotation not in self._tables:
            self._tables[rotation] = rotation.tables(self._deltas)
        return rotation.apply(q, self._tables[rotation])

    def _to(self, device: torch.device) -> None:
        """Take the pass's arrays to the device, once a pass."""
        if self._rows.device == device:
            return
        self._slots, self._rows, self._positions, self._deltas = (
            x.to(device) for x in (self._slots, self._rows, self._positions, self._deltas)
        )
        self._keys = [k if isinstance(k, slice) else k.to(device) for k in self._keys]


def merge(outs: Tensor, lses: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Merge partial results by log-sum-exp: outs [G, heads, D] and natural lses [G, heads] of the query tokens `rows`
    [G] to [count, heads, D] and [count, heads]. Every token has at least one finite partial result: its own key."""
    index = rows[:, None].expand_as(lses)
    top = torch.full((count, lses.shape[1]), float("-inf"), device=lses.device).scatter_reduce(0, index, lses, "amax")
    weights = torch.exp(lses - top[rows])
    total = torch.zeros_like(top).index_add_(0, rows, weights)
    out = torch.zeros(count, *outs.shape[1:], device=outs.device).index_add_(0, rows, outs * weights[..., None])
    return out / total[..., None], top + total.log()
