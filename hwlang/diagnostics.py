"""What the language says about a program: diagnostics, the error that carries them, and their plain-text rendering.

    error[HW201]: the last entry of a view is the block that its worker writes, `self`
      --> math.hw:4:20
       |
     4 |   sees user "Go.", self, history
       |                    ^^^^
       = help: move `self` to the end

`messages.MESSAGES` has every code with an example that fails with it.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]

WINDOW = 100  # columns of a source line that are shown at most
BEFORE_SPAN = 40  # columns shown before the span when a line is cut
TAB = 4
GUESSES = 20  # "did you mean" is looked for in the first so many problems


@dataclass(frozen=True)
class Source:
    """The text of one file. `file` is its name in messages, `path` where it is; `None` for a text that is no file."""

    file: str
    text: str = field(repr=False)
    path: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Where its `file "..."` and `import "..."` are looked for."""
        return self.path.parent if self.path else None

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def line(self, number: int) -> str:
        """Line `number`, counted from 1, without its line end; empty where there is none."""
        return self.lines[number - 1].rstrip("\r") if 0 < number <= len(self.lines) else ""


NO_SOURCE = Source("<program>", "")


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of source: 1-based lines and columns, the end column exclusive. Line 0 is "the file as a whole"."""

    line: int
    column: int
    end_line: int
    end_column: int
    source: Source = field(default=NO_SOURCE, compare=False, repr=False)

    def __bool__(self) -> bool:
        return self.line > 0


NOWHERE = Span(0, 0, 0, 0)


@dataclass(frozen=True)
class Diagnostic:
    """One problem: what is wrong, where, and (in `help`) what to do about it."""

    code: str
    message: str
    span: Span = NOWHERE
    help: str | None = None
    severity: Severity = "error"

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

    def render(self) -> str:
        """The diagnostic with its source line and carets under the span, as plain text."""
        head = f"{self.severity}[{self.code}]: {self.message}"
        if not self.span:
            return "\n".join([head, f"  --> {self.file}", *self._help_lines(" ")])
        gutter = " " * len(str(self.span.line))
        line, marks = excerpt(self.span)
        return "\n".join(
            [
                head,
                f"{gutter} --> {self.file}:{self.span.line}:{self.span.column}",
                f"{gutter}  |",
                f" {self.span.line} | {line}".rstrip(),
                f"{gutter}  | {marks}",
                *self._help_lines(f"{gutter} "),
            ]
        )

    def _help_lines(self, gutter: str) -> list[str]:
        return [f"{gutter} = help: {self.help}"] if self.help else []


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

    def error(self, code: str, span: Span, message: str, help: str | None = None) -> None:
        self.problems.append(Diagnostic(code, message, span, help))

    def warning(self, code: str, span: Span, message: str, help: str | None = None) -> None:
        self.problems.append(Diagnostic(code, message, span, help, "warning"))

    def suggestion(self, name: str, candidates: Iterable[str]) -> str | None:
        """A help for a name that is not known. Only for the first problems: the search takes time."""
        if len(self.problems) >= GUESSES:
            return None
        close = closest(name, islice(candidates, 500), 0.6)
        return f"did you mean `{close}`?" if close else None


def closest(word: str, candidates: Iterable[str], alike: float) -> str | None:
    """The candidate that is most like a word, if it is as much `alike` (0 to 1)."""
    import difflib  # only programs with errors need it

    return next(iter(difflib.get_close_matches(word[:40], list(candidates), 1, alike)), None)


def in_order(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorted by file (in the order of their first diagnostic) and position, each once."""
    files = {file: i for i, file in enumerate(dict.fromkeys(d.file for d in diagnostics))}
    unique = {(d.file, d): d for d in diagnostics}.values()
    return tuple(sorted(unique, key=lambda d: (files[d.file], d.span, d.code)))


def quoted(text: str, limit: int = 40) -> str:
    """A piece of source for a message: in backquotes, on one line, not longer than `limit`."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + "".join(map(shown, short.replace("\n", "\\n"))) + "`"


# --- Source lines ----------------------------------------------------------------------------------------------------


def excerpt(span: Span) -> tuple[str, str]:
    """The first line of a span as it is shown, and the carets below it."""
    line = span.source.line(span.line)
    start = min(span.column - 1, len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    first, last = window(line, start)
    cells = [shown(c) for c in line[first:last]]
    cut = (["…"] if first else []) + cells + (["…"] if last < len(line) else [])
    before = cut[: start - first + bool(first)]
    under = cells[start - first : max(end, start + 1) - first]
    return "".join(cut), " " * columns(before) + "^" * max(1, columns(under))


def window(line: str, start: int) -> tuple[int, int]:
    """Which characters of a line to show: all of a short one, else about `WINDOW` columns around `start`."""
    if len(line) <= WINDOW and columns(map(shown, line)) <= WINDOW:
        return 0, len(line)
    first = start
    while first > 0 and columns(map(shown, line[first - 1 : start])) <= BEFORE_SPAN:
        first -= 1
    last = start
    while last < len(line) and columns(map(shown, line[first : last + 1])) <= WINDOW:
        last += 1
    return first, last


def shown(char: str) -> str:
    """A character as a terminal can show it: no control, format or surrogate characters, tabs as spaces."""
    if char == "\t":
        return " " * TAB
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char


def columns(cells: "Sequence[str] | map[str]") -> int:
    """How many columns of a terminal this text takes: East Asian wide characters take two, combining marks none."""
    return sum(_width(char) for cell in cells for char in cell)


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
