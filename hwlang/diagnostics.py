"""What the language says about a program: diagnostics, the error that carries them, and their plain-text rendering.

    error[HW201]: the last entry of a view is the block that its worker writes, `self`
      --> math.hw:4:20
       |
     4 |   sees user "Go.", self, history
       |                    ^^^^
       = help: move `self` to the end

Codes: HW0xx syntax, HW1xx names, HW2xx views and blocks, HW3xx triggers and actions, HW4xx files and values. The
runtime has HW5xx. `MESSAGES`, at the end, has every code with an example that fails with it.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]

WINDOW = 100  # columns of a source line that are shown at most
BEFORE_SPAN = 40  # columns shown before the span when a line is cut
TAB = 4


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


# --- The codes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """What a code stands for, and a program that fails with it. `files` lie beside that program."""

    title: str
    example: str
    encoding: str = "utf-8"
    files: Mapping[str, bytes] = field(default_factory=dict)


def _in_program(declarations: str, worker: str = 'sees user "Go.", self') -> str:
    return f"program example {{\n  {declarations}\n  worker Ann {{ {worker} }}\n}}\n"


def _in_worker(clauses: str) -> str:
    return f'program example {{\n  worker Ann {{\n    sees user "Go.", self\n    {clauses}\n  }}\n}}\n'


MESSAGES: Mapping[str, Message] = {
    # Syntax
    "HW001": Message("This does not fit the grammar", "program example {\n  wroker Ann { sees self }\n}\n"),
    "HW002": Message("A character that has no meaning here", _in_worker("begin “Hi”")),
    "HW003": Message("A string or a regex is not closed", _in_worker('begin "Hi')),
    "HW004": Message("A brace is never closed", 'program example {\n  worker Ann {\n    sees user "Go.", self\n}\n'),
    "HW005": Message("An unknown escape in a string", _in_worker(r'begin "C:\data"')),
    "HW006": Message("Two braces that do not open a hole", _in_worker('begin "{{ }}"')),
    "HW007": Message("A number that cannot be read, or is not whole", _in_worker("max 2.5 tokens")),
    "HW008": Message(
        "Nested too deep, or too large when roles and texts are written out",
        _in_worker("on start { " + 'ask "?" { "a" {} "b" { ' * 17 + "}} " * 17 + "}"),
    ),
    "HW009": Message("The file is not UTF-8", _in_worker('begin "café"'), encoding="latin-1"),
    "HW010": Message("A language version that is not known, or not at the top", "hw 7\n" + _in_worker("max 9 tokens")),
    # Names
    "HW101": Message("A name that is not declared", _in_program("scratchpad history", 'sees "Go.", histroy, self')),
    "HW102": Message("A name that is taken already", _in_program('stream board\n  scratchpad board = "Hi"')),
    "HW103": Message("Given twice, where once is all there can be", _in_program("budget 10 passes budget 20 passes")),
    "HW104": Message("A word of the language as a name", _in_program('scratchpad step = "Hi"')),
    "HW105": Message("Declared and never used (warning)", _in_program('text rules = "Be brief."')),
    "HW106": Message(
        "A name of the wrong kind", _in_program("stream chat", 'sees "Go.", chat, self on chat { pause chat }')
    ),
    "HW107": Message(
        "A hole that nothing fills", 'program example(topic: str) {\n  worker Ann { sees "{{topik}}", self }\n}\n'
    ),
    "HW108": Message(
        "A text that contains itself", _in_program('text a = "{{b}}" text b = "{{a}}"', 'sees "{{a}}", self')
    ),
    # Views and blocks
    "HW201": Message("The last entry of a view is `self`, and only the last", _in_program("", 'sees self, user "Go."')),
    "HW202": Message("Two workers write one block", _in_program('worker Ann { sees user "Wait.", self }')),
    "HW203": Message(
        "A private scratchpad is used elsewhere",
        "program example {\n"
        '  worker Ann { scratchpad notes = "Hi" sees user "Go.", notes, self }\n'
        '  worker Ben { sees user "Go.", notes, self }\n'
        "}\n",
    ),
    "HW204": Message("A scratchpad that nobody writes", _in_program("scratchpad board", 'sees "Go.", board, self')),
    "HW205": Message("A worker without a view", _in_program("", "max 9 tokens")),
    "HW206": Message("A layout that does not fit", _in_program("", 'sees user "Go." layout combined')),
    "HW207": Message("A block is in a view twice", _in_program('scratchpad b = "Hi"', "sees b, b, self")),
    "HW208": Message(
        "A number of workers that cannot be", 'program example {\n  workers 0 of Ann { sees "Go.", self }\n}\n'
    ),
    # Triggers and actions
    "HW301": Message("A trigger that never happens", _in_worker('on step { say "Well done." }')),
    "HW302": Message("A paused worker that nothing resumes", _in_worker("paused")),
    "HW303": Message("An `ask` with nothing to choose", _in_worker('on start { ask "Ready? " { "yes" {} } }')),
    "HW304": Message("A choice is given twice", _in_worker('on start { ask "Ready? " { "yes" {} "yes" { stop } } }')),
    "HW305": Message("An action after the end of the run (warning)", _in_worker('on "DONE" { stop say "Bye." }')),
    "HW306": Message("A rule that does nothing (warning)", _in_worker('on "DONE" { }')),
    "HW307": Message("A regex group that is not there", _in_worker('on /^ASK/ { say "{{1}}?" }')),
    "HW308": Message("A trigger that the empty text fires (warning)", _in_worker('on /a*/ { say "!" }')),
    # Files and values
    "HW401": Message(
        "A file that is missing or cannot be read", _in_program('text a = file "no-such-file.md"', "sees a, self")
    ),
    "HW402": Message(
        "A file outside of the program's folder", _in_program('text a = file "../rules.md"', "sees a, self")
    ),
    "HW403": Message(
        "A file that is too large or not UTF-8",
        _in_program('text rules = file "rules.md"', "sees rules, self"),
        files={"rules.md": b"caf\xe9"},
    ),
    "HW404": Message("A JSON schema that is none", _in_worker('json "schema.json"'), files={"schema.json": b"{,}"}),
    "HW405": Message(
        "Files that import each other in a circle",
        'import "roles.hw"\n' + _in_worker("max 9 tokens"),
        files={"roles.hw": b'import "more.hw"', "more.hw": b'import "roles.hw"'},
    ),
    "HW406": Message("A number that makes no sense here", _in_program("sampling { temperature -1 }")),
    "HW407": Message(
        "A default of the wrong type", 'program example(n: int = "two") {\n  worker Ann { sees n, self }\n}\n'
    ),
    "HW408": Message("A regex that cannot be read", _in_program("answer /(unclosed/")),
    "HW409": Message("An empty text where there must be one", _in_worker('stop at ""')),
}
