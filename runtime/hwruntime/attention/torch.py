"""The torch executor: the plan's requests, many in one call, on any torch device.

A request's keys are read where they lie if they are many; short ones are gathered, padded to one length and attended
together, so that a layer takes a few calls however many blocks and runs there are. It is exact, and so it is also what
the GPU executors are tested against.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hwruntime.attention import Layer, Rotation, Static
from hwruntime.cache import Pool, Storage
from hwruntime.cpu.tape import launch
from hwruntime.plan import Plan

LENGTHS = (32, 128, 512)  # keys: stretches of up to so many are padded to one length; longer ones are not copied
WIDE = 32  # queries: from here on, heads that share keys are attended one by one


class Stretch(NamedTuple):
    """Keys of one request that lie next to each other: `length` of them from `slot` of the storage on, which are those
    of the block from `first` on."""

    request: int
    first: int
    slot: int
    length: int


@dataclass(frozen=True)
class Group:
    """B stretches that are attended together, as if each had n queries and L keys.

    `start`: where its B * n gathered queries begin; `slots`: of its keys, a slice (no copy) for one stretch, else
    [B * L]; `mask`: what is added to the scores, [B, 1, n * shares, L], or [n, L] where `wide`, or None; `dead`
    [B * n]: queries that see no key at all, None where there are none.
    """

    start: int
    stretches: int
    queries: int
    slots: slice | Tensor
    mask: Tensor | None
    dead: Tensor | None

    @property
    def gathered(self) -> slice:
        return slice(self.start, self.start + self.stretches * self.queries)

    @property
    def wide(self) -> bool:
        """Whether heads that share keys are attended one by one."""
        return self.queries >= WIDE and self.stretches == 1


@dataclass(frozen=True)
class Laid:
    """A pass on a device: G gathered queries in the order of `members`, the stretches of each group.

    `rows` [G]: the query token of each, `positions` [G] and `deltas` [G] as in the plan; what is padding repeats a
    query. `partials` [parts, T]: the gathered queries that make up each token's output; G is none, and there is such
    a one where they are not `even`. None where they are every T-th one, so that nothing need be looked up.
    """

    members: Sequence[Sequence[Stretch]]
    widths: Sequence[int]  # of each group: n
    slots: Tensor
    rows: Tensor
    positions: Tensor
    deltas: Tensor
    partials: Tensor | None
    even: bool
    groups: dict[tuple[int | None, int], list[Group]] = field(default_factory=dict)  # by window and shares
    tables: dict[Rotation, tuple[Tensor, Tensor]] = field(default_factory=dict)


class TorchExecutor:
    """`fused`: use torch's flash attention for the CPU where it can; it is faster than what is written out here.
    `recorded`: passes of up to so many tokens may be recorded, as they are on a CPU.

    A pass of a few tokens is made of hundreds of small calls, which cost more than what they compute: so what does not
    depend on the layer is made once, and queries, outputs and lses stay in one layout, [kv heads, G, shares, D], where
    `shares` are the query heads of a K/V head. A group is a slice of it.
    """

    def __init__(self, pool: Pool, storage: Storage, fused: bool = True, recorded: int = 0) -> None:
        self._pool = pool
        self._storage = storage
        self._fused = fused
        self._recorded = recorded
        self._statics: dict[int, Static] = {}  # by tokens
        self._laid: Laid | None = None

    @property
    def rotated(self) -> bool:
        return True

    def expect(self, workers: int, tokens: int) -> None:
        pass

    def begin(self, plan: Plan, slots: list[int]) -> Static | None:
        self._plan = plan
        self._slots = slots
        self._laid = None
        return self._static(len(slots))

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = v.new_empty(len(q), q.shape[1], v.shape[-1])
        launch(partial(partial, self._attend, layer), q, k, v, out)
        return out

    def _static(self, tokens: int) -> Static | None:
        return self._statics.setdefault(tokens, Static(tokens, every=True)) if tokens <= self._recorded else None

    def _attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        laid = self._laid or self._lay_out(q.device)
        self._storage.write(layer.index, laid.slots, k.transpose(0, 1), v.transpose(0, 1))
        keys, values = self._storage.layer(layer.index)
        shares = q.shape[1] // len(keys)
        split = q.view(len(q), len(keys), shares, -1).transpose(0, 1)
        gathered = self._rotate(laid, layer.rotation, split.index_select(1, laid.rows))
        parts = [
            self._attend_group(layer, group, gathered[:, group.gathered], keys, values)
            for group in self._groups(laid, layer.window, shares)
        ]
        outs, lses = [out for out, _ in parts], [lse for _, lse in parts]
        if not laid.even:  # what is no query's part
            outs.append(outs[0].new_zeros(len(keys), 1, shares, v.shape[-1]))
            lses.append(lses[0].new_full((len(keys), 1, shares), -math.inf))
        merged = merge(torch.cat(outs, 1), torch.cat(lses, 1), laid.partials, len(q), layer.sinks)
        out.view(len(q), len(keys), shares, -1).copy_(merged.transpose(0, 1))

    def _attend_group(
        self, layer: Layer, group: Group, q: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """q [kv heads, B * n, shares, D]; out of the same shape but for its last dimension, Dv, and natural lse
        [kv heads, B * n, shares]."""
        k, v = (self._read(x, group, q.dtype) for x in (keys, values))  # [B, kv heads, L, D]
        shares = q.shape[2]
        if group.wide:
            k, v = (x[0][:, None].expand(-1, shares, -1, -1) for x in (k, v))
            out, lse = self._softmax(layer, q.transpose(1, 2), k, v, group.mask)  # [kv heads, shares, n, ..]
            out, lse = out.transpose(1, 2), lse.transpose(1, 2)
        else:
            packed = q.view(len(q), group.stretches, group.queries * shares, -1).transpose(0, 1)
            out, lse = self._softmax(layer, packed, k, v, group.mask)
            out, lse = out.transpose(0, 1).reshape(*q.shape[:3], -1), lse.transpose(0, 1).reshape(q.shape[:3])
        return out, lse if group.dead is None else lse.masked_fill(group.dead[:, None], -math.inf)

    def _read(self, stored: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        """A group's keys or values, [B, kv heads, L, D]."""
        if isinstance(group.slots, slice):
            return stored[None, :, group.slots].to(dtype)
        read = stored.index_select(1, group.slots) if stored.dtype.itemsize > 1 else stored[:, group.slots]
        return read.view(len(read), group.stretches, -1, read.shape[-1]).transpose(0, 1).to(dtype)

    def _softmax(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attention of q [.., n, D] to k and v [.., L, D]: out [.., n, Dv] and natural lse [.., n] in float32. For a
        query that sees nothing, out is finite."""
        if self._fused and q.device.type == "cpu" and layer.softcap is None and q.shape[-1] == v.shape[-1]:
            out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, attn_mask=mask, scale=layer.scale
            )
            return out, lse
        scores = torch.matmul(q, k.mT).float() * layer.scale
        if layer.softcap is not None:
            scores = layer.softcap * torch.tanh(scores / layer.softcap)
        if mask is not None:
            scores = scores + mask
        top = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)  # all hidden: no nan below
        weights = torch.exp(scores - top)
        total = weights.sum(-1, keepdim=True)
        out = torch.matmul((weights / total.clamp_min(1e-38)).to(v.dtype), v).float()
        return out, (top + total.log()).squeeze(-1)

    def _rotate(self, laid: Laid, rotation: Rotation | None, q: Tensor) -> Tensor:
        """q [kv heads, G, shares, D], rotated on for the blocks that they are gathered for."""
        if rotation is None or not any(self._plan.deltas):
            return q
        if rotation not in laid.tables:
            laid.tables[rotation] = rotation.spread(rotation.tables(laid.deltas))
        return rotation.turn(q, laid.tables[rotation])

    # --- Once a pass ---

    def _lay_out(self, device: torch.device) -> Laid:
        """Take the plan to a device; the layers of a pass share it."""
        plan = self._plan
        members = grouped(list(stretches(plan)), plan)
        widths = [max(len(queries_of(plan, each.request)) for each in group) for group in members]
        gathered: list[int] = []
        partials: list[list[int]] = [[] for _ in plan.locals]
        for group, width in zip(members, widths, strict=True):
            for stretch in group:
                queries = queries_of(plan, stretch.request)
                for place, g in enumerate(queries, len(gathered)):
                    partials[plan.rows[g]].append(place)
                gathered += [*queries, *[queries[0]] * (width - len(queries))]
        most = max(map(len, partials))
        even = all(len(places) == most for places in partials)
        regular = even and partials == [[*range(t, len(gathered), len(partials))] for t in range(len(partials))]
        padded = [places + [len(gathered)] * (most - len(places)) for places in partials]
        self._laid = Laid(
            members=members,
            widths=widths,
            slots=torch.tensor(self._slots, device=device),
            rows=torch.tensor([plan.rows[g] for g in gathered], device=device),
            positions=torch.tensor([plan.positions[g] for g in gathered], device=device),
            deltas=torch.tensor([plan.deltas[g] for g in gathered], device=device),
            partials=None if regular else torch.tensor(padded, device=device).T.contiguous(),
            even=even,
        )
        return self._laid

    def _groups(self, laid: Laid, window: int | None, shares: int) -> list[Group]:
        """The groups for layers of a window, which is none where all views fit in it."""
        if window is not None and window > max(self._plan.positions):
            window = None
        if (window, shares) not in laid.groups:
            start, made = 0, []
            for members, width in zip(laid.members, laid.widths, strict=True):
                positions = laid.positions[start : start + len(members) * width].view(len(members), width)
                made.append(self._group(start, members, positions, window, shares))
                start += positions.numel()
            laid.groups[window, shares] = made
        return laid.groups[window, shares]

    def _group(
        self, start: int, members: Sequence[Stretch], positions: Tensor, window: int | None, shares: int
    ) -> Group:
        nearest, farthest = int(positions.min()), int(positions.max())
        if len(members) == 1 and window is not None:
            members = [within(members[0], nearest - window + 1)]
        longest = max(each.length for each in members)
        where: slice | Tensor = slice(members[0].slot, members[0].slot + longest)
        if len(members) > 1:  # what is padded may lie anywhere in the storage: it is hidden
            slots = torch.tensor([[each.slot] for each in members], device=positions.device)
            last = self._pool.capacity + self._pool.page_size - 1
            where = (slots + torch.arange(longest, device=positions.device)).clamp_max(last).flatten()
        ahead = any(self._plan.causal[each.request] and each.first + each.length - 1 > nearest for each in members)
        behind = window is not None and any(farthest - each.first >= window for each in members)
        if not ahead and not behind and all(each.length == longest for each in members):
            return Group(start, len(members), positions.shape[1], where, None, None)
        hidden = self._hidden(members, positions, window)
        dead = hidden.all(-1).flatten()
        mask = torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -math.inf)[:, None]
        group = Group(start, len(members), positions.shape[1], where, mask, dead if dead.any() else None)
        return group if group.wide else replace(group, mask=mask.repeat_interleave(shares, 2))

    def _hidden(self, members: Sequence[Stretch], positions: Tensor, window: int | None) -> Tensor:
        """Which keys of a group which query may not see, [B, n, L]."""
        device = positions.device
        firsts, _, lengths = torch.tensor([each[1:] for each in members], device=device).T[..., None]
        causal = torch.tensor([self._plan.causal[each.request] for each in members], device=device)[:, None, None]
        places = torch.arange(int(lengths.max()), device=device)
        distance = positions[..., None] - (firsts + places)[:, None]
        hidden: Tensor = (places >= lengths)[:, None] | (causal & (distance < 0))
        return hidden if window is None else hidden | (distance >= window)


def stretches(plan: Plan) -> Iterator[Stretch]:
    """The plan's requests, parted where their pages do not lie next to each other; and where a long causal one begins
    to hide anything, so that the rest of it needs no mask."""
    for request in range(plan.requests):
        hides = plan.kv_length(request) - len(queries_of(plan, request))
        for part in runs(plan, request):
            cut = hides - part.first
            if plan.causal[request] and max(LENGTHS, default=0) < cut < part.length:
                yield part._replace(length=cut)
                part = Stretch(request, part.first + cut, part.slot + cut, part.length - cut)
            yield part


def runs(plan: Plan, request: int) -> Iterator[Stretch]:
    """A request's keys, by pages that lie next to each other."""
    size = plan.page_size
    pages = plan.kv_indices[plan.kv_indptr[request] : plan.kv_indptr[request + 1]]
    length, start = plan.kv_length(request), 0
    for index in range(1, len(pages) + 1):
        if index == len(pages) or pages[index] != pages[index - 1] + 1:
            end = min(index * size, length)
            yield Stretch(request, start * size, pages[start] * size, end - start * size)
            start = index


def grouped(parts: Sequence[Stretch], plan: Plan) -> list[list[Stretch]]:
    """Parts that are attended together: those of like lengths with like numbers of queries, and long ones alone."""
    groups: dict[tuple[int, ...], list[Stretch]] = {}
    for index, part in enumerate(parts):
        length = next((length for length in LENGTHS if part.length <= length), None)
        queries = len(queries_of(plan, part.request))
        key = (0, length, (queries - 1).bit_length() // 2) if length else (1, index)
        groups.setdefault(key, []).append(part)
    return list(groups.values())


def within(part: Stretch, first: int) -> Stretch:
    """What there is of a part from the block's position `first` on; a key at least."""
    cut = min(max(0, first - part.first), part.length - 1)
    return Stretch(part.request, part.first + cut, part.slot + cut, part.length - cut)


def queries_of(plan: Plan, request: int) -> range:
    """A request's gathered queries."""
    return range(plan.qo_indptr[request], plan.qo_indptr[request + 1])


def merge(outs: Tensor, lses: Tensor, partials: Tensor | None, tokens: int, sinks: Tensor | None = None) -> Tensor:
    """Merge partial results by log-sum-exp: outs [kv heads, G, shares, D] and natural lses [kv heads, G, shares], of
    which `partials` [n, T] make up the output of each of T `tokens` (None: every T-th one), to [kv heads, T, shares,
    D]. Each token has a finite one: its own key's.

    `sinks` [heads]: logits that take their share of the softmax and have no value; once, as a sink is no block's.
    """
    if partials is None:
        parts, outs = (x.view(len(x), -1, tokens, *x.shape[2:]) for x in (lses, outs))
    else:
        parts, outs = lses[:, partials], outs[:, partials]  # [kv heads, n, T, shares]
    if sinks is not None:
        sink = sinks.to(parts.dtype).view(len(lses), 1, 1, -1).expand(-1, -1, tokens, -1)
        parts = torch.cat([parts, sink], 1)
    weights = parts.softmax(1)[:, : outs.shape[1]]
    return (outs * weights[..., None]).sum(1)
