"""How a command ends: exit codes, command lines that cannot be carried out, errors of the runtime as diagnostics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hwlang.diagnostics import Diagnostic, Span

if TYPE_CHECKING:
    from hwlang.api import Program
    from hwruntime.errors import HwError

OK, FAILED, BAD, INTERRUPTED = 0, 1, 2, 130


class Usage(Exception):
    """A command line that cannot be carried out; the message says why."""


def as_diagnostic(error: HwError, program: Program) -> Diagnostic:
    """A runtime error as the language shows its own."""
    at = error.span
    span = (
        Span(at.line, at.column, at.end_line, at.end_column, program.source) if at else Span(0, 0, 0, 0, program.source)
    )
    return Diagnostic(error.code, error.message, span, error.help)


def told(error: HwError) -> int:
    """Say what went wrong where no program's text has to do with it; the exit code."""
    print(f"error[{error.code}]: {error.message}", file=sys.stderr)
    if error.help:
        print(f"help: {error.help}", file=sys.stderr)
    return exit_code(error)


def exit_code(error: HwError) -> int:
    from hwruntime.errors import DeviceError, InputError

    return BAD if isinstance(error, InputError | DeviceError) else FAILED
