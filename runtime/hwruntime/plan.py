"""The plan: the arrays that describe one pass's cascade attention over blocks, in FlashInfer's conventions.

Block-major: every block is one *request* whose queries are the tokens that see it, each rotated for that block, so that
K/V are read once for all workers. Partial results are merged per token by log-sum-exp. The plan does not depend on the
layer: it is built once per pass and every executor runs the same arrays (design section 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import NamedTuple


class Piece(NamedTuple):
    """What a row sees of one block: its first `length` tokens (all of them but for a row's own block, see `Row`)."""

    block: int
    length: int


@dataclass(frozen=True)
class Row:
    """The tokens that one writer adds to one block in this pass, and its view.

    `view` is ordered; its last piece is the block that the row writes, seen up to the row's last token, so the row's
    tokens are at block-local positions `view[-1].length - tokens .. view[-1].length - 1`.
    """

    view: tuple[Piece, ...]
    tokens: int

    def __post_init__(self) -> None:
        assert 0 < self.tokens <= self.view[-1].length, "a row writes at least one token, at the end of what it sees"


@dataclass(frozen=True)
class Block:
    """A block as it is when this pass's K/V are written: `length` tokens on `pages`, in order."""

    length: int
    pages: Sequence[int]


class Request(NamedTuple):
    """Queries against one block's first `length` tokens. Causal ones are aligned to the end: the last query is the
    last key's token."""

    block: int
    length: int
    causal: bool


@dataclass(frozen=True)
class Plan:
    """Arrays of one pass. T query tokens; R requests; G gathered queries (one for each token of each request).

    - `qo_indptr` [R+1]: request r has the gathered queries `qo_indptr[r]:qo_indptr[r+1]`;
    - `kv_indptr` [R+1], `kv_indices`, `kv_last_page_len` [R]: its pages, and how many tokens its last page holds;
    - `causal` [R]: whether its queries are its own last tokens, and see one another causally;
    - `rows` [G]: the query token, 0..T-1, of each gathered query;
    - `positions` [G]: its rotation position, counted from the start of that block in its view;
    - `deltas` [G]: how far it is rotated beyond its block-local position, which the model itself has applied;
    - `locals` [T]: block-local positions of the pass's tokens, which the model is given.
    """

    page_size: int
    qo_indptr: list[int]
    kv_indptr: list[int]
    kv_indices: list[int]
    kv_last_page_len: list[int]
    causal: list[bool]
    rows: list[int]
    positions: list[int]
    deltas: list[int]
    locals: list[int]

    def __post_init__(self) -> None:
        assert len(self.qo_indptr) == len(self.kv_indptr) == len(self.kv_last_page_len) + 1 == len(self.causal) + 1
        assert len(self.rows) == len(self.positions) == len(self.deltas) == self.qo_indptr[-1]
        assert all(0 < n <= self.page_size for n in self.kv_last_page_len), "a request has at least one key"
        assert min(self.deltas, default=0) >= 0, "a row writes the last block of its view"

    @property
    def requests(self) -> int:
        return len(self.causal)

    @property
    def reads(self) -> int:
        """Stored tokens that the pass reads in a layer: each as often as requests hold it."""
        return sum(map(self.kv_length, range(self.requests)))

    def kv_length(self, request: int) -> int:
        """Tokens of a request's block that its queries see."""
        pages = self.kv_indptr[request + 1] - self.kv_indptr[request]
        return (pages - 1) * self.page_size + self.kv_last_page_len[request]


def build_plan(rows: Sequence[Row], blocks: Mapping[int, Block], page_size: int) -> Plan:
    """The plan of a pass that runs `rows` over `blocks`; requests come in the order of `blocks`.

    A row's own block joins the request of those who see it whole where its single new token is the block's last;
    otherwise the row has a causal request of its own (design section 5). Empty pieces have no request.
    """
    queries: dict[Request, list[tuple[int, int, int]]] = {}
    first = 0  # the row's first query token
    for row in rows:
        start = 0  # of the piece, in the row's view
        own_start = sum(piece.length for piece in row.view[:-1])
        for index, piece in enumerate(row.view):
            own = index == len(row.view) - 1
            whole = piece.length == blocks[piece.block].length
            request = Request(piece.block, piece.length, own and (row.tokens > 1 or not whole))
            local = row.view[-1].length - row.tokens
            if piece.length:
                queries.setdefault(request, []).extend(
                    (first + i, own_start + local + i - start, own_start - start) for i in range(row.tokens)
                )
            start += piece.length
        first += row.tokens
    return _arrays(_in_order(queries, blocks), blocks, page_size, rows)


def _in_order(
    queries: dict[Request, list[tuple[int, int, int]]], blocks: Mapping[int, Block]
) -> dict[Request, list[tuple[int, int, int]]]:
    rank = {block: i for i, block in enumerate(blocks)}
    return dict(sorted(queries.items(), key=lambda item: (rank[item[0].block], item[0].causal)))


def _arrays(
    queries: dict[Request, list[tuple[int, int, int]]], blocks: Mapping[int, Block], page_size: int, rows: Sequence[Row]
) -> Plan:
    pages = [list(blocks[r.block].pages[: -(-r.length // page_size)]) for r in queries]
    gathered = [query for group in queries.values() for query in group]
    return Plan(
        page_size=page_size,
        qo_indptr=[0, *accumulate(len(group) for group in queries.values())],
        kv_indptr=[0, *accumulate(len(p) for p in pages)],
        kv_indices=list(chain.from_iterable(pages)),
        kv_last_page_len=[(r.length - 1) % page_size + 1 for r in queries],
        causal=[r.causal for r in queries],
        rows=[q[0] for q in gathered],
        positions=[q[1] for q in gathered],
        deltas=[q[2] for q in gathered],
        locals=[p for row in rows for p in range(row.view[-1].length - row.tokens, row.view[-1].length)],
    )
