"""What a page has to know of a recorded run, as JSON. fold.js folds the passes into what was in the cache.

    {"about": {...}, "writers": ["Alice", "Bob", "user"], "workers": 2, "views": [[0, 2, 1], [0, 1, 2]],
     "blocks": [[name, sort, text, tokens, owner], ...],
     "passes": [[number, seconds, [[from, to], ...], [[writer, block, text, tokens, drew], ...], [said, ...]], ...],
     "steps": [[writer, first, last, text, ended], ...],
     "marks": [[position, writer, kind, text, logits], ...]}

A position counts the passes: 0 is before the first one, then they come one by one, with those after the run's end, and
last what the end itself moved. Writers and blocks are named by their numbers, -1 is none; `workers` of the writers are
workers, and these come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwruntime.program import Json
    from hwruntime.recording import Change, Content, RecordedPass, RecordedRun, Recording, Written
    from hwruntime.result import Event

NONE = -1
MARKS = ("say", "move", "post", "clear", "ask", "sync", "feed", "pause", "resume", "end", "answer")


@dataclass(frozen=True)
class Step:
    """A worker's paragraph, at its positions; one that has not `ended` was broken off."""

    writer: int
    first: int
    last: int
    text: str
    ended: bool

    def to_json(self) -> Json:
        return [self.writer, self.first, self.last, self.text, self.ended]


@dataclass(frozen=True)
class Names:
    """Who writes in a run, workers first, and the block that each worker writes (by its number)."""

    writers: tuple[str, ...]
    own: tuple[int, ...]

    def number(self, writer: str) -> int:
        return self.writers.index(writer)

    def owner(self, block: int, name: str) -> int:
        """Of a worker's own block, and of its private scratchpads."""
        if block in self.own:
            return self.own.index(block)
        worker = name.partition(".")[0]
        return self.number(worker) if "." in name and worker in self.writers else NONE


def facts(recording: Recording, run: RecordedRun) -> dict[str, Json]:
    """All that the page of a run needs."""
    names = names_of(run)
    blocks = [*run.blocks, *(block for each in run.passes for block in each.blocks)]
    streams = recording.head.program.streams
    views: list[Json] = [list(view) for view in run.views.values()]
    return {
        "about": about(recording, run),
        "writers": list(names.writers),
        "workers": len(run.views),
        "views": views,
        "blocks": [block_json(names, number, block, streams) for number, block in enumerate(blocks)],
        "passes": [*(pass_json(names, each) for each in run.passes), *closing(run)],
        "steps": [step.to_json() for name in run.views for step in steps_of(run, names, name)],
        "marks": [mark for at, events in enumerate(events_of(run)) for mark in marks(names, at, events)],
    }


def names_of(run: RecordedRun) -> Names:
    wrote = [row.writer for each in run.passes for row in each.rows]
    told = [event.worker for event in run.events]
    return Names(
        tuple(dict.fromkeys([*run.views, *wrote, *told])),
        tuple(view[-1] if view else NONE for view in run.views.values()),
    )


def about(recording: Recording, run: RecordedRun) -> dict[str, Json]:
    """What the head of the page says. `answer` and `reason` as far as the run came."""
    head, result = recording.head, run.result or {}
    answers = [event.text for event in run.events if event.kind == "answer"]
    return {
        "program": head.program.name,
        "model": head.model,
        "seed": told(result.get("seed", run.options.get("seed"))),
        "hw": recording.hw,
        "run": run.number,
        "runs": len(recording.runs),
        "length": run.length,
        "reason": told(result.get("reason")),
        "answer": told(result.get("answer", answers[-1] if answers else None)),
        "badge": badge(run),
        "inputs": {name: told(value) for name, value in run.inputs.items()},
        "source": head.source,
    }


def told(value: Json) -> str | None:
    """A value of the trace, which may be anything, as text."""
    return None if value is None else str(value)


def badge(run: RecordedRun) -> str:
    """What has to be said of a run that did not come to its end."""
    if run.error is not None:
        return f"failed after pass {run.length:,}: {run.error.get('message')}"
    return f"interrupted after pass {run.length:,}" if run.can_go_on else ""


def block_json(names: Names, number: int, block: Content, streams: Sequence[str]) -> Json:
    owner = names.owner(number, block.name)
    if block.kind == "constant":
        sort = "constant"
    elif number in names.own:
        sort = "worker"
    else:
        sort = "stream" if block.name in streams else "scratchpad"
    return [block.name, sort, block.text, block.tokens, owner]


def pass_json(names: Names, made: RecordedPass) -> Json:
    rows: list[Json] = [row_json(names, row, made.events) for row in made.rows]
    said: list[Json] = [[names.number(e.worker), e.text] for e in made.events if e.kind == "say"]
    return [made.number, made.seconds, changes_json(made.changes), rows, said]


def closing(run: RecordedRun) -> list[Json]:
    """What the run's end did to the cache, as one more position."""
    seconds = run.passes[-1].seconds if run.passes else 0.0
    return [[run.length, seconds, changes_json(run.changes), [], []]] if run.changes else []


def changes_json(changes: Sequence[Change]) -> list[Json]:
    return [[each.block, NONE if each.to is None else each.to] for each in changes]


def row_json(names: Names, row: Written, events: Sequence[Event]) -> Json:
    """What was drawn is left out where nothing was."""
    block = NONE if row.block is None else row.block
    made: list[Json] = [names.number(row.writer), block, row.text, len(row.tokens)]
    if row.result == "drew":
        drew = "".join(event.text for event in events if event.kind == "token" and event.worker == row.writer)
        made.append(drew)
    return made


# --- Along the passes ------------------------------------------------------------------------------------------------


def events_of(run: RecordedRun) -> list[list[Event]]:
    """The events of each position; those since the last pass are at the last one."""
    found = [list(run.first), *(list(each.events) for each in run.passes), *([[]] if run.changes else [])]
    found[-1] += run.more
    return found


def steps_of(run: RecordedRun, names: Names, worker: str) -> Iterator[Step]:
    """A worker's steps: each from the first pass that writes to it, to the pass that ends it. What a worker writes
    once it has ended (its last token, for the others to see) belongs to its last step."""
    writer, last, heard, first, over = names.number(worker), None, "", 0, False
    for at, (rows, events) in enumerate(zip_longest(rows_of(run), events_of(run), fillvalue=())):
        wrote = any(row.writer == worker and (row.block == names.own[writer] or row.result == "drew") for row in rows)
        if wrote and over and last:
            last = replace(last, last=at)
        elif wrote:
            first = first or at
        for event in events:
            if event.worker != worker:
                continue
            if event.kind in ("token", "say"):
                heard += event.text
            over = over or event.kind == "end"
            if first and event.kind in ("step", "end"):
                if last:
                    yield last
                ended = event.kind == "step"
                last = Step(writer, first, at, event.text if ended else heard, ended)
                first = 0
            if event.kind == "step":
                heard = ""
    if last:
        yield last
    if first:
        yield Step(writer, first, len(run.passes), heard, False)


def rows_of(run: RecordedRun) -> list[Sequence[Written]]:
    """The rows of each position."""
    return [(), *(each.rows for each in run.passes)]


def marks(names: Names, at: int, events: Sequence[Event]) -> Iterator[Json]:
    """What happened besides writing. A step's prefix is said before the step is told of: it is no mark."""
    for index, event in enumerate(events):
        if event.kind in MARKS and not (event.kind == "say" and is_prefix(at, events, index)):
            mark: list[Json] = [at, names.number(event.worker), event.kind, event.text]
            yield [*mark, [f"{each:.2f}" for each in event.logits]] if event.logits else mark


def is_prefix(at: int, events: Sequence[Event], index: int) -> bool:
    """Whether what is said opens a step: the first one does at the run's start, and it does ahead of a `step`."""
    worker = events[index].worker
    before, after = events[:index], events[index + 1 :]
    if at == 0:
        return not any(event.kind == "say" and event.worker == worker for event in before)
    return any(event.kind == "step" and event.worker == worker for event in after)
