"""The tokens of a valid program with what the parser skips between them: comments, line ends and empty lines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from hwlang.parsing.lexer import tokens

TAB = 4  # columns of a tab where an indentation is measured

Place: TypeAlias = tuple[int, int]  # line and column, both counted from 1


@dataclass(frozen=True, slots=True)
class Comment:
    """`# ...`, without spaces at its end, its column, counted from 0, and how many spaces are before it.

    `blank`: an empty line is before it.
    """

    text: str
    column: int
    spaces: int
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A token, as it is spelt. The last one of a text is its end, which is empty.

    `own` are the comments between this token and the one before, each on a line of its own; `trailing` is the one that
    follows on the token's line. `newline` and `blank` tell of a line end and of an empty line before the token.
    `margin` is the indentation of the line on which a token of several lines begins, in columns.
    """

    text: str
    place: Place
    own: tuple[Comment, ...] = ()
    trailing: Comment | None = None
    newline: bool = False
    blank: bool = False
    margin: int = 0

    @property
    def comments(self) -> tuple[Comment, ...]:
        """All of this token's comments; those before it come first."""
        return (*self.own, self.trailing) if self.trailing else self.own

    @property
    def several_lines(self) -> bool:
        return "\n" in self.text


@dataclass(frozen=True, slots=True)
class Gap:
    """What is between two tokens. `rest` is the comment on the line of the first."""

    rest: Comment | None
    own: tuple[Comment, ...]
    newline: bool
    blank: bool


def pieces_of(text: str) -> list[Piece]:
    """The tokens of a text that parses, with an empty one at the end."""
    found = tokens(text)
    # The end is where the text ends, behind the last comment; Lark's end token is at the last token's end.
    bounds = [0, *(at for token in found[:-1] for at in (token.start_pos or 0, token.end_pos or 0)), len(text)]
    columns = [0, *((token.end_column or 1) - 1 for token in found[:-1])]
    gaps = [gap(text[start:end], column) for (start, end), column in zip(in_pairs(bounds), columns, strict=True)]
    if gaps[0].rest:  # nothing is before the first comment of a file: it has its line to itself
        gaps[0] = replace(gaps[0], rest=None, own=(gaps[0].rest, *gaps[0].own))
    after = [*(each.rest for each in gaps[1:]), None]
    return [
        Piece(
            # Line ends of Windows are line ends in a text block as well.
            str(token).replace("\r\n", "\n"),
            (token.line or 1, token.column or 1),
            before.own,
            trailing,
            before.newline,
            before.blank,
            indentation(text[text.rfind("\n", 0, token.start_pos) + 1 :]) if "\n" in token else 0,
        )
        for token, before, trailing in zip(found, gaps, after, strict=True)
    ]


def in_pairs(bounds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The starts and ends of the gaps: (0, start of the first token), (its end, start of the second), ..."""
    return ((start, end) for index, (start, end) in enumerate(pairwise(bounds)) if index % 2 == 0)


def gap(text: str, column: int) -> Gap:
    """What spaces and comments between two tokens say. `column` is where the text begins, counted from 0."""
    rest: Comment | None = None
    own: list[Comment] = []
    blank = False
    lines = text.split("\n")
    for number, line in enumerate(lines):
        start = line.find("#")
        if start < 0:
            blank = blank or 0 < number < len(lines) - 1
        elif number == 0:
            rest = Comment(line[start:].rstrip(), column + start, start)
        else:
            own.append(Comment(line[start:].rstrip(), start, start, blank))
            blank = False
    return Gap(rest, tuple(own), len(lines) > 1, blank)


def indentation(line: str) -> int:
    """The columns of the spaces and tabs that a line begins with."""
    width = 0
    for char in line:
        if char not in " \t":
            break
        width += 1 if char == " " else TAB - width % TAB
    return width
