"""Which problems are solved: which of several workers' results count, and whether they are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hwlang.evaluation.answers import split_group
from hwlang.evaluation.attempts import Attempt
from hwlang.evaluation.configurations import Configuration
from hwlang.evaluation.records import Key, Record
from hwlang.evaluation.suites import Suite, Task

Scoring = Literal["shared", "union", "vote"]  # which of several workers' results counts


@dataclass(frozen=True)
class Played:
    """The runs of a configuration at one budget: every task with its record, and how results are counted.

    A configuration of workers that cannot see each other is played once and counted twice.
    """

    configuration: Configuration
    scoring: Scoring
    budget: int
    runs: tuple[tuple[Task, Record], ...]

    @property
    def name(self) -> str:
        return self.configuration.name + ("" if self.scoring == "shared" else f": {self.scoring}")

    @property
    def suite(self) -> Suite:
        return self.configuration.suite


def played(configuration: Configuration, records: Mapping[Key, Record], scoring: Scoring, budget: int) -> Played:
    """The runs that say what comes out within a budget. Raises `KeyError` where one is missing."""
    pairs = tuple((task, record_for(configuration, records, task, budget)) for task in configuration.suite.tasks)
    return Played(configuration, scoring, budget, pairs)


def record_for(configuration: Configuration, records: Mapping[Key, Record], task: Task, budget: int) -> Record:
    """The run for this budget; one with a smaller budget that was done within it stands for it."""
    for each in configuration.runs:
        record = records.get((configuration.name, each, task.number))
        if record and (each >= budget or record.settled):
            return record
    raise KeyError((configuration.name, budget, task.number))


def scorings(configuration: Configuration) -> tuple[Scoring, ...]:
    """How its results are counted: blind workers have one each, if they vote or write lists."""
    program = configuration.program
    alone = configuration.workers == 1 or len(program.workers) == 1
    apart = configuration.suite.listed or (program.answer is not None and program.answer.source == "vote")
    return ("union", "vote") if configuration.blind and apart and not alone else ("shared",)


def solved(played: Played, task: Task, record: Record, by: int) -> list[bool]:
    """Of each problem of a prompt, whether it is solved by a pass."""
    right = played.suite.extractor.right
    if played.suite.listed:
        stated = told_of(record, by)
        told = [counting(played.scoring, stated.get(number, {}), record) for number, _ in enumerate(task.expected, 1)]
    else:
        parts = [split_group(answer, len(task.expected)) for answer in answers_of(played, record)]
        told = [[each[index] for each in parts] for index, _ in enumerate(task.expected)]
    return [any(right(expected, each) for each in told[index]) for index, expected in enumerate(task.expected)]


def told_of(record: Record, by: int) -> dict[int, dict[str, str]]:
    """What finished steps had stated by a pass: for each problem the first result of each worker, in time order."""
    told: dict[int, dict[str, str]] = {}
    for attempt in finished(record, by):
        told.setdefault(attempt.number, {}).setdefault(attempt.worker, attempt.result or "")
    return told


def counting(scoring: Scoring, told: Mapping[str, str], record: Record) -> Sequence[str]:
    """The results that count, by worker: where workers share their work the first one, else anyone's, or that of most;
    where several have most, that of the worker declared first. One is enough to be right."""
    results = list(told.values())
    if scoring == "union" or not results:
        return results
    if scoring == "shared":
        return results[:1]
    votes = Counter(told[worker] for worker in record.texts if worker in told)
    return [votes.most_common(1)[0][0]]  # of equals, the one that was counted first


def answers_of(played: Played, record: Record) -> list[str]:
    """The answers of a run that count. One is enough to be right."""
    if played.scoring == "union" and record.answers:  # else there is only what a finisher wrote
        return list(record.answers.values())
    if played.configuration.program.answer is None:
        return ["\n".join(record.texts.values())]
    return [] if record.answer is None else [record.answer]


def finished(record: Record, by: int | None = None) -> list[Attempt]:
    """Attempts whose steps state a result, in the order in which they were done; ties as the workers are declared."""
    order = list(record.texts)
    done = [a for a in record.work.attempts if a.result is not None and a.left is not None]
    done = [a for a in done if by is None or (a.left or 0) <= by]
    return sorted(done, key=lambda a: (a.left, order.index(a.worker)))
