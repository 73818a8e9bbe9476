"""Formatted lines as text: comments, and the `is` of workers, are put side by side where the author had them so."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from hwlang.formatting.trivia import Comment

WIDTH = 120  # columns of a line, its trailing comment not counted
GAP = 2  # spaces between code and a trailing comment


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the new text. `is_at` is the column of a worker's `is`: here, and in the source, counted from 0."""

    code: str
    comment: Comment | None = None
    is_at: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        return len(self.code)


def rendered(lines: Sequence[Line]) -> Iterator[str]:
    """The lines as text, with `is` and the comments lined up."""
    lines = with_is_lined_up(lines)
    columns = iter(comment_columns([line for line in lines if line.comment]))
    for line in lines:
        if line.comment:
            yield line.code + " " * (next(columns) - line.width) + line.comment.text
        else:
            yield line.code


def with_is_lined_up(lines: Sequence[Line]) -> list[Line]:
    """On neighbouring lines that had `is` in one column, it is in one column again."""
    made: list[Line] = []
    for column, run in runs(lines, lambda line: line.is_at[1] if line.is_at else None):
        wanted = max((line.is_at[0] for line in run if line.is_at), default=0)
        new = [padded(line, wanted) for line in run] if column is not None else run
        too_long = any(line is not old and line.width > WIDTH for line, old in zip(new, run, strict=True))
        made += run if too_long else new
    return made


def padded(line: Line, column: int) -> Line:
    """A line with its `is` moved to the right."""
    if line.is_at is None or line.is_at[0] == column:
        return line
    start = line.is_at[0]
    return replace(line, code=line.code[:start] + " " * (column - start) + line.code[start:])


def comment_columns(lines: Sequence[Line]) -> list[int]:
    """Where the trailing comments of these lines begin: side by side if they were, else two spaces behind the code."""
    columns: list[int] = []
    for column, run in runs(lines, lambda line: line.comment.column if line.comment else None):
        spaces = {line.comment.spaces for line in run if line.comment}
        if len(run) > 1 and (len(spaces) > 1 or min(spaces) > GAP):  # on purpose: it took spaces to get them there
            widest = max(line.width for line in run) + GAP
            columns += [max(column if column and column <= WIDTH else 0, widest)] * len(run)
        else:
            columns += [line.width + GAP for line in run]
    return columns


def runs(lines: Sequence[Line], key: Callable[[Line], int | None]) -> Iterator[tuple[int | None, list[Line]]]:
    """Neighbouring lines that have the same key."""
    return ((column, list(run)) for column, run in groupby(lines, key))
