"""`hw eval`: runs a suite of problems in several ways, and compares them."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang.cli import models
from hwlang.cli.errors import OK, Usage, told
from hwlang.cli.inputs import numbers, positive, split_target
from hwlang.cli.output import make_console
from hwlang.engines import Where
from hwlang.evaluation.answers import make_extractor
from hwlang.evaluation.configurations import Choice, Configuration, Sync, collision_configurations, configurations_of
from hwlang.evaluation.evaluation import Evaluation, Settings, open_evaluation
from hwlang.evaluation.metrics import curves
from hwlang.evaluation.plot import require_matplotlib, write_plots
from hwlang.evaluation.records import write_whole
from hwlang.evaluation.suites import PROGRAMS, Fields, Suite, make_countdown, make_lists, read_suite
from hwlang.evaluation.table import page, title
from hwruntime.errors import HwError

if TYPE_CHECKING:
    from rich.progress import Progress

GENERATED = ("sums", "chains", "countdown", "collisions")
PROMPTS = 200  # of a generated suite
PROBLEMS = {"sums": 6, "chains": 8, "collisions": 6}  # in a prompt


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a suite of problems in several ways, and compare them."
    parser.add_argument("suite", metavar="SUITE", help=f"{', '.join(GENERATED)}, or a .jsonl file of problems")
    add_problems(parser.add_argument_group("what is asked"))
    add_ways(parser.add_argument_group("how it is worked on"))
    models.add(parser.add_argument_group("the model"))
    out = parser.add_argument_group("what comes out")
    out.add_argument("--out", type=Path, metavar="DIR", help="for runs.jsonl and table.md (default: in eval/)")
    out.add_argument("--plot", action="store_true", help="draw solved.png and solved.svg there, too")
    out.add_argument("--markdown", action="store_true", help="print the table as Markdown on a terminal, too")


def add_problems(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--prompts", type=positive, metavar="N", help=f"how many (default: {PROMPTS}, or all of a file)")
    group.add_argument("--problems", type=positive, metavar="K", help="problems in a list (default: 6; chains: 8)")
    group.add_argument("--seed", type=int, default=1, metavar="N", help="of the prompts and of the random streams")
    group.add_argument("--group", type=positive, default=1, metavar="K", help="problems of a file in one prompt")
    group.add_argument("--input-field", metavar="NAME", help="of a file's lines (default: input, question or problem)")
    group.add_argument("--answer-field", metavar="NAME", help="of a file's lines (default: answer or solution)")
    group.add_argument("--extract", default="latex", metavar="FORM",
                       help="how answers of a file are compared: latex, number, exact or regex:REGEX")  # fmt: skip


def add_ways(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--program", metavar="FILE[:PROGRAM]", help="a program of your own for a file of problems")
    group.add_argument("--input-as", default="problem", metavar="NAME", help="its parameter that takes the problem")
    group.add_argument("--layouts", type=words, metavar="A,B",
                       help="programs of the file (default: combined,interleaved,contiguous,blind)")  # fmt: skip
    group.add_argument("--workers", type=numbers, default=(1, 2), metavar="N,N", help="how many (default: 1,2)")
    group.add_argument("--sync", type=syncs, default=("own", "none"), metavar="N|own|none,...",
                       help="tokens between sync prompts (default: the program's; in the first layout "
                            "none, too)")  # fmt: skip
    group.add_argument("--budgets", type=numbers, metavar="N,N", help="passes at most (default: the program's)")
    group.add_argument("--temperature", type=temperature, metavar="T", help="of sampling (default: the program's)")
    group.add_argument("--batch", type=positive, default=16, metavar="N", help="runs side by side (default: 16)")


def run(options: argparse.Namespace) -> int:
    try:
        evaluate(options)
    except HwError as error:
        return told(error)
    return OK


def evaluate(options: argparse.Namespace) -> None:
    if options.plot:
        require_matplotlib()
    settings = settings_of(options)
    evaluation = open_evaluation(replace(settings, where=recorded(settings.where)), chosen(options), options.out)
    evaluation = replace(evaluation, settings=settings)
    for note in (evaluation.runs.mended, *evaluation.configurations[0].suite.left_out):
        if note:
            print(f"warning: {note}", file=sys.stderr)
    if not evaluation.complete:
        with progress_bar() as progress:
            bar = progress.add_task(options.suite, total=evaluation.size)
            evaluation.run(lambda count: progress.advance(bar, count))
    tell(evaluation, options)


# --- What is asked for -----------------------------------------------------------------------------------------------


def settings_of(options: argparse.Namespace) -> Settings:
    return Settings(
        suite=options.suite,
        seed=options.seed,
        extract=options.extract,
        model=options.model,
        batch=options.batch,
        where=models.where(options),
    )


def recorded(where: Where) -> Where:
    """What a folder records of how a model is run: no result depends on where openings are kept."""
    kept = where.copy()
    kept.pop("opening_cache", None)
    return kept


def chosen(options: argparse.Namespace) -> Sequence[Configuration]:
    """The configurations. Raises `Usage`, `InputError`, `CompileError`."""
    choice = Choice(
        workers=options.workers, syncs=options.sync, budgets=options.budgets, temperature=options.temperature
    )
    choice = replace(choice, layouts=options.layouts) if options.layouts else choice
    name, prompts = options.suite, options.prompts or PROMPTS
    problems = options.problems or PROBLEMS.get(name, 1)
    match name:
        case "collisions":
            return collision_configurations(prompts, problems, options.seed, choice)
        case "sums" | "chains":
            return configurations_of(make_lists(name, prompts, problems, options.seed), choice)
        case "countdown":
            return configurations_of(make_countdown(prompts, options.seed), choice)
        case _:
            return of_file(options, choice)


def of_file(options: argparse.Namespace, choice: Choice) -> Sequence[Configuration]:
    """The configurations for a JSONL file; a program of the user's is run alone where no layouts are named."""
    path, program = Path(options.suite), PROGRAMS / "questions.hw"
    if not path.exists() and not path.suffix:
        raise Usage(f"there is no suite `{path}`: it is {', '.join(GENERATED)} or a .jsonl file")
    if options.program:
        program, name = split_target(options.program)
        choice = choice if options.layouts else replace(choice, layouts=(name,))
    suite: Suite = read_suite(
        path,
        make_extractor(options.extract),
        fields=Fields(options.input_field, options.answer_field),
        parameter=options.input_as,
        prompts=options.prompts,
        group=options.group,
        program=program,
    )
    return configurations_of(suite, choice)


# --- What is told ----------------------------------------------------------------------------------------------------


def progress_bar() -> Progress:
    """On stderr, where that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def tell(evaluation: Evaluation, options: argparse.Namespace) -> None:
    """Write the table and the plot, and print the table: set on a terminal, as Markdown elsewhere."""
    header, configurations, runs = evaluation.header, evaluation.configurations, evaluation.runs
    text = page(header, configurations, runs.records)
    write_whole(evaluation.folder / "table.md", text.encode())
    written = [runs.path, evaluation.folder / "table.md"]
    if options.plot and options.suite != "collisions":
        drawn = [curve for each in configurations for curve in curves(each, runs.records)]
        written += write_plots(drawn, title(header, configurations), evaluation.folder)
    console = make_console()
    if options.markdown or not console.is_terminal:
        print(text, end="")
    else:
        from rich.markdown import Markdown

        console.print(Markdown(text))
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)


# --- Values of options -----------------------------------------------------------------------------------------------


def words(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(","))


def syncs(text: str) -> tuple[Sync, ...]:
    """`64`, `own`, `none`, or several."""
    named: dict[str, Sync] = {"own": "own", "none": "none"}
    return tuple(named[each] if each in named else positive(each) for each in words(text))


def temperature(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return number
