"""Programs in notebooks: `%load_ext hwlang.jupyter`, then cells that begin with `%%hw`.

    %%hw -p question="47+38" --budget 200 state
    program add(question: str) { ... }

The cell is checked, its problems are shown; it is run on an engine that is kept for the session, while a column for
each worker grows below it. The state goes to the variable that is named, else it is the value of the cell (and `_`).
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.display import display

from hwlang import api
from hwlang.cli.errors import Usage, as_diagnostic
from hwlang.cli.inputs import positive, read_params
from hwlang.diagnostics import CompileError, Diagnostic
from hwlang.jupyter.panes import Panes, problems, summary, summary_html

if TYPE_CHECKING:
    from hwlang.python.runs import Run, State

FRAME = 0.1  # seconds between two pictures


class Arguments(argparse.ArgumentParser):
    """Tells of mistakes as IPython does, and never ends the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%%hw: {message}\n{self.format_usage().strip()}")


def arguments() -> Arguments:
    parser = Arguments(prog="%%hw", add_help=False)
    parser.add_argument("variable", nargs="?", metavar="VAR", help="what to call the state")
    parser.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--program", metavar="NAME", help="which, where the cell has several")
    parser.add_argument("--model", help="a folder, a hub name, or `tiny` (default: the program's `model`, else tiny)")
    parser.add_argument("--workers", type=int, metavar="N")
    parser.add_argument("--budget", type=positive, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N")
    return parser


@magics_class
class HwMagics(Magics):
    """`%%hw`. The engine of the last model is kept."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._session = shell
        self._engine: tuple[str, api.Engine] | None = None

    @cell_magic
    def hw(self, line: str, cell: str) -> State | None:
        """Check and run a program."""
        options = read_line(line)
        program = self._checked(cell, options.program)
        state = self._run(program, options)
        if options.variable is None:
            return state
        self._session.push({options.variable: state})
        return None

    def _checked(self, cell: str, name: str | None) -> api.Program:
        """The cell's program. Its problems are shown; with an error among them the cell has failed."""
        try:
            program = api.parse(cell, name, folder=Path.cwd())
        except CompileError as error:
            failed(error.diagnostics)
        if program.warnings:
            display(problems(program.warnings))
        return program

    def _run(self, program: api.Program, options: argparse.Namespace) -> State:
        from hwruntime.errors import HwError

        try:
            given = read_params(options.params, program)
            engine = self._engine_for(options.model or program.compiled.model or "tiny")
            run = engine.stream(program, given, seed=options.seed, budget=options.budget, workers=options.workers)
            return watched(run, live=can_update(self._session))
        except HwError as error:
            failed([as_diagnostic(error, program)])
        except Usage as error:
            raise UsageError(f"%%hw: {error}") from None

    def _engine_for(self, model: str) -> api.Engine:
        if self._engine is None or self._engine[0] != model:
            self._engine = None  # its memory is free before the next model is loaded
            self._engine = model, api.Engine(model)
        return self._engine[1]


def read_line(line: str) -> argparse.Namespace:
    """The options of a cell. Raises `UsageError`."""
    try:
        options = arguments().parse_args(shlex.split(line))
    except ValueError as error:  # quotes that are not closed
        raise UsageError(f"%%hw: {str(error).lower()}") from None
    if options.variable is not None and not options.variable.isidentifier():
        raise UsageError(f"%%hw: `{options.variable}` is not the name of a variable")
    return options


def watched(run: Run, live: bool) -> State:
    """Run to the end, in sight: the panes are drawn again and again, or once where a terminal shows them."""
    panes = Panes()
    with run:
        handle = display(panes.shown(live=True), display_id=True) if live else None
        drawn = time.monotonic()
        try:
            for event in run:
                panes.add(event)
                if handle and time.monotonic() - drawn >= FRAME:
                    handle.update(panes.shown(live=True))
                    drawn = time.monotonic()
        finally:
            whole = panes.shown(live=False)
            if handle:
                handle.update(whole)
            else:
                display(whole)
        return run.state


def failed(diagnostics: Sequence[Diagnostic]) -> NoReturn:
    """Show what is wrong, and end the cell without a traceback."""
    display(problems(diagnostics))
    first = next(each for each in diagnostics if each.severity == "error")
    raise UsageError(f"{first.code}: {first.message}")


def can_update(shell: InteractiveShell) -> bool:
    """Whether what is displayed can be changed: in a notebook, but not in a terminal."""
    return getattr(shell, "kernel", None) is not None


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext hwlang.jupyter` calls."""
    from hwlang.python.runs import State

    shell.register_magics(HwMagics(shell))
    if shell.display_formatter:
        formatters = shell.display_formatter.formatters
        formatters["text/html"].for_type(State, summary_html)
        formatters["text/plain"].for_type(State, lambda state, printer, cycle: printer.text(summary(state)))
