"""What one run asks of a pass: rows over blocks, what comes of them, and edits of the cache between passes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(eq=False)
class Block:
    """An append-only run of tokens; `tokens` are those that are in the cache. Constants never grow; a throw-away block
    lives for one pass."""

    name: str
    kind: Literal["growing", "constant", "throw-away"] = "growing"
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Draw:
    """How a row's next token is drawn: with number `counter` of the random stream (`seed`, `stream`).

    `banned` tokens are never drawn; with `allowed` (a bit for each token, see `constraint.Matcher`) only those are.
    `scored`: whether the token's log probability is wanted, too.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stream: int
    counter: int
    banned: frozenset[int]
    allowed: bytes | None = None
    scored: bool = False


@dataclass(frozen=True, eq=False)
class Row:
    """Tokens that one writer adds to the last block of a view in this pass.

    `seen` [len(view)] limits how many tokens of a block are seen; None is all of them, those of this pass included.
    With `draw` the next token is sampled; with `choices` the likeliest of these tokens is wanted; else nothing is.
    `text`: what the tokens say, where the writer knows. `scored`: pairs (index of one of `tokens`, token), of which it
    is wanted how likely that token is to follow the one at the index.
    """

    writer: str
    view: tuple[Block, ...]
    tokens: tuple[int, ...]
    seen: tuple[int | None, ...]
    draw: Draw | None = None
    choices: tuple[int, ...] = ()
    text: str = ""
    scored: tuple[tuple[int, int], ...] = ()

    @property
    def block(self) -> Block:
        return self.view[-1]

    @property
    def length(self) -> int:
        """Tokens in the view with the row's own, as far as they are known before the pass."""
        pieces = zip(self.view, self.seen, strict=True)
        return len(self.tokens) + sum(len(b.tokens) if n is None else n for b, n in pieces)


def whole_row(
    writer: str,
    view: Sequence[Block],
    tokens: Sequence[int],
    draw: Draw | None = None,
    choices: tuple[int, ...] = (),
    text: str = "",
) -> Row:
    """A row that sees its whole view."""
    return Row(writer, tuple(view), tuple(tokens), (None,) * len(view), draw, choices, text)


def again_row(writer: str, view: Sequence[Block], draw: Draw) -> Row | None:
    """A row that reads the last token of a view once more, in a throw-away block, to sample what follows it.

    None where there is no token in the view.
    """
    last = max((i for i, block in enumerate(view) if block.tokens), default=None)
    if last is None:
        return None
    tokens = view[last].tokens
    pieces = (*view[: last + 1], Block("again", "throw-away"))
    return Row(writer, pieces, (tokens[-1],), (*[None] * last, len(tokens) - 1, None), draw)


@dataclass(frozen=True)
class Outcome:
    """What came of a row: the token sampled, or the index of the choice (with the choices' logits).

    `score`: the sampled token's log probability, where its draw is scored; `scores`: those of the row's `scored`
    tokens. They are natural, and of what the model says itself: before temperature, filters, bans and constraints.
    """

    token: int = -1
    logits: tuple[float, ...] = ()
    score: float | None = None
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class MoveBlock:
    """Append `source` to `target` in the cache, then empty it (design section 2, rule 4)."""

    source: Block
    target: Block


@dataclass(frozen=True)
class CopyTokens:
    """Append the tokens `start` to `stop` of `source` to `target` in the cache: values as they are, keys rotated to
    where they come to stand. `source` stays as it is."""

    source: Block
    start: int
    stop: int
    target: Block


@dataclass(frozen=True)
class ClearBlock:
    """Empty `block` in the cache; `for_good`: nothing will be written to it any more."""

    block: Block
    for_good: bool = False


Edit = MoveBlock | ClearBlock  # what programs ask for
AnyEdit = Edit | CopyTokens


@dataclass(frozen=True)
class Pass:
    """What a run does next: edits of the cache, in order, then its rows. Without rows the run is over."""

    edits: tuple[Edit, ...]
    rows: tuple[Row, ...]
