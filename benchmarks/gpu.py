"""How long a decode pass takes on a GPU: cascade attention over one shared cache, against what it is meant to beat.

    python benchmarks/gpu.py --json results.json                    # for an H100 or H200, some five minutes
    python benchmarks/gpu.py --shapes 8B --contexts 8k --workers 4
    python benchmarks/gpu.py --tiny --device cpu                    # every line but the GPU's, in seconds

Models have the shapes of Qwen3-0.6B, 8B and 32B and random weights. W workers share an opening of so many tokens; each
has a block of its own and sees those of the others. A pass is what the engine does in one, short of a program's
bookkeeping: the model runs while the next pass is laid out and taken to the GPU, then the likeliest tokens come back
and go into that. Its time is from one pass's start to the next one's, in ms: the median of passes that are interleaved
in three rounds with those of

- hw: attention block by block, passes captured as CUDA graphs;
- no graphs: the same, neither captured nor padded;
- page tables: every worker's view as one table of pages, so that shared tokens are read once for each worker; captured;
- copies: as many independent sequences, each with its own copy of the opening, seeing that and its own block alone:
  what an engine that shares no prefixes reads; captured. With one worker it is what hw is, so that the difference of
  the two is the noise.

K/V of openings are random numbers, written straight into the pool: times do not depend on them. That the executors
agree is checked before, on a text that each of them encodes itself. The limit is what memory allows: the weights and
the K/V of all tokens stored, read once each, at the rate of a large copy measured in the same run.

FlashInfer compiles its kernels when they are first asked for, which takes minutes; benchmarks/kernels.py builds the
ones for this ahead: `--variant plain rope`. Rows are printed as they come; at the end come Markdown tables for
docs/performance.md and, from the same passes, from where on block by block wins (BREAK_EVEN in
attention/flashinfer.py).
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config

from hwruntime.attention import Choice, Executor, Layer, ModelShape, Static
from hwruntime.attention.flashinfer import BREAK_EVEN, FlashInferExecutor, has_rope
from hwruntime.attention.kernels import Kernels, TorchKernels
from hwruntime.attention.prefill import Prefills, TorchPrefills
from hwruntime.attention.torch import TorchExecutor
from hwruntime.bench.shapes import CONTEXT, random_model
from hwruntime.cache import PAGE_SIZE, Block, Pool, Storage
from hwruntime.checkpoint import Checkpoint
from hwruntime.errors import HwError
from hwruntime.graphs import CudaRecorder, Recorder, Recording, TorchRecorder
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.models import CAPTURE_AFTER, Model
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Plan, Row, build_plan

K = 1024
GB = 10**9
ROUNDS = 3  # in which the ways take turns
WARM_UP = CAPTURE_AFTER + 2  # passes until one is replayed, with one to spare
MOST_SECONDS = 1.5  # for the passes of one way in one round; the fewest are run all the same
FEWEST = 3  # passes timed in a round
RESERVE = 4 * GB  # bytes of a GPU's memory that are not given to the cache: activations, graphs, FlashInfer's workspace
COPIED = 4 * GB  # bytes of the copy that measures bandwidth
CHECKED, STEPS = 48, 6  # tokens of the opening and of each worker when the executors are compared
OFF = 0.25  # logits' difference, of their spread, that bfloat16 does not explain: a missing key makes 0.3 and more


# --- Models ---


@dataclass(frozen=True)
class Shape:
    """A model's published sizes. `contexts`: tokens of openings that are measured unless others are asked for; `own`:
    tokens of each worker's own block when timing starts."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    tied: bool
    contexts: tuple[int, ...]
    head_dim: int = 128
    vocabulary: int = 151_936
    own: int = 256

    def config(self) -> Qwen3Config:
        return Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            tie_word_embeddings=self.tied,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )

    def sizes(self, dtype: torch.dtype) -> "Sizes":
        parameters = sum(p.numel() for p in random_model(self.config(), torch.device("meta"), dtype).parameters())
        unread = 0 if self.tied else self.vocabulary * self.hidden
        per_token = 2 * self.layers * self.kv_heads * self.head_dim
        return Sizes(*(n * dtype.itemsize for n in (parameters, parameters - unread, per_token)))


@dataclass(frozen=True)
class Sizes:
    """Bytes: of all weights; of those that a pass reads, which are all but the input embedding, unless that is the
    output layer, too; and of a token's K/V in all layers."""

    weights: int
    read: int
    token: int


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("8B", 4096, 36, 32, 8, 12_288, False, (K, 4 * K, 8 * K, 16 * K, 32 * K, 64 * K)),
        Shape("0.6B", 1024, 28, 16, 8, 3072, True, (8 * K, 64 * K)),
        Shape("32B", 5120, 64, 64, 8, 25_600, False, (8 * K, 64 * K)),
        Shape("tiny", 128, 2, 4, 2, 256, False, (128, 512), vocabulary=512, own=16),
    )
}
DEFAULT = ("8B", "0.6B", "32B")


# --- Executors: several over one pool, of which one runs ---


@dataclass(frozen=True)
class Way:
    """A way to run a pass: which executor, and whether every worker has an opening of its own."""

    name: str
    executor: str
    copies: bool = False


HW = Way("hw", "blocks")
EAGER = Way("no graphs", "eager")
TABLES = Way("page tables", "tables")
COPIES = Way("copies", "blocks", copies=True)
TORCH = Way("torch", "torch")  # the torch executor, on a CPU
CAPTURED = ("blocks", "tables")


class Switch:
    """An executor that is the `chosen` one of several. They write the same storage, in their own ways."""

    def __init__(self, executors: Mapping[str, Executor]) -> None:
        self._executors = executors
        self.chosen = HW.executor
        self.static: Static | None = None  # of the last pass that was begun

    @property
    def names(self) -> Sequence[str]:
        return list(self._executors)

    @property
    def rotated(self) -> bool:
        return self._executors[self.chosen].rotated

    def expect(self, workers: int, tokens: int) -> None:
        """Which path runs is not left to a rule here."""

    def begin(self, plan: Plan, slots: list[int]) -> Static | None:
        self.static = self._executors[self.chosen].begin(plan, slots)
        return self.static

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self._executors[self.chosen].attend(layer, q, k, v)


@dataclass(eq=False)
class Workshop:
    """Makes the executors that a model asks for, and keeps the last ones with their storage."""

    switch: Switch = field(init=False)
    storage: Storage = field(init=False)

    def make(self, shape: ModelShape, pool: Pool, storage: Storage) -> Executor:
        prefills, kernels = parts(shape.device)
        blocks = FlashInferExecutor(shape, pool, storage, prefills, kernels, path="blocks")
        eager = FlashInferExecutor(shape, pool, storage, prefills, kernels, pads=False, path="blocks")
        executors: dict[str, Executor] = {"blocks": blocks, "eager": eager, "torch": TorchExecutor(pool, storage)}
        if all(has_rope(layer) for layer in shape.layers):
            executors["tables"] = FlashInferExecutor(shape, pool, storage, prefills, kernels, path="page tables")
        self.switch, self.storage = Switch(executors), storage
        return self.switch


def parts(device: torch.device) -> tuple[Prefills, Kernels]:
    """What the FlashInfer executor is made of: FlashInfer and Triton, or the same in plain torch."""
    if device.type != "cuda":
        return TorchPrefills(), TorchKernels()
    from hwruntime.attention.prefill import FlashInferPrefills
    from hwruntime.attention.triton import TritonKernels

    return FlashInferPrefills(device), TritonKernels()


class CaptureError(Exception):
    """A pass could not be captured. No `RuntimeError`: a model would go on without graphs, for good."""


FAILURES = (RuntimeError, CaptureError, HwError)  # of which a run leaves something out and goes on; so is no memory


class Strict:
    """A recorder that fails aloud."""

    def __init__(self, inner: Recorder) -> None:
        self._inner = inner

    def record(self, forward: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, positions: Tensor) -> Recording:
        try:
            return self._inner.record(forward, tokens, positions)
        except RuntimeError as error:
            raise CaptureError(f"capture failed: {first_line(error)}") from error


@dataclass(frozen=True)
class Bench:
    """A model, and the hold on its executors and its storage."""

    shape: Shape
    sizes: Sizes
    model: Model
    workshop: Workshop

    @property
    def device(self) -> torch.device:
        return self.model.hf.device

    @property
    def switch(self) -> Switch:
        return self.workshop.switch

    @property
    def layers(self) -> list[Layer]:
        return list(self.model.layers.values())

    def ways(self) -> list[Way]:
        ways = [HW, EAGER, TABLES, COPIES, *([TORCH] if self.device.type == "cpu" else [])]
        return [way for way in ways if way.executor in self.switch.names]

    def fill(self) -> None:
        """Put random numbers into the whole pool: keys as normalised ones are, values of that size, too."""
        for layer in self.layers:
            for stored in self.workshop.storage.layer(layer.index):
                stored.normal_()


def open_bench(shape: Shape, sizes: Sizes, device: torch.device, dtype: torch.dtype, tokens: int) -> Bench:
    """A model with a pool for so many tokens; it has passed the runtime's self-test."""
    workshop = Workshop()
    tokenizer = object.__new__(ModelTokenizer)  # nothing here has a text
    checkpoint = Checkpoint(shape.name, random_model(shape.config(), device, dtype), tokenizer, CONTEXT, [])
    choice = Choice("benchmark", "asked for", workshop.make)
    recorder = Strict(CudaRecorder() if device.type == "cuda" else TorchRecorder())
    return Bench(shape, sizes, Model(checkpoint, choice, tokens, recorder=recorder), workshop)


# --- Passes ---


@dataclass(frozen=True)
class Pass:
    """One pass, laid out over the pool."""

    plan: Plan
    slots: list[int]


class Scene:
    """W workers, each with a block of its own, behind one opening that all of them see, or more of them for copies."""

    def __init__(self, pool: Pool, workers: int, context: int, own: int, openings: int = 1) -> None:
        self._pool = pool
        self._begun = own
        self._openings = [self._block(context) for _ in range(openings)]
        self._own = [self._block(own) for _ in range(workers)]

    def opening(self) -> Pass:
        """The pass that encodes the opening."""
        block = self._openings[0]
        row = Row((Piece(0, block.length),), block.length)
        return self._pass([row], self._pool.slots(block, range(block.length)))

    def decode(self, copies: bool = False) -> Pass:
        """The next pass: every worker adds a token. It sees the opening, the others and itself or, of `copies`, its own
        opening and itself."""
        slots = [slot for block in self._own for slot in self._pool.slots(block, self._pool.extend(block, 1))]
        return self._pass([Row(tuple(self._view(w, copies)), 1) for w in range(len(self._own))], slots)

    def rewind(self) -> None:
        """Back to the blocks as they were made."""
        for block in self._own:
            self._pool.shrink(block, block.length - self._begun)

    def close(self) -> None:
        for block in (*self._openings, *self._own):
            self._pool.clear(block)

    def _view(self, worker: int, copies: bool) -> Iterator[Piece]:
        opening = worker if copies else 0
        yield Piece(opening, self._openings[opening].length)
        others = [] if copies else [other for other in range(len(self._own)) if other != worker]
        for w in (*others, worker):
            yield Piece(len(self._openings) + w, self._own[w].length)

    def _pass(self, rows: Sequence[Row], slots: list[int]) -> Pass:
        blocks = {n: PlanBlock(b.length, b.pages) for n, b in enumerate((*self._openings, *self._own))}
        return Pass(build_plan(rows, blocks, self._pool.page_size), slots)

    def _block(self, tokens: int) -> Block:
        block = Block()
        self._pool.extend(block, tokens)
        return block


def tokens_needed(workers: int, context: int, own: int, passes: int, openings: int) -> int:
    """Tokens' worth of pages for a scene, in which `passes` passes follow one another."""
    return openings * whole_pages(context) + workers * whole_pages(own + passes)


def whole_pages(tokens: int) -> int:
    return -(-tokens // PAGE_SIZE) * PAGE_SIZE


# --- Time ---


class Span:
    """GPU time between two marks in what the GPU is given to do; without a GPU, there is none."""

    def __init__(self, device: torch.device) -> None:
        made = range(2 if device.type == "cuda" else 0)
        self._marks = [torch.cuda.Event(enable_timing=True) for _ in made]  # type: ignore[no-untyped-call]

    def start(self) -> None:
        for mark in self._marks[:1]:
            mark.record()

    def end(self) -> None:
        for mark in self._marks[1:]:
            mark.record()

    def ms(self) -> float | None:
        """Waits for the end."""
        if not self._marks:
            return None
        start, end = self._marks
        end.synchronize()
        return float(start.elapsed_time(end))


def elapsed_ms(call: Callable[[], object], device: torch.device) -> float:
    """ms that a call takes: the GPU where it runs on one."""
    span = Span(device)
    started = time.perf_counter()
    span.start()
    call()
    span.end()
    ms = span.ms()
    return (time.perf_counter() - started) * 1e3 if ms is None else ms


def replayed_ms(call: Callable[[], object], device: torch.device, calls: int, times: int = 15) -> float:
    """ms of a call, captured `calls` times over as a CUDA graph: the median of replays. Without a GPU, plain calls."""
    if device.type != "cuda":
        call()
        return statistics.median(elapsed_ms(call, device) for _ in range(times))

    def repeat() -> None:
        for _ in range(calls):
            call()

    replay = captured(repeat, device)
    replay()
    return statistics.median(elapsed_ms(replay, device) for _ in range(times)) / calls


def captured(call: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """A CUDA graph of what a call does."""
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):  # kernels are compiled in their first call, which cannot be captured
        call()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


@dataclass(frozen=True)
class Sample:
    """One pass: ms from its start to the next one's, and ms of the GPU from being given the forward call to its end."""

    ms: float
    gpu_ms: float | None


@dataclass(frozen=True)
class Timing:
    """Of all passes of a way, in ms: the median, the first and last tenth, and the median of `Sample.gpu_ms`.
    `captured`: whether they were replayed."""

    ms: float
    low: float
    high: float
    gpu_ms: float | None
    passes: int
    captured: bool


def timing(samples: Sequence[Sample], captured: bool) -> Timing:
    ms = sorted(sample.ms for sample in samples)
    on_gpu = [sample.gpu_ms for sample in samples if sample.gpu_ms is not None]
    tenth = len(ms) // 10
    gpu_ms = statistics.median(on_gpu) if on_gpu else None
    return Timing(statistics.median(ms), ms[tenth], ms[-1 - tenth], gpu_ms, len(ms), captured)


def decode(bench: Bench, scene: Scene, way: Way, workers: int, warm_up: int, passes: int) -> list[Sample]:
    """Time passes after those of a warm-up, as the engine runs them."""
    bench.switch.chosen = way.executor
    scene.rewind()
    model, samples = bench.model, []
    now = scene.decode(way.copies)
    model.prepare(now.plan, now.slots)
    tokens = list(range(workers))
    begun = 0.0
    for index in range(warm_up + passes):
        started = time.perf_counter()
        begun = started if index == warm_up else begun
        span = Span(bench.device)
        span.start()
        logits = model.forward(tokens, now.plan, now.slots, range(workers))
        span.end()
        now = scene.decode(way.copies)
        model.prepare(now.plan, now.slots)
        tokens = logits.argmax(-1).tolist()  # waits for the GPU
        ended = time.perf_counter()
        if index >= warm_up:
            samples.append(Sample((ended - started) * 1e3, span.ms()))
        if len(samples) >= FEWEST and ended - begun > MOST_SECONDS:
            break
    return samples


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a large copy on the device reads and writes."""
    size = COPIED if device.type == "cuda" else COPIED // 64
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    target.copy_(source)
    ms = statistics.median(elapsed_ms(lambda: target.copy_(source), device) for _ in range(10))
    return 2 * size / ms * 1e3


# --- Are the executors right? ---


@torch.no_grad()
def check(bench: Bench) -> dict[str, float]:
    """How far the logits of two workers are from the torch executor's, by executor: as a part of their spread, of the
    middle one of all tokens. Each encodes the text itself, with captured passes where it has them."""
    expected = check_logits(bench, TORCH.executor)
    spread = (expected - expected.mean(-1, keepdim=True)).norm(dim=-1)
    return {
        name: float(((check_logits(bench, name) - expected).norm(dim=-1) / spread).median())
        for name in bench.switch.names
        if name != TORCH.executor
    }


def check_logits(bench: Bench, executor: str) -> Tensor:
    """Logits of two workers' tokens behind an opening, [2 x STEPS, vocabulary]."""
    bench.switch.chosen = executor
    rng = random.Random(0)
    draw = [rng.randrange(bench.shape.vocabulary) for _ in range(CHECKED + 2 * STEPS)]
    scene = Scene(bench.model.pool, 2, CHECKED, 0)
    try:
        opening = scene.opening()
        bench.model.forward(draw[:CHECKED], opening.plan, opening.slots, ())
        logits = []
        for step in range(STEPS):
            now = scene.decode()
            tokens = draw[CHECKED + 2 * step :][:2]
            logits.append(bench.model.forward(tokens, now.plan, now.slots, range(2)))
        return torch.cat(logits)
    finally:
        scene.close()


# --- What was measured ---


@dataclass(frozen=True)
class Cell:
    """Decode passes of one shape, context and number of workers. `stored`: tokens that each worker sees when timing
    starts; `limit_ms`: what memory allows; `alone_ms`: a pass of one worker."""

    shape: str
    context: int
    workers: int
    stored: int
    limit_ms: float
    alone_ms: float | None
    timings: dict[str, Timing]

    @property
    def hw_ms(self) -> float | None:
        return self.timings[HW.name].ms if HW.name in self.timings else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.workers / self.hw_ms * 1e3 if self.hw_ms else None

    @property
    def speed_up(self) -> float | None:
        return self.workers * self.alone_ms / self.hw_ms if self.hw_ms and self.alone_ms else None

    @property
    def over_limit(self) -> float | None:
        return self.hw_ms / self.limit_ms if self.hw_ms else None

    def to_json(self) -> dict[str, object]:
        derived = {"tokens_per_s": self.tokens_per_s, "speed_up": self.speed_up, "over_limit": self.over_limit}
        return asdict(self) | derived


@dataclass(frozen=True)
class Merge:
    """Merging partial results, µs a call: of `tokens` tokens, each of which sees up to `states` blocks. `dense_us`:
    FlashInfer's merge_states with the gathering and padding that it asks for."""

    case: str
    tokens: int
    states: int
    heads: int
    ours_us: float
    dense_us: float
    difference: float


@dataclass(frozen=True)
class Attention:
    """Attention alone in all layers, ms a pass, with `stored` tokens in the cache; `limit_ms`: of reading them once."""

    shape: str
    stored: int
    workers: int
    limit_ms: float
    ms: dict[str, float]


@dataclass(frozen=True)
class Machine:
    chip: str
    driver: str
    versions: dict[str, str]
    copy_bytes_per_s: float

    def line(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        rate = self.copy_bytes_per_s / GB
        return f"{self.chip}, driver {self.driver}; {versions}; a large copy reads and writes {rate:,.0f} GB/s"


@dataclass(eq=False)
class Report:
    """All that has been measured so far; `save` leaves it whole in a file."""

    machine: Machine
    options: dict[str, object]
    path: Path | None
    shapes: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Cell] = field(default_factory=list)
    attention: list[Attention] = field(default_factory=list)
    merge: list[Merge] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    done: bool = False

    def skip(self, what: str, why: str) -> None:
        self.skipped.append(f"{what}: {why}")
        say(f"skipped: {what}: {why}")

    def save(self) -> None:
        if self.path is None:
            return
        aside = self.path.with_name(f"{self.path.name}.part")
        aside.write_text(json.dumps(self.to_json(), indent=1) + "\n")
        os.replace(aside, self.path)

    def to_json(self) -> dict[str, object]:
        return {
            "done": self.done,
            "machine": asdict(self.machine),
            "options": self.options,
            "shapes": self.shapes,
            "rows": [cell.to_json() for cell in self.rows],
            "attention": [asdict(found) for found in self.attention],
            "merge": [asdict(found) for found in self.merge],
            "break_even": {name: asdict(found) for name, found in break_evens(self.rows).items()},
            "skipped": self.skipped,
        }


# --- Measuring ---


@dataclass(frozen=True)
class Grid:
    """What is measured of each shape."""

    workers: tuple[int, ...]
    contexts: tuple[int, ...] | None
    passes: int

    @property
    def in_round(self) -> int:
        return max(FEWEST, -(-self.passes // ROUNDS))

    @property
    def longest(self) -> int:
        """Passes that follow one another: those of a round, and the one that is laid out behind the last."""
        return WARM_UP + self.in_round + 1

    def cells(self, shape: Shape) -> list[tuple[int, int]]:
        """(context, workers), one worker first."""
        return [(context, workers) for context in self.contexts or shape.contexts for workers in self.workers]

    def need(self, shape: Shape, context: int, workers: int, openings: int) -> int:
        return tokens_needed(workers, context, shape.own, self.longest, openings)

    def pool(self, shape: Shape, room: int) -> int:
        """Tokens of the pool: as many as the largest cell needs that fits into `room`; 0 where none does."""
        cells = self.cells(shape)
        needs = [self.need(shape, context, w, openings) for context, w in cells for openings in (1, w)]
        fitting = [need for need in needs if need <= room]
        return max(*fitting, tokens_needed(2, CHECKED, 0, STEPS, 1)) if fitting else 0


def measure_cell(bench: Bench, grid: Grid, context: int, workers: int, report: Report) -> None:
    name, own = bench.shape.name, bench.shape.own
    what = f"{name}, {context:,} tokens, {workers} workers"
    room = bench.model.pool.capacity
    need, copied = (grid.need(bench.shape, context, workers, openings) for openings in (1, workers))
    if need > room:
        report.skip(what, too_large(need, room, bench.sizes))
        return
    if copied > room:
        report.skip(f"{what}, {COPIES.name}", too_large(copied, room, bench.sizes))
    ways = [way for way in bench.ways() if not way.copies or copied <= room]
    scene = Scene(bench.model.pool, workers, context, own, workers if copied <= room else 1)
    try:
        timings = interleaved(bench, scene, ways, workers, grid.in_round, what, report)
    finally:
        scene.close()
    alone = next((cell.hw_ms for cell in report.rows if (cell.shape, cell.context) == (name, context)), None)
    if workers == 1 and HW.name in timings:
        alone = timings[HW.name].ms
    stored = context + workers * own
    limit = (bench.sizes.read + stored * bench.sizes.token) / report.machine.copy_bytes_per_s * 1e3
    cell = Cell(name, context, workers, stored, limit, alone, timings)
    report.rows.append(cell)
    report.save()
    say(markdown_row(cell_values(cell)))


def too_large(need: int, room: int, sizes: Sizes) -> str:
    return f"needs {need * sizes.token / GB:,.3f} GB of cache, the pool has {room * sizes.token / GB:,.3f} GB"


def interleaved(
    bench: Bench, scene: Scene, ways: Sequence[Way], workers: int, passes: int, what: str, report: Report
) -> dict[str, Timing]:
    """The passes of all ways, which take turns. One that fails is left out from there on."""
    samples: dict[Way, list[Sample]] = {way: [] for way in ways}
    replayed: dict[Way, bool] = {}
    for turn in range(ROUNDS):
        for way in list(samples):
            try:
                samples[way] += decode(bench, scene, way, workers, 1 if turn else WARM_UP, passes)
                static = bench.switch.static
                replayed[way] = static is not None and static.recording is not None
            except FAILURES as error:
                del samples[way]
                report.skip(f"{what}, {way.name}", first_line(error))
            if way not in samples:
                free(bench.device)  # out here, where the error does not hold what it failed with
    return {way.name: timing(taken, replayed[way]) for way, taken in samples.items()}


@torch.no_grad()
def measure_attention(bench: Bench, grid: Grid, report: Report) -> None:
    """Attention alone, in all layers, for a fixed number of tokens stored: a shared opening and own blocks."""
    for stored in grid.contexts or bench.shape.contexts:
        for workers in grid.workers:
            opening = stored - workers * (bench.shape.own + 1)
            if opening > 0:
                measure_layers(bench, opening, stored, workers, report)
    report.save()


def measure_layers(bench: Bench, opening: int, stored: int, workers: int, report: Report) -> None:
    what = f"attention alone, {stored:,} tokens stored, {workers} workers"
    own, room = bench.shape.own, bench.model.pool.capacity
    need = tokens_needed(workers, opening, own, 1, 1)
    if need > room:
        report.skip(what, too_large(need, room, bench.sizes))
        return
    scene = Scene(bench.model.pool, workers, opening, own)
    try:
        now = scene.decode()
        ms = {way.name: attention_ms(bench, now, way, workers) for way in bench.ways() if way in (HW, TABLES)}
    except FAILURES as error:
        report.skip(what, first_line(error))
        return
    finally:
        scene.close()
    limit = stored * bench.sizes.token / report.machine.copy_bytes_per_s * 1e3
    report.attention.append(Attention(bench.shape.name, stored, workers, limit, ms))
    say(markdown_row(attention_values(report.attention[-1])))


def attention_ms(bench: Bench, now: Pass, way: Way, workers: int) -> float:
    """ms of one way's attention, all layers one after the other: each has K/V of its own, as in a model, so that none
    finds them in the GPU's cache."""
    bench.switch.chosen = way.executor
    static = bench.switch.begin(now.plan, now.slots)
    tokens = static.tokens if static else workers
    heads, dtype = bench.layers[0].heads, bench.model.hf.dtype
    q, k, v = (
        torch.randn(tokens, count, dim, device=bench.device, dtype=dtype)
        for count, dim in ((heads.queries, heads.dim), (heads.keys, heads.dim), (heads.keys, heads.value_dim))
    )

    def all_layers() -> None:
        for layer in bench.layers:
            bench.switch.attend(layer, q, k, v)

    return replayed_ms(all_layers, bench.device, calls=1)


# --- Merging ---

MERGES: dict[str, list[int]] = {  # blocks that each token of a pass sees
    "2 workers": [3] * 2,
    "4 workers": [5] * 4,
    "8 workers": [9] * 8,
    "16 runs of 2 workers": [3] * 32,
    "8 runs of 4 workers": [5] * 32,
    "runs of 1, 2, 4 and 8 workers": [2] + [3] * 2 + [5] * 4 + [9] * 8,
}


@torch.no_grad()
def measure_merges(shape: Shape, device: torch.device, dtype: torch.dtype, report: Report) -> None:
    for case, counts in MERGES.items():
        try:
            found = measure_merge(case, counts, shape, device, dtype)
        except RuntimeError as error:
            report.skip(f"merging, {case}", first_line(error))
            continue
        report.merge.append(found)
        say(markdown_row(merge_values(found)))
    report.save()


def measure_merge(case: str, counts: Sequence[int], shape: Shape, device: torch.device, dtype: torch.dtype) -> Merge:
    """Partial results lie in any order, as block by block they do; the last one is padding, of no weight."""
    total, most, heads = sum(counts), max(counts), shape.heads
    outs = torch.randn(total + 1, heads, shape.head_dim, device=device, dtype=dtype)
    lses = torch.randn(total + 1, heads, device=device)
    lses[total] = -torch.inf
    order = random.Random(0).sample(range(total), total)
    ends = [sum(counts[:t]) for t in range(len(counts) + 1)]
    indptr, indices = (torch.tensor(numbers, dtype=torch.int32, device=device) for numbers in (ends, order))
    table = [[*order[a:b], *[total] * (most - b + a)] for a, b in pairwise(ends)]
    padded = torch.tensor(table, dtype=torch.int32, device=device).flatten()
    kernels, merge_states = parts(device)[1], dense_merge(device)
    out = torch.empty(len(counts), heads, shape.head_dim, device=device, dtype=dtype)

    def ours() -> None:
        kernels.merge(outs, lses, indptr, indices, None, out)

    def theirs() -> Tensor:
        dense = outs.index_select(0, padded).view(len(counts), most, heads, shape.head_dim)
        return merge_states(dense, lses.index_select(0, padded).view(len(counts), most, heads))[0]

    ours()
    difference = float((out.float() - theirs().float()).abs().max())
    times = [replayed_ms(call, device, calls=20) * 1e3 for call in (ours, theirs)]
    return Merge(case, len(counts), most, heads, times[0], times[1], difference)


def dense_merge(device: torch.device) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """FlashInfer's merge_states(v [T, S, H, D], lse [T, S, H], base 2), or the same in plain torch."""
    if device.type == "cuda":
        from flashinfer import merge_states

        found: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = merge_states
        return found

    def merge_in_torch(v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        lse = torch.logsumexp(s * torch.tensor(2.0).log(), 1, keepdim=True) / torch.tensor(2.0).log()
        return (v * torch.exp2(s - lse)[..., None]).sum(1).to(v.dtype), lse[:, 0]

    return merge_in_torch


# --- Where block by block begins to win ---


@dataclass(frozen=True)
class BreakEven:
    """Of all rules "block by block where (workers - 1) x tokens of a view are more than `above`, else page tables" the
    one that loses least over what was measured; -1: block by block always. `until`: the next measured number above it,
    None where there is none; `loses`: the part of the faster way's time that the rule loses at its worst, `now_loses`
    what the runtime's present rule (BREAK_EVEN) does."""

    above: int
    until: int | None
    loses: float
    now_loses: float


def break_evens(cells: Sequence[Cell]) -> dict[str, BreakEven]:
    """By shape, and of all shapes; from whole passes and, where there is a GPU, from its time alone."""
    names = list(dict.fromkeys(cell.shape for cell in cells))
    chosen = {name: [cell for cell in cells if cell.shape == name] for name in names}
    if len(names) > 1:
        chosen["all"] = list(cells)
    found = {}
    for name, some in chosen.items():
        for measure, key in (("ms", "whole passes"), ("gpu_ms", "GPU time")):
            points = list(crossings(some, measure))
            if points:
                found[f"{name}, {key}"] = break_even(points)
    return found


def crossings(cells: Sequence[Cell], measure: str) -> Iterator[tuple[int, float, float]]:
    """((workers - 1) x tokens of a view, ms block by block, ms by page tables)."""
    for cell in cells:
        blocks, tables = (getattr(cell.timings.get(way.name), measure, None) for way in (HW, TABLES))
        if blocks and tables:
            yield (cell.workers - 1) * cell.stored, blocks, tables


def break_even(points: Sequence[tuple[int, float, float]]) -> BreakEven:
    def losses(above: int) -> list[float]:
        return [(blocks if x > above else tables) / min(blocks, tables) - 1 for x, blocks, tables in points]

    places = sorted({x for x, _, _ in points})
    above = min([-1, *places], key=lambda x: sum(losses(x)))
    until = next((x for x in places if x > above), None)
    return BreakEven(above, until, max(losses(above)), max(losses(BREAK_EVEN)))


# --- Tables ---

CELL_HEADINGS = (
    *("shape", "tokens", "workers", "hw ms", "no graphs ms", "page tables ms", "copies ms", "limit ms"),
    *("tokens/s", "speed-up", "hw / limit"),
)
MERGE_HEADINGS = ("pass", "tokens", "blocks seen", "heads", "ours µs", "merge_states µs", "faster", "difference")
ATTENTION_HEADINGS = ("shape", "tokens stored", "workers", "hw ms", "page tables ms", "limit ms", "hw / limit")


GPU_HEADINGS = ("shape", "tokens", "workers", "hw ms", "no graphs ms", "page tables ms", "copies ms")


def cell_values(cell: Cell) -> list[str]:
    ways = [HW, EAGER, TABLES, COPIES, *([TORCH] if TORCH.name in cell.timings else [])]
    times = [number(cell.timings[way.name].ms if way.name in cell.timings else None) for way in ways]
    derived = [number(cell.tokens_per_s, 0), number(cell.speed_up), number(cell.over_limit)]
    return [
        *(cell.shape, f"{cell.context:,}", f"{cell.workers}"),
        *(*times[:4], number(cell.limit_ms), *derived, *times[4:]),
    ]


def gpu_values(cell: Cell) -> list[str]:
    times = [number(getattr(cell.timings.get(way.name), "gpu_ms", None)) for way in (HW, EAGER, TABLES, COPIES)]
    return [cell.shape, f"{cell.context:,}", f"{cell.workers}", *times]


def merge_values(merge: Merge) -> list[str]:
    faster = "ours" if merge.ours_us <= merge.dense_us else "merge_states"
    by = max(merge.ours_us, merge.dense_us) / min(merge.ours_us, merge.dense_us)
    counts = [f"{n}" for n in (merge.tokens, merge.states, merge.heads)]
    times = [number(us, 1) for us in (merge.ours_us, merge.dense_us)]
    return [merge.case, *counts, *times, f"{faster}, {by:.1f}x", f"{merge.difference:.0e}"]


def attention_values(found: Attention) -> list[str]:
    times = [number(found.ms.get(way.name), 3) for way in (HW, TABLES)]
    over = number(found.ms[HW.name] / found.limit_ms)
    return [found.shape, f"{found.stored:,}", f"{found.workers}", *times, number(found.limit_ms, 3), over]


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [markdown_row(headings), markdown_row(["---"] + ["---:"] * (len(headings) - 1)), *map(markdown_row, rows)]
    return "\n".join([f"\n### {title}\n", *lines])


def tables(report: Report) -> str:
    torch_too = any(TORCH.name in cell.timings for cell in report.rows)
    headings = (*CELL_HEADINGS, *(["torch ms"] if torch_too else []))
    on_gpu = [cell for cell in report.rows if any(taken.gpu_ms for taken in cell.timings.values())]
    return "\n".join(
        text
        for text in (
            markdown("Decode passes", headings, [cell_values(cell) for cell in report.rows]),
            markdown("The same passes' forward calls, on the GPU", GPU_HEADINGS, [gpu_values(cell) for cell in on_gpu]),
            markdown(
                "Attention alone, all layers", ATTENTION_HEADINGS, [attention_values(one) for one in report.attention]
            ),
            markdown("Merging partial results, captured", MERGE_HEADINGS, [merge_values(one) for one in report.merge]),
            f"\n{report.machine.line()}",
            "\n".join(check_line(name, about["check"]) for name, about in report.shapes.items() if "check" in about),
            "\n".join(f"Not measured: {line}" for line in report.skipped),
            "\n".join(break_even_lines(report)),
        )
        if text
    )


def check_line(shape: str, errors: Mapping[str, float]) -> str:
    told = ", ".join(f"{executor} {error:.1e}" for executor, error in errors.items())
    right = all(error <= OFF for error in errors.values())  # a nan is not
    verdict = "" if right else ": WRONG, its times mean nothing"
    return f"{shape}: logits against the torch executor's, of their spread: {told}{verdict}"


def break_even_lines(report: Report) -> Iterator[str]:
    """For BREAK_EVEN in attention/flashinfer.py."""
    for name, found in break_evens(report.rows).items():
        start = f"from more than {found.above:,}" if found.above >= 0 else "from 0"
        end = f" (the next measured is {found.until:,})" if found.until is not None else ": never, here"
        losses = f"at worst {found.loses:.1%} slower than the faster path; with {BREAK_EVEN:,}, {found.now_loses:.1%}"
        yield f"Break-even, {name}: blocks {start} (workers - 1) x tokens on{end}; {losses}"


# --- All of it ---


def main() -> None:
    chosen = options()
    device = torch.device(chosen.device)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    grid = Grid(tuple(sorted({1, *chosen.workers})), chosen.contexts, chosen.passes)
    say(f"on {device}, {grid.passes} passes each; measuring copy bandwidth")
    told: dict[str, object] = {name: str(value) for name, value in vars(chosen).items()}
    report = Report(machine(device, bandwidth(device)), told, chosen.json)
    say(report.machine.line())
    try:
        for index, name in enumerate(chosen.shapes):
            measure_shape(SHAPES[name], grid, device, dtype, chosen.cache_gb, report, alone=index == 0)
            free(device)
        report.done = True
    finally:
        report.save()
        say(tables(report))


def measure_shape(
    shape: Shape,
    grid: Grid,
    device: torch.device,
    dtype: torch.dtype,
    cache_gb: float | None,
    report: Report,
    alone: bool,
) -> None:
    """All of one shape; with `alone`, merging and attention alone, too."""
    sizes = shape.sizes(dtype)
    report.shapes[shape.name] = asdict(sizes)
    room = memory(device) - RESERVE * (device.type == "cuda") - sizes.weights
    room = room if cache_gb is None else min(room, int(cache_gb * GB))
    tokens = grid.pool(shape, room // sizes.token)
    if tokens == 0:
        report.skip(shape.name, f"{sizes.weights / GB:,.1f} GB of weights leave {room / GB:,.1f} GB for the cache")
        return
    say(f"{shape.name}: {sizes.weights / GB:,.2f} GB of weights, a cache of {tokens * sizes.token / GB:,.2f} GB")
    started = time.monotonic()
    try:
        bench = open_bench(shape, sizes, device, dtype, tokens)
        errors = check(bench)
    except FAILURES as error:
        report.skip(shape.name, first_line(error))
        return
    report.shapes[shape.name]["check"] = errors
    report.save()
    say(f"ready after {time.monotonic() - started:.0f} s; {check_line(shape.name, errors)}")
    bench.fill()
    say(markdown_row(CELL_HEADINGS))
    for context, workers in grid.cells(shape):
        measure_cell(bench, grid, context, workers, report)
    if alone:
        say(markdown_row(ATTENTION_HEADINGS))
        measure_attention(bench, grid, report)
        say(markdown_row(MERGE_HEADINGS))
        measure_merges(shape, device, dtype, report)
    say(f"{shape.name}: {time.monotonic() - started:.0f} s")


def machine(device: torch.device, copy: float) -> Machine:
    versions = {name: version(name) for name in ("torch", "flashinfer-python", "triton", "transformers")}
    if device.type != "cuda":
        return Machine(device.type, "none", versions, copy)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return Machine(torch.cuda.get_device_name(device), driver, versions, copy)


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def memory(device: torch.device) -> int:
    """Bytes that are free for weights and cache."""
    free(device)
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else GB


def free(device: torch.device) -> None:
    """Give back what nothing holds any more, and leave the stream of a capture that broke off."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.set_stream(torch.cuda.default_stream(device))
        torch.cuda.empty_cache()


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def say(text: str) -> None:
    print(text, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=names, default=DEFAULT, help=f"some of {', '.join(SHAPES)}")
    parser.add_argument("--workers", type=numbers, default=(1, 2, 4, 8), help="one is always measured, too")
    parser.add_argument("--contexts", type=numbers, help="tokens of the opening, such as 1k,64k; default: by shape")
    parser.add_argument("--passes", type=int, default=30, help="timed passes of each way")
    parser.add_argument("--cache-gb", type=float, help="the most memory for the cache; default: all that there is")
    parser.add_argument("--json", type=Path, help="where all medians go, after every row")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", dest="shapes", action="store_const", const=("tiny",), help="--shapes tiny")
    chosen = parser.parse_args()
    if torch.device(chosen.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: try --tiny --device cpu")
    return chosen


def names(text: str) -> tuple[str, ...]:
    unknown = [name for name in text.split(",") if name not in SHAPES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no shape is called {unknown[0]}: {', '.join(SHAPES)}")
    return tuple(text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    """`1k,512`, in order."""
    units = [(part.removesuffix("k"), K if part.endswith("k") else 1) for part in text.lower().split(",")]
    found = tuple(sorted({int(count) * unit for count, unit in units}))
    if found[0] < 1:
        raise argparse.ArgumentTypeError("only positive numbers")
    return found


if __name__ == "__main__":
    main()
