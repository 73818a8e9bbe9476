"""The engine: runs of programs on one model. A step is three calls: plan, forward, sample."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, Unpack

from torch import Tensor

from hwruntime.batch import Batch, Foresight, Placed, Run, Tenant, Visit, foresee, lay_out, outcomes
from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool, Stored, too_small
from hwruntime.counters import Counters
from hwruntime.errors import HwError, PoolFull
from hwruntime.openings import Opening, Openings
from hwruntime.plan import Plan
from hwruntime.program import Program, Value
from hwruntime.requests import Requests
from hwruntime.result import Event, Progress, Result
from hwruntime.room import Room
from hwruntime.rows import AnyEdit, ClearBlock, CopyTokens, MoveBlock, Outcome, Row, whole_row
from hwruntime.runner import Watch, carried_out
from hwruntime.session import Known, Log, RunOptions, Session
from hwruntime.tokenizer import Tokenizer

CHUNK = 256  # tokens of a long text that are encoded in one forward call


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

    def read(self, slots: list[int]) -> Stored:
        """A copy of the K/V at slots, in the host's memory."""

    def write(self, stored: Stored, slots: list[int]) -> None:
        """Put K/V that were read into the cache, at any slots."""

    def expect(self, workers: int, tokens: int) -> None:
        """Told while the pool is empty: how many workers the coming run has, and the tokens of a typical view."""

    def prepare(self, plan: Plan, slots: list[int]) -> None:
        """Begin to take the plan of the coming pass to the device, while the present one runs. `forward` with this very
        plan need not do it again; it may also never come."""


class Engine:
    """Runs programs on a model; many runs can be under way at once and share the passes. `openings`: encoded ones that
    are kept on disk."""

    def __init__(self, model: LanguageModel, openings: Openings | None = None) -> None:
        self.model = model
        self._openings = openings
        self._pool = model.pool
        self._room = Room(model)
        self.counters = Counters()
        self._begun = 0
        self._foresight: Foresight | None = None

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        watch: Watch | None = None,
        log: Log | None = None,
        known: Iterable[Known] = (),
        **options: Unpack[RunOptions],
    ) -> Result:
        """Run a program to its end. `watch` is called after every pass; `KeyboardInterrupt` ends the run, keeping what
        there is. The rest is as for `start`. Raises `InputError`, `RunError`."""
        return carried_out(self, self.start(program, inputs, log, known, **options), watch)

    def stream(self, program: Program, inputs: Mapping[str, Value], **options: Unpack[RunOptions]) -> Iterator[Event]:
        """The events of a run as they happen."""
        run = self.start(program, inputs, **options)
        try:
            yield from run.session.drain()
            while self.step([run]):
                yield from run.session.drain()
            run.raise_error()
        finally:
            self.finish(run)

    def start(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        log: Log | None = None,
        known: Iterable[Known] = (),
        **options: Unpack[RunOptions],
    ) -> Run:
        """Begin a run: check that it fits, and encode its constants, if there is room now. It goes on with `step`, and
        its pages are free once it has ended; `finish` ends it early. `log` is told of what happens. `known`: passes
        that are made again, with the outcomes that they had. Raises `InputError`, `RunError`."""
        session = Session(program, inputs, self.model.tokenizer, context=self.model.context, log=log, **options)
        lengths = session.block_lengths()
        if not self._pool.fits(lengths):
            error = too_small(sum(lengths), self._pool.capacity)
            session.close(error)
            raise error
        self._begun += 1
        run = Run(session, self._begun, known=deque(known))
        self._room.runs.append(run)
        self.counters.runs_begun += 1
        try:
            if self._pool.free_for(session.opening_lengths()):
                self._bring_in(run)
        except HwError as error:
            self._fail(run, error)
            raise
        except BaseException:
            self.finish(run)
            raise
        return run

    def visit(self) -> Visit:
        """What coroutines ask of the passes, to be brought into them by `join`."""
        return Visit(Requests(self.model.tokenizer, self.model.context, CHUNK))

    def join(self, visit: Visit) -> None:
        """Have coroutines take part from now on. Once or more often."""
        if not visit.number:
            self._begun += 1
            visit.number = self._begun
            self._room.runs.append(visit)

    def step(self, runs: Sequence[Tenant]) -> bool:
        """One pass of all these runs; whether any is left that goes on. One that there is no room for waits until there
        is; one that fails ends alone (`Run.error`)."""
        began = time.perf_counter()
        asked = sorted((run for run in runs if run.stage != "over"), key=lambda run: run.number)
        self._room.asked = asked
        ready: list[Tenant] = []
        for run in asked:
            if self._made_ready(run, alone=not ready):
                ready.append(run)
        batch = self._plan(ready)
        if batch.rows:
            logits = self._forward(batch)
            self._sample(batch, logits)
            self.counters.pass_seconds += time.perf_counter() - began
        return any(run.stage != "over" for run in asked)

    def settle(self, visit: Visit) -> None:
        """Carry out edits that wait for a pass, as far as there is room."""
        if visit.stage == "here":
            with suppress(PoolFull):
                self._carry_out_all(visit, visit.session.edits)

    def finish(self, run: Tenant) -> None:
        """End a run here: its pages are free. Once or more often."""
        self._room.release(run)
        if run.stage != "over" and isinstance(run, Run):
            self.counters.runs_ended["error" if run.error else run.session.reason or "cancelled"] += 1
        run.stage = "over"
        run.session.close(run.error)

    def forget(self) -> None:
        """Give back the pages of constants that no run uses now; they would be kept for a run that has the same."""
        while self._room.drop_constant():
            pass

    def metrics(self) -> str:
        """The counters, what is under way and how full the cache is, as text for Prometheus."""
        self.counters.runs_suspended = self._room.suspended
        here = sum(run.stage == "here" for run in self._room.runs)
        return self.counters.exposition(
            {
                'hw_runs{pages="yes"}': here,
                'hw_runs{pages="no"}': len(self._room.runs) - here,
                "hw_cache_tokens": self._pool.used,
                "hw_cache_capacity_tokens": self._pool.capacity,
            }
        )

    def progress(self, run: Run) -> Progress:
        """How far a run is, and how full the cache."""
        session = run.session
        return Progress(session.passes, session.budget, session.sampled, self._pool.used, self._pool.capacity)

    # --- Getting ready ---

    def _made_ready(self, run: Tenant, alone: bool) -> bool:
        """Bring a run to where its rows can be laid out; whether it has any. `alone`: no older run is in this pass, so
        nobody will make more room for it than there is."""
        try:
            if run.stage != "here":
                self._bring_in(run)
            now = run.begin_pass()
            self._carry_out_all(run, now.edits)
        except PoolFull:
            self._wait(run, alone)
            return False
        except HwError as error:
            self._fail(run, error)
            return False
        if not now.rows:
            self.finish(run)
        return bool(now.rows)

    def _bring_in(self, run: Tenant) -> None:
        """Encode a run's constants, or give a suspended one what it had. Raises `PoolFull`."""
        if not self._pool.used:
            self.model.expect(*run.session.usual_load())
        try:
            for row in run.session.openings:
                if run.stage == "new" or sharable(row):
                    self._encode(run, row)
            self._room.bring_back(run)
        except PoolFull:
            self._room.free(run)
            raise
        run.stage = "here"

    def _wait(self, run: Tenant, alone: bool) -> None:
        """What becomes of a run that there is no room for."""
        if alone:
            run.session.stop("cache")
            if run.session.reason:
                self.finish(run)
        elif run.stage == "here":
            self._room.suspend(run)

    def _fail(self, run: Tenant, error: HwError) -> None:
        run.error = error
        self.finish(run)

    # --- The three calls ---

    def _plan(self, runs: Sequence[Tenant]) -> Batch:
        """Make room for the tokens of the runs' rows, of the oldest run first, and lay the pass out, unless it has been
        foreseen."""
        rows = [(run, row) for run in runs for row in run.rows]
        foresight = self._foresight if self._foresight and self._foresight.holds(rows, self._pool) else None
        placed: list[Placed] = []
        for run in runs:
            if run.stage != "here":  # it has made room for an older one
                continue
            try:
                placed += self._place(run)
            except PoolFull:
                self._wait(run, alone=not placed)
        return foresight.filled(placed) if foresight else lay_out(placed, self._pool)

    def _place(self, run: Tenant) -> list[Placed]:
        """Make room for the tokens of a run's rows; for none of them where it raises `PoolFull`."""
        placed: list[Placed] = []
        try:
            for row in run.rows:
                placed.append(Placed(run, row, self._room.extend(run, run.held(row.block), len(row.tokens))))
        except PoolFull:
            for each in placed:
                self._pool.shrink(run.held(each.row.block), len(each.row.tokens))
            raise
        return placed

    def _forward(self, batch: Batch) -> Tensor:
        """Logits for the rows that want something, in their order: [rows, vocabulary]. While a GPU is at them, the pass
        that will follow if all goes on is laid out."""
        self.counters.passes += 1
        self.counters.rows += len(batch.rows)
        self.counters.encoded_tokens += len(batch.tokens)
        logits = self.model.forward(batch.tokens, batch.plan, batch.slots, batch.wanted)
        self._foresight = foresee(batch, self._pool)
        if self._foresight:
            self.model.prepare(self._foresight.batch.plan, self._foresight.batch.slots)
        return logits

    def _sample(self, batch: Batch, logits: Tensor) -> None:
        """Sample, and tell every run what came of its rows."""
        came = outcomes(batch, logits)
        self.counters.sampled_tokens += sum(placed.row.draw is not None for placed in batch.rows)
        of_run: dict[Tenant, list[Outcome]] = {}
        for placed in batch.rows:
            of_run.setdefault(placed.run, []).append(came[placed.row])
        for run, own in of_run.items():
            try:
                run.end_pass(own)
            except HwError as error:
                self._fail(run, error)

    # --- The cache ---

    def _encode(self, run: Tenant, row: Row) -> None:
        """Encode a constant, in chunks; one that stands alone is shared with all runs that have the same. Raises
        `PoolFull`."""
        shared = self._room.constants.take(row.block, row.tokens) if sharable(row) else None
        if shared is not None:
            run.blocks[row.block] = shared
            return
        if self._openings is None or not sharable(row):
            self._encode_chunks(run, row)
        else:
            self._encode_kept(run, row, self._openings)
        if sharable(row):
            self._room.constants.add(row.block, row.tokens, run.blocks[row.block])

    def _encode_kept(self, run: Tenant, row: Row, openings: Openings) -> None:
        """Take an opening from disk if it is there, else encode it and leave it there. Raises `PoolFull`."""
        opening = Opening(row.tokens, CHUNK)
        stored = openings.find(opening)
        if stored is None:
            self._encode_chunks(run, row)
            openings.keep(opening, self._slots(run.held(row.block)))
        else:
            for start in range(0, len(row.tokens), CHUNK):  # as if encoded: so it gets the very same pages
                self._room.extend(run, run.held(row.block), len(row.tokens[start : start + CHUNK]))
            openings.restore(stored, self._slots(run.held(row.block)))

    def _encode_chunks(self, run: Tenant, row: Row) -> None:
        for start in range(0, len(row.tokens), CHUNK):
            chunk = whole_row(row.writer, row.view, row.tokens[start : start + CHUNK])
            positions = self._room.extend(run, run.held(chunk.block), len(chunk.tokens))
            self._forward(lay_out([Placed(run, chunk, positions)], self._pool))

    def _slots(self, block: CacheBlock) -> list[int]:
        return self._pool.slots(block, range(block.length))

    def _carry_out_all(self, run: Tenant, edits: deque[AnyEdit]) -> None:
        """Carry out edits, in order. Raises `PoolFull` at the first that there is no room for."""
        while edits:
            self._carry_out(run, edits[0])
            edits.popleft()

    def _carry_out(self, run: Tenant, edit: AnyEdit) -> None:
        """Move, copy or clear. Raises `PoolFull`, with nothing done."""
        match edit:
            case ClearBlock(block=block, for_good=True):
                self._room.drop(run, block)
            case ClearBlock(block=block):
                self._pool.clear(run.held(block))
            case MoveBlock(source=source, target=target):
                self._move(run, run.held(source), run.held(target))
            case CopyTokens(source=source, target=target):
                self._copy(run, run.held(source), range(edit.start, edit.stop), run.held(target))

    def _move(self, run: Tenant, source: CacheBlock, target: CacheBlock) -> None:
        """Append `source` to `target`, keys rotated on by the length that `target` had (rule 4)."""
        by = target.length
        if by == 0:  # nothing to rotate by: hand the pages over
            self._pool.hand_over(source, target)
            return
        positions = self._room.extend(run, target, source.length)
        self.model.move(self._slots(source), self._pool.slots(target, positions), by)
        self._pool.clear(source)

    def _copy(self, run: Tenant, source: CacheBlock, tokens: range, target: CacheBlock) -> None:
        """Append some of `source`'s tokens to `target`, keys rotated by as much as they change their place."""
        by = target.length - tokens.start
        positions = self._room.extend(run, target, len(tokens))
        self.model.move(self._pool.slots(source, tokens), self._pool.slots(target, positions), by)


def sharable(row: Row) -> bool:
    """Whether a constant is encoded alone, so that its K/V are the same for all who have its text."""
    return row.block.kind == "constant" and len(row.view) == 1
