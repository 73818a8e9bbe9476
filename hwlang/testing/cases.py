"""Tests of programs as they are run: the checked tests of a file, their values read and their clauses by kind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from hwlang import syntax
from hwlang.checker import Checked
from hwlang.checks.crew import Resolved
from hwlang.checks.files import Files
from hwlang.diagnostics import Span

Value: TypeAlias = str | int | float | bool
T = TypeVar("T")


@dataclass(frozen=True)
class Feed:
    """Text that comes into a stream once the run has made so many passes."""

    stream: str
    text: str
    after: int
    span: Span


@dataclass(frozen=True, eq=False)
class Case:
    """One test. `lines` and `picks` are the script of a scripted model, `None` where the test runs on a model."""

    title: str
    program: Resolved
    span: Span  # of the test's name and title
    inputs: Mapping[str, Value]
    model: str | None
    budget: int | None
    seed: int | None
    lines: Mapping[str, str] | None
    picks: Mapping[str, str]
    feeds: tuple[Feed, ...]
    expects: tuple[syntax.Expect | syntax.ExpectPasses, ...]

    @property
    def scripted(self) -> bool:
        return self.lines is not None

    @property
    def name(self) -> str:
        return f"{self.program.name}: {self.title}"


def cases_of(checked: Checked) -> list[Case]:
    """The tests of a file in which the checker found no errors."""
    programs = {resolved.name: resolved for resolved in checked.programs}
    files = Files(checked.source)
    return [case_of(test, programs[test.program.value], files) for test in checked.tree.tests]


def case_of(test: syntax.Test, program: Resolved, files: Files) -> Case:
    says, picks = list(every(test, syntax.Says)), list(every(test, syntax.Picks))
    seeds = [int(option.value.value) for option in every(test, syntax.Option)]
    title = test.title.span
    start = test.program.span
    return Case(
        title=test.title.literal,
        program=program,
        span=Span(start.line, start.column, title.end_line, title.end_column, start.source),
        inputs=dict(inputs(test, program, files)),
        model=next((node.name.literal for node in every(test, syntax.Model)), None),
        budget=next((int(node.passes.value) for node in every(test, syntax.Budget)), None),
        seed=seeds[0] if seeds else None,
        lines={s.worker.value: "".join(t.literal for t in s.texts) for s in says} if says or picks else None,
        picks={pick.question.literal: pick.choice.literal for pick in picks},
        feeds=tuple(Feed(f.stream.value, f.text.literal, int(f.after.value), f.span) for f in every(test, syntax.Feed)),
        expects=tuple(c for c in test.clauses if isinstance(c, syntax.Expect | syntax.ExpectPasses)),
    )


def every(test: syntax.Test, kind: type[T]) -> Iterator[T]:
    """The clauses of a test that are of this kind."""
    return (clause for clause in test.clauses if isinstance(clause, kind))


def inputs(test: syntax.Test, program: Resolved, files: Files) -> Iterator[tuple[str, Value]]:
    types = {param.name.value: param.type for param in program.tree.params}
    for given in every(test, syntax.Given):
        for setting in given.settings:
            value = value_of(setting.value, files)
            whole_float = types[setting.name.value] == "float" and not isinstance(value, str)
            yield setting.name.value, float(value) if whole_float else value


def value_of(value: syntax.Value | syntax.Included, files: Files) -> Value:
    if isinstance(value, syntax.Included):
        return files.text(value.path)
    match value.value:
        case syntax.String() as string:
            return string.literal
        case syntax.Number(number):
            return number
        case bool(flag):
            return flag
