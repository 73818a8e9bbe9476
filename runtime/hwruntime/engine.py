"""The engine: runs of programs on one model. A step is three calls: plan, forward, sample."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Unpack

from torch import Tensor

from hwruntime.batch import Batch, Foresight, Placed, Run, foresee, lay_out, outcomes
from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool, too_small
from hwruntime.errors import RunError
from hwruntime.plan import Plan
from hwruntime.program import Program, Value
from hwruntime.result import Event, Progress, Result
from hwruntime.rows import Block, ClearBlock, Edit, MoveBlock, Row, whole_row
from hwruntime.session import RunOptions, Session
from hwruntime.tokenizer import Tokenizer

CHUNK = 256  # tokens of a long text that are encoded in one forward call
Watch = Callable[["Run"], None]  # called after every pass


class LanguageModel(Protocol):
    """The one seam to a model and its cache. Real: `hwruntime.models.Model`."""

    @property
    def name(self) -> str: ...

    @property
    def context(self) -> int:
        """The longest view, in tokens."""

    @property
    def pool(self) -> Pool: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def why(self) -> Sequence[str]:
        """What was chosen for this model, a line each."""

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        """Logits [len(wanted), vocabulary] that follow the pass's tokens at the indices `wanted`."""

    def move(self, source: list[int], target: list[int], by: int) -> None:
        """Copy K/V from slots to slots, the keys rotated on by `by` positions."""

    def expect(self, workers: int, tokens: int) -> None:
        """Told while the pool is empty: how many workers the coming run has, and the tokens of a typical view."""

    def prepare(self, plan: Plan, slots: list[int]) -> None:
        """Begin to take the plan of the coming pass to the device, while the present one runs. `forward` with this very
        plan need not do it again; it may also never come."""


@dataclass
class Shared:
    """Constants that several runs have in common: encoded once, kept while a run uses them."""

    _blocks: dict[tuple[int, ...], CacheBlock] = field(default_factory=dict)
    _users: dict[Block, tuple[int, ...]] = field(default_factory=dict)

    def take(self, user: Block, tokens: tuple[int, ...]) -> CacheBlock | None:
        if tokens in self._blocks:
            self._users[user] = tokens
        return self._blocks.get(tokens)

    def add(self, user: Block, tokens: tuple[int, ...], block: CacheBlock) -> None:
        self._blocks[tokens] = block
        self._users[user] = tokens

    def release(self, user: Block) -> bool:
        """Whether the user's block is still in use by others."""
        tokens = self._users.pop(user, None)
        if tokens is None:
            return False
        used = tokens in self._users.values()
        if not used:
            del self._blocks[tokens]
        return used


class Engine:
    """Runs programs on a model; many runs can be under way at once and share the passes."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._pool = model.pool
        self._shared = Shared()
        self._foresight: Foresight | None = None

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        watch: Watch | None = None,
        **options: Unpack[RunOptions],
    ) -> Result:
        """Run a program to its end. `watch` is called after every pass; `KeyboardInterrupt` ends the run, keeping what
        there is. Raises `InputError`, `RunError`."""
        run = self.start(program, inputs, **options)
        try:
            while self.step([run]):
                if watch:
                    watch(run)
        except KeyboardInterrupt:
            run.cancel()
        finally:
            self.finish(run)
        return run.session.result(self.model.name)

    def stream(self, program: Program, inputs: Mapping[str, Value], **options: Unpack[RunOptions]) -> Iterator[Event]:
        """The events of a run as they happen."""
        run = self.start(program, inputs, **options)
        try:
            yield from run.session.drain()
            while self.step([run]):
                yield from run.session.drain()
        finally:
            self.finish(run)

    def start(self, program: Program, inputs: Mapping[str, Value], **options: Unpack[RunOptions]) -> Run:
        """Begin a run: check that it fits, and encode its constants. It goes on with `step`, and needs `finish`."""
        session = Session(program, inputs, self.model.tokenizer, context=self.model.context, **options)
        if not self._pool.fits(session.block_lengths()):
            raise too_small(sum(session.block_lengths()), self._pool.capacity)
        if not self._pool.used:
            self.model.expect(*session.usual_load())
        run = Run(session)
        try:
            for row in session.openings:
                self._encode(run, row)
        except BaseException:
            self.finish(run)
            raise
        return run

    def step(self, runs: Sequence[Run]) -> bool:
        """One pass of all these runs; whether any of them went on."""
        passes = [(run, run.session.next_pass()) for run in runs]
        for run, now in passes:
            self._carry_out(run, now.edits)
        batch = self._plan([(run, row) for run, now in passes for row in now.rows])
        if not batch.rows:
            return False
        logits = self._forward(batch)
        self._sample(batch, logits)
        return True

    def finish(self, run: Run) -> None:
        """Give a run's pages back; once or more often."""
        for block, held in run.blocks.items():
            if not self._shared.release(block):
                self._pool.clear(held)
        run.blocks.clear()

    def progress(self, run: Run) -> Progress:
        """How far a run is, and how full the cache."""
        session = run.session
        return Progress(session.passes, session.budget, session.sampled, self._pool.used, self._pool.capacity)

    # --- The three calls ---

    def _plan(self, rows: Sequence[tuple[Run, Row]]) -> Batch:
        """Make room for the rows' tokens and lay the pass out, unless it has been foreseen. A run that the pool has no
        room for ends here."""
        foresight = self._foresight if self._foresight and self._foresight.holds(rows, self._pool) else None
        placed: list[Placed] = []
        for run, row in rows:
            if run.session.reason == "cache":
                continue
            try:
                placed.append(Placed(run, row, self._pool.extend(run.held(row.block), len(row.tokens))))
            except RunError:
                run.session.stop("cache")
        placed = [p for p in placed if p.run.session.reason != "cache"]
        return foresight.filled(placed) if foresight else lay_out(placed, self._pool)

    def _forward(self, batch: Batch) -> Tensor:
        """Logits for the rows that want something, in their order: [rows, vocabulary]. While a GPU is at them, the pass
        that will follow if all goes on is laid out."""
        logits = self.model.forward(batch.tokens, batch.plan, batch.slots, batch.wanted)
        self._foresight = foresee(batch, self._pool)
        if self._foresight:
            self.model.prepare(self._foresight.batch.plan, self._foresight.batch.slots)
        return logits

    def _sample(self, batch: Batch, logits: Tensor) -> None:
        """Sample, and tell every run what came of its rows."""
        came = outcomes(batch, logits)
        for run in dict.fromkeys(p.run for p in batch.rows):
            run.session.advance([came[p.row] for p in batch.rows if p.run is run])

    # --- The cache ---

    def _encode(self, run: Run, row: Row) -> None:
        """Encode a constant, in chunks; one that stands alone is shared with all runs that have the same."""
        sharable = row.block.kind == "constant" and len(row.view) == 1
        shared = self._shared.take(row.block, row.tokens) if sharable else None
        if shared is not None:
            run.blocks[row.block] = shared
            return
        for start in range(0, len(row.tokens), CHUNK):
            chunk = whole_row(row.writer, row.view, row.tokens[start : start + CHUNK])
            batch = self._plan([(run, chunk)])
            if not batch.rows:
                need, used = sum(run.session.block_lengths()), self._pool.used
                raise too_small(used + need, self._pool.capacity)
            self._forward(batch)
        if sharable:
            self._shared.add(row.block, row.tokens, run.blocks[row.block])

    def _carry_out(self, run: Run, edits: Sequence[Edit]) -> None:
        """Move and clear blocks. A run that the pool has no room for ends here."""
        for edit in edits:
            match edit:
                case ClearBlock(block=block):
                    self._pool.clear(run.held(block))
                case MoveBlock(source=source, target=target):
                    try:
                        self._move(run.held(source), run.held(target))
                    except RunError:
                        run.session.stop("cache")
                        return

    def _move(self, source: CacheBlock, target: CacheBlock) -> None:
        """Append `source` to `target`, keys rotated on by the length that `target` had (rule 4)."""
        by = target.length
        if by == 0:  # nothing to rotate by: hand the pages over
            self._pool.hand_over(source, target)
            return
        positions = self._pool.extend(target, source.length)
        self.model.move(self._pool.slots(source, range(source.length)), self._pool.slots(target, positions), by)
        self._pool.clear(source)
