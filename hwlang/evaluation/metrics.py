"""What came out: solved problems, passes, tokens, work done twice, answers to questions; see docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from hwlang.evaluation.attempts import Attempt
from hwlang.evaluation.configurations import Configuration
from hwlang.evaluation.records import Key, Record
from hwlang.evaluation.scoring import Played, Scoring, finished, played, scorings, solved
from hwlang.evaluation.suites import Suite, Task


@dataclass(frozen=True)
class Row:
    """One row of a table. Shares are of 1, None where there is nothing that they would be a share of.

    `solved`: share of problems, for each budget; `all_solved`: of prompts. `passes`, `tokens`: means of a run.
    `useful`, `twice`, `answered`, `truly`, `obeyed`: shares; `asked`: questions in a run. `failed`: runs that could not
    start.
    """

    name: str
    budgets: tuple[int, ...]
    prompts: int
    failed: int
    solved: tuple[float, ...]
    all_solved: float
    passes: float
    tokens: float
    seconds: float
    useful: float | None
    twice: float | None
    asked: float
    answered: float | None
    truly: float | None
    obeyed: float | None


@dataclass(frozen=True)
class Curve:
    """Solved fraction against passes. `steps`: it holds between its points; else they are all that was measured."""

    name: str
    passes: tuple[int, ...]
    solved: tuple[float, ...]
    steps: bool


# --- Work ------------------------------------------------------------------------------------------------------------


def is_twice(attempt: Attempt, record: Record) -> bool:
    """Whether another worker was at the problem, or had finished it, when this one took it. Of two that took it in the
    same pass, the one that is declared later did it twice."""
    order = list(record.texts)
    mine = (attempt.taken, order.index(attempt.worker))
    return any(
        other.worker != attempt.worker
        and other.number == attempt.number
        and (other.taken, order.index(other.worker)) < mine
        and other.counts(attempt.taken)
        for other in record.work.attempts
    )


def useful_tokens(task: Task, record: Record, suite: Suite) -> int:
    """Tokens of the first right attempt at each problem."""
    useful: dict[int, int] = {}
    for attempt in finished(record):
        known = 1 <= attempt.number <= len(task.expected)
        if known and suite.extractor.right(task.expected[attempt.number - 1], attempt.result or ""):
            useful.setdefault(attempt.number, attempt.tokens)
    return sum(useful.values())


# --- Rows and curves -------------------------------------------------------------------------------------------------


def rows(configuration: Configuration, records: Mapping[Key, Record]) -> list[Row]:
    """A row for each way to count the results."""
    return [row(configuration, records, scoring) for scoring in scorings(configuration)]


def row(configuration: Configuration, records: Mapping[Key, Record], scoring: Scoring) -> Row:
    at = {budget: played(configuration, records, scoring, budget) for budget in configuration.budgets}
    last = at[configuration.budgets[-1]]
    done = [record for _, record in last.runs]
    right = [solved(last, task, record, last.budget) for task, record in last.runs]
    steps = [(attempt, record) for record in done for attempt in finished(record)]
    checks = [check for record in done for check in record.work.checks]
    sampled = sum(record.sampled for record in done)
    useful = sum(useful_tokens(task, record, last.suite) for task, record in last.runs)
    return Row(
        name=last.name,
        budgets=configuration.budgets,
        prompts=len(done),
        failed=sum(record.error is not None for record in done),
        solved=tuple(fraction(each, budget) for budget, each in at.items()),
        all_solved=fmean(map(all, right)),
        passes=fmean(record.passes for record in done),
        tokens=sampled / len(done),
        seconds=sum(record.seconds for record in done),
        useful=useful / sampled if sampled and last.suite.listed else None,
        twice=share(is_twice(attempt, record) for attempt, record in steps),
        asked=len(checks) / len(done),
        answered=share(check.reply is not None for check in checks),
        truly=share((check.reply == "yes") == check.redundant for check in checks if check.reply and check.number),
        obeyed=share(check.obeyed for check in checks if check.obeyed is not None),
    )


def fraction(played: Played, by: int) -> float:
    """Solved fraction of all problems of all prompts."""
    return fmean(right for task, record in played.runs for right in solved(played, task, record, by))


def share(cases: Iterable[bool]) -> float | None:
    known = list(cases)
    return fmean(known) if known else None


def curves(configuration: Configuration, records: Mapping[Key, Record]) -> list[Curve]:
    return [curve(configuration, records, scoring) for scoring in scorings(configuration)]


def curve(configuration: Configuration, records: Mapping[Key, Record], scoring: Scoring) -> Curve:
    """Where steps tell when a problem was solved, a point for each pass in which one was done; else one for each
    budget."""
    last = played(configuration, records, scoring, configuration.budgets[-1])
    if not configuration.suite.listed:
        at = [played(configuration, records, scoring, budget) for budget in configuration.budgets]
        return Curve(last.name, configuration.budgets, tuple(fraction(each, each.budget) for each in at), steps=False)
    done = {a.left for _, record in last.runs for a in finished(record, last.budget) if a.left is not None}
    passes = (0, *sorted(done))
    return Curve(last.name, passes, tuple(fraction(last, by) for by in passes), steps=True)


# --- Collisions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """What the workers of one arm of `collisions` made of the question. `asked`: prompts in which it came in the place
    that the arm is about. The others are shares: `answered`, `yes` and `both` (yes, and changed) of these, `changed` of
    those that said yes, `stayed` of those that said no."""

    name: str
    prompts: int
    asked: int
    answered: float | None
    yes: float | None
    changed: float | None
    both: float | None
    stayed: float | None


def arm(configuration: Configuration, records: Mapping[Key, Record]) -> Arm:
    pairs = played(configuration, records, "shared", configuration.budgets[-1]).runs
    first = [
        check
        for task, record in pairs
        for check in record.work.checks[:1]
        if task.feed and check.middle == (task.feed.after is not None)
    ]
    yes = [check for check in first if check.reply == "yes"]
    return Arm(
        name=configuration.name,
        prompts=len(pairs),
        asked=len(first),
        answered=share(check.reply is not None for check in first),
        yes=share(check.reply == "yes" for check in first),
        changed=share(check.obeyed is True for check in yes),
        both=share(check.reply == "yes" and check.obeyed is True for check in first),
        stayed=share(check.obeyed is True for check in first if check.reply == "no"),
    )
