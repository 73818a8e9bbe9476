"""The one style of `.hw` files: source text -> formatted text. Only spaces, line ends and empty lines are changed.

- Every item of a body is on a line of its own, two columns further in. A body that its author wrote on one line stays
  on one line where it fits in `WIDTH` columns; so do the choices of an `ask`, with two spaces between them.
- A line may end behind the commas (and the `or`) of a list and before `until`, `before` and `else`: where the author
  has ended it, and where it would be too long otherwise. It goes on below the first entry.
- One empty line stays one, several become one, and there is one around every role and program of a file.
- A comment stays before what it was before, or behind what it was behind: two spaces after it, or in the column in
  which its author has lined it up with the next ones. Likewise the `is` of workers on neighbouring lines.
- Strings, regexes and numbers stay as they are spelt. The lines of a text block move with the line on which it opens
  where that does not change its value.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hwlang import syntax
from hwlang.diagnostics import CompileError, Source
from hwlang.formatting.columns import WIDTH, Line, rendered
from hwlang.formatting.marks import Mark, marks_of
from hwlang.formatting.trivia import Comment, Piece, indentation, pieces_of
from hwlang.parser import MAX_SIZE, read, too_large

INDENT = 2


class Unfaithful(Exception):
    """The formatted text is another program than the source: a bug of the formatter."""


def formatted(source: Source) -> str:
    """The text of a program in the one style. Raises `CompileError` where it does not parse, `Unfaithful` on a bug."""
    tree, pieces = tree_of(source), pieces_of(source.text)
    text = "".join(line + "\n" for line in rendered(Layout(pieces, marks_of(tree, pieces)).lines()))
    new = replace(source, text=text)
    if len(text.encode()) > MAX_SIZE:  # spaces can make it so: then it could not be read again
        raise CompileError([too_large(new)])
    if text != source.text:
        verify(tree, pieces, new)
    return text


def tree_of(source: Source) -> syntax.File:
    tree, problems = read(source)
    if problems:
        raise CompileError(problems)
    return tree


def verify(tree: syntax.File, pieces: Sequence[Piece], new: Source) -> None:
    """Raises `Unfaithful` unless the new text has this tree, these tokens and these comments."""
    try:
        same = tree_of(new) == tree and contents(pieces_of(new.text)) == contents(pieces)
    except CompileError as error:
        raise Unfaithful(f"the formatted text does not parse: {error.diagnostics[0].message}") from error
    if not same:
        raise Unfaithful("the formatted text is another program")


def contents(pieces: Sequence[Piece]) -> list[str]:
    """Tokens and comments in order. A text block is told by its lines without their indentation: it may be moved."""
    return [
        text
        for piece in pieces
        for text in (
            *(comment.text for comment in piece.own),
            "\n".join(map(str.strip, piece.text.split("\n"))),
            *([piece.trailing.text] if piece.trailing else []),
        )
    ]


# --- Layout ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Body:
    """A pair of braces that is being written, or the file. `indent` is that of its items."""

    indent: int
    flat: bool = False  # all on one line
    joined: bool = False  # the choices of an `ask` share a line


class Layout:
    """Puts tokens on lines, in one go from the first to the last."""

    def __init__(self, pieces: Sequence[Piece], marks: Sequence[Mark]) -> None:
        self._pieces, self._marks = pieces, marks
        self._closing = matching(pieces)
        # Where each token would end if all were on one line, and how many line ends and text blocks there are before.
        self._ends = list(accumulate(len(self._space(i)) + len(piece.text) for i, piece in enumerate(pieces)))
        self._breaks = [0, *accumulate(int(piece.newline) for piece in pieces)]
        self._blocks = [0, *accumulate(int(piece.several_lines) for piece in pieces)]
        self._lines: list[Line] = []
        self._line = Line("")
        self._bodies = [Body(0)]
        self._empty = True  # nothing is in the innermost body yet
        self._item_line = 0  # which line the item begins on
        self._item_hang = 0  # the column in which the lines go on that an item takes more than one of
        self._hang = 0  # the same for the list that is being written
        self._parameter_lines = False  # the parameters have lines of their own between the parentheses

    def lines(self) -> list[Line]:
        for index in range(len(self._pieces)):
            self._put(index)
        return self._lines

    # Tokens

    def _put(self, index: int) -> None:
        piece, mark, body = self._pieces[index], self._marks[index], self._bodies[-1]
        if body.flat or (body.joined and mark is Mark.CHOICE and self._pieces[index - 1].text != "{"):
            self._write(index, self._space(index))
        elif mark in (Mark.ITEM, Mark.SPACED, Mark.CHOICE, Mark.END) or piece.text == "}":
            self._start_item(index)
        elif self._must_break(index):
            column = self._column(index)
            self._break(self._hang if piece.text == ")" else column, piece.own)
            self._start(column)
            self._write(index)
        else:
            self._write(index, self._space(index))
        if piece.text == "{":
            self._open(index)
        elif piece.text == "}":
            self._bodies.pop()
            self._empty = False

    def _start_item(self, index: int) -> None:
        """A token on a new line of the body: an item, or what ends the body."""
        piece, mark, indent = self._pieces[index], self._marks[index], self._bodies[-1].indent
        ends = mark is Mark.END or piece.text == "}"
        blanks = [comment.blank for comment in piece.own] + [piece.blank and not ends]
        blanks[0] = not self._empty and (blanks[0] or (mark is Mark.SPACED and not any(blanks)))
        self._break(indent, piece.own, blanks)
        self._blank(blanks[-1])
        if mark is Mark.END:
            return
        self._empty = False
        self._item_line = len(self._lines)
        self._item_hang = self._hang = indent + (len(piece.text) + 1 if piece.text.isidentifier() else INDENT)
        self._start(indent - INDENT if piece.text == "}" else indent)
        self._write(index)

    def _open(self, index: int) -> None:
        """Enter a body; whether it stays on one line is settled here."""
        end, outer = self._closing[index], self._bodies[-1]
        empty = end == index + 1 and not (self._pieces[index].trailing or self._pieces[end].own)
        flat = outer.flat or empty or self._fits(index, end, self._line.width - 1)
        indent = outer.indent + INDENT
        choices = end > index + 1 and self._marks[index + 1] is Mark.CHOICE
        self._bodies.append(Body(indent, flat, choices and self._fits(index + 1, end - 1, indent)))
        self._empty = True

    def _must_break(self, index: int) -> bool:
        """Whether a token within an item begins a new line."""
        piece, mark, before = self._pieces[index], self._marks[index], self._pieces[index - 1]
        if before.trailing or piece.own or (piece.text == ")" and self._parameter_lines):
            return True
        if mark is Mark.FIRST:
            return piece.newline and before.text == "("
        return mark in (Mark.ENTRY, Mark.PART) and (piece.newline or not self._chunk_fits(index))

    def _column(self, index: int) -> int:
        """Where a token goes that begins a new line within an item."""
        indent = self._bodies[-1].indent
        if self._pieces[index].text == ")":
            return indent
        if self._marks[index] is Mark.FIRST and self._pieces[index - 1].text == "(":
            return indent + INDENT
        return self._hang if self._marks[index] is Mark.ENTRY else self._item_hang

    # What fits

    def _fits(self, first: int, last: int, column: int) -> bool:
        """Whether the author has these tokens on one line, and they fit in one that begins in this column."""
        breaks = self._breaks[last + 1] - self._breaks[first + 1]
        blocks = self._blocks[last + 1] - self._blocks[first]
        start = self._ends[first] - len(self._pieces[first].text)
        return not breaks and not blocks and column + self._ends[last] - start <= WIDTH

    def _chunk_fits(self, index: int) -> bool:
        """Whether a token fits on the line with those after it, up to the next place where the line ends or may end."""
        end, room = index, WIDTH - self._line.width + self._ends[index - 1]
        while not self._may_end(end, index) and self._ends[end] <= room:
            end += 1
        rest = self._pieces[end].text
        return self._ends[end] - len(rest) + len(rest.partition("\n")[0]) <= room

    def _may_end(self, index: int, start: int) -> bool:
        """Whether the line may end behind a token. A list goes below `until` as a whole where it can."""
        piece, after, mark = self._pieces[index], self._pieces[index + 1], self._marks[index + 1]
        if piece.several_lines or piece.trailing or piece.text == "{" or after.text == "}":
            return True
        if mark is Mark.ENTRY and self._marks[start] is Mark.PART:
            return after.newline
        return mark not in (Mark.PLAIN, Mark.FIRST, Mark.IS)

    def _space(self, index: int) -> str:
        """What is between a token and the one before it on its line."""
        text, before = self._pieces[index].text, self._pieces[index - 1].text if index else "("
        if text in (",", ":", "(", ")") or before == "(" or (before == "{" and text == "}"):
            return ""
        return "  " if self._marks[index] is Mark.CHOICE and before == "}" else " "

    # Lines

    def _write(self, index: int, space: str = "") -> None:
        """Put a token at the end of the line."""
        piece, mark, line = self._pieces[index], self._marks[index], self._line
        start = line.width + len(space)
        if mark is Mark.FIRST:
            self._hang = start
            self._parameter_lines = self._pieces[index - 1].text == "(" and piece.newline
        elif piece.text == ")":
            self._parameter_lines = False
        is_at = line.is_at
        if mark is Mark.IS and len(self._lines) == self._item_line and not self._bodies[-1].flat:
            is_at = (start, piece.place[1] - 1)
        text = moved(piece.text, indentation(line.code) - piece.margin) if piece.several_lines else piece.text
        *whole, last = (line.code + space + text).split("\n")
        self._lines += map(Line, whole)
        self._line = Line(last, piece.trailing, None if whole else is_at)

    def _start(self, column: int) -> None:
        self._line = Line(" " * column)

    def _break(self, column: int, comments: Sequence[Comment], blanks: Sequence[bool] = ()) -> None:
        """End the line, and put comments on lines of their own."""
        if self._line.code:
            self._lines.append(self._line)
            self._line = Line("")
        for number, comment in enumerate(comments):
            self._blank(number < len(blanks) and blanks[number])
            self._lines.append(Line(" " * column + comment.text))

    def _blank(self, wanted: bool) -> None:
        if wanted:
            self._lines.append(Line(""))


def matching(pieces: Sequence[Piece]) -> dict[int, int]:
    """For each opening brace the one that closes it."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for index, piece in enumerate(pieces):
        if piece.text == "{":
            opened.append(index)
        elif piece.text == "}":
            found[opened.pop()] = index
    return found


def moved(block: str, by: int) -> str:
    """A text block whose lines go `by` columns to the right. Its value stays: the parser takes their indentation away.

    Where it does not (text follows the opening quotes), the block stays as it is.
    """
    first, *lines = block[3:-3].split("\n")
    closing = indentation(lines[-1]) if not lines[-1].strip() else None
    kept = lines if closing is None else [*lines[:-1], ""]
    new = textwrap.dedent("\n".join(kept)).split("\n")
    margin = next((old[: len(old) - len(line)] for old, line in zip(kept, new, strict=True) if line), None)
    if not by or first.strip() or margin is None:
        return block
    indent = " " * max(0, indentation(margin) + by)
    new = [indent + line if line else "" for line in new]
    if closing is not None:
        new[-1] = " " * max(0, closing + by)
    return "\n".join([block[:3] + first, *new]) + block[-3:]
