"""Where a program's text comes from, and places in it."""

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path


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

    @cached_property
    def _starts(self) -> list[int]:
        """The offset at which each line begins."""
        return list(accumulate((len(line) + 1 for line in self.lines[:-1]), initial=0))

    def line(self, number: int) -> str:
        """Line `number`, counted from 1, without its line end; empty where there is none."""
        return self.lines[number - 1].rstrip("\r") if 0 < number <= len(self.lines) else ""

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column of an offset, both counted from 1."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def span(self, start: int, end: int) -> "Span":
        """The span between two offsets."""
        return Span(*self.place(start), *self.place(end), self)


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

    @property
    def start(self) -> tuple[int, int]:
        return self.line, self.column

    @property
    def end(self) -> tuple[int, int]:
        return self.end_line, self.end_column

    @property
    def text(self) -> str:
        """What is written there, up to the end of its first line."""
        end = self.end_column - 1 if self.line == self.end_line else None
        return self.source.line(self.line)[self.column - 1 : end]

    def touches(self, other: "Span") -> bool:
        """Whether two spans of one source share a character, or one ends where the other begins."""
        return self.source is other.source and self.start <= other.end and other.start <= self.end


NOWHERE = Span(0, 0, 0, 0)


@dataclass(frozen=True)
class Damage:
    """A stretch of source whose meaning had to be guessed. `words` are the names in it that may have meant something;
    `unnamed` says that a name is missing there, which may have been any."""

    span: Span
    words: frozenset[str] = frozenset()
    unnamed: bool = False
