"""Source lines with marks under exactly what is meant, as a terminal shows them."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hwlang.diagnostics.source import Span

WINDOW = 100  # columns of a source line that are shown at most
BEFORE_SPAN = 40  # columns shown before the span when a line is cut
TAB = 4
MOST_LINES = 4  # of one span that are shown


@dataclass(frozen=True)
class Mark:
    """A span to underline, and what is said beside the marks. The main one has carets."""

    span: Span
    text: str = ""
    main: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a snippet: a line of the source or the marks under one. `number` is the line's, 0 without one."""

    number: int
    text: str
    main: bool = False
    gap: bool = False  # lines are left out here


def rows(marks: Sequence[Mark]) -> list[Row]:
    """The lines of one file that are marked, in order, each with its marks below it."""
    under: dict[int, list[tuple[Mark, Span]]] = {}
    for mark in marks:
        for piece in pieces(mark.span):
            under.setdefault(piece.line, []).append((mark, piece))
    made: list[Row] = []
    last = 0
    for number in sorted(under):
        if last and number > last + 1:
            made.append(Row(0, "...", gap=True))
        made += line_rows(number, under[number])
        last = number
    return made


def line_rows(number: int, marked: Sequence[tuple[Mark, Span]]) -> Iterator[Row]:
    """A line and the marks below it, those of the main span first."""
    ordered = sorted(marked, key=lambda pair: (not pair[0].main, pair[1].column))
    shown_line, underline = cut(ordered[0][1])
    yield Row(number, shown_line)
    for mark, piece in ordered:
        marks = underline(piece, "^" if mark.main else "-")
        ends = piece.end == mark.span.end or piece.end_line == mark.span.end_line
        if marks:
            yield Row(0, f"{marks} {mark.text}".rstrip() if ends else marks, mark.main)


def pieces(span: Span) -> list[Span]:
    """A span line by line, without the spaces around it; of a long one the first lines and the last."""
    if span.line == span.end_line:
        return [span]
    numbers: Iterable[int] = range(span.line, span.end_line + 1)
    if len(range(span.line, span.end_line + 1)) > MOST_LINES:
        numbers = [*range(span.line, span.line + MOST_LINES - 1), span.end_line]
    made = []
    for number in numbers:
        line = span.source.line(number)
        first = span.column if number == span.line else len(line) - len(line.lstrip()) + 1
        last = span.end_column if number == span.end_line else len(line.rstrip()) + 1
        if first < last or number == span.line:
            made.append(Span(number, first, number, max(last, first + 1), span.source))
    return made


# --- One line --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Underline:
    """Draws marks under a line of which the characters from `first` to `last` are shown."""

    line: str
    first: int
    last: int

    def __call__(self, span: Span, mark: str) -> str:
        """The marks under a span; empty where none of it is shown."""
        start, end = min(span.column - 1, len(self.line)), span.end_column - 1
        if start > self.last or end < self.first:
            return ""
        start = max(start, self.first)
        indent = (1 if self.first else 0) + columns(map(shown, self.line[self.first : start]))
        return " " * indent + mark * max(1, columns(map(shown, self.line[start : min(end, self.last)])))


def cut(span: Span) -> tuple[str, Underline]:
    """The line of a span as it is shown, and what draws marks below it."""
    line = span.source.line(span.line)
    first, last = window(line, min(span.column - 1, len(line)))
    text = "".join(map(shown, line[first:last]))
    return ("…" if first else "") + text + ("…" if last < len(line) else ""), Underline(line, first, last)


def window(line: str, start: int) -> tuple[int, int]:
    """Which characters of a line to show: all of a short one, else about `WINDOW` columns around `start`."""
    if len(line) <= WINDOW and columns(map(shown, line)) <= WINDOW:
        return 0, len(line)
    first, width = start, 0
    while first > 0 and (width := width + columns([shown(line[first - 1])])) <= BEFORE_SPAN:
        first -= 1
    last, width = first, 0
    while last < len(line) and (width := width + columns([shown(line[last])])) <= WINDOW:
        last += 1
    return first, max(last, min(start + 1, len(line)))


def shown(char: str) -> str:
    """A character as a terminal can show it: no control, format or surrogate characters, tabs as spaces."""
    if char == "\t":
        return " " * TAB
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char


def columns(cells: Iterable[str]) -> int:
    """How many columns of a terminal this text takes: East Asian wide characters take two, combining marks none."""
    return sum(_width(char) for cell in cells for char in cell)


def _width(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
