"""One forward call: the rows of all runs, laid out over the pool, and what comes of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from torch import Tensor

from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Plan, build_plan
from hwruntime.plan import Row as PlanRow
from hwruntime.rows import Block, Outcome, Row
from hwruntime.sampler import sample
from hwruntime.session import Session


@dataclass(eq=False)
class Run:
    """One execution of a program: its session, and where the pool holds its blocks."""

    session: Session
    blocks: dict[Block, CacheBlock] = field(default_factory=dict)

    def held(self, block: Block) -> CacheBlock:
        """The block in the pool that holds a block of the session's."""
        return self.blocks.setdefault(block, CacheBlock())

    def feed(self, stream: str, text: str) -> None:
        """Add text to one of the program's streams."""
        self.session.feed(stream, text)

    def cancel(self) -> None:
        """End the run after the pass that is under way."""
        self.session.stop("cancelled")


@dataclass(frozen=True)
class Placed:
    """A row of a run, and the block-local positions that its tokens have in the pool."""

    run: Run
    row: Row
    positions: range


@dataclass(frozen=True)
class Batch:
    """`tokens` and `slots` [T] are those of the rows; `wanted`: the last token of each row that wants logits."""

    rows: Sequence[Placed]
    tokens: list[int]
    plan: Plan
    slots: list[int]
    wanted: list[int]


def lay_out(placed: Sequence[Placed], pool: Pool) -> Batch:
    """The forward call for rows whose tokens have their place in the pool."""
    blocks: dict[CacheBlock, int] = {}
    rows = [PlanRow(tuple(_pieces(p, blocks)), len(p.row.tokens)) for p in placed]
    shapes = {index: PlanBlock(block.length, block.pages) for block, index in blocks.items()}
    ends = accumulate(len(p.row.tokens) for p in placed)
    return Batch(
        rows=placed,
        tokens=[token for p in placed for token in p.row.tokens],
        plan=build_plan(rows, shapes, pool.page_size),
        slots=[slot for p in placed for slot in pool.slots(p.run.blocks[p.row.block], p.positions)],
        wanted=[end - 1 for p, end in zip(placed, ends, strict=True) if wants(p.row)],
    )


def _pieces(placed: Placed, numbers: dict[CacheBlock, int]) -> Iterator[Piece]:
    """A row's view with lengths as they are in this pass; `numbers` numbers the blocks as they come up."""
    row = placed.row
    for block, seen in zip(row.view, row.seen, strict=True):
        cached = placed.run.blocks.get(block)
        if cached is None or not cached.length:
            continue
        whole = cached.length if seen is None else seen
        length = placed.positions.stop if block is row.block else whole
        yield Piece(numbers.setdefault(cached, len(numbers)), length)


def wants(row: Row) -> bool:
    """Whether anything is to come of a row but its K/V."""
    return row.draw is not None or bool(row.choices)


def outcomes(batch: Batch, logits: Tensor) -> Mapping[Row, Outcome]:
    """What comes of each row: a token, the likeliest of its choices, or nothing. logits [len(wanted), vocabulary]."""
    rows = [p.row for p in batch.rows]
    wanting = {row: index for index, row in enumerate(row for row in rows if wants(row))}
    drawing = [row for row in wanting if row.draw]
    drawn = sample(logits[[wanting[r] for r in drawing]], [r.draw for r in drawing if r.draw]) if drawing else []
    tokens = dict(zip(drawing, drawn, strict=True))
    chosen = {row: choice(row, logits[index]) for row, index in wanting.items() if row.choices}
    return {row: chosen.get(row) or Outcome(tokens.get(row, -1)) for row in rows}


def choice(row: Row, logits: Tensor) -> Outcome:
    """The choice of an `ask` whose first token is the likeliest; the earlier one where two are equal."""
    scores = logits[list(row.choices)].tolist()
    return Outcome(scores.index(max(scores)), tuple(scores))
