"""Runs of an evaluation, several side by side: they share the passes of one engine.

Tasks are taken in batches, always the same ones: what is in a batch decides the shapes of its passes, and with them the
last bits of every number. A batch that was killed halfway is run again whole, so that every run comes out as it would
have; what was recorded before stays as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hwlang.evaluation.attempts import work_of
from hwlang.evaluation.configurations import Configuration
from hwlang.evaluation.records import Record, RunFile
from hwlang.evaluation.suites import Task
from hwruntime.errors import InputError, RunError
from hwruntime.inputs import active_workers, bind

if TYPE_CHECKING:  # the engine brings torch with it
    from hwruntime.batch import Run
    from hwruntime.result import Event, Result
    from hwruntime.runner import Runner


@dataclass(frozen=True)
class Batch:
    """Tasks of one configuration that are run together, for `budget` passes at most. `seed`: of task 0."""

    configuration: Configuration
    budget: int
    seed: int
    tasks: tuple[Task, ...]


@dataclass
class Playing:
    """A run under way. `seconds`: its share of the passes so far."""

    task: Task
    run: Run
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    fed: bool = False

    @property
    def over(self) -> bool:
        """Whether its workers are done; a finisher may still have to write."""
        return self.run.session.reason is not None or self.run.stage == "over"

    def feed(self) -> None:
        """Put in what its task has for a stream, if it is time."""
        feed = self.task.feed
        if feed is None or self.fed:
            return
        if feed.after is None:
            self.fed = any(event.kind == "step" and event.worker == feed.worker for event in self.events)
        else:
            self.fed = self.run.session.passes >= feed.after
        if self.fed:
            self.run.feed(feed.stream, "")  # it is the occasion that counts


def check(configurations: Sequence[Configuration]) -> None:
    """Raises `InputError` where tasks do not fit their program: before a model is loaded."""
    for configuration in configurations:
        values = bind(configuration.program, configuration.suite.tasks[0].inputs)
        active_workers(configuration.program, values, configuration.workers)


def run_all(
    engine: Runner,
    configurations: Sequence[Configuration],
    runs: RunFile,
    *,
    seed: int,
    size: int,
    tell: Callable[[int], None],
) -> None:
    """Run what is not recorded yet, and record each run as it ends. `tell` hears how many more are settled."""
    for batch in batches(configurations, seed, size):
        now = unsettled(batch, runs)
        recorded = {task.number for task in now.tasks if key(now, task) in runs.records}
        tell(len(batch.tasks) - len(now.tasks) + len(recorded))
        if len(recorded) == len(now.tasks):
            continue
        for record in play(engine, now):
            if record.prompt not in recorded:
                runs.add(record)
                tell(1)


def batches(configurations: Sequence[Configuration], seed: int, size: int) -> Iterator[Batch]:
    """All that there may be to run; of a configuration, smaller budgets first."""
    for configuration in configurations:
        tasks = configuration.suite.tasks
        for budget in configuration.runs:
            for start in range(0, len(tasks), size):
                yield Batch(configuration, budget, seed, tasks[start : start + size])


def unsettled(batch: Batch, runs: RunFile) -> Batch:
    """The batch without tasks that were done within a smaller budget: they would come out the same."""
    smaller = [budget for budget in batch.configuration.runs if budget < batch.budget]
    before = [Batch(batch.configuration, budget, batch.seed, batch.tasks) for budget in smaller]
    tasks = [t for t in batch.tasks if not any((r := runs.records.get(key(b, t))) and r.settled for b in before)]
    return Batch(batch.configuration, batch.budget, batch.seed, tuple(tasks))


def key(batch: Batch, task: Task) -> tuple[str, int, int]:
    return batch.configuration.name, batch.budget, task.number


def play(engine: Runner, batch: Batch) -> Iterator[Record]:
    """Run a batch; the records, in the order in which the runs end."""
    playing: list[Playing] = []
    for task in batch.tasks:
        started = begin(engine, batch, task)
        if isinstance(started, Record):
            yield started
        else:
            playing.append(started)
    try:
        while playing:
            for each in playing:
                each.feed()
            step(engine, playing)
            ended = [each for each in playing if each.over]
            while step(engine, ended):  # their finishers
                pass
            for each in ended:
                engine.finish(each.run)
                yield record_of(engine, batch, each)
            playing = [each for each in playing if not each.over]
    finally:
        for each in playing:
            engine.finish(each.run)


def begin(engine: Runner, batch: Batch, task: Task) -> Playing | Record:
    """Start a run; a record of why where that cannot be."""
    configuration, seed = batch.configuration, batch.seed + task.number
    started = time.monotonic()
    try:
        run = engine.start(
            configuration.program, task.inputs, seed=seed, budget=batch.budget, workers=configuration.workers
        )
    except (InputError, RunError) as error:
        return Record(configuration.name, batch.budget, task.number, seed, error=error.message)
    return Playing(task, run, seconds=time.monotonic() - started)


def step(engine: Runner, playing: Sequence[Playing]) -> bool:
    """One pass of all of these, whose time they share; whether any of them went on."""
    if not playing:
        return False
    started = time.monotonic()
    went_on = engine.step([each.run for each in playing])
    share = (time.monotonic() - started) / len(playing)
    for each in playing:
        each.seconds += share
        each.events += each.run.session.drain()
    return went_on


def record_of(engine: Runner, batch: Batch, playing: Playing) -> Record:
    if error := playing.run.error:
        seed = batch.seed + playing.task.number
        return Record(batch.configuration.name, batch.budget, playing.task.number, seed, error=str(error))
    result = playing.run.session.result(engine.model.name)
    return Record(
        configuration=batch.configuration.name,
        budget=batch.budget,
        prompt=playing.task.number,
        seed=result.seed,
        reason=result.reason,
        passes=result.passes,
        finisher=result.usage.finisher_passes,
        sampled=result.usage.sampled_tokens,
        handed=result.usage.handed_tokens,
        seconds=round(playing.seconds, 4),
        answer=result.answer,
        answers=answers_of(batch.configuration, result),
        texts={name: worker.text for name, worker in result.workers.items()},
        work=work_of(playing.events, list(result.workers), batch.configuration.suite.listed),
    )


def answers_of(configuration: Configuration, result: Result) -> dict[str, str]:
    """What each worker's text has of the program's answer: the last match of its regex."""
    answer = configuration.program.answer
    if answer is None or answer.source not in ("regex", "vote"):
        return {}
    found = {
        name: list(re.finditer(answer.value, worker.text, re.MULTILINE)) for name, worker in result.workers.items()
    }
    group = 1 if re.compile(answer.value).groups else 0
    return {name: matches[-1][group] or "" for name, matches in found.items() if matches}
