"""Runs as JSON lines, written as they go: what is there when a process is killed is whole lines.

    {"trace": 1, "hw": "0.1.0", "program": {...}, "model": "tiny", "engine": {...}, "runs": [...], ...}
    {"run": 0, "blocks": [...], "views": {"Alice": [0, 2, 1], ...}, "events": [...]}          the run begins
    {"run": 0, "pass": 1, "seconds": 0.02, "edits": [...], "rows": [...], "events": [...]}    one for each pass
    {"run": 0, "result": {...}, "edits": [...], "events": [...]}              or "error": how it ended

The first line says all that it takes to run everything again. In "blocks" a run names its blocks, which are numbered as
they come up; "views" has the numbers. A row says who wrote which tokens into which block, and what came of that.
`recording` reads all this.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TextIO

from hwruntime.errors import HwError
from hwruntime.program import Json, Program
from hwruntime.result import Event
from hwruntime.rows import Block, ClearBlock, Edit, MoveBlock, Outcome, Row
from hwruntime.session import Made, Session

FORMAT = 1


@dataclass(frozen=True)
class Head:
    """All that it takes to run again what a trace is of.

    `source`: the program's text; `model`: its name in results; `engine`: the options that an engine is made with, and
    `identity` what came of them; `runs`: for each run its `inputs` and its options; `inputs`: the file that they are
    from.
    """

    program: Program
    source: str
    model: str
    engine: Mapping[str, Json]
    identity: Mapping[str, str]
    runs: Sequence[Mapping[str, Json]]
    inputs: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "trace": FORMAT,
            "hw": version("hwlang"),
            "program": self.program.to_json(),
            "source": self.source,
            "hash": hashlib.sha256(self.source.encode()).hexdigest(),
            "model": self.model,
            "engine": dict(self.engine),
            "identity": dict(self.identity),
            "inputs": self.inputs,
            "runs": [dict(run) for run in self.runs],
        }


class Trace:
    """Writes runs to `file`, one line after another, flushed. `model`: what the results call it.

    Where a line cannot be written (a full disk, say), a warning tells so, once: the trace ends there, the runs go on.
    """

    def __init__(self, file: TextIO, model: str) -> None:
        self.model = model
        self._file = file
        self._failed: set[int] = set()
        self._broken = False

    def start(self, head: Head) -> None:
        self._write(head.to_json())

    def log(self, run: int, known: int | None = None) -> "RunTrace":
        """What a run tells of itself. If it has begun in this file, its first `known` passes are there already."""
        return RunTrace(self, run, known)

    def write(self, run: int, line: Mapping[str, Json]) -> None:
        """A line of one run."""
        self._write({"run": run, **line})

    def fail(self, run: int, error: HwError) -> None:
        """Say, once, that a run ended by an error, or could not begin."""
        if run in self._failed:
            return
        self._failed.add(run)
        self.write(run, {"error": {"code": error.code, "message": error.message}})

    def _write(self, line: Mapping[str, Json]) -> None:
        if self._broken:
            return
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            self._broken = True
            logging.getLogger(__name__).warning("the trace ends here: it cannot be written (%s)", error.strerror)


class RunTrace:
    """The lines of one run."""

    def __init__(self, trace: Trace, run: int, known: int | None) -> None:
        self._trace = trace
        self._run = run
        self._known = known or 0  # passes that still have to be made again
        self._again = known is not None
        self._numbers: dict[Block, int] = {}

    def begin(self, session: Session, events: Sequence[Event]) -> None:
        views = session.views
        seen = [block for view in views.values() for block in view]
        blocks = [self._named(session, block) for block in [*seen, *session.pads.values()] if self._is_new(block)]
        numbers: dict[str, Json] = {name: [self._numbers[b] for b in view] for name, view in views.items()}
        if not self._again:
            self._trace.write(self._run, {"blocks": blocks, "views": numbers, "events": events_json(events)})

    def add(self, made: Made) -> None:
        new: list[Json] = [
            {"name": row.block.name, "kind": row.block.kind}
            for row in made.rows
            if row.block.kind != "throw-away" and self._is_new(row.block)
        ]
        if self._known:
            self._known -= 1
            return
        line: dict[str, Json] = {"pass": made.number, "seconds": round(made.seconds, 4)}
        line |= {"last": True} if made.last else {}
        line |= {"blocks": new} if new else {}
        line["edits"] = self._edits(made.edits)
        line["rows"] = [self._row(*each) for each in zip(made.rows, made.outcomes, strict=True)]
        self._trace.write(self._run, {**line, "events": events_json(made.events)})

    def end(self, session: Session, edits: Sequence[Edit], events: Sequence[Event], error: HwError | None) -> None:
        if error is None:
            line: dict[str, Json] = {"result": session.result(self._trace.model).to_json()}
            self._trace.write(self._run, {**line, "edits": self._edits(edits), "events": events_json(events)})
        else:
            self._trace.fail(self._run, error)

    def _is_new(self, block: Block) -> bool:
        number = len(self._numbers)
        return self._numbers.setdefault(block, number) == number

    def _named(self, session: Session, block: Block) -> Json:
        text = session.tokenizer.decode(block.tokens)
        return {"name": block.name, "kind": block.kind, "tokens": list(block.tokens), "text": text}

    def _edits(self, edits: Sequence[Edit]) -> list[Json]:
        return [made for edit in edits if (made := self._edit(edit))]

    def _edit(self, edit: Edit) -> Json:
        """None for what only clears up behind a throw-away block."""
        match edit:
            case MoveBlock(source=source, target=target):
                return {"move": self._numbers[source], "to": self._numbers[target]}
            case ClearBlock(block=block):
                return {"clear": self._numbers[block]} if block in self._numbers else None

    def _row(self, row: Row, outcome: Outcome) -> Json:
        """`block` is missing where it is thrown away after the pass."""
        made: dict[str, Json] = {"writer": row.writer, "tokens": list(row.tokens), "text": row.text}
        if row.block in self._numbers:
            made["block"] = self._numbers[row.block]
        if row.choices:
            made |= {"choice": outcome.token, "logits": list(outcome.logits)}
        elif row.draw:
            made["drew"] = outcome.token
        return made


def events_json(events: Sequence[Event]) -> list[Json]:
    return [_event(event) for event in events]


def _event(event: Event) -> Json:
    """An event without the fields that it has no use for; its time is that of its line."""
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(event).items() if v not in ("", ())}
    del fields["time"]
    return fields
