"""The CPU executor: a kernel of our own, one call for a layer.

torch's calls cost more than what they compute where rows are few, and its flash attention for CPUs takes five to ten
times what reading the keys takes. The kernel (`cpu/attention.cpp`) reads every stored key once, where it lies.
"""

import ctypes
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain
from typing import NamedTuple

import torch
from torch import Tensor

from hwruntime.attention import RECORDED, Layer, Rotation, Static
from hwruntime.attention.torch import Stretch, TorchExecutor, queries_of, runs
from hwruntime.cache import Pool, Storage
from hwruntime.cpu.attention import AttentionKernel, LayerFacts, Now, Pass, Task, pointer
from hwruntime.cpu.tape import launch
from hwruntime.plan import Plan

FEW = 64  # tokens of a pass: more of them are torch's work on a CPU that has AMX, which our kernel does not use
STRETCH = 512  # keys that one thread attends to at a time, for few queries
QUERIES = 32  # that it attends at a time


@dataclass(frozen=True)
class Laid:
    """A pass as the kernel takes it: `facts`, which point into `arrays`. `deltas` [G] as in the plan, None where no
    query is turned on; `tables`: cos and sin by rotation."""

    facts: Pass
    arrays: tuple[object, ...]
    deltas: Tensor | None
    tables: dict[Rotation, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def pointers(self, rotation: Rotation | None) -> tuple[int | None, int | None]:
        """Of a rotation's tables."""
        if rotation is None or self.deltas is None:
            return None, None
        if rotation not in self.tables:
            self.tables[rotation] = rotation.tables(self.deltas)
        cosines, sines = self.tables[rotation]
        return cosines.data_ptr(), sines.data_ptr()


class Known(NamedTuple):
    """A layer as the kernel takes it: `facts`, which point at `sinks`."""

    layer: Layer
    facts: LayerFacts
    sinks: Tensor | None


class CpuExecutor(TorchExecutor):
    """`most`: tokens of a pass, more of which are attended as the torch executor does; None where the kernel attends
    all."""

    def __init__(self, pool: Pool, storage: Storage, kernel: AttentionKernel, most: int | None = None) -> None:
        super().__init__(pool, storage, recorded=RECORDED)
        self._kernel = kernel
        self._most = most
        self._layers: dict[int, Known] = {}
        self._ours: Laid | None = None

    def begin(self, plan: Plan, slots: list[int]) -> Static | None:
        if self._most is not None and len(slots) > self._most:
            self._ours = None
            return super().begin(plan, slots)
        self._ours = laid_out(plan, slots)
        return self._static(len(slots))

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self._ours is None:
            return super().attend(layer, q, k, v)
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        out = v.new_empty(len(q), layer.heads.queries, layer.heads.value_dim)
        known = self._known(layer)
        launch(partial(self._kernel.bound, known.facts, partial(self._now, known, k.dtype, k.device)), q, k, v, out)
        return out

    def _known(self, layer: Layer) -> Known:
        known = self._layers.get(layer.index)
        if known is None or known.layer is not layer:
            known = self._layers[layer.index] = known_of(layer)
        return known

    def _now(self, known: Known, dtype: torch.dtype, device: torch.device) -> Now:
        """The present pass; the layer's facts have its rotation from now on."""
        laid, heads = self._ours, known.layer.heads
        assert laid is not None, "what was begun for the kernel is attended by it"
        known.facts.cosines, known.facts.sines = laid.pointers(known.layer.rotation)
        keys, values = self._storage.sized(known.layer.index, heads.keys, heads.dim, heads.value_dim, dtype, device)
        return Now(laid.facts, keys, values)


def known_of(layer: Layer) -> Known:
    sinks = None if layer.sinks is None else layer.sinks.detach().float().contiguous()
    rotation = layer.rotation
    facts = LayerFacts(
        sinks=None if sinks is None else sinks.data_ptr(),
        heads=layer.heads.queries,
        kv_heads=layer.heads.keys,
        dim=layer.heads.dim,
        value_dim=layer.heads.value_dim,
        window=layer.window or 0,
        pairs=0 if rotation is None else len(rotation.frequencies),
        start=0 if rotation is None else rotation.start,
        interleaved=rotation is not None and rotation.interleaved,
        scale=layer.scale,
        softcap=layer.softcap or 0,
    )
    return Known(layer, facts, sinks)


def laid_out(plan: Plan, slots: list[int]) -> Laid:
    """A pass whose K/V go to `slots` [T]."""
    tasks: list[Task] = []
    parts: list[list[int]] = [[] for _ in plan.locals]
    places = 0
    for stretch, queries in shared_out(plan):
        causal = plan.causal[stretch.request]
        tasks.append(Task(*stretch[1:], queries.start, len(queries), causal, places))
        for place, query in enumerate(queries, places):
            parts[plan.rows[query]].append(place)
        places += len(queries)
    tasks.sort(key=lambda task: -task.length * task.queries)  # what takes long is begun first
    starts = accumulate(map(len, parts), initial=0)
    numbers = [array("i", each) for each in (plan.rows, plan.positions, slots, starts, chain.from_iterable(parts))]
    held = (Task * len(tasks))(*tasks)
    facts = Pass(ctypes.addressof(held), *map(pointer, numbers), len(tasks), len(slots), places)
    return Laid(facts, (held, *numbers), torch.tensor(plan.deltas) if any(plan.deltas) else None)


def shared_out(plan: Plan) -> Iterator[tuple[Stretch, range]]:
    """The plan's requests as work for threads: keys that lie next to each other, and some of the queries that see them.
    Where there are many queries, keys are parted less: there is enough to do, and less to merge."""
    for request in range(plan.requests):
        queries = queries_of(plan, request)
        some = [queries[first : first + QUERIES] for first in range(0, len(queries), QUERIES)]
        most = STRETCH * len(some)
        for part in runs(plan, request):
            for cut in range(0, part.length, most):
                stretch = Stretch(request, part.first + cut, part.slot + cut, min(most, part.length - cut))
                yield from ((stretch, each) for each in some)
