"""Everything by turns: what is compared is timed in the same minute, a few passes of each at a time."""

import statistics
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch

from hwruntime.bench.baselines import Reference, Sequences, plain
from hwruntime.bench.limits import Copy, Linears, token_bytes, weight_bytes
from hwruntime.bench.scene import Filled, Scene
from hwruntime.checkpoint import Checkpoint
from hwruntime.engine import Engine
from hwruntime.program import Program

Step = Callable[[], float]  # a pass; its ms
Way = TypeVar("Way", bound=Hashable)

ONE, BATCH, AUTHORS = "transformers, 1 sequence", "transformers, batch", "authors' code"


@dataclass(frozen=True)
class Timing:
    """Of all passes, in ms: the median, and the first and the last tenth."""

    ms: float
    low: float
    high: float
    passes: int


@dataclass(frozen=True)
class Cell:
    """What was measured for so many workers behind an opening of `context` tokens.

    `stored`: tokens in the cache half-way through; `linears`: the linear layers alone in plain torch, with as many
    rows; `bandwidth`: bytes a second that a large copy read and wrote meanwhile; `limit_ms`: what reading weights and
    stored K/V once takes at that; `others`: by baseline.
    """

    dtype: str
    weights: str  # as `quantized.WEIGHTS` has them
    context: int
    workers: int
    stored: int
    hw: Timing
    linears: Timing
    bandwidth: float
    limit_ms: float
    others: Mapping[str, Timing]

    @property
    def tokens_per_second(self) -> float:
        return self.workers / self.hw.ms * 1e3


@dataclass(frozen=True)
class Settings:
    """`rounds` in which the ways take turns, with `passes` timed ones each. `clone`: of the authors' code; `python`: to
    run it with."""

    workers: Sequence[int]
    contexts: Sequence[int]
    rounds: int = 5
    passes: int = 4
    transformers: bool = False
    clone: Path | None = None
    python: str = "python3"

    @property
    def length(self) -> int:
        """Passes of a scene, each round's first one included, which is not timed."""
        return self.rounds * (self.passes + 1) + 1


@dataclass(frozen=True)
class Ways:
    """What is timed of a model: a step for each name and number of workers, and the scenes, by workers."""

    steps: Mapping[tuple[str, int], Step]
    scenes: Mapping[int, Scene]

    def close(self) -> None:
        for scene in self.scenes.values():
            scene.close()


class Bench:
    """A model that passes are timed on."""

    def __init__(
        self, checkpoint: Checkpoint, attention: str, program: Program, settings: Settings, weights: str = "auto"
    ) -> None:
        """`weights`: what kind the checkpoint has; others are compared with those of the checkpoint alone. Raises
        `ModelError` and `DeviceError`, as loading a model does."""
        self._program = program
        self._settings = settings
        self._hf = checkpoint.model
        self.bits = weights
        whole = weights == "auto"
        self._plain = plain(self._hf) if settings.transformers and whole else None  # before our attention takes over
        self._filled = Filled(checkpoint, attention)
        self._engine = Engine(self._filled)
        self.name = checkpoint.name
        self.why = list(self._filled.why)
        self.attention = self._filled.chosen.name
        self.dtype = self._filled.model.dtype
        self.threads = torch.get_num_threads()
        self.torch, self.transformers = version("torch"), version("transformers")
        self.weights = weight_bytes(self._hf)  # bytes that a pass reads
        self.token = token_bytes(list(self._filled.model.layers.values()), self._hf.dtype.itemsize)
        self._reference = self._start_reference()

    def close(self) -> None:
        if self._reference:
            self._reference.close()

    def ways(self, context: int) -> Ways:
        """All that is timed behind an opening. Raises `InputError` for a context that is too long for the model."""
        made = self._settings
        scenes = {n: Scene(self._engine, self._program, context, n, made.length) for n in made.workers}
        steps: dict[tuple[str, int], Step] = {}
        for n in made.workers:
            steps["hw", n] = scenes[n].step
            steps["linears", n] = Linears(self._hf, n).step
            if self._reference:
                steps[AUTHORS, n] = self._reference.open(context, n)
        if self._plain:
            steps[ONE, 1] = Sequences(self._plain, context, 1).step
            for n in made.workers:
                if n > 1:
                    steps[BATCH, n] = Sequences(self._plain, context, n).step
        return Ways(steps, scenes)

    def copy(self) -> Copy:
        """On the model's device."""
        return Copy(self._hf.device)

    def cell(
        self, context: int, workers: int, stored: int, times: Mapping[tuple[str, int], Timing], bandwidth: float
    ) -> Cell:
        """What has been measured for so many workers."""
        others = {name: found for (name, n), found in times.items() if n == workers or name == ONE}
        read = self.weights + stored * self.token
        return Cell(
            dtype=self.dtype,
            weights=self.bits,
            context=context,
            workers=workers,
            stored=stored,
            hw=times["hw", workers],
            linears=times["linears", workers],
            bandwidth=bandwidth,
            limit_ms=read / bandwidth * 1e3,
            others={name: found for name, found in others.items() if name not in ("hw", "linears")},
        )

    def _start_reference(self) -> Reference | None:
        made = self._settings
        if made.clone is None or self.bits != "auto":
            return None
        return Reference(made.clone, made.python, self._hf.config, self._hf.dtype, self.threads)


def cells(benches: Sequence[Bench], settings: Settings) -> Iterator[Cell]:
    """Of several models, which take turns, too. Raises `InputError` for a context that is too long for one."""
    copy = benches[0].copy()
    for context in settings.contexts:
        opened: list[Ways] = []
        try:
            opened += (bench.ways(context) for bench in benches)
            steps = {(i, *way): step for i, ways in enumerate(opened) for way, step in ways.steps.items()}
            found = interleaved({**steps, (-1, "copy", 0): copy.step}, settings.rounds, settings.passes)
            bandwidth = copy.bytes / found[-1, "copy", 0].ms * 1e3
            for i, (bench, ways) in enumerate(zip(benches, opened, strict=True)):
                times = {(name, n): timing for (of, name, n), timing in found.items() if of == i}
                for n, scene in ways.scenes.items():
                    yield bench.cell(context, n, scene.stored, times, bandwidth)
        finally:
            for ways in opened:
                ways.close()


def interleaved(ways: Mapping[Way, Step], rounds: int, passes: int) -> dict[Way, Timing]:
    """Time all ways by turns: in each round a pass of each that does not count, and some that do."""
    times: dict[Way, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in ways.items():
            step()
            times[way] += [step() for _ in range(passes)]
    return {way: timing(all_of_it) for way, all_of_it in times.items()}


def timing(times: Sequence[float]) -> Timing:
    ordered = sorted(times)
    tenth = len(ordered) // 10
    return Timing(statistics.median(ordered), ordered[tenth], ordered[-1 - tenth], len(ordered))


def as_json(cell: Cell) -> dict[str, object]:
    return {**asdict(cell), "tokens_per_second": cell.tokens_per_second}
