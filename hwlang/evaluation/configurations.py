"""Configurations: the ways to work on a suite's tasks that a table compares, one row (or two) each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import hwlang as hw
from hwlang.evaluation import collisions
from hwlang.evaluation.suites import Suite
from hwruntime.program import Constant, Entry, OthersEntry, PadEntry, Program, Sampling, WorkerEntry
from hwruntime.session import DEFAULT_BUDGET

BLIND = "blind"  # the program of a suite's file in which workers do not see each other
LAYOUTS = ("combined", "interleaved", "contiguous", BLIND)  # the programs of our own files
Sync = int | Literal["own", "none"]  # every N tokens; as the program says; not at all


@dataclass(frozen=True)
class Configuration:
    """A program as it is run, on a suite's tasks.

    `workers`: of its `workers n of ...`, None for a program that has none. `blind`: its
    workers do not see each other. `budgets` [passes], from the smallest: one run for each, except where `suite.listed`,
    whose smaller ones are read from the one run.
    """

    name: str
    suite: Suite
    program: Program
    workers: int | None
    blind: bool
    budgets: tuple[int, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """The budgets that need a run of their own."""
        return self.budgets[-1:] if self.suite.listed else self.budgets

    @property
    def digest(self) -> str:
        """Tells apart what is run: the program and the tasks."""
        tasks = [[task.number, dict(task.inputs), list(task.expected)] for task in self.suite.tasks]
        plain = json.dumps([self.program.to_json(), self.workers, self.budgets, tasks], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Choice:
    """What a command line says about configurations. None: as the programs say; as a layout: the only one there is."""

    layouts: tuple[str | None, ...] = LAYOUTS
    workers: tuple[int, ...] = (1, 2)
    syncs: tuple[Sync, ...] = ("own", "none")
    budgets: tuple[int, ...] | None = None
    temperature: float | None = None


def configurations_of(suite: Suite, choice: Choice) -> list[Configuration]:
    """Every layout with every number of workers. Raises `CompileError` for a file that has no such program.

    One worker by itself is run once, without sync prompts: in the blind program, if that is among the layouts. The
    first of `syncs` is for all layouts, the others are for the first layout alone.
    """
    programs = [load(suite.program, name, choice) for name in choice.layouts]
    made: list[Configuration] = []
    for count in choice.workers:
        if count == 1 and sizable(programs[0]):
            alone = next((program for program in programs if is_blind(program)), programs[0])
            made.append(make("1 worker", suite, choice, replace(alone, syncs=()), 1))
            continue
        for program in programs:
            syncs = choice.syncs if program is programs[0] else choice.syncs[:1]
            for sync, varied in with_syncs(program, syncs):
                made.append(make(name_of(varied, count, sync), suite, choice, varied, count))
    return list({configuration.name: configuration for configuration in made}.values())


def collision_configurations(prompts: int, count: int, seed: int, choice: Choice) -> list[Configuration]:
    """One for each arm of the suite `collisions`."""
    made = []
    for place, collide in collisions.arms():
        suite = collisions.make_collisions(prompts, count, seed, place, collide)
        program = load(suite.program, None, choice)
        made.append(make(collisions.arm_name(place, collide), suite, choice, program, 2))
    return made


def load(file: Path, name: str | None, choice: Choice) -> Program:
    """A program of a file, at the temperature that is asked for."""
    program = hw.load(file, name).compiled
    if choice.temperature is None:
        return program
    return replace(program, sampling=replace(program.sampling or Sampling(), temperature=choice.temperature))


def make(name: str, suite: Suite, choice: Choice, program: Program, count: int) -> Configuration:
    budgets = tuple(sorted(choice.budgets or (program.budget or DEFAULT_BUDGET,)))
    workers = count if sizable(program) else None
    return Configuration(name, suite, program, workers, is_blind(program), budgets)


def name_of(program: Program, count: int, sync: Sync) -> str:
    """`2 workers, combined`; a sync prompt that is not the program's own is named."""
    people = f"{count} workers, " if sizable(program) else ""
    told = "" if sync == "own" else ", no sync prompt" if sync == "none" else f", sync {sync}"
    return f"{people}{program.name}{told}"


def sizable(program: Program) -> bool:
    """Whether the number of its workers can be set: it has one `workers n of ...`."""
    return len(program.groups) == 1


def with_syncs(program: Program, syncs: Sequence[Sync]) -> Iterator[tuple[Sync, Program]]:
    """The program with its sync prompts as asked; one that has none stays as it is."""
    if not program.syncs:
        yield "own", program
        return
    for sync in syncs:
        if sync == "none":
            yield sync, replace(program, syncs=())
        elif sync == "own":
            yield sync, program
        else:
            yield sync, replace(program, syncs=tuple(replace(each, every=sync) for each in program.syncs))


def as_text(program: Program) -> Program:
    """The program with its chat messages as plain texts, for models without a chat template."""

    def plain(entry: Entry) -> Entry:
        return replace(entry, role="text") if isinstance(entry, Constant) else entry

    workers = [replace(worker, sees=tuple(map(plain, worker.sees))) for worker in program.workers]
    return replace(program, workers=tuple(workers))


def is_blind(program: Program) -> bool:
    """Whether no worker sees what another one writes, neither its block nor a scratchpad that they share."""
    for worker in program.workers:
        own = {pad.name for pad in worker.pads}
        for entry in worker.sees:
            if isinstance(entry, OthersEntry | WorkerEntry) or (isinstance(entry, PadEntry) and entry.name not in own):
                return False
    return True
