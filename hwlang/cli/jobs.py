"""Runs that a command does: one that is watched, or many side by side; all of them, or what a trace lacks of them."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hwlang import api
from hwlang.cli.errors import FAILED, INTERRUPTED, OK, Usage, as_diagnostic, exit_code
from hwlang.cli.keyboard import Keyboard
from hwlang.cli.output import make_console, print_json, report
from hwlang.python.batches import side_by_side
from hwlang.python.runs import Run, State

if TYPE_CHECKING:  # rich and the runtime are imported where they are needed
    from rich.console import Console

    from hwruntime.batch import Run as RuntimeRun
    from hwruntime.errors import HwError
    from hwruntime.program import Json, Value
    from hwruntime.recording import RecordedRun
    from hwruntime.result import Event, Result
    from hwruntime.session import Known, Log, RunOptions
    from hwruntime.trace import Head, Trace


@dataclass(frozen=True)
class Job:
    """One run to do. `line` is that of the inputs file, 0 where there is none; `error` says why it cannot be run;
    `past` is what a trace has of it."""

    inputs: Mapping[str, Value]
    options: RunOptions
    line: int = 0
    error: HwError | None = None
    past: RecordedRun | None = None

    @property
    def ended(self) -> bool:
        """Whether the trace has all of it."""
        return self.past is not None and not self.past.can_go_on

    @property
    def known(self) -> list[Known]:
        """Passes that have been made already."""
        return [each.known for each in self.past.passes] if self.past else []

    def log(self, trace: Trace | None, number: int) -> Log | None:
        """Where it writes what happens."""
        begun = self.past is not None and self.past.begun
        return trace.log(number, len(self.known) if begun else None) if trace else None

    def to_json(self) -> dict[str, Json]:
        """As the head of a trace has it."""
        plan: dict[str, Json] = {"inputs": dict(self.inputs), **self.options}  # type: ignore[dict-item]
        plan |= {"line": self.line} if self.line else {}
        return plan | ({"error": {"code": self.error.code, "message": self.error.message}} if self.error else {})


@dataclass
class Task:
    """What all jobs of a command have in common. `source`: the file with the inputs, where there is one."""

    engine: api.Engine
    program: api.Program
    trace: Trace | None = None
    source: str | None = None

    def note_strays(self, run: RuntimeRun, where: str) -> None:
        """Say it once where passes were made again and the model would have gone on otherwise."""
        if run.strays and not run.known:
            print(
                f"warning: {where}: {len(run.strays)} tokens of the passes made again would be others now, "
                f"first in pass {run.strays[0].number}: is it the same model, on the same kind of machine?",
                file=sys.stderr,
            )
            run.strays.clear()

    def note_failure(self, number: int, error: HwError) -> None:
        """Keep in the trace that a run failed."""
        if self.trace:
            self.trace.fail(number, error)


def head_of(engine: api.Engine, program: api.Program, jobs: Sequence[Job], source: str | None) -> Head:
    """The first line of a trace."""
    from hwruntime.trace import Head

    runs = [job.to_json() for job in jobs]
    name = engine.runtime.model.name
    return Head(program.compiled, program.source.text, name, engine.options, engine.identity, runs, source)


class Single(Task):
    """Does one run, and shows it as it goes."""

    def run(self, job: Job, as_json: bool) -> int:
        from hwruntime.errors import HwError

        started, out = time.monotonic(), make_console()
        try:
            result = self._watched_run(job, out, as_json)
        except HwError as error:
            self.note_failure(0, error)
            report([as_diagnostic(error, self.program)])
            return exit_code(error)
        if as_json:
            print_json(result.to_json())
        else:
            from hwlang.cli.display import print_result

            print_result(out, result, time.monotonic() - started)
        return code_of(result.reason)

    def _watched_run(self, job: Job, out: Console, as_json: bool) -> Result:
        from hwlang.cli.display import make_display

        engine, interrupted = self.engine.runtime, False

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True

        keyboard = Keyboard(self.program.compiled.streams if not as_json else ())
        with make_display(out, as_json) as display, first_interrupt(interrupt), keyboard:

            def watch(run: RuntimeRun) -> None:
                if run.session.passes == 1:
                    for warning in run.session.warnings():
                        print(f"warning: {warning}", file=sys.stderr)
                display.show(run.session.drain(), engine.progress(run), keyboard.line)
                for stream, text in keyboard.take():
                    run.feed(stream, text)
                if interrupted:
                    run.cancel()
                self.note_strays(run, self.program.source.file)

            log = job.log(self.trace, 0)
            return engine.run(self.program.compiled, job.inputs, watch, log, job.known, **job.options)


class Batch(Task):
    """Does jobs side by side, and prints a line for each, in their order; one that fails, fails alone. Meanwhile a
    terminal shows how far they are."""

    def run(self, jobs: Sequence[Job], most: int) -> int:
        """`most` at a time. The first Ctrl-C ends the runs under way, whose lines say what there is; the others are not
        begun."""
        from hwlang.cli.display import BatchPanes, Tally

        self._jobs = jobs
        self._codes: list[int] = []  # of those that have been printed
        self._came: dict[int, State | HwError] = {}
        self._going: dict[int, Run] = {}
        self._interrupted = False
        self._view, self._tally = BatchPanes(make_console(stderr=True)), Tally(len(jobs))
        self._keyboard = Keyboard(self.program.compiled.streams)
        left = [number for number, job in enumerate(jobs) if not job.ended]
        self._tally.ended = len(jobs) - len(left)
        starts = (partial(self._begin, number) for number in left if not self._interrupted)
        with first_interrupt(self._interrupt), self._view, self._keyboard:
            self._print_due()
            for place, result in side_by_side(
                starts, most, lambda place, run, events: self._watch(left[place], events)
            ):
                self._note_end(left[place], result)
                self._print_due()
        return INTERRUPTED if self._interrupted else max(self._codes, default=OK)

    def _interrupt(self) -> None:
        self._interrupted = True
        for run in self._going.values():
            run.cancel()

    def _begin(self, number: int) -> Run | HwError:
        run = self._start(self._jobs[number], number)
        if isinstance(run, Run):
            self._going[number] = run
        return run

    def _watch(self, number: int, events: Sequence[Event]) -> None:
        run = self._going[number]
        self.note_strays(run.runtime, self._place(self._jobs[number]))
        self._view.take(number, events)
        if number == self._view.shown:
            for stream, text in self._keyboard.take():
                run.feed(stream, text)
        self._tally.going, self._tally.sampled = len(self._going), self.engine.runtime.counters.sampled_tokens
        self._view.show(self._tally, self._keyboard.line)

    def _note_end(self, number: int, result: State | HwError) -> None:
        self._came[number] = result
        self._going.pop(number, None)
        self._view.drop(number)
        self._tally.ended += 1
        self._tally.failed += isinstance(result, Exception)

    def _start(self, job: Job, number: int) -> Run | HwError:
        from hwruntime.errors import HwError

        log = job.log(self.trace, number)
        try:
            if job.error is not None:
                raise job.error
            run = self.engine.begin(self.program, job.inputs, job.options, eager=True, log=log, known=job.known)
        except HwError as error:
            self.note_failure(number, error)
            return error
        for warning in run.runtime.session.warnings():
            print(f"warning: {self._place(job)}: {warning}", file=sys.stderr)
        return run

    def _print_due(self) -> None:
        """Print the lines whose turn it is."""
        while (number := len(self._codes)) < len(self._jobs):
            job = self._jobs[number]
            if not job.ended and number not in self._came:
                return
            self._codes.append(self._print_past(job) if job.ended else self._print(self._came.pop(number), job))

    def _print_past(self, job: Job) -> int:
        """What a trace has of a run that has ended."""
        assert job.past is not None
        if job.past.error is not None:
            print_json({"program": self.program.name, "line": job.line, "error": job.past.error})
            return FAILED
        assert job.past.result is not None
        print_json(job.past.result)
        return code_of(str(job.past.result["reason"]))

    def _print(self, result: State | HwError, job: Job) -> int:
        """On stdout; what failed also on stderr."""
        if not isinstance(result, Exception):
            print_json(result.to_json())
            return code_of(result.reason)
        diagnostic = as_diagnostic(result, self.program)
        print(f"error[{diagnostic.code}]: {self._place(job)}: {diagnostic.message}", file=sys.stderr)
        failure = {"code": diagnostic.code, "message": diagnostic.message}
        print_json({"program": self.program.name, "line": job.line, "error": failure})
        return FAILED

    def _place(self, job: Job) -> str:
        return f"{self.source}:{job.line}"


def code_of(reason: str) -> int:
    """The exit status that a run's end makes."""
    return {"cancelled": INTERRUPTED, "cache": FAILED}.get(reason, OK)


@contextmanager
def to_append(path: str) -> Iterator[TextIO]:
    """A file for a trace. Raises `Usage` where it cannot be opened; what cannot be written later, `Trace` tells."""
    try:
        file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise Usage(f"cannot write `{path}`: {error.strerror}") from None
    try:
        yield file
    finally:
        with suppress(OSError):  # what could not be written cannot be now
            file.close()


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
