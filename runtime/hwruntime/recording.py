"""Traces read back: what a run wrote, and what was in its cache at any pass, without a model or a tokenizer.

recording = read(Path("run.jsonl"))
run = recording.runs[0]
run.passes[119].events, view_at(run, "Bob", 120)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Literal, cast, get_args

from hwruntime.errors import InputError
from hwruntime.program import Json, Program, ProgramError
from hwruntime.result import Event, EventKind, Progress, Result
from hwruntime.rows import Outcome
from hwruntime.session import Known
from hwruntime.trace import FORMAT, Head

Fields = dict[str, Json]


@dataclass(frozen=True)
class Content:
    """A block as it is at some pass: its text, and how many tokens that is."""

    name: str
    kind: str
    text: str = ""
    tokens: int = 0

    def longer(self, text: str, tokens: int) -> "Content":
        return Content(self.name, self.kind, self.text + text, self.tokens + tokens)


@dataclass(frozen=True)
class Change:
    """A block that is emptied: into another one, or for good."""

    block: int
    to: int | None


@dataclass(frozen=True)
class Written:
    """A row: who wrote which tokens into which block (None: thrown away after the pass), and what came of it."""

    writer: str
    block: int | None
    tokens: tuple[int, ...]
    text: str
    outcome: Outcome
    result: Literal["drew", "choice", "nothing"]


@dataclass(frozen=True)
class RecordedPass:
    """A pass as it was made; `blocks` are those that came up in it. `last`: it came after the run's end."""

    number: int
    seconds: float
    last: bool
    blocks: tuple[Content, ...]
    changes: tuple[Change, ...]
    rows: tuple[Written, ...]
    events: tuple[Event, ...]

    @cached_property
    def known(self) -> Known:
        """What it takes to make the pass again."""
        feeds = tuple((event.worker, event.text) for event in self.events if event.kind == "feed")
        tokens, outcomes = tuple(row.tokens for row in self.rows), tuple(row.outcome for row in self.rows)
        return Known(feeds, tokens, self.seconds, outcomes)


@dataclass
class RecordedRun:
    """One run: `result` or `error` as far as it ended, `changes` and `more` events since its last pass."""

    number: int
    inputs: Mapping[str, Json]
    options: Mapping[str, Json]
    begun: bool = False
    blocks: tuple[Content, ...] = ()
    views: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    first: tuple[Event, ...] = ()
    passes: list[RecordedPass] = field(default_factory=list)
    named: int = 0  # how many blocks have come up
    changes: tuple[Change, ...] = ()
    more: tuple[Event, ...] = ()
    result: Fields | None = None
    error: Fields | None = None

    @property
    def events(self) -> list[Event]:
        """All of them, in order."""
        return [*self.first, *(event for each in self.passes for event in each.events), *self.more]

    @property
    def length(self) -> int:
        """The number of its last pass."""
        return self.passes[-1].number if self.passes else 0

    @property
    def line(self) -> int:
        """Where its inputs are in their file; 0 where there is none."""
        line = self.options.get("line", 0)
        return line if isinstance(line, int) else 0

    @property
    def limits(self) -> Mapping[str, Json]:
        """Its options, as a session takes them."""
        return {name: value for name, value in self.options.items() if name != "line"}

    @property
    def can_go_on(self) -> bool:
        """Whether it was interrupted, or has not begun."""
        cancelled = self.result is not None and self.result.get("reason") == "cancelled"
        return self.error is None and (self.result is None or cancelled)

    def voice(self, worker: str) -> str:
        """Everything in a worker's own voice."""
        return "".join(e.text for e in self.events if e.worker == worker and e.kind in ("token", "say"))


@dataclass(frozen=True)
class Recording:
    """A trace. Its whole lines take `size` bytes; `cut` says what is behind them, if there is more; `cut_at_end`: it is
    one line."""

    path: Path
    head: Head
    hw: str
    runs: list[RecordedRun]
    size: int
    cut: str | None
    cut_at_end: bool


def read(path: Path) -> Recording:
    """Read a trace, up to where it is cut off. Raises `InputError` for a file that is none, or of another version."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from None
    whole, size, cut, at_end = [], 0, None, False
    for number, raw in enumerate(data.splitlines(keepends=True), 1):
        fields = _fields(raw)
        if fields is None:
            at_end = size + len(raw) == len(data)
            cut = f"line {number} is {'cut off' if at_end else 'not JSON'}"
            break
        whole.append(fields)
        size += len(raw)
    if not whole:
        raise InputError(f"`{path}` is not a trace", help="`hw run --trace FILE` writes one")
    head = _head(path, whole[0])
    runs = [_planned(index, run) for index, run in enumerate(head.runs)]
    for number, fields in enumerate(whole[1:], 2):
        try:
            _take(runs, fields)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}:{number}: this is no line of a trace ({type(error).__name__}: {error})") from None
    return Recording(path, head, str(whole[0]["hw"]), runs, size, cut, at_end)


def caches(run: RecordedRun) -> Iterator[tuple[RecordedPass, list[Content]]]:
    """Every pass with all blocks of the run as they are in it, with what it writes (design section 2, rule 2)."""
    blocks = list(run.blocks)
    for each in run.passes:
        blocks += each.blocks
        carry_out(each.changes, blocks)
        for row in each.rows:
            if row.block is not None:
                blocks[row.block] = blocks[row.block].longer(row.text, len(row.tokens))
        yield each, list(blocks)


def carry_out(changes: Sequence[Change], blocks: list[Content]) -> None:
    """Move and clear blocks."""
    for change in changes:
        old = blocks[change.block]
        blocks[change.block] = Content(old.name, old.kind)
        if change.to is not None:
            blocks[change.to] = blocks[change.to].longer(old.text, old.tokens)


def cache_at(run: RecordedRun, number: int) -> list[Content]:
    """All blocks of a run as they are in pass `number`; in pass 0, before the first one."""
    now = list(run.blocks)
    for each, blocks in caches(run):
        if each.number > number:
            break
        now = blocks
    return now


def course(run: RecordedRun) -> Iterator[tuple[Sequence[Event], Progress, float]]:
    """What was seen of a run: events, how far it was, and the seconds since it began."""
    budget, sampled = run.limits.get("budget"), 0
    most = budget if isinstance(budget, int) else run.length
    yield run.first, Progress(0, most, 0, sum(block.tokens for block in run.blocks), 0), 0.0
    for each, blocks in caches(run):
        sampled += sum(row.result == "drew" for row in each.rows)
        yield each.events, Progress(each.number, most, sampled, sum(b.tokens for b in blocks), 0), each.seconds


def view_at(run: RecordedRun, worker: str, number: int) -> list[Content]:
    """What a worker's view holds in pass `number`, block by block. Raises `InputError` where the run has no such."""
    if worker not in run.views:
        known = ", ".join(f"`{name}`" for name in run.views) or "none that has begun"
        raise InputError(f"the run has no worker `{worker}`", help=f"its workers: {known}")
    if not 0 <= number <= run.length:
        raise InputError(f"the run has no pass {number}", help=f"the trace has passes 1 to {run.length}")
    blocks = cache_at(run, number)
    return [blocks[index] for index in run.views[worker]]


def result_of(recording: Recording, run: RecordedRun) -> Fields:
    """A run's result as `hw run --json` prints it, or as much as there is of it. Raises `InputError` where the trace
    contradicts itself."""
    blocks = cache_at(run, run.length)
    carry_out(run.changes, blocks)
    pads = {each.name: each.text for each in blocks if each.name in _pad_names(recording.head.program, run)}
    if run.result is None:
        return {
            "program": recording.head.program.name,
            "model": recording.head.model,
            "seed": run.options.get("seed"),
            "answer": next((event.text for event in run.events if event.kind == "answer"), None),
            "reason": None,
            "passes": run.length,
            "workers": {name: _worker(run, name) for name in run.views},
            "scratchpads": dict(pads),
        }
    workers, told = run.result.get("workers"), run.result.get("scratchpads")
    assert isinstance(workers, dict), "`_take` has seen to it"
    assert isinstance(told, dict), "`_take` has seen to it"
    for name in workers:
        _same(recording, f"what `{name}` wrote", _object(workers[name]).get("text"), run.voice(name))
    for name, text in told.items():
        _same(recording, f"what is in `{name}`", text, pads.get(name, ""))
    return run.result


def _pad_names(program: Program, run: RecordedRun) -> set[str]:
    private = {f"{worker.name}.{pad.name}" for worker in program.workers for pad in worker.pads}
    return {pad.name for pad in program.pads} | private


def _worker(run: RecordedRun, name: str) -> Json:
    own = [row for each in run.passes for row in each.rows if row.writer == name and row.block is not None]
    steps = sum(event.kind == "step" and event.worker == name for event in run.events)
    return {"text": run.voice(name), "tokens": sum(len(row.tokens) for row in own), "steps": steps}


def _same(recording: Recording, what: str, told: Json, replayed: str) -> None:
    if told != replayed:
        raise InputError(f"`{recording.path}` contradicts itself: {what} is not what its passes say")


def _fields(raw: bytes) -> Fields | None:
    """A line's object; None where the line is not whole."""
    if not raw.endswith(b"\n"):
        return None
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _head(path: Path, fields: Fields) -> Head:
    if "trace" not in fields:
        raise InputError(f"`{path}` is not a trace", help="`hw run --trace FILE` writes one")
    if fields["trace"] != FORMAT:
        by = f"written by hwlang {fields.get('hw')}, in format {fields['trace']}"
        raise InputError(f"`{path}` is {by}: this version reads format {FORMAT}", help="read it with that version")
    try:
        program = Program.from_json(fields["program"])
        engine, identity, runs = _object(fields["engine"]), _object(fields["identity"]), _list(fields["runs"])
        told = {name: str(value) for name, value in identity.items()}
        file = fields["inputs"]
        inputs = None if file is None else str(file)
        model, source = str(fields["model"]), str(fields["source"])
        return Head(program, source, model, engine, told, [*map(_object, runs)], inputs)
    except (KeyError, TypeError, ProgramError) as error:
        raise InputError(f"{path}:1: this is no first line of a trace ({error})") from None


def _planned(number: int, fields: Mapping[str, Json]) -> RecordedRun:
    options = {name: value for name, value in fields.items() if name not in ("inputs", "error")}
    error = fields.get("error")
    return RecordedRun(number, _object(fields.get("inputs", {})), options, error=_object(error) if error else None)


def _take(runs: list[RecordedRun], fields: Fields) -> None:
    """Take a line into its run."""
    run = runs[_int(fields["run"])]
    if "pass" in fields:
        _append(run, _pass(fields))
    elif "views" in fields:
        run.begun = True
        run.blocks = tuple(map(_block, _list(fields["blocks"])))
        run.named = len(run.blocks)
        run.views = {name: tuple(map(_int, _list(view))) for name, view in _object(fields["views"]).items()}
        _check_blocks(run, [block for view in run.views.values() for block in view])
        run.first = _events(fields, 0.0)
    elif "error" in fields:
        run.error = _object(fields["error"])
    else:
        run.result = _object(fields["result"])
        Result.from_json(run.result)
        run.changes = tuple(map(_change, _list(fields["edits"])))
        _check_blocks(run, [block for change in run.changes for block in (change.block, change.to)])
        run.more = _events(fields, run.passes[-1].seconds if run.passes else 0.0)


def _append(run: RecordedRun, made: RecordedPass) -> None:
    """The next pass of a run; what was said of its end holds no more."""
    run.named += len(made.blocks)
    _check_blocks(run, [row.block for row in made.rows])
    _check_blocks(run, [block for change in made.changes for block in (change.block, change.to)])
    if made.number != run.length + (not made.last):
        raise ValueError(f"pass {made.number} comes after pass {run.length}")
    run.passes.append(made)
    run.result, run.changes, run.more = None, (), ()


def _check_blocks(run: RecordedRun, used: Sequence[int | None]) -> None:
    """Raises `IndexError` for a block that has not come up."""
    last = max((block for block in used if block is not None), default=-1)
    if last >= run.named:
        raise IndexError(f"there is no block {last}")


def _pass(fields: Fields) -> RecordedPass:
    seconds = _float(fields["seconds"])
    return RecordedPass(
        number=_int(fields["pass"]),
        seconds=seconds,
        last=bool(fields.get("last")),
        blocks=tuple(map(_block, _list(fields.get("blocks", [])))),
        changes=tuple(map(_change, _list(fields["edits"]))),
        rows=tuple(map(_row, _list(fields["rows"]))),
        events=_events(fields, seconds),
    )


def _events(fields: Fields, seconds: float) -> tuple[Event, ...]:
    return tuple(_event(_object(each), seconds) for each in _list(fields["events"]))


def _event(fields: Fields, seconds: float) -> Event:
    kind, text = _text(fields["kind"]), _text(fields.get("text", ""))
    if kind not in get_args(EventKind):
        raise ValueError(f"there is no event `{kind}`")
    logits = tuple(map(_float, _list(fields.get("logits", []))))
    return Event(cast(EventKind, kind), _int(fields["at"]), _text(fields["worker"]), text, logits, seconds)


def _block(data: Json) -> Content:
    fields = _object(data)
    return Content(
        str(fields["name"]), str(fields["kind"]), str(fields.get("text", "")), len(_list(fields.get("tokens", [])))
    )


def _change(data: Json) -> Change:
    fields = _object(data)
    return (
        Change(_int(fields["clear"]), None) if "clear" in fields else Change(_int(fields["move"]), _int(fields["to"]))
    )


def _row(data: Json) -> Written:
    fields = _object(data)
    block = fields.get("block")
    result: Literal["drew", "choice", "nothing"]
    if "choice" in fields:
        result, logits = "choice", tuple(map(_float, _list(fields["logits"])))
        outcome = Outcome(_int(fields["choice"]), logits)
    elif "drew" in fields:
        result, outcome = "drew", Outcome(_int(fields["drew"]))
    else:
        result, outcome = "nothing", Outcome()
    tokens = tuple(map(_int, _list(fields["tokens"])))
    return Written(
        str(fields["writer"]), None if block is None else _int(block), tokens, str(fields["text"]), outcome, result
    )


def _int(data: Json) -> int:
    if not isinstance(data, int) or isinstance(data, bool) or data < 0:
        raise TypeError(f"{data!r} is no number from 0")
    return data


def _float(data: Json) -> float:
    if not isinstance(data, int | float) or isinstance(data, bool) or not isfinite(data):
        raise TypeError(f"{data!r} is no number")
    return data


def _text(data: Json) -> str:
    if not isinstance(data, str):
        raise TypeError(f"{str(data)[:20]!r} is no text")
    return data


def _list(data: Json) -> Sequence[Json]:
    if not isinstance(data, list):
        raise TypeError(f"{str(data)[:20]!r} is no list")
    return data


def _object(data: Json) -> Fields:
    if not isinstance(data, dict):
        raise TypeError(f"{str(data)[:20]!r} is no object")
    return data
