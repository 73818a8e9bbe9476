"""One run's state as pure bookkeeping: no tensors, no model.

For every pass a session says which blocks to move or clear, and which rows to run then (`next_pass`); given what was
sampled, it fires triggers and decides what comes next (`advance`). "Rule" numbers are those of the design's section 2.

    session = Session(program, {"problem": "..."}, tokenizer)
    run the rows of session.openings
    while (now := session.next_pass()).rows:
        carry out now.edits in the cache, run now.rows
        session.advance([an Outcome for each row, from a model])
    session.result()
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, Unpack

from hwruntime.answer import Answers, Finisher
from hwruntime.errors import HwError, InputError, RunError
from hwruntime.inputs import active_workers, bind, check_tokens
from hwruntime.program import (
    Action,
    Ask,
    Clear,
    Move,
    Pause,
    Post,
    Program,
    Resume,
    Sampling,
    Say,
    Stop,
    Value,
    Worker,
)
from hwruntime.result import Event, EventKind, Reason, Result, Usage, WorkerResult
from hwruntime.rows import Block, ClearBlock, Edit, MoveBlock, Outcome, Pass, Row, whole_row
from hwruntime.tokenizer import Tokenizer
from hwruntime.views import Views
from hwruntime.worker import Moment, WorkerState

DEFAULT_BUDGET = 1024  # passes


@dataclass(frozen=True)
class Probe:
    """An `ask` under way: its row runs in the next pass."""

    worker: WorkerState
    ask: Ask
    values: Mapping[str, Value]
    row: Row


class RunOptions(TypedDict, total=False):
    """What can be said of a run besides its inputs; what is not said, or None, is the program's to say."""

    seed: int | None
    budget: int | None  # passes
    max_tokens: int | None  # sampled by all workers together
    max_seconds: float | None
    workers: int | None  # of the program's `workers n of ...`


@dataclass(frozen=True)
class Made:
    """A pass that has been made: what was done, what came of it, and the `events` since the one before it. `last`: it
    came after the run's end, for posts or the finisher. `seconds`: since the run began."""

    number: int
    edits: tuple[Edit, ...]
    rows: tuple[Row, ...]
    outcomes: tuple[Outcome, ...]
    events: tuple[Event, ...]
    last: bool
    seconds: float


@dataclass(frozen=True)
class Known:
    """A pass whose outcomes are known before it is made: of a run that is made again. `feeds` (stream, text) come in
    front of it; it was made `seconds` after the run began."""

    feeds: tuple[tuple[str, str], ...]
    tokens: tuple[tuple[int, ...], ...]  # of each row
    seconds: float
    outcomes: tuple[Outcome, ...]


class Log(Protocol):
    """Keeps what happens in a run. Real: `trace.RunTrace`."""

    def begin(self, session: "Session", events: Sequence[Event]) -> None: ...

    def add(self, made: Made) -> None: ...

    def end(
        self, session: "Session", edits: Sequence[Edit], events: Sequence[Event], error: HwError | None
    ) -> None: ...


class Session:
    """A run of `program` on `inputs`. `context` is the longest view that the model can take, in tokens; `log` is told
    of every pass.

    Raises `InputError` where inputs do not fit the program, `RunError` where the program does not fit the model.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        tokenizer: Tokenizer,
        context: int | None = None,
        log: Log | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        self.program = program
        self.passes = 0
        self.reason: Reason | None = None
        self.began = time.monotonic()
        self.tokenizer = tokenizer
        self._context = context
        self._log = log
        self._take_limits(options)
        seed = options.get("seed")
        self.seed = program.seed if seed is None else seed
        values = bind(program, inputs)
        names = active_workers(program, values, options.get("workers"))
        self._values = {**values, "workers": ", ".join(names)}
        self._events: list[Event] = []
        self._unlogged: list[Event] = []
        self._workers = [
            WorkerState(spec, index, self._sampling(spec), self._values, tokenizer, self._emit)
            for index, spec in enumerate(program.workers)
            if spec.name in names
        ]
        self._views = Views(program, self._workers, self._values, tokenizer)
        self._answers = Answers(program.answer)
        self._finisher: Finisher | None = None
        self._sync_counters = [0] * len(program.syncs)
        self._fed: list[tuple[str, str]] = []
        self._posts: list[Row] = []
        self._probes: list[Probe] = []
        self._edits: list[Edit] = []
        self._running: list[Row] = []
        self._edited: tuple[Edit, ...] = ()
        self._used = Counter[str]()
        self._prepare()
        if log:
            log.begin(self, self._take_unlogged())

    @property
    def openings(self) -> list[Row]:
        """Rows that encode the constants: to be run, in this order, before the first pass."""
        return self._views.openings

    @property
    def pads(self) -> dict[str, Block]:
        """Shared pads by name, private ones by `worker.name`."""
        return self._views.pads

    @property
    def views(self) -> dict[str, tuple[Block, ...]]:
        """Every worker's view."""
        return {worker.name: worker.view for worker in self._workers}

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began

    @property
    def sampled(self) -> int:
        """Tokens sampled so far."""
        return sum(worker.sampled for worker in self._workers)

    # --- The calls of a pass ---

    def next_pass(self) -> Pass:
        """What to do next; no rows where the run is over (then `reason` is set)."""
        if self.reason is None:
            self._take_feeds()
            self._running = self._posts + [r for w in self._workers if (r := w.row())] + [p.row for p in self._probes]
            self._end_where_due()
        if self.reason is not None:
            self._running = self._last_rows()
        self._edited, self._edits = tuple(self._edits), []
        return Pass(self._edited, tuple(self._running))

    def advance(self, outcomes: Sequence[Outcome]) -> None:
        """Take what came of the rows, in their order."""
        assert len(outcomes) == len(self._running), "one outcome for each row"
        last = self.reason is not None
        came = dict(zip(self._running, outcomes, strict=True))
        self._edits = [ClearBlock(row.block, for_good=True) for row in came if row.block.kind == "throw-away"]
        probes, self._probes, self._posts = self._probes, [], []
        if last:
            self._advance_finisher(came)
        else:
            self.passes += 1
            self._commit(came)
            self._take_turns({row.writer: outcome for row, outcome in came.items() if row.draw})
            for probe in probes:
                self._take_answer(probe, came[probe.row])
        if self._log:
            rows, events = tuple(came), self._take_unlogged()
            self._log.add(Made(self.passes, self._edited, rows, tuple(outcomes), events, last, self.seconds))
        self._edited = ()

    def feed(self, stream: str, text: str) -> None:
        """Add text to a stream: it is encoded in the next pass, and its triggers fire before that."""
        if stream not in self._views.streams:
            known = ", ".join(self._views.streams) or "none"
            raise InputError(f"the program has no stream `{stream}`", help=f"its streams: {known}")
        self._fed.append((stream, text))

    def stop(self, reason: Reason) -> None:
        """End the run here, without a finisher; the result keeps what there is."""
        self.reason, self._finisher, self._posts = reason, None, []

    def close(self, error: HwError | None = None) -> None:
        """Say that nothing more comes, and of which error if it ends by one. Once or more often."""
        if self._log:
            self._log.end(self, (*self._edited, *self._edits), self._take_unlogged(), error)
            self._log = None

    def drain(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def result(self, model: str) -> Result:
        """What there is now."""
        pads = self._views.pads
        return Result(
            program=self.program.name,
            model=model,
            seed=self.seed,
            answer=self._answers.settle(self._workers, pads, self.tokenizer),
            reason=self.reason or "cancelled",
            passes=self.passes,
            workers={w.name: WorkerResult(w.voice, w.tokens, w.steps) for w in self._workers},
            scratchpads={name: self.tokenizer.decode(block.tokens) for name, block in pads.items()},
            usage=self._usage(),
        )

    # --- Starting ---

    def _take_limits(self, options: RunOptions) -> None:
        """What the run may cost. Raises `InputError`."""
        for name, unit in (("budget", "passes"), ("max_tokens", "tokens"), ("max_seconds", "seconds")):
            limit = options.get(name)
            if isinstance(limit, int | float) and not limit > 0:
                raise InputError(f"a budget of {limit} {unit} leaves nothing to run", help="give more than 0")
        budget = options.get("budget")
        self.budget = budget or self.program.budget or DEFAULT_BUDGET
        self._budget_given = bool(budget or self.program.budget)
        self._max_tokens = options.get("max_tokens")
        self._max_seconds = options.get("max_seconds")

    def _sampling(self, spec: Worker) -> Sampling:
        """A worker's settings before its program's. Greedy where neither says anything."""
        own, shared = spec.sampling or Sampling(), self.program.sampling or Sampling()
        greedy = spec.sampling is None and self.program.sampling is None

        def chosen(setting: str) -> float | None:
            value: float | None = getattr(own, setting)
            return getattr(shared, setting) if value is None else value

        temperature, top_k = chosen("temperature"), chosen("top_k")
        return Sampling(
            temperature=(0.0 if greedy else 1.0) if temperature is None else temperature,
            top_p=chosen("top_p"),
            top_k=None if top_k is None else int(top_k),
            min_p=chosen("min_p"),
            seed=self.seed if own.seed is None else own.seed,
        )

    def _prepare(self) -> None:
        """First inputs, and what only the tokenizer can check."""
        for row in self.openings:
            row.block.tokens.extend(row.tokens)
            self._used["constant_tokens"] += len(row.tokens)
        check_tokens(self.program, self._values, self.tokenizer)
        for worker in self._workers:
            worker.begin()
            self._fire(worker, Moment(started=True))
            length = sum(len(block.tokens) for block in worker.view) + len(worker.pending)
            if self._context is not None and length >= self._context:
                raise RunError(
                    f"worker `{worker.name}` starts with {length} tokens, the model's context is {self._context}",
                    help="shorten the prompt, or take a model with a longer context",
                    span=worker.spec.span,
                )

    def block_lengths(self) -> list[int]:
        """How long the run's blocks get if every worker writes a token a pass until the budget ends."""
        constants, workers = len(self.openings), len(self._workers)
        grown = [0] * constants + [self.budget] * workers
        return [length + more for length, more in zip(self.opening_lengths(), grown, strict=True)]

    def opening_lengths(self) -> list[int]:
        """How long the run's blocks are before its second pass."""
        return [len(row.tokens) for row in self.openings] + [len(worker.pending) for worker in self._workers]

    def usual_load(self) -> tuple[int, int]:
        """How many workers the run has, and the tokens of all its blocks half-way through the budget."""
        workers = len(self._workers)
        return workers, sum(self.block_lengths()) - workers * self.budget // 2

    def warnings(self) -> list[str]:
        """What need not go wrong with this model, but may: only of a budget that was asked for."""
        longest = sum(self.block_lengths())
        if self._context is None or longest <= self._context or not self._budget_given:
            return []
        return [
            f"the run can reach {longest} tokens in {self.budget} passes, and the model's context is {self._context}: "
            "it would end there"
        ]

    # --- A pass ---

    def _commit(self, rows: Mapping[Row, Outcome]) -> None:
        """The rows' tokens are in the cache now."""
        for row in rows:
            if row.block.kind != "throw-away":
                row.block.tokens.extend(row.tokens)
        written = {row.block for row in rows}
        for worker in self._workers:
            if worker.block in written:
                worker.written()

    def _take_turns(self, sampled: Mapping[str, Outcome]) -> None:
        """Look at the workers in declaration order (rule 7)."""
        for worker in self._workers:
            if worker.ended:
                continue
            worker.count_pass()
            moment = worker.hear(sampled[worker.name].token) if worker.name in sampled else Moment()
            self._take_moment(worker, moment)
            self._sync_counters = [counter + len(worker.pending) for counter in self._sync_counters]

    def _take_moment(self, worker: WorkerState, moment: Moment) -> None:
        if moment.step is not None:
            self._emit("step", worker.name, moment.step)
            self._answers.read(worker, moment.step)
        if moment.ended:
            self._emit("end", worker.name)
        self._fire(worker, moment)
        if moment.step is not None and not worker.ended:
            self._sync(worker)
        if self._answers.has_voted(worker):
            self._close(worker)
        if self._answers.text is not None and self.reason is None:
            self.reason = "answer"
            self._emit("answer", worker.name, self._answers.text)

    def _fire(self, worker: WorkerState, moment: Moment) -> None:
        for index, rule in enumerate(worker.spec.rules):
            for groups in worker.occasions(index, moment):
                self._act(worker, rule.actions, {**worker.values, **groups})

    def _sync(self, worker: WorkerState) -> None:
        """Rule 6: the counter holds what was handed out before this worker's turn."""
        for index, sync in enumerate(self.program.syncs):
            if self._sync_counters[index] > sync.every:
                self._sync_counters[index] = 0
                self._emit("sync", worker.name)
                self._act(worker, sync.actions, worker.values)

    def _close(self, worker: WorkerState) -> None:
        """Stop a worker from outside: its step stays open."""
        if not worker.ended:
            step = worker.close(by_itself=False)
            self._take_moment(worker, Moment(step=step, ended=True))

    # --- Actions ---

    def _act(self, worker: WorkerState, actions: Sequence[Action], values: Mapping[str, Value]) -> None:
        for action in actions:
            match action:
                case Say(text=text):
                    worker.hand(text.fill(values))
                case Ask():
                    self._ask(worker, action, values)
                case Post(text=text, pad=pad):
                    self._post(worker, text.fill(values), pad)
                case Move(pad=pad):
                    self._move(worker, pad)
                case Clear(pad=pad):
                    self._clear(worker, pad)
                case Pause(worker=who):
                    self._set_paused(self._find(worker, who), True)
                case Resume(worker=who):
                    self._set_paused(self._find(worker, who), False)
                case Stop(worker=None):
                    self.reason = self.reason or "stopped"
                case Stop(worker=str(who)):
                    if stopped := self._find(worker, who):
                        self._close(stopped)

    def _ask(self, worker: WorkerState, ask: Ask, values: Mapping[str, Value]) -> None:
        text = ask.text.fill(values)
        tokens = self.tokenizer.encode(text)
        choices = tuple(self.tokenizer.encode(choice.text.fill(values))[0] for choice in ask.choices)
        view = (*worker.view, Block("probe", "throw-away"))
        self._probes.append(
            Probe(worker, ask, values, whole_row(worker.name, view, tokens, choices=choices, text=text))
        )
        self._used["probe_tokens"] += len(tokens)

    def _take_answer(self, probe: Probe, outcome: Outcome) -> None:
        """The choice's actions. What they say is handed out after the worker's turn, so it is counted here."""
        choice = probe.ask.choices[outcome.token]
        text = probe.ask.text.fill(probe.values) + choice.text.fill(probe.values)
        self._emit("ask", probe.worker.name, text, outcome.logits)
        before = len(probe.worker.pending)
        self._act(probe.worker, choice.actions, probe.values)
        handed = len(probe.worker.pending) - before
        self._sync_counters = [counter + handed for counter in self._sync_counters]

    def _post(self, worker: WorkerState, text: str, name: str) -> None:
        pad = self._views.pad_of(worker, name)
        tokens = self.tokenizer.encode(text)
        if tokens:
            view = (*(block for block in worker.view if block is not pad), pad)
            self._posts.append(whole_row(worker.name, view, tokens, text=text))
            self._used["posted_tokens"] += len(tokens)
        self._emit("post", worker.name, text)

    def _move(self, worker: WorkerState, name: str) -> None:
        pad = self._views.pad_of(worker, name)
        self._emit("move", worker.name, name)
        if worker.block.tokens:
            pad.tokens.extend(worker.block.tokens)
            worker.block.tokens.clear()
            self._edits.append(MoveBlock(worker.block, pad))

    def _clear(self, worker: WorkerState, name: str) -> None:
        pad = self._views.pad_of(worker, name)
        pad.tokens.clear()
        self._edits.append(ClearBlock(pad))
        self._emit("clear", worker.name, name)

    def _set_paused(self, worker: WorkerState | None, paused: bool) -> None:
        if worker is not None and not worker.ended and worker.paused != paused:
            worker.paused = paused
            self._emit("pause" if paused else "resume", worker.name)

    def _find(self, worker: WorkerState, name: str) -> WorkerState | None:
        """The worker meant; None where it does not take part in this run."""
        return worker if name == "self" else next((w for w in self._workers if w.name == name), None)

    def _take_feeds(self) -> None:
        fed, self._fed = self._fed, []
        for stream, text in fed:
            if tokens := self.tokenizer.encode(text):
                self._posts.append(whole_row(stream, self._views.stream_view(stream), tokens, text=text))
                self._used["posted_tokens"] += len(tokens)
            self._emit("feed", stream, text)
            for worker in self._workers:
                if not worker.ended:
                    self._fire(worker, Moment(arrived=stream))

    # --- The end ---

    def _end_where_due(self) -> None:
        if all(worker.ended for worker in self._workers) and not self._probes:
            self.reason = "done"
        elif self._is_spent():
            self.reason = "budget"
        elif not self._running:
            self.reason = "stalled"
        elif self._context is not None and max(row.length for row in self._running) > self._context:
            self.stop("context")

    def _is_spent(self) -> bool:
        """Whether the run has cost all that it may."""
        tokens = self._max_tokens is not None and self.sampled >= self._max_tokens
        seconds = self._max_seconds is not None and self.seconds >= self._max_seconds
        return self.passes >= self.budget or tokens or seconds

    def _last_rows(self) -> list[Row]:
        """After the end: posts that are still to be written, then the finisher's rows."""
        if self._posts:
            return self._posts
        answer = self.program.answer
        if self._finisher is None and answer is not None and answer.otherwise is not None and self._needs_finisher():
            view = self._views.everything()
            self._finisher = Finisher(answer, view, self._values, self.tokenizer, self._emit)
        if self._finisher is None or self._finisher.done:
            return []
        row = self._finisher.row()
        return [] if self._context is not None and row.length > self._context else [row]

    def _needs_finisher(self) -> bool:
        ended_early = self.reason in ("cancelled", "context", "cache")
        return not ended_early and not self._answers.settle(self._workers, self._views.pads, self.tokenizer)

    def _advance_finisher(self, came: Mapping[Row, Outcome]) -> None:
        if self._finisher is None:
            self._commit(came)
            return
        self._finisher.hear(*came.values())
        self._used["finisher_passes"] += 1
        self._answers.text = self._finisher.text
        if self._finisher.text is not None:
            self._emit("answer", "answer", self._finisher.text)

    def _usage(self) -> Usage:
        self._used["sampled_tokens"] = self.sampled
        self._used["handed_tokens"] = sum(worker.handed for worker in self._workers)
        return Usage(**{name: self._used[name] for name in Usage.__dataclass_fields__})

    def _emit(self, kind: EventKind, worker: str, text: str = "", logits: tuple[float, ...] = ()) -> None:
        event = Event(kind, self.passes, worker, text, logits, self.seconds)
        self._events.append(event)
        if self._log:
            self._unlogged.append(event)

    def _take_unlogged(self) -> tuple[Event, ...]:
        """The events that the log has not been told of."""
        events, self._unlogged = tuple(self._unlogged), []
        return events
