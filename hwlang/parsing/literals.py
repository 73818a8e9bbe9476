"""What is written between quotes: escapes, holes, and the indentation of text blocks."""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

from lark import Token

from hwlang import syntax
from hwlang.diagnostics import Source, Span, quoted

Problem = Callable[[str, str, Span, str | None], None]  # code, message, span, help

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}

# A single brace before a hole is text: `\frac{{{a}}}{{{b}}}` has two holes.
_NAME = r" *(?:[A-Za-z_]\w*|[0-9]+) *"
_HOLE = rf"\{{\{{(?P<name>{_NAME})\}}\}}"
_BRACES = rf"(?P<braces>\{{\{{\{{\{{)|(?P<lone>\{{)(?=\{{\{{{_NAME}\}}\}})|{_HOLE}|(?P<open>\{{\{{)"
_ESCAPE = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|."
PIECE = re.compile(_BRACES)
PIECE_WITH_ESCAPES = re.compile(rf"{_BRACES}|\\(?P<escape>{_ESCAPE})")


class Line(NamedTuple):
    """A stretch of a string and the place in the source where it starts."""

    text: str
    line: int
    column: int


def string_lines(token: Token) -> list[Line]:
    return [Line(token[1:-1], cast(int, token.line), cast(int, token.column) + 1)]


def text_block_lines(token: Token) -> list[Line]:
    """The lines of a text block, line ends included.

    Where the quotes open with a line of their own, that line is dropped, the indentation that all other lines share is
    removed, and so is the indentation of the closing quotes. Otherwise the text is taken as it is.
    """
    first, *lines = token[3:-3].replace("\r\n", "\n").split("\n")
    line, column = cast(int, token.line), cast(int, token.column)
    if first.strip() or not lines:
        texts = [(first, column + 3), *((text, 1) for text in lines)]
    else:
        if not lines[-1].strip():
            lines[-1] = ""
        dedented = textwrap.dedent("\n".join(lines)).split("\n")
        texts = [(new, 1 + len(old) - len(new)) for old, new in zip(lines, dedented, strict=True)]
        line += 1
    ends = ["\n"] * (len(texts) - 1) + [""]
    return [Line(text + end, line + i, at) for i, ((text, at), end) in enumerate(zip(texts, ends, strict=True))]


def joined(parts: Sequence[str | syntax.Hole]) -> syntax.Parts:
    """The parts of a string, with neighbouring pieces of text made one."""
    made: list[str | syntax.Hole] = []
    text: list[str] = []
    for part in [*parts, None]:
        if isinstance(part, str):
            text.append(part)
            continue
        if any(text):
            made.append("".join(text))
        text = []
        if part is not None:
            made.append(part)
    return tuple(made)


# --- Pieces ----------------------------------------------------------------------------------------------------------


def parts_of_string(token: Token, source: Source, problem: Problem) -> syntax.Parts:
    """The parts of a string or a text block. `problem` is told of escapes and holes that are none."""
    block = token.type == "TEXT_BLOCK"
    if (not block and "\\" not in token and "{{" not in token) or len(token) == 2:
        return (token[1:-1],) if len(token) > 2 else ()
    lines = text_block_lines(token) if block else string_lines(token)
    if block and "{{" not in token:
        return joined([line.text for line in lines])
    reader = Pieces(source, PIECE if block else PIECE_WITH_ESCAPES, problem)
    return joined([piece for line in lines for piece in reader.of(line)])


class Pieces:
    """Reads the lines of one string."""

    def __init__(self, source: Source, pattern: re.Pattern[str], problem: Problem) -> None:
        self.source = source
        self.pattern = pattern
        self.problem = problem

    def of(self, line: Line) -> Iterator[str | syntax.Hole]:
        """The pieces of one line of a string: literal text and holes."""
        end = 0
        for found in self.pattern.finditer(line.text):
            yield line.text[end : found.start()]
            end = found.end()
            yield self._piece(found, line)
        yield line.text[end:]

    def _piece(self, found: re.Match[str], line: Line) -> str | syntax.Hole:
        escape = found.groupdict().get("escape")
        if escape in ESCAPES:
            return ESCAPES[escape]
        column = line.column + found.start()
        span = Span(line.line, column, line.line, column + len(found[0]), self.source)
        if found["name"]:
            return syntax.Hole(found["name"].strip(), span=span)
        if found["braces"] or found["lone"]:
            return found[0][:2]
        if found["open"]:
            help = "write `{{name}}` for a hole, `{{{{` for two braces"
            self.problem("HW006", "this `{{` does not open a hole", span, help)
            return ""
        return self._escape(found["escape"], span)

    def _escape(self, escape: str, span: Span) -> str:
        if len(escape) > 1:
            # As in JSON, a character beyond U+FFFF may be written as the two halves of its surrogate pair.
            units = [int(unit, 16) for unit in re.findall("u(....)", escape)]
            char = b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be", errors="ignore")
            if char:
                return char
            self.problem("HW005", f"{quoted(chr(92) + escape)} is half of a surrogate pair", span, None)
            return ""
        help = r"the escapes are \n \t \r \" \\ and \uXXXX; a backslash itself is written `\\`"
        self.problem("HW005", f"unknown escape {quoted(chr(92) + escape)}", span, help)
        return ""
