"""The FlashInfer executor: the plan's arrays on NVIDIA GPUs, with the K/V of every block read once for all who see it.

A pass is laid out by `launch`, attended group by group by `prefill`, and gathered and merged by `kernels`; this module
keeps the tensors in between. With `TorchPrefills` and `TorchKernels` all of it runs on a CPU.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hwruntime.attention import Layer, ModelShape, Rotation, Static
from hwruntime.attention.kernels import Kernels
from hwruntime.attention.launch import (
    STATIC_TOKENS,
    Class,
    Group,
    Launch,
    Part,
    Shape,
    blocks,
    classed,
    effective,
    launch,
    page_tables,
    shape_of,
)
from hwruntime.attention.prefill import Kind, Prefill, Prefills, Rope, int32
from hwruntime.cache import Pool, Storage
from hwruntime.devices import upload
from hwruntime.plan import Plan

Path = Literal["blocks", "page tables"]
Tables = tuple[Tensor, Tensor]

HEAD_DIMS = (64, 128, 256)  # what FlashInfer's FA2 kernels are made for; others are padded with zeros
BREAK_EVEN = 10_000  # (workers - 1) x tokens: from here on reading shared blocks once pays for merging (design, 5)
MOST_PASSES = 64  # padded passes, and what was captured of them, that are kept


def choose_path(workers: int, tokens: int) -> Path:
    """Block-major, or a page table for each worker: where few workers share few tokens, reading them again costs less
    than rotating queries for every block and merging what comes of them. `tokens`: those of a typical view."""
    return "blocks" if (workers - 1) * tokens > BREAK_EVEN else "page tables"


def padded_dim(dim: int) -> int | None:
    """The head dimension in the cache; None for one that is too large."""
    return next((d for d in HEAD_DIMS if dim <= d), None)


class Sight(NamedTuple):
    """How far a layer's queries see and how they are packed: layers of one sight share a launch."""

    window: int | None
    group_size: int


Seen = Mapping[int, tuple[Sight, Kind]]  # by layer


@dataclass(frozen=True)
class Laid:
    """A launch on the device: `rows` [G], `merge_indptr` [T+1] and `merge_indices` as in `Launch`, and by rotation the
    cos and sin [G, pairs] of its deltas."""

    groups: tuple[Group, ...]
    rows: Tensor
    merge_indptr: Tensor
    merge_indices: Tensor
    tables: Mapping[Rotation, Tables]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.rows, self.merge_indptr, self.merge_indices, *chain.from_iterable(self.tables.values())]


@dataclass(eq=False)
class Pass(Static):
    """A pass on the device.

    `slots` [T]: where its K/V go; `order` [T]: 0..T-1; `back`: by rotation the cos and sin [T, pairs] that turn its
    tokens back to position 0, where keys are stored so; `prefills`: by kind of layer and class of group.
    """

    order: Tensor = field(kw_only=True)
    slots: Tensor = field(kw_only=True)
    back: Mapping[Rotation, Tables] = field(kw_only=True)
    laid: Mapping[Sight, Laid] = field(kw_only=True)
    seen: Seen = field(kw_only=True)
    prefills: dict[tuple[Kind, Class], Prefill] = field(kw_only=True)

    @property
    def tensors(self) -> list[Tensor]:
        inner = [tensor for laid in self.laid.values() for tensor in laid.tensors]
        return [self.slots, *chain.from_iterable(self.back.values()), *inner]

    def become(self, other: "Pass") -> None:
        """Take another pass of this shape over, in the memory of this one."""
        for mine, its in zip(self.tensors, other.tensors, strict=True):
            mine.copy_(its)
        self.laid = {sight: replace(self.laid[sight], groups=laid.groups) for sight, laid in other.laid.items()}


class FlashInferExecutor:
    """Runs passes over the pool's storage.

    `pads`: pad small ones, so that they can be captured; `path`: the one to stay on, None to choose as runs come.
    """

    def __init__(
        self,
        model: ModelShape,
        pool: Pool,
        storage: Storage,
        prefills: Prefills,
        kernels: Kernels,
        pads: bool = True,
        path: Path | None = None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._storage = storage
        self._make = prefills.make
        self._kernels = kernels
        self._pads = pads
        self._path: Path = path or "blocks"
        self._chooses = path is None
        self._windows = sorted({layer.window for layer in model.layers if layer.window is not None})
        self._rotations = list(dict.fromkeys(layer.rotation for layer in model.layers if layer.rotation is not None))
        self._seen: dict[tuple[Path, tuple[int, ...]], Seen] = {}
        self._kept: OrderedDict[object, Pass] = OrderedDict()  # padded passes, by what they are padded to
        self._eager: dict[tuple[Kind, Class], Prefill] = {}
        self._copied = event(model.device)

    @property
    def rotated(self) -> bool:
        return self._path == "blocks"

    def expect(self, workers: int, tokens: int) -> None:
        if self._chooses and self._pool.used == 0:
            possible = self._storage.dtype is None and all(has_rope(layer) for layer in self._model.layers)
            self._path = choose_path(workers, tokens) if possible else "blocks"

    def begin(self, plan: Plan, slots: list[int]) -> Static | None:
        if self._copied is not None:  # FlashInfer plans in pinned memory: what it planned last must have left that
            self._copied.synchronize()
        seen = self._seen_by(plan)
        pads = self._pads and len(slots) <= STATIC_TOKENS
        classes = {
            sight: classed(self._parts(plan, sight.window), sight.group_size, pads)
            for sight in dict.fromkeys(sight for sight, _ in seen.values())
        }
        shapes = {sight: shape_of(parts, len(slots)) for sight, parts in classes.items()} if pads else {}
        launches = {
            sight: launch(parts, len(slots), shapes.get(sight), self._pool.capacity) for sight, parts in classes.items()
        }
        fresh = self._on_device(launches, plan, slots, seen)
        self._pass = self._keep(fresh, (self._pool.capacity, self._path, *shapes.items())) if pads else fresh
        for sight, kind in dict.fromkeys(seen.values()):
            for group in launches[sight].groups:
                self._prefill(kind, group.kind, shapes.get(sight)).plan(group, kind)
        if self._copied is not None:
            self._copied.record()
        return self._pass if pads else None

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        now = self._pass
        sight, kind = now.seen[layer.index]
        keys, values = self._storage.sized(
            layer.index, kind.kv_heads, kind.dim, kind.dim, kind.kv_dtype, self._model.device
        )
        if not self.rotated:
            k = self._gather(k, now.order, layer, now.back, torch.empty_like(k))
        self._kernels.store(k, v, now.slots, keys, values)
        laid = now.laid[sight]
        gathered = q.new_empty(len(laid.rows), kind.heads, kind.dim)
        self._gather(q, laid.rows, layer, laid.tables, gathered)
        outs = torch.empty_like(gathered)
        lses = torch.empty(outs.shape[:2], dtype=torch.float32, device=outs.device)
        start = 0
        for group in laid.groups:
            span = slice(start, start + group.queries)
            now.prefills[kind, group.kind].run(gathered[span], keys, values, outs[span], lses[span])
            start = span.stop
        out = v.new_empty(len(q), kind.heads, v.shape[-1])
        self._kernels.merge(outs, lses, laid.merge_indptr, laid.merge_indices, layer.sinks, out)
        return out

    def _gather(self, x: Tensor, rows: Tensor, layer: Layer, tables: Mapping[Rotation, Tables], out: Tensor) -> Tensor:
        rotation = layer.rotation
        self._kernels.gather(x, rows, rotation, None if rotation is None else tables[rotation], out)
        return out

    # --- Before a pass ---

    def _seen_by(self, plan: Plan) -> Seen:
        """What each layer sees of a pass, and as what kind: windows that all views fit in are none."""
        narrow = tuple(window for window in self._windows if effective(plan, window) is not None)
        if (self._path, narrow) not in self._seen:
            self._seen[self._path, narrow] = {
                layer.index: self._sight(layer, layer.window if layer.window in narrow else None)
                for layer in self._model.layers
            }
        return self._seen[self._path, narrow]

    def _sight(self, layer: Layer, window: int | None) -> tuple[Sight, Kind]:
        heads = layer.heads
        dim = padded_dim(max(heads.dim, heads.value_dim))
        assert dim is not None, "a model whose heads are too large is not given to this executor"
        kind = Kind(
            heads=heads.queries,
            kv_heads=heads.keys,
            dim=dim,
            scale=layer.scale,
            softcap=layer.softcap,
            window=window,
            dtype=self._model.dtype,
            kv_dtype=self._storage.dtype or self._model.dtype,
            rope=None if self.rotated or layer.rotation is None else rope(layer),
        )
        return Sight(window, heads.queries // heads.keys), kind

    def _parts(self, plan: Plan, window: int | None) -> Iterator[Part]:
        return blocks(plan, window) if self.rotated else page_tables(plan)

    def _on_device(self, launches: Mapping[Sight, Launch], plan: Plan, slots: list[int], seen: Seen) -> Pass:
        tokens = max(laid.tokens for laid in launches.values())
        spare = [self._pool.capacity] * (tokens - len(slots))
        return Pass(
            tokens,
            order=torch.arange(tokens, dtype=torch.int32, device=self._model.device),
            slots=self._tensor([*slots, *spare]).long(),
            back={} if self.rotated else self._tables([-p for p in plan.locals] + [0] * len(spare)),
            laid={sight: self._laid(launch) for sight, launch in launches.items()},
            seen=seen,
            prefills=self._eager,
        )

    def _laid(self, launch: Launch) -> Laid:
        return Laid(
            groups=launch.groups,
            rows=self._tensor(launch.rows),
            merge_indptr=self._tensor(launch.merge_indptr),
            merge_indices=self._tensor(launch.merge_indices),
            tables=self._tables(launch.deltas),
        )

    def _tables(self, deltas: Sequence[int]) -> dict[Rotation, Tables]:
        """cos and sin for these rotations further on, for every rotation of the model."""
        positions = self._tensor(deltas)
        return {rotation: rotation.tables(positions) for rotation in self._rotations}

    def _keep(self, fresh: Pass, key: object) -> Pass:
        """The padded pass that stays for passes like this one, made to be this one."""
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = fresh
            kept.prefills = {}
        else:
            kept.become(fresh)
        self._kept[key] = kept
        if len(self._kept) > MOST_PASSES:
            self._kept.popitem(last=False)
        return kept

    def _prefill(self, kind: Kind, group: Class, shape: Shape | None) -> Prefill:
        prefills = self._pass.prefills
        if (kind, group) not in prefills:
            capacity = next(g for g in shape.groups if g.kind == group) if shape else None
            prefills[kind, group] = self._make(capacity)
        return prefills[kind, group]

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return upload(int32(numbers), self._model.device)


def event(device: torch.device) -> torch.cuda.Event | None:
    """A mark in what a GPU is given to do."""
    return torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def has_rope(layer: Layer) -> bool:
    """Whether FlashInfer can rotate the layer's queries and keys itself, or nothing is to be rotated."""
    return layer.rotation is None or rope(layer) is not None


def rope(layer: Layer) -> Rope | None:
    """The layer's rotation as FlashInfer's ROPE_LLAMA; None where it is another one, or the cache is padded."""
    rotation, dim = layer.rotation, layer.heads.dim
    if rotation is None or rotation.start or rotation.interleaved or 2 * len(rotation.frequencies) != dim:
        return None
    if padded_dim(dim) != dim or layer.heads.value_dim > dim:
        return None
    frequencies = rotation.frequencies.double().cpu()
    if not (frequencies > 0).all():
        return None
    made = Rope(1 / float(frequencies[0]), float(frequencies[0] / frequencies[1]) ** (dim / 2))
    powers = made.theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim) / made.scale
    return made if torch.allclose(powers, frequencies, rtol=1e-5) else None
