"""What a server has written ahead for a worker, and a worker's view as the flat text that a server reads."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwruntime.rows import Block, Row


@dataclass
class Draft:
    """Tokens that will be a row's next ones if nothing comes between.

    It was asked for in the run's pass number `made` of a row with this `view`, whose block has `length` tokens then;
    `last` was handed out since.
    """

    view: tuple[Block, ...]
    length: int
    made: int
    tokens: deque[int]
    last: int | None = None

    def goes_on(self, row: Row, made: int) -> bool:
        """Whether the row only adds the token that was handed out, in the pass after that: nothing was handed to its
        worker, it was not paused, and its block was not moved."""
        added = row.tokens == (self.last,) and len(row.block.tokens) + 1 == self.length
        return bool(self.tokens) and added and row.view == self.view and made == self.made + 1

    def take(self, made: int) -> int:
        """The next token, handed out in pass `made`."""
        self.last, self.made = self.tokens.popleft(), made
        self.length += 1
        return self.last


def drafted(row: Row, tokens: Sequence[int]) -> Draft:
    """What came for a row, with nothing handed out yet."""
    return Draft(row.view, len(row.block.tokens) + len(row.tokens), 0, deque(tokens))


def written(rows: Sequence[Row]) -> dict[Row, dict[Block, list[int]]]:
    """For each row what the pass's rows add to blocks, as far as the row sees it: all of it, but of its own block only
    what comes before it (design section 2, rules 2, 3 and 7)."""
    added: dict[Block, list[int]] = {}
    before: dict[Row, list[int]] = {}
    for row in rows:
        before[row] = list(added.get(row.block, ()))
        added.setdefault(row.block, []).extend(row.tokens)
    return {row: {**added, row.block: before[row]} for row in rows}


def flat(row: Row, added: Mapping[Block, Sequence[int]]) -> tuple[int, ...]:
    """All that a row sees with its own tokens, in the order of its view. `added`: what this pass adds to blocks."""
    text: list[int] = []
    for block, seen in zip(row.view, row.seen, strict=True):
        text += (block.tokens + list(added.get(block, ()))) if seen is None else block.tokens[:seen]
    return (*text, *row.tokens)
