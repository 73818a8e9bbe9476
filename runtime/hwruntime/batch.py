"""One forward call: the rows of all runs, laid out over the pool, and what comes of them."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from typing import Literal, Protocol

import torch
from torch import Tensor

from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool, Stored
from hwruntime.devices import upload
from hwruntime.errors import HwError, RunError
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Plan, build_plan
from hwruntime.plan import Row as PlanRow
from hwruntime.requests import Requests
from hwruntime.result import Reason, Result
from hwruntime.rows import AnyEdit, Block, Outcome, Pass, Row
from hwruntime.sampler import sample
from hwruntime.session import Known, Session

Stage = Literal["new", "here", "away", "over"]  # `new` and `away` ones have no pages and wait for some


@dataclass(eq=False)
class Todo:
    """What is left of a pass of one run: edits of the cache, then rows."""

    edits: deque[AnyEdit]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, now: Pass) -> "Todo":
        return cls(deque(now.edits), now.rows)


@dataclass(frozen=True)
class Stray:
    """A row of which something else came now than when the pass was first made."""

    number: int
    row: Row
    was: Outcome
    now: Outcome


class Bookkeeping(Protocol):
    """What the engine asks of who says which rows to run. Real: `session.Session`, `requests.Requests`."""

    reason: Reason | None  # why it is over

    @property
    def openings(self) -> Sequence[Row]:
        """Constants that are encoded before its first pass."""

    def usual_load(self) -> tuple[int, int]:
        """How many workers it has, and the tokens of a typical view."""

    def stop(self, reason: Reason) -> None:
        """End here, or do with less."""

    def close(self, error: HwError | None) -> None:
        """Nothing more comes."""


@dataclass(eq=False)
class Tenant(ABC):
    """Who takes part in passes: its bookkeeping, and where the pool holds its blocks.

    `number`: one that began later has a larger one. `away`: its K/V while it has no pages, and of how many tokens
    they are. `now`: the pass that it has begun. `error`: what ended it, if it was one.
    """

    session: Bookkeeping
    number: int = 0
    blocks: dict[Block, CacheBlock] = field(default_factory=dict)
    stage: Stage = "new"
    away: dict[Block, tuple[int, Stored]] = field(default_factory=dict)
    now: Todo | None = None
    error: HwError | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those of the pass that it has begun."""
        return self.now.rows if self.now else ()

    def held(self, block: Block) -> CacheBlock:
        """The block in the pool that holds a block of the session's."""
        return self.blocks.setdefault(block, CacheBlock())

    @abstractmethod
    def begin_pass(self) -> Todo:
        """What is left to do of its pass."""

    @abstractmethod
    def end_pass(self, outcomes: Sequence[Outcome]) -> None:
        """Take what came of its rows."""

    def take_spare(self) -> Block | None:
        """Forget a block that is only kept for later, so that its pages can be taken; None where there is none."""
        return None

    def break_off(self) -> None:
        """Say that a pass of it was left in the middle, because of another run."""
        self.error = RunError("the run shared a pass with others, and that was interrupted")


@dataclass(eq=False)
class Visit(Tenant):
    """The coroutines of one event loop."""

    session: Requests

    def begin_pass(self) -> Todo:
        self.now = Todo(self.session.edits, self.session.rows)
        return self.now

    def end_pass(self, outcomes: Sequence[Outcome]) -> None:
        self.now = None
        self.session.advance(outcomes)

    def take_spare(self) -> Block | None:
        return self.session.kept.drop_oldest() if self.session.kept else None


@dataclass(eq=False)
class Run(Tenant):
    """One execution of a program. `known`: passes to come whose outcomes are taken as they are; `strays`: where the
    model would have gone on otherwise in those."""

    session: Session
    known: deque[Known] = field(default_factory=deque)
    strays: list[Stray] = field(default_factory=list)

    def begin_pass(self) -> Todo:
        """What is left to do of its pass. Raises `RunError` where it is known, and not this one."""
        if self.now is None:
            known = self.known[0] if self.known else None
            if known:
                self.session.began = time.monotonic() - known.seconds
                for feed in known.feeds:
                    self.session.feed(*feed)
            self.now = Todo.of(self.session.next_pass())
            if known and [row.tokens for row in self.now.rows] != list(known.tokens):
                raise RunError(
                    f"pass {self.session.passes + 1} cannot be made again: it has other tokens now",
                    help="take the model, and the version of hwlang, that the run began with",
                )
        return self.now

    def end_pass(self, outcomes: Sequence[Outcome]) -> None:
        """Take what came of its rows, or what is known to have come."""
        rows, self.now = self.rows, None
        if not self.known:
            self.session.advance(outcomes)
            return
        known = self.known.popleft().outcomes
        self.session.advance(known)
        for row, was, now in zip(rows, known, outcomes, strict=True):
            if was.token != now.token:
                self.strays.append(Stray(self.session.passes, row, was, now))

    def feed(self, stream: str, text: str) -> None:
        """Add text to one of the program's streams."""
        self.session.feed(stream, text)

    def cancel(self) -> None:
        """End the run after the pass that is under way."""
        self.session.stop("cancelled")
        self.now = None

    def result(self, model: str) -> Result:
        """What there is now. Raises the error that ended the run."""
        self.raise_error()
        return self.session.result(model)

    def raise_error(self) -> None:
        if self.error:
            raise self.error


@dataclass(frozen=True)
class Placed:
    """A row of a run, and the block-local positions that its tokens have in the pool."""

    run: Tenant
    row: Row
    positions: range


@dataclass(frozen=True)
class Batch:
    """`tokens` and `slots` [T] are those of the rows; `wanted`: the last token of each row that wants something, then
    those after which a row wants scores."""

    rows: Sequence[Placed]
    tokens: list[int]
    plan: Plan
    slots: list[int]
    wanted: list[int]


@dataclass(frozen=True)
class Foresight:
    """A pass laid out before its tokens are known. It holds for these rows while the pool is at this version, as a
    layout depends on nothing else."""

    batch: Batch
    version: int

    def holds(self, rows: Sequence[tuple[Tenant, Row]], pool: Pool) -> bool:
        """Whether this is the layout of a pass of these rows, whose tokens the pool has not made room for yet."""
        if pool.version != self.version:
            return False
        foreseen = [(p.run, p.row.view, p.row.seen, len(p.row.tokens)) for p in self.batch.rows]
        return foreseen == [(run, row.view, row.seen, len(row.tokens)) for run, row in rows]

    def filled(self, placed: Sequence[Placed]) -> Batch:
        """The batch for these rows, for which it holds."""
        assert [p.positions for p in placed] == [p.positions for p in self.batch.rows], "foreseen are the rows' places"
        return replace(self.batch, rows=placed, tokens=tokens_of(placed), wanted=wanted_of(placed))


def foresee(batch: Batch, pool: Pool) -> Foresight | None:
    """The pass after `batch` if all just goes on, that is each row's writer adds the token that is sampled for it. None
    where not all of them can, or where there is no room."""
    if not all(p.row.draw and p.row.block.kind == "growing" for p in batch.rows):
        return None
    blocks = [p.run.blocks[p.row.block] for p in batch.rows]
    if not pool.has_room(blocks, 1):
        return None
    rows = [going_on(p.row) for p in batch.rows]
    placed = [Placed(p.run, row, pool.extend(b, 1)) for p, row, b in zip(batch.rows, rows, blocks, strict=True)]
    ahead = lay_out(placed, pool)
    for block in blocks:  # what is only foreseen takes no room: `extend` will find the same pages again
        pool.shrink(block, 1)
    return Foresight(ahead, pool.version)


def going_on(row: Row) -> Row:
    """A row laid out as the one that its writer has next: what counts is that it has one token, not which."""
    return row if len(row.tokens) == 1 else replace(row, tokens=row.tokens[-1:], scored=())


def lay_out(placed: Sequence[Placed], pool: Pool) -> Batch:
    """The forward call for rows whose tokens have their place in the pool."""
    blocks: dict[CacheBlock, int] = {}
    rows = [PlanRow(tuple(_pieces(p, blocks)), len(p.row.tokens)) for p in placed]
    shapes = {index: PlanBlock(block.length, block.pages) for block, index in blocks.items()}
    return Batch(
        rows=placed,
        tokens=tokens_of(placed),
        plan=build_plan(rows, shapes, pool.page_size),
        slots=[slot for p in placed for slot in pool.slots(p.run.blocks[p.row.block], p.positions)],
        wanted=wanted_of(placed),
    )


def tokens_of(placed: Sequence[Placed]) -> list[int]:
    return [token for p in placed for token in p.row.tokens]


def wanted_of(placed: Sequence[Placed]) -> list[int]:
    """The index, among all tokens, of the last one of each row that wants something; then of those scored after."""
    ends = list(accumulate(len(p.row.tokens) for p in placed))
    last = [end - 1 for p, end in zip(placed, ends, strict=True) if wants(p.row)]
    return last + [
        end - len(p.row.tokens) + index for p, end in zip(placed, ends, strict=True) for index, _ in p.row.scored
    ]


def _pieces(placed: Placed, numbers: dict[CacheBlock, int]) -> Iterator[Piece]:
    """A row's view with lengths as they are in this pass; `numbers` numbers the blocks as they come up."""
    row, blocks, own = placed.row, placed.run.blocks, placed.row.block
    for block, seen in zip(row.view, row.seen, strict=True):
        cached = blocks.get(block)
        if cached is None or not cached.length:
            continue
        whole = cached.length if seen is None else seen
        length = placed.positions.stop if block is own else whole
        yield Piece(numbers.setdefault(cached, len(numbers)), length)


def wants(row: Row) -> bool:
    """Whether anything is to follow a row's last token."""
    return row.draw is not None or bool(row.choices)


def outcomes(batch: Batch, logits: Tensor) -> Mapping[Row, Outcome]:
    """What comes of each row: a token, the likeliest of its choices, or nothing. logits [len(wanted), vocabulary]."""
    rows = [p.row for p in batch.rows]
    wanting, scored = [row for row in rows if wants(row)], [row for row in rows if row.scored]
    last, inner = logits[: len(wanting)], logits[len(wanting) :]
    came = dict.fromkeys(rows, Outcome()) | sampled(wanting, last) | chosen(wanting, last)
    scores = iter(log_probabilities(inner, [token for row in scored for _, token in row.scored]))
    return came | {row: replace(came[row], scores=tuple(islice(scores, len(row.scored)))) for row in scored}


def sampled(wanting: Sequence[Row], logits: Tensor) -> dict[Row, Outcome]:
    """The next token of each row that draws one."""
    draws = {index: row.draw for index, row in enumerate(wanting) if row.draw}
    if not draws:
        return {}
    if len(draws) < len(wanting):
        logits = logits.index_select(0, upload(torch.tensor(list(draws)), logits.device))
    tokens = sample(logits, list(draws.values()))
    scored = [place for place, draw in enumerate(draws.values()) if draw.scored]
    scores = dict(zip(scored, log_probabilities(logits[scored], [tokens[place] for place in scored]), strict=True))
    return {
        wanting[index]: Outcome(token, score=scores.get(place))
        for place, (index, token) in enumerate(zip(draws, tokens, strict=True))
    }


def log_probabilities(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """Of one token in each row of logits [len(tokens), vocabulary]."""
    if not tokens:
        return []
    chosen = logits.gather(1, upload(torch.tensor(tokens), logits.device)[:, None])[:, 0]
    scores: list[float] = (chosen - logits.logsumexp(-1)).tolist()
    return scores


def chosen(wanting: Sequence[Row], logits: Tensor) -> dict[Row, Outcome]:
    """The choice of each `ask` whose first token is the likeliest; the earlier one where two are equal."""
    pairs = [(index, token) for index, row in enumerate(wanting) for token in row.choices]
    if not pairs:
        return {}
    rows, tokens = upload(torch.tensor(pairs), logits.device).T
    scores = iter(logits[rows, tokens].tolist())  # of all asks at once: the host waits for each transfer
    own = {row: tuple(islice(scores, len(row.choices))) for row in wanting if row.choices}
    return {row: Outcome(values.index(max(values)), values) for row, values in own.items()}
