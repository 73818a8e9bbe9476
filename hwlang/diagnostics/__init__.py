"""What the language says about a program: diagnostics, the error that carries them, and their plain-text rendering.

    error[HW201]: the last entry of a view is the block that its worker writes, `self`
      --> math.hw:4:20
       |
     4 |   sees user "Go.", self, history
       |                    ^^^^
       = help: move `self` to the end

`codes.MESSAGES` has every code with an example that fails with it, `explanations` what `hw explain CODE` says of it.

source         where text comes from, and places in it
snippets       source lines with marks under them       suggestions    did you mean ...?
codes          the table of codes                       sarif          diagnostics as SARIF
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from hwlang.diagnostics.snippets import Mark, Row, rows, shown
from hwlang.diagnostics.source import NOWHERE as NOWHERE
from hwlang.diagnostics.source import Source as Source
from hwlang.diagnostics.source import Span as Span
from hwlang.diagnostics.suggestions import closest

Severity = Literal["error", "warning"]

GUESSES = 20  # "did you mean" is looked for in the first so many problems


@dataclass(frozen=True)
class Label:
    """A second place that a diagnostic points at, and what is there."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One problem: what is wrong, where, and (in `help`) what to do about it."""

    code: str
    message: str
    span: Span = NOWHERE
    help: str | None = None
    severity: Severity = "error"
    labels: tuple[Label, ...] = ()

    @property
    def file(self) -> str:
        return self.span.source.file

    def to_json(self) -> dict[str, str | int | None]:
        """The form of `hw check --json`; lines and columns count from 1."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.file,
            "line": max(1, self.span.line),
            "column": max(1, self.span.column),
            "end_line": max(1, self.span.end_line),
            "end_column": max(1, self.span.end_column),
            "help": self.help,
        }

    def render(self, colour: bool = False) -> str:
        """The diagnostic with its source lines and carets under the span; in `colour` for a terminal."""
        paint = PAINT[self.severity] if colour else PLAIN
        head = f"{paint.head}{self.severity}[{self.code}]{paint.bold}: {self.message}{paint.off}"
        files = self._marks()
        width = max(len(str(mark.span.end_line)) for marks in files.values() for mark in marks)
        gutter = " " * width
        lines = [head]
        for number, marks in enumerate(files.values()):
            span = marks[0].span
            place = f"{span.source.file}:{span.line}:{span.column}" if span else span.source.file
            lines.append(f"{gutter} {paint.dim}{'-->' if number == 0 else ':::'}{paint.off} {place}")
            if span:
                written = _highlighter(span.source.file) if colour else str
                lines.append(f"{gutter}  {paint.dim}|{paint.off}")
                lines += [paint.row(row, width, written) for row in rows(marks)]
        if self.help:
            lines.append(f"{gutter}{'  ' if self.span else ' '}{paint.dim}={paint.off} help: {self.help}")
        return "\n".join(lines)

    def _marks(self) -> dict[str, list[Mark]]:
        """What to show of each file, its own first."""
        files = {self.file: [Mark(self.span, main=True)]}
        for label in self.labels if self.span else ():
            files.setdefault(label.span.source.file, []).append(Mark(label.span, label.text))
        return files


@dataclass(frozen=True)
class Paint:
    """How a terminal is told of colours: the escape codes, all empty for plain text."""

    head: str = ""
    bold: str = ""
    dim: str = ""
    second: str = ""
    off: str = ""

    def row(self, row: Row, width: int, written: Callable[[str], str] = str) -> str:
        """A line of a snippet; `written` gives the source's own colours to what is of the source."""
        if row.gap:
            return f"{self.dim}...{self.off}"
        number = str(row.number) if row.number else ""
        text = written(row.text) if row.number else f"{self.head if row.main else self.second}{row.text}{self.off}"
        return f" {self.dim}{number:>{width}} |{self.off} {text}".rstrip()


PLAIN = Paint()
_COLOURS = Paint("\x1b[1;31m", "\x1b[39m", "\x1b[34m", "\x1b[36m", "\x1b[0m")
PAINT = {"error": _COLOURS, "warning": replace(_COLOURS, head="\x1b[1;33m")}


def _highlighter(file: str) -> Callable[[str], str]:
    """The colours of a program's source; a Python file's lines stay plain."""
    from hwlang.highlight import coloured  # for terminals alone: Pygments takes its time to load

    return coloured if file.endswith(".hw") else str


def summary(diagnostics: Sequence[Diagnostic]) -> str:
    """`2 errors, 1 warning in 1 file`"""
    errors = sum(d.severity == "error" for d in diagnostics)
    counts = [(errors, "error"), (len(diagnostics) - errors, "warning")]
    files = len({d.file for d in diagnostics})
    told = ", ".join(plural(count, what) for count, what in counts if count)
    return f"{told} in {plural(files, 'file')}"


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


class CompileError(Exception):
    """A program that is not valid. `diagnostics` says what is wrong with it, in the order of the source."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n\n".join(d.render() for d in self.diagnostics)


class Report:
    """The problems found so far."""

    def __init__(self, problems: Iterable[Diagnostic] = ()) -> None:
        self.problems = list(problems)
        self._guesses = 0

    def error(self, code: str, span: Span, message: str, help: str | None = None, labels: Iterable[Label] = ()) -> None:
        self.problems.append(Diagnostic(code, message, span, help, labels=tuple(labels)))

    def warning(self, code: str, span: Span, message: str, help: str | None = None) -> None:
        self.problems.append(Diagnostic(code, message, span, help, "warning"))

    def suggestion(self, name: str, candidates: Iterable[str]) -> str | None:
        """A help for a name that is not known. Only for the first problems: the search takes time."""
        if self._guesses >= GUESSES:
            return None
        self._guesses += 1
        close = closest(name, islice(candidates, 500))
        return f"did you mean `{close}`?" if close else None


def in_order(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorted by file (in the order of their first diagnostic) and position, one of a code at each place."""
    files = {file: i for i, file in enumerate(dict.fromkeys(d.file for d in diagnostics))}
    unique = {(d.file, d.code, d.span): d for d in reversed(diagnostics)}.values()
    return tuple(sorted(unique, key=lambda d: (files[d.file], d.span, d.code)))


def quoted(text: str, limit: int = 40) -> str:
    """A piece of source for a message: in backquotes, on one line, not longer than `limit`."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + "".join(map(shown, short.replace("\n", "\\n"))) + "`"
