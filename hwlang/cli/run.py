"""`hw run`: runs a program, once or on many inputs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hwlang import api
from hwlang.cli import models
from hwlang.cli.errors import OK, as_diagnostic, exit_code
from hwlang.cli.inputs import check_inputs, positive, read_params, read_text, split_target
from hwlang.cli.jobs import Batch, Job, Single, head_of, to_append
from hwlang.cli.output import loading, report
from hwlang.engines import is_remote
from hwlang.python.batches import MOST

if TYPE_CHECKING:  # rich and the runtime are imported where they are needed
    from hwruntime.errors import HwError
    from hwruntime.program import Value
    from hwruntime.session import RunOptions
    from hwruntime.trace import Head, Trace


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a program, once or on many inputs."
    parser.add_argument(
        "program", metavar="FILE[:PROGRAM]", help="a .hw file; a file with several programs needs :PROGRAM"
    )
    parser.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter; NAME=@FILE takes a file's text")  # fmt: skip
    parser.add_argument("--inputs", metavar="FILE.jsonl", help="run once for each line, an object of parameters")
    models.add(parser, servers=True)
    models.add_nodes(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of the random streams (default: the program's, else 0)")
    parser.add_argument(
        "--budget", type=positive, metavar="N", help="passes at most (default: the program's, else 1024)"
    )
    parser.add_argument("--max-tokens", type=positive, metavar="N", help="sampled by all workers together, at most")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="end the run after this time")
    parser.add_argument("--workers", type=int, metavar="N", help="how many workers of `workers n of ...`")
    parser.add_argument("--max-concurrency", type=positive, default=MOST, metavar="N",
                        help=f"runs of --inputs at the same time (default: {MOST})")  # fmt: skip
    parser.add_argument("--kv-tokens", type=positive, metavar="N", help="size of the cache (default: grows as needed)")
    parser.add_argument("--kv-dtype", default="auto", help="of the cache: auto (what the model computes in) or fp8")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")
    parser.add_argument("--trace", metavar="FILE", help="write what happens to FILE as JSON lines, as it happens")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was chosen, and why")


def run(options: argparse.Namespace) -> int:
    file, name = split_target(options.program)
    program = api.load(file, name)
    report(program.warnings)
    from hwruntime.errors import HwError

    try:
        if models.follows(options):
            return OK
        given = read_params(options.params, program)
        if options.inputs is None:
            check_inputs(program, given, options.workers)  # a slip in them is told before the model is loaded
        jobs = make_jobs(options, program, given)
        with to_append(options.trace) if options.trace else nullcontext() as out:  # before anything that takes time
            engine = load_engine(options, program)
            trace = start_trace(out, head_of(engine, program, jobs, options.inputs)) if out else None
            if options.inputs is None:
                return Single(engine, program, trace).run(jobs[0], options.json)
            return Batch(engine, program, trace, options.inputs).run(jobs, options.max_concurrency)
    except HwError as error:
        report([as_diagnostic(error, program)])
        return exit_code(error)


def make_jobs(options: argparse.Namespace, program: api.Program, given: Mapping[str, Value]) -> list[Job]:
    """What is to be run: once, or once for each line of the inputs file, with a seed of its own."""
    seed: int = program.compiled.seed if options.seed is None else options.seed
    limits: RunOptions = {
        "budget": options.budget,
        "workers": options.workers,
        "max_tokens": options.max_tokens,
        "max_seconds": options.max_seconds,
    }
    if options.inputs is None:
        return [Job(given, {"seed": seed, **limits})]
    lines = read_lines(options.inputs)
    return [
        Job({**given, **line.inputs}, {"seed": seed + index, **limits}, line.number, line.error)
        for index, line in enumerate(lines)
    ]


def start_trace(file: TextIO, head: Head) -> Trace:
    """A trace with its first line, in the place of what the file has held."""
    from hwruntime.trace import Trace

    if Path(file.name).is_file():
        file.truncate(0)
    trace = Trace(file, head.model)
    trace.start(head)
    return trace


def load_engine(options: argparse.Namespace, program: api.Program) -> api.Engine:
    """The engine that the command line asks for, and with `-v` why it is what it is."""
    remote = is_remote(options.engine)  # which has its model already: `--model` is whose tokenizer to take
    model = options.model if remote else options.model or program.compiled.model or "tiny"
    with loading(model or options.engine):
        engine = api.Engine(
            model,
            kv_tokens=options.kv_tokens,
            kv_dtype=options.kv_dtype,
            **models.where(options),
            **models.nodes(options),
        )
    if options.verbose:
        for why in engine.runtime.model.why:
            print(f"hw: {why}", file=sys.stderr)
    return engine


@dataclass(frozen=True)
class Line:
    """A line of an inputs file; `error` says why it holds no parameters."""

    number: int
    inputs: Mapping[str, Value]
    error: HwError | None = None


def read_lines(file: str) -> list[Line]:
    """The lines of a JSONL file that are not empty."""
    from hwruntime.errors import InputError

    lines = []
    for number, line in enumerate(read_text(Path(file)).splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            lines.append(Line(number, {}, InputError(f"the line is not JSON: {error}")))
            continue
        if isinstance(data, dict):
            lines.append(Line(number, data))
        else:
            lines.append(Line(number, {}, InputError("the line is not a JSON object of parameters")))
    return lines
