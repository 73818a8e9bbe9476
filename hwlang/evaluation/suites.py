"""Suites: what is asked of the workers, what the right answers are, and which programs ask it.

sums, chains   lists of small problems, made from a seed; results are read from the workers' finished steps
countdown      puzzles, made from a seed; a run's answer is an expression, which is checked
collisions     two workers made to begin the same problem, or two different ones (see `collisions`)
FILE.jsonl     any problems with answers
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwlang.evaluation import countdown, problems
from hwlang.evaluation.answers import Exact, Expression, Extractor
from hwruntime.errors import InputError
from hwruntime.program import Value

PROGRAMS = Path(__file__).parent / "programs"
INPUT_FIELDS = ("input", "question", "problem")  # of a JSONL file's lines; the first that is there
ANSWER_FIELDS = ("answer", "solution")
TOGETHER = (
    "Solve these problems. Give their answers as one list, in their order: a comma between answers, none in them."
)


@dataclass(frozen=True)
class Feed:
    """Text for one of the program's streams, put in once: before the pass behind `after`, or, without it, as soon as
    `worker` has ended its first step."""

    stream: str
    worker: str
    after: int | None


@dataclass(frozen=True)
class Task:
    """One prompt: the program's inputs, and the right answer of every problem in it. `number` counts from 0."""

    number: int
    inputs: Mapping[str, Value]
    expected: tuple[str, ...]
    feed: Feed | None = None


@dataclass(frozen=True)
class Suite:
    """Tasks, and the `.hw` file with a program for each layout.

    `listed`: the answers are the results that finished steps state. Otherwise a run has one answer.
    `left_out`: lines of a file that could not be used, and why.
    """

    name: str
    tasks: tuple[Task, ...]
    program: Path
    extractor: Extractor
    listed: bool = False
    left_out: tuple[str, ...] = field(default=())


def rng_of(suite: str, seed: int, number: int) -> random.Random:
    """The generator of one prompt: more prompts leave those before them as they are."""
    return random.Random(f"{suite} {seed} {number}")


def make_lists(name: str, prompts: int, count: int, seed: int) -> Suite:
    """`sums` or `chains`: prompts of `count` problems each. Raises `InputError`."""
    if not 1 <= count <= problems.MOST:
        raise InputError(f"a list has 1 to {problems.MOST} problems, not {count}")
    make = problems.make_sums if name == "sums" else problems.make_chains
    asked = [make(rng_of(name, seed, number), count) for number in range(prompts)]
    tasks = [Task(i, {"problems": problems.opening(each)}, problems.results(each)) for i, each in enumerate(asked)]
    return Suite(name, tuple(tasks), PROGRAMS / "lists.hw", Exact(), listed=True)


def make_countdown(prompts: int, seed: int) -> Suite:
    puzzles = [countdown.make_puzzle(rng_of("countdown", seed, number)) for number in range(prompts)]
    tasks = [Task(number, {"problem": puzzle.text}, (puzzle.expected,)) for number, puzzle in enumerate(puzzles)]
    return Suite("countdown", tuple(tasks), PROGRAMS / "questions.hw", Expression())


@dataclass(frozen=True)
class Fields:
    """What the input and the answer are called in a file's lines; None: one of the usual names."""

    input: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Line:
    """A problem of a file."""

    input: str
    answer: str


def read_suite(
    path: Path, extractor: Extractor, *, fields: Fields, parameter: str, prompts: int | None, group: int, program: Path
) -> Suite:
    """The problems of a JSONL file, `group` of them in a prompt, as the program's `parameter`. Raises `InputError`."""
    lines, left_out = read_lines(path, fields)
    groups = [lines[start : start + group] for start in range(0, len(lines) - group + 1, group)]
    if not groups:
        why = f"; {left_out[0]}" if left_out else ""
        raise InputError(f"`{path}` has {len(lines)} problems, a prompt takes {group}{why}")
    tasks = [
        Task(number, {parameter: as_input(each)}, tuple(line.answer for line in each))
        for number, each in enumerate(groups[:prompts])
    ]
    return Suite(path.stem, tuple(tasks), program, extractor, left_out=tuple(left_out))


def as_input(lines: Sequence[Line]) -> str:
    """One problem as it is, several as a numbered list."""
    if len(lines) == 1:
        return lines[0].input
    return "\n\n".join([TOGETHER, *(f"{number}) {line.input}" for number, line in enumerate(lines, 1))])


def read_lines(path: Path, fields: Fields) -> tuple[list[Line], list[str]]:
    """A file's problems, and what is wrong with the lines that are none. Raises `InputError` for a file that cannot be
    read."""
    try:
        texts = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from None
    lines, left_out = [], []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            lines.append(parse_line(text, fields))
        except InputError as error:
            left_out.append(f"{path}:{number}: {error.message}")
    return lines, left_out


def parse_line(text: str, fields: Fields) -> Line:
    """Raises `InputError`: why the line is no problem."""
    if "\ufffd" in text:
        raise InputError("the line is not UTF-8 text")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the line is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError("the line is not a JSON object")
    return Line(_field(data, fields.input, INPUT_FIELDS), _field(data, fields.answer, ANSWER_FIELDS))


def _field(data: Mapping[str, object], name: str | None, usual: Sequence[str]) -> str:
    names = [name] if name else list(usual)
    value = next((data[each] for each in names if each in data), None)
    while isinstance(value, list) and len(value) == 1:  # OlympiadBench: a list of one answer
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        there = ", ".join(f"`{each}`" for each in _names(data)) or "nothing"
        raise InputError(
            f"the line has no text or number in {' or '.join(f'`{each}`' for each in names)}: it has {there}"
        )
    return str(value)


def _names(data: Mapping[str, object]) -> Iterator[str]:
    yield from list(data)[:8]
