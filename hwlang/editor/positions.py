"""Places in a text as editors count them: lines from 0, and on a line UTF-16 code units (or what was agreed on)."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from re import finditer
from typing import Literal

from hwlang.diagnostics.source import Span

Units = Literal["utf-8", "utf-16", "utf-32"]


def length(text: str, units: Units) -> int:
    """How many units a text takes."""
    if units == "utf-32" or text.isascii():
        return len(text)
    if units == "utf-16":
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return len(text.encode(errors="surrogatepass"))


@dataclass(frozen=True)
class Positions:
    """The places of one text. Offsets count characters; an editor's line ends at `\\n`, `\\r\\n` or `\\r`."""

    text: str
    units: Units = "utf-16"

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in finditer(r"\r\n|\n|\r", self.text))]

    @cached_property
    def _feeds(self) -> list[int]:
        """Where the lines of spans begin: those end at `\\n` alone."""
        return list(accumulate((len(line) + 1 for line in self.text.split("\n")[:-1]), initial=0))

    def place(self, offset: int) -> tuple[int, int]:
        """The editor's line and column of an offset."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._starts, offset) - 1
        return line, length(self.text[self._starts[line] : offset], self.units)

    def offset(self, line: int, column: int) -> int:
        """The offset of an editor's place. What is beyond a line is its end, what is within a character its start."""
        if line >= len(self._starts):
            return len(self.text)
        offset, left = self._starts[line], column
        while offset < len(self.text) and self.text[offset] not in "\r\n":
            left -= length(self.text[offset], self.units)
            if left < 0:
                break
            offset += 1
        return offset

    def bounds(self, span: Span) -> tuple[int, int]:
        """The offsets of a span, within the text whatever the span says."""
        start = self._place_offset(*span.start)
        return start, max(start, self._place_offset(*span.end))

    def _place_offset(self, line: int, column: int) -> int:
        if not 0 < line <= len(self._feeds):
            return 0 if line < 1 else len(self.text)
        following = self._feeds[line] - 1 if line < len(self._feeds) else len(self.text)
        return min(self._feeds[line - 1] + column - 1, following)
