"""`hw run`: runs a program, once or on many inputs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from hwlang import api
from hwlang.cli import models
from hwlang.cli.errors import FAILED, INTERRUPTED, OK, Usage, as_diagnostic, exit_code
from hwlang.cli.inputs import check_inputs, positive, read_params, read_text, split_target
from hwlang.cli.output import make_console, print_json, report
from hwlang.python.batches import MOST, side_by_side
from hwlang.python.runs import Run, State

if TYPE_CHECKING:  # rich and the runtime are imported where they are needed
    from rich.console import Console

    from hwruntime.batch import Run as RuntimeRun
    from hwruntime.errors import HwError
    from hwruntime.program import Value
    from hwruntime.result import Event, Result
    from hwruntime.session import RunOptions
    from hwruntime.trace import Trace


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a program, once or on many inputs."
    parser.add_argument(
        "program", metavar="FILE[:PROGRAM]", help="a .hw file; a file with several programs needs :PROGRAM"
    )
    parser.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter; NAME=@FILE takes a file's text")  # fmt: skip
    parser.add_argument("--inputs", metavar="FILE.jsonl", help="run once for each line, an object of parameters")
    models.add(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of the random streams (default: the program's, else 0)")
    parser.add_argument(
        "--budget", type=positive, metavar="N", help="passes at most (default: the program's, else 1024)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="how many workers of `workers n of ...`")
    parser.add_argument("--max-concurrency", type=positive, default=MOST, metavar="N",
                        help=f"runs of --inputs at the same time (default: {MOST})")  # fmt: skip
    parser.add_argument("--kv-tokens", type=positive, metavar="N", help="size of the cache (default: grows as needed)")
    parser.add_argument("--kv-dtype", default="auto", help="of the cache: auto (what the model computes in) or fp8")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")
    parser.add_argument("--trace", metavar="FILE", help="write what happens to FILE as JSON lines, as it happens")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was chosen, and why")


@dataclass(frozen=True)
class Job:
    """One run to do. `line` is that of the inputs file, 0 where there is none; `error` says why it cannot be run."""

    inputs: dict[str, Value]
    line: int = 0
    error: HwError | None = None


def run(options: argparse.Namespace) -> int:
    file, name = split_target(options.program)
    program = api.load(file, name)
    report(program.warnings)
    from hwruntime.errors import HwError

    try:
        given = read_params(options.params, program)
        if options.inputs is None:
            check_inputs(program, given, options.workers)  # a slip in them is told before the model is loaded
        jobs = read_jobs(options.inputs) if options.inputs is not None else []
        with open_trace(options.trace) as trace:
            engine = load_engine(options, program)
            if options.inputs is None:
                return Single(engine, program, given, options, trace).run()
            return Batch(engine, program, given, options, trace).run_all(jobs)
    except HwError as error:
        report([as_diagnostic(error, program)])
        return exit_code(error)


class Task:
    """What is run: a program, its parameters, on an engine, as the options say."""

    def __init__(
        self,
        engine: api.Engine,
        program: api.Program,
        given: Mapping[str, Value],
        options: argparse.Namespace,
        trace: Trace | None,
    ) -> None:
        self._engine = engine
        self._program = program
        self._given = given
        self._options = options
        self._trace = trace
        self._seed: int = program.compiled.seed if options.seed is None else options.seed


class Single(Task):
    """Does one run, and shows it as it goes."""

    def run(self) -> int:
        from hwruntime.errors import HwError

        started, out = time.monotonic(), make_console()
        try:
            result = self._watched_run(out)
        except HwError as error:
            report([as_diagnostic(error, self._program)])
            return exit_code(error)
        if self._options.json:
            print_json(result.to_json())
        else:
            from hwlang.cli.display import print_result

            print_result(out, result, time.monotonic() - started)
        return code_of(result)

    def _watched_run(self, out: Console) -> Result:
        from hwlang.cli.display import make_display

        options, engine, program = self._options, self._engine.runtime, self._program.compiled
        interrupted: list[bool] = []
        with make_display(out, options.json) as display, first_interrupt(lambda: interrupted.append(True)):

            def watch(run: RuntimeRun) -> None:
                if run.session.passes == 1:
                    for warning in run.session.warnings():
                        print(f"warning: {warning}", file=sys.stderr)
                events = run.session.drain()
                display.show(events, engine.progress(run))
                if self._trace:
                    self._trace.add(run.session.passes, events)
                if interrupted:
                    run.cancel()

            if self._trace:
                self._trace.start(program, engine.model.name, self._given, self._seed)
            result = engine.run(
                program, self._given, seed=self._seed, budget=options.budget, workers=options.workers, watch=watch
            )
        if self._trace:
            self._trace.end(result)
        return result


class Batch(Task):
    """Does the jobs of an inputs file side by side, and prints a line for each, in their order; one that fails, fails
    alone."""

    def run_all(self, jobs: Sequence[Job]) -> int:
        """The first Ctrl-C ends the runs under way, whose lines say what there is; the others are not begun."""
        self._started: WeakSet[Run] = WeakSet()
        self._interrupted = False
        codes: list[int] = []
        came: dict[int, State | HwError] = {}
        with first_interrupt(self._interrupt):
            for place, result in side_by_side(self._starts(jobs), self._options.max_concurrency, self._note):
                came[place] = result
                if self._trace and not isinstance(result, Exception):
                    self._trace.end(result.result, place)
                while (next_one := came.pop(len(codes), None)) is not None:
                    codes.append(self._print(next_one, jobs[len(codes)]))
        return INTERRUPTED if self._interrupted else max(codes, default=OK)

    def _starts(self, jobs: Sequence[Job]) -> Iterator[Callable[[], Run | HwError]]:
        for index, job in enumerate(jobs):
            if self._interrupted:
                return
            yield partial(self._start, job, index)

    def _start(self, job: Job, index: int) -> Run | HwError:
        from hwruntime.errors import HwError

        seed, inputs = self._seed + index, {**self._given, **job.inputs}
        options: RunOptions = {"seed": seed, "budget": self._options.budget, "workers": self._options.workers}
        try:
            if job.error is not None:
                raise job.error
            run = self._engine.begin(self._program, inputs, options, eager=True)
        except HwError as error:
            return error
        self._started.add(run)
        for warning in run.runtime.session.warnings():
            print(f"warning: {self._options.inputs}:{job.line}: {warning}", file=sys.stderr)
        if self._trace:
            self._trace.start(self._program.compiled, self._engine.runtime.model.name, inputs, seed, index)
        return run

    def _note(self, place: int, run: Run, events: Sequence[Event]) -> None:
        if self._trace:
            self._trace.add(run.runtime.session.passes, events, place)

    def _interrupt(self) -> None:
        self._interrupted = True
        for run in self._started:
            run.cancel()

    def _print(self, result: State | HwError, job: Job) -> int:
        """On stdout; what failed also on stderr."""
        if not isinstance(result, Exception):
            print_json(result.to_json())
            return code_of(result.result)
        diagnostic = as_diagnostic(result, self._program)
        where = f"{self._options.inputs}:{job.line}"
        print(f"error[{diagnostic.code}]: {where}: {diagnostic.message}", file=sys.stderr)
        failure = {"code": diagnostic.code, "message": diagnostic.message}
        print_json({"program": self._program.name, "line": job.line, "error": failure})
        return FAILED


def code_of(result: Result) -> int:
    """The exit status that a run's end makes."""
    return {"cancelled": INTERRUPTED, "cache": FAILED}.get(result.reason, OK)


@contextmanager
def open_trace(path: str | None) -> Iterator[Trace | None]:
    """The file of `--trace`, before anything that takes time. Raises `Usage`."""
    from hwruntime.trace import Trace

    if path is None:
        yield None
        return
    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise Usage(f"cannot write `{path}`: {error.strerror}") from None
    with file:
        yield Trace(file)


@contextmanager
def first_interrupt(then: Callable[[], object]) -> Iterator[None]:
    """Within, the first Ctrl-C only makes a call: the pass under way is finished. The next one interrupts."""

    def note(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        then()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def load_engine(options: argparse.Namespace, program: api.Program) -> api.Engine:
    """The engine that the command line asks for, and with `-v` why it is what it is."""
    model = options.model or program.compiled.model or "tiny"
    errors = make_console(stderr=True)
    with errors.status(f"loading {model}") if errors.is_terminal else nullcontext():
        engine = api.Engine(model, kv_tokens=options.kv_tokens, kv_dtype=options.kv_dtype, **models.where(options))
    if options.verbose:
        for why in engine.runtime.model.why:
            print(f"hw: {why}", file=sys.stderr)
    return engine


def read_jobs(file: str) -> list[Job]:
    """One job for each line of a JSONL file that is not empty; a line that is not an object of parameters is a job
    that fails."""
    from hwruntime.errors import InputError

    jobs = []
    for number, line in enumerate(read_text(Path(file)).splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            jobs.append(Job({}, number, InputError(f"the line is not JSON: {error}")))
            continue
        if isinstance(data, dict):
            jobs.append(Job(data, number))
        else:
            jobs.append(Job({}, number, InputError("the line is not a JSON object of parameters")))
    return jobs
