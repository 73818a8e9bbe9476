"""What the workers of a run did, read from its events: attempts at problems, and answers to questions.

    Bob: 2) reverse tapso: o, s, p, a, t (#2=ospat).

is an attempt of Bob's at problem 2: it begins with the pass in which `2` was sampled, ends with the pass in which `.`
was, and states the result `ospat`, as `2) reverse tapso: ospat.` does. Passes are those of the events: what is written
in pass p is read from pass p+1 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hwruntime.result import Event

CLAIM = re.compile(r"(?<!\S)(\d+)\) ")  # takes a problem
RESULT = re.compile(r"(?:#(\d+)=|[:,] (?!#\d+=))([^\s,.()]+)\)?\.?$")  # states its result, at the end of a step
QUESTION = re.compile(r"\(yes/no\):\s*$")  # the end of what a worker is asked
REPLY = re.compile(r"\s*(yes|no)\b", re.IGNORECASE)
SHORTEST = len("yes\n")  # characters in which a reply must have begun

Reply = Literal["yes", "no"]


@dataclass(frozen=True)
class Attempt:
    """A worker's work on one problem, from the pass in which it took it to the one in which it left it (None: it was at
    it when the run ended). `result` is what its finished step states; None where that is nothing, or it gave up.
    `tokens`: those sampled meanwhile."""

    worker: str
    number: int
    taken: int
    left: int | None = None
    result: str | None = None
    tokens: int = 0

    def counts(self, at: int) -> bool:
        """Whether at this pass the worker is at it, or has finished it."""
        return self.taken <= at and (self.left is None or self.left > at or self.result is not None)


@dataclass(frozen=True)
class Check:
    """A question (`... (yes/no): `) that a worker was asked, and what it made of it.

    `number`: what it was working on; at the start of a step (not `middle`) what it had done last. `redundant`: another
    worker was at that, or had finished it. `next`: the problem that it took then. `obeyed`: None where the run does not
    tell.
    """

    worker: str
    at: int
    number: int | None = None
    middle: bool = False
    redundant: bool = False
    reply: Reply | None = None
    next: int | None = None
    obeyed: bool | None = None


@dataclass(frozen=True)
class Work:
    """Attempts in the order in which they were begun, checks in the order in which they were made."""

    attempts: tuple[Attempt, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass
class Stretch:
    """One step of a worker, as it was written: its pieces, each with where it begins in the step's text."""

    worker: str
    pieces: list[tuple[int, Event]] = field(default_factory=list)
    text: str = ""
    ended: int | None = None  # pass
    finished: str | None = None  # the step's own text, where it was ended as a step

    def add(self, piece: Event) -> None:
        self.pieces.append((len(self.text), piece))
        self.text += piece.text

    def pass_of(self, place: int) -> int:
        """The pass in which the character at this place was written."""
        return max((start, piece.at) for start, piece in self.pieces if start <= place)[1]

    def sampled(self, start: int, end: int) -> int:
        """Tokens that were sampled from one place in the text up to another."""
        return sum(piece.kind == "token" and start <= at < end for at, piece in self.pieces)

    def result(self, number: int) -> str | None:
        """What the finished step states as the result of this problem."""
        found = RESULT.search(self.finished.strip()) if self.finished else None
        return found[2] if found and int(found[1] or number) == number else None


def work_of(events: Sequence[Event], workers: Sequence[str], listed: bool = True) -> Work:
    """What the workers (in the order of their declaration) did. Problems are taken in `listed` suites alone: elsewhere
    `1) ` may mean anything."""
    steps = {worker: steps_of(events, worker) for worker in workers}
    found = [attempt for each in steps.values() for step in each for attempt in attempts_in(step)] if listed else []
    attempts = sorted(found, key=lambda attempt: (attempt.taken, workers.index(attempt.worker)))
    checks = [check for each in steps.values() for check in checks_in(each, attempts)]
    return Work(tuple(attempts), tuple(sorted(checks, key=lambda check: (check.at, workers.index(check.worker)))))


def steps_of(events: Sequence[Event], worker: str) -> list[Stretch]:
    """A worker's steps. The prefix of the next step is told before the end of the one before it: it stays with that
    one, where nothing looks for it."""
    steps = [Stretch(worker)]
    for event in events:
        if event.worker != worker:
            continue
        if event.kind in ("token", "say"):
            steps[-1].add(event)
        elif event.kind == "step":
            steps[-1].ended, steps[-1].finished = event.at, event.text
            steps.append(Stretch(worker))
        elif event.kind == "end":
            steps[-1].ended = event.at
    return steps


def attempts_in(step: Stretch) -> Iterator[Attempt]:
    """One for each problem that is taken in a step. Only the last can have a result: the others were given up."""
    claims = [(claim.start(1), int(claim[1])) for claim in CLAIM.finditer(step.text)]
    places = [*(place for place, _ in claims), len(step.text)]
    for (place, number), end in zip(claims, places[1:], strict=True):
        tokens = step.sampled(place, end)
        attempt = Attempt(step.worker, number, step.pass_of(place), tokens=tokens)
        if end < len(step.text):
            yield replace(attempt, left=step.pass_of(end))
        else:
            yield replace(attempt, left=step.ended, result=step.result(number))


# --- Checks ----------------------------------------------------------------------------------------------------------


def checks_in(steps: Sequence[Stretch], attempts: Sequence[Attempt]) -> Iterator[Check]:
    """What a worker was asked, and what it made of it."""
    last: int | None = None  # the problem that it took last
    for index, step in enumerate(steps):
        for start, piece in step.pieces:
            if not is_question(piece):
                continue
            place = start + len(piece.text)
            taken = [int(claim[1]) for claim in CLAIM.finditer(step.text, 0, place)] if attempts else []
            check = Check(step.worker, piece.at, taken[-1] if taken else last, bool(taken))
            check = replace(check, redundant=is_redundant(check, attempts))
            if judged := judge(check, place, step, steps[index + 1 :]):
                yield judged if attempts else replace(judged, next=None, obeyed=None)
        last = next((a.number for a in reversed(list(attempts_in(step)))), last)


def is_question(piece: Event) -> bool:
    return piece.kind == "say" and bool(QUESTION.search(piece.text))


def is_redundant(check: Check, attempts: Sequence[Attempt]) -> bool:
    """Whether another worker is at what this one is at, or has finished it."""
    return any(a.worker != check.worker and a.number == check.number and a.counts(check.at) for a in attempts)


def judge(check: Check, place: int, step: Stretch, later: Sequence[Stretch]) -> Check | None:
    """The reply to a question that ends at `place`, and whether the worker did as it said. None where the run ended
    before it could reply."""
    rest = step.text[place:]
    found = REPLY.match(rest)
    if found is None:
        return None if step.ended is None and len(rest) < SHORTEST else check
    reply: Reply = "yes" if found[1].lower() == "yes" else "no"
    here = [int(claim[1]) for claim in CLAIM.finditer(step.text, place)]
    after = [*here, *(int(claim[1]) for each in later for claim in CLAIM.finditer(each.text))]
    check = replace(check, reply=reply, next=after[0] if after else None)
    closed = bool(after) or any(each.ended is not None for each in (step, *later))
    return replace(check, obeyed=has_obeyed(check, here, step, closed))


def has_obeyed(check: Check, here: Sequence[int], step: Stretch, closed: bool) -> bool | None:
    """Whether a worker did as it had replied. `here`: what it took in the same step; `closed`: its work went on to the
    end of a step, or to another problem."""
    if check.middle and check.reply == "no":  # then it should go on
        if here:
            return here[0] == check.number
        return True if step.ended is not None else None
    if check.middle and not here and check.number is not None and step.result(check.number) is not None:
        return False  # it went on all the same
    return check.next != check.number if closed else None
