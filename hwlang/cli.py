"""The command line `hw`.

Exit codes: 0 ran, 1 the run failed, 2 bad program or usage, 130 interrupted. Errors go to stderr, never as a traceback.
torch and transformers are imported by `hw run` alone, once the program has passed its checks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hwlang import api
from hwlang.checker import check_file
from hwlang.diagnostics import CompileError, Diagnostic, Span, summary
from hwlang.suggestions import closest

if TYPE_CHECKING:  # rich and the runtime are imported where they are needed: a check needs neither
    from rich.console import Console

    from hwlang.arrays import Arrays
    from hwlang.cases import Case
    from hwlang.headroom import Counter
    from hwlang.testing import Verdict
    from hwruntime.batch import Run
    from hwruntime.engine import Engine as RuntimeEngine
    from hwruntime.errors import HwError
    from hwruntime.program import Value
    from hwruntime.result import Result
    from hwruntime.trace import Trace

OK, FAILED, BAD, INTERRUPTED = 0, 1, 2, 130
MOST_SHOWN = 200  # diagnostics that are printed as text
CODE = re.compile(r"HW\d{3}", re.IGNORECASE)
PROGRAM_NAME = re.compile(r"(?P<file>.+):(?P<program>[A-Za-z_]\w*)")


class Usage(Exception):
    """A command line that cannot be carried out; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is written as an escape, and ends nothing
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser().parse_args(arguments)
        code: int = options.command(options)
        return code
    except CompileError as error:
        report(error.diagnostics)
        return BAD
    except Usage as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say, and to whom
        sys.stderr.close()
        return FAILED


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="hw", description="Run and check .hw programs: several workers, one KV cache.")
    top.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a program", description="Run a program, once or on many inputs.")
    run.set_defaults(command=run_command)
    run.add_argument(
        "program", metavar="FILE[:PROGRAM]", help="a .hw file; a file with several programs needs :PROGRAM"
    )
    run.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE",
                     help="a parameter; NAME=@FILE takes a file's text")  # fmt: skip
    run.add_argument("--inputs", metavar="FILE.jsonl", help="run once for each line, an object of parameters")
    run.add_argument("--model", help="a folder, a hub name, or `tiny` (default: the program's `model`, else tiny)")
    run.add_argument("--attention", default="auto", choices=("auto", "torch", "flashinfer", "sglang"))
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    run.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    run.add_argument("--seed", type=int, metavar="N", help="of the random streams (default: the program's, else 0)")
    run.add_argument("--budget", type=positive, metavar="N", help="passes at most (default: the program's, else 1024)")
    run.add_argument("--workers", type=int, metavar="N", help="how many workers of `workers n of ...`")
    run.add_argument("--kv-tokens", type=positive, metavar="N", help="size of the cache (default: grows as needed)")
    run.add_argument("--kv-dtype", default="auto", help="of the cache: auto (what the model computes in) or fp8")
    run.add_argument("--json", action="store_true", help="print one JSON object per run")
    run.add_argument("--trace", metavar="FILE", help="write what happens to FILE as JSON lines, as it happens")
    run.add_argument("--trust-remote-code", action="store_true", help="let a model run code of its own")
    run.add_argument("-v", "--verbose", action="store_true", help="say what was chosen, and why")

    check = commands.add_parser("check", help="check programs", description="Check programs without running them.")
    check.set_defaults(command=check_command)
    check.add_argument("files", nargs="+", metavar="FILE")
    form = check.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the diagnostics as a JSON list")
    form.add_argument("--sarif", action="store_true", help="print the diagnostics as SARIF 2.1.0")

    explain = commands.add_parser(
        "explain", help="explain a program or a code", description="Show how a program will run, or what a code means."
    )
    explain.set_defaults(command=explain_command)
    explain.add_argument(
        "what", metavar="FILE[:PROGRAM] | CODE", help="a .hw file, or the code of a diagnostic, such as HW201"
    )
    explain.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE",
                         help="a parameter; NAME=@FILE takes a file's text (others are shown as holes)")  # fmt: skip
    explain.add_argument("--workers", type=int, metavar="N", help="how many workers of `workers n of ...`")
    explain.add_argument("--tokens", action="store_true", help="count tokens, and what is left of the model's context")
    explain.add_argument("--plan", action="store_true", help="show the attention plan of a pass")
    explain.add_argument("--model", help="whose tokenizer counts: a folder, a hub name, or `tiny`; weights stay unread")
    explain.add_argument("--trust-remote-code", action="store_true", help="let a model run code of its own")
    explain.add_argument("--json", action="store_true", help="print one JSON object")

    test = commands.add_parser("test", help="run tests", description="Run the tests in .hw files.")
    test.set_defaults(command=test_command)
    test.add_argument("files", nargs="+", metavar="FILE")
    test.add_argument("-k", metavar="PART", help="only tests in whose file, program or title this text is")
    test.add_argument("--model", help="what tests without a script run on (default: what they or their programs say)")
    test.add_argument("--json", action="store_true", help="print one JSON object")

    style = commands.add_parser("fmt", help="format programs", description="Put programs in the one style, in place.")
    style.set_defaults(command=fmt_command)
    style.add_argument("files", nargs="+", metavar="FILE", help="a .hw file; `-` is standard input, printed on stdout")
    style.add_argument("--check", action="store_true", help="write nothing, list what would change, exit with 1 if any")
    style.add_argument("--diff", action="store_true", help="write nothing, print what would change, exit with 1 if any")

    server = commands.add_parser("lsp", help="serve an editor", description="The language server, on stdin and stdout.")
    server.set_defaults(command=lsp_command)
    server.add_argument("--stdio", action="store_true", help="what editors ask for; there is no other way")
    return top


class ShowVersion(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than parsing a program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        parser.exit(message=f"hw {version('hwlang')}\n")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


# --- hw check --------------------------------------------------------------------------------------------------------


def check_command(options: argparse.Namespace) -> int:
    found = [d for file in options.files for d in check_file(file).diagnostics]
    errors = sum(d.severity == "error" for d in found)
    if options.json:
        print_json([d.to_json() for d in found], indent=2)
    elif options.sarif:
        from hwlang.sarif import sarif

        print_json(sarif(found), indent=2)
    else:
        report(found[:MOST_SHOWN])
        if len(found) > MOST_SHOWN:
            print(f"... and {len(found) - MOST_SHOWN:,} more: `--json` prints all of them", file=sys.stderr)
        if found:
            print(summary(found), file=sys.stderr)
        if not errors:
            count = len(options.files)
            print(f"{count} file{'s' if count > 1 else ''} checked, no errors")
    return BAD if errors else OK


# --- hw explain ------------------------------------------------------------------------------------------------------


def explain_command(options: argparse.Namespace) -> int:
    if CODE.fullmatch(options.what):
        return explain_code(options.what.upper())
    if re.fullmatch(r"HW\d+", options.what, re.IGNORECASE) and not Path(options.what).exists():
        raise Usage(f"`{options.what}` is no code and no file: codes look like HW201")
    return explain_program(options)


def explain_code(code: str) -> int:
    """Print the page on a code."""
    from hwlang.explanations import EXPLANATIONS, explain

    if code not in EXPLANATIONS:
        close = closest(code, EXPLANATIONS)
        raise Usage(f"there is no code {code}" + (f": did you mean {close}?" if close else ""))
    print(explain(code))
    return OK


def explain_program(options: argparse.Namespace) -> int:
    """Print how a program will run."""
    file, name = split_target(options.what)
    program = api.load(file, name)
    resolved = next(each for each in check_file(file).programs if each.name == program.name)
    from hwlang.explain import overview
    from hwruntime.errors import HwError

    try:
        given = read_params(options.params, program)
        counter = token_counter(options, program) if options.tokens else None
        seen = overview(resolved, program.compiled, given, options.workers, counter)
        plan = pass_arrays(options, program, given, counter) if options.plan else None
    except HwError as error:
        report([as_diagnostic(error, program)])
        return exit_code(error)
    if options.json:
        from hwlang.explain import as_json

        print_json(as_json(seen, counter, plan), indent=2)
    else:
        from hwlang.tables import Page

        page = Page(make_console())
        page.overview(seen, counter)
        if plan:
            page.arrays(plan)
    return OK


def token_counter(options: argparse.Namespace, program: api.Program) -> Counter:
    """What counts tokens: with the tokenizer of `--model`, else of the program's model. Raises `ModelError`."""
    from hwlang.headroom import Counter, defaults
    from hwruntime.checkpoint import open_tokenizer

    model = options.model or program.compiled.model or "tiny"
    tokenizer, context = open_tokenizer(model, options.trust_remote_code)
    return Counter(model, tokenizer, context, defaults(program.compiled))


def pass_arrays(
    options: argparse.Namespace, program: api.Program, given: Mapping[str, Value], counter: Counter | None
) -> Arrays:
    """The plan of a pass: with a model's tokenizer where one was asked for, else one token a word."""
    from hwlang.arrays import arrays
    from hwruntime.scripted import WordTokenizer

    if counter is None and options.model:
        counter = token_counter(options, program)
    tokenizer = counter.tokenizer if counter else WordTokenizer()
    return arrays(program.compiled, given, options.workers, tokenizer)


# --- hw test ---------------------------------------------------------------------------------------------------------


def test_command(options: argparse.Namespace) -> int:
    from hwlang.cases import cases_of

    checked = [check_file(file) for file in options.files]
    report([diagnostic for each in checked for diagnostic in each.diagnostics])
    if any(each.errors for each in checked):
        return BAD
    from hwlang.testing import chosen

    cases = chosen((case for each in checked for case in cases_of(each)), options.k)
    if not cases:
        raise Usage(f"no test has `{options.k}` in its name" if options.k else "there are no tests in these files")
    from hwlang.verdicts import as_json, summary

    started = time.monotonic()
    verdicts = list(judged(cases, options))
    if options.json:
        print_json(as_json(verdicts), indent=2)
    else:
        print(summary(verdicts, time.monotonic() - started))
    return OK if all(verdict.passed for verdict in verdicts) else FAILED


def judged(cases: Sequence[Case], options: argparse.Namespace) -> Iterator[Verdict]:
    """Run tests, and tell of each as soon as it is done."""
    from hwlang.testing import engines, judge
    from hwlang.verdicts import diagnostic, explained, line_of

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    load = engines(lambda name: api.Engine(name).runtime)
    for case in cases:
        verdict = judge(case, load, options.model)
        yield verdict
        if options.json:
            continue
        print(line_of(verdict), flush=True)
        for failure in verdict.failures:
            lines = [diagnostic(failure).render(in_colour(sys.stdout)), *(f"   {line}" for line in explained(failure))]
            print("\n".join(map(str.rstrip, lines)), end="\n\n")


# --- hw fmt ----------------------------------------------------------------------------------------------------------


def fmt_command(options: argparse.Namespace) -> int:
    from hwlang.fmt import STDIN, fmt

    if STDIN in options.files and len(options.files) > 1:
        raise Usage(f"`{STDIN}` (standard input) stands alone")
    done = fmt(options.files, options.check, options.diff, report)
    if done.failed:
        return BAD
    return FAILED if done.changed and (options.check or options.diff) else OK


# --- hw lsp ----------------------------------------------------------------------------------------------------------


def lsp_command(options: argparse.Namespace) -> int:
    try:
        from hwlang.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("pygls", "lsprotocol"):
            raise
        raise Usage("the language server needs pygls: `pip install 'hwlang[lsp]'`") from None
    serve()
    return OK


# --- hw run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One run to do. `line` is that of the inputs file, 0 where there is none; `error` says why it cannot be run."""

    inputs: dict[str, Value]
    line: int = 0
    error: HwError | None = None


def run_command(options: argparse.Namespace) -> int:
    file, name = split_target(options.program)
    program = api.load(file, name)
    report(program.warnings)
    # Threads that wait for one another busily stall for many times a pass where other processes use the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from hwruntime.errors import HwError

    try:
        given = read_params(options.params, program)
        if options.inputs is None:
            check_inputs(program, given, options.workers)  # a slip in them is told before the model is loaded
        jobs = read_jobs(options.inputs) if options.inputs is not None else [Job({})]
        with open_trace(options.trace) as trace:
            engine = load_engine(options, program)
            return Runner(engine, program, given, options, trace).run_all(jobs)
    except HwError as error:
        report([as_diagnostic(error, program)])
        return exit_code(error)


class Runner:
    """Does the jobs one after the other; one that fails, fails alone."""

    def __init__(
        self,
        engine: RuntimeEngine,
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
        self._out = make_console()
        self._batch = options.inputs is not None
        self._seed: int = program.compiled.seed if options.seed is None else options.seed

    def run_all(self, jobs: Sequence[Job]) -> int:
        codes = []
        for index, job in enumerate(jobs):
            codes.append(self._run(job, self._seed + index))
            if codes[-1] == INTERRUPTED:
                break
        return max(codes, default=OK)

    def _run(self, job: Job, seed: int) -> int:
        from hwruntime.errors import HwError

        started = time.monotonic()
        try:
            if job.error is not None:
                raise job.error
            result = self._watched_run({**self._given, **job.inputs}, seed)
        except HwError as error:
            self._report(error, job)
            return FAILED if self._batch else exit_code(error)
        if self._options.json or self._batch:
            print_json(result.to_json())
        else:
            from hwlang.display import print_result

            print_result(self._out, result, time.monotonic() - started)
        return {"cancelled": INTERRUPTED, "cache": FAILED}.get(result.reason, OK)

    def _watched_run(self, inputs: Mapping[str, Value], seed: int) -> Result:
        from hwlang.display import make_display

        options, engine = self._options, self._engine
        with make_display(self._out, options.json or self._batch) as display, first_interrupt() as interrupted:

            def watch(run: Run) -> None:
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
                self._trace.start(self._program.compiled, engine.model.name, inputs, seed)
            result = engine.run(
                self._program.compiled,
                inputs,
                seed=seed,
                budget=options.budget,
                workers=options.workers,
                watch=watch,
            )
        if self._trace:
            self._trace.end(result)
        return result

    def _report(self, error: HwError, job: Job) -> None:
        """On stderr; for a line of an inputs file also as that line's result, so that the lines stay in step."""
        diagnostic = as_diagnostic(error, self._program)
        if self._batch:
            where = f"{self._options.inputs}:{job.line}"
            print(f"error[{diagnostic.code}]: {where}: {diagnostic.message}", file=sys.stderr)
            failure = {"code": diagnostic.code, "message": diagnostic.message}
            print_json({"program": self._program.name, "line": job.line, "error": failure})
        else:
            report([diagnostic])


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
def first_interrupt() -> Iterator[list[int]]:
    """Within, the first Ctrl-C is only noted (in the list): the pass under way is finished. The next one interrupts."""
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        noted.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def split_target(target: str) -> tuple[Path, str | None]:
    """`FILE[:PROGRAM]`. A file whose name itself ends so is taken as the file."""
    found = PROGRAM_NAME.fullmatch(target)
    if found is None or Path(target).exists():
        return Path(target), None
    return Path(found["file"]), found["program"]


def load_engine(options: argparse.Namespace, program: api.Program) -> RuntimeEngine:
    """The engine that the command line asks for, and with `-v` why it is what it is."""
    model = options.model or program.compiled.model or "tiny"
    errors = make_console(stderr=True)
    with errors.status(f"loading {model}") if errors.is_terminal else nullcontext():
        engine = api.Engine(
            model,
            attention=options.attention,
            device=options.device,
            dtype=options.dtype,
            kv_tokens=options.kv_tokens,
            kv_dtype=options.kv_dtype,
            trust_remote_code=options.trust_remote_code,
        ).runtime
    if options.verbose:
        for why in engine.model.why:
            print(f"hw: {why}", file=sys.stderr)
    return engine


# --- Inputs ----------------------------------------------------------------------------------------------------------


def read_params(pairs: Sequence[str], program: api.Program) -> dict[str, Value]:
    """The `-p` options. Raises `Usage`, and `InputError` for a value of the wrong type."""
    from hwruntime.inputs import parse_value

    known = {param.name: param for param in program.compiled.params}
    values: dict[str, Value] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise Usage(f"-p takes NAME=VALUE, not `{pair}`")
        if text.startswith("@"):
            text = read_text(Path(text[1:]))
        values[name] = parse_value(known[name], text) if name in known else text
    return values


def check_inputs(program: api.Program, given: Mapping[str, Value], workers: int | None) -> None:
    """Raises `InputError` where the inputs do not fit the program."""
    from hwruntime.inputs import active_workers, bind

    active_workers(program.compiled, bind(program.compiled, given), workers)


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


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Usage(f"`{path}` is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Usage(f"cannot read `{path}`: {reason}") from None


def make_console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def print_json(data: object, indent: int | None = None) -> None:
    """To stdout: as it reads best, or with JSON's own escapes where the encoding does not hold every character."""
    print(json.dumps(data, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf"), indent=indent), flush=True)


# --- Errors ----------------------------------------------------------------------------------------------------------


def as_diagnostic(error: HwError, program: api.Program) -> Diagnostic:
    """A runtime error as the language shows its own."""
    at = error.span
    span = (
        Span(at.line, at.column, at.end_line, at.end_column, program.source) if at else Span(0, 0, 0, 0, program.source)
    )
    return Diagnostic(error.code, error.message, span, error.help)


def exit_code(error: HwError) -> int:
    from hwruntime.errors import DeviceError, InputError

    return BAD if isinstance(error, InputError | DeviceError) else FAILED


def report(diagnostics: Sequence[Diagnostic]) -> None:
    """Print diagnostics to stderr, in colour on a terminal."""
    colour = in_colour(sys.stderr)
    for diagnostic in diagnostics:
        print(diagnostic.render(colour), file=sys.stderr, end="\n\n" if colour else "\n")


def in_colour(stream: TextIO) -> bool:
    """Whether to write colours: on a terminal that has them, unless NO_COLOR (https://no-color.org) is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


if __name__ == "__main__":
    sys.exit(main())
