"""What a pass hands to FlashInfer: the plan's requests in groups that are planned together, the queries gathered for
them, and how their partial results are merged. Plain arrays and no tensors, so that all of it is tested without a GPU.

Two paths lead from a plan to a launch: `blocks` (block-major: one request per block, read once for all who see it;
design section 5) and `page_tables` (one request per writer over its whole view, which reads shared blocks once for each
writer, and has no partial results to merge).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from hwruntime.plan import Plan

TILES = (16, 64)  # packed query rows: FlashInfer's FA2 kernels are tiled for so many, or for more
STATIC_TOKENS = 64  # passes of more tokens are not padded
FEWEST_INDICES = 1024  # page indices that a padded group has room for: 16k tokens


class Part(NamedTuple):
    """Queries against one stretch of keys. `queries` are (query token, rotation further on) each.

    `pages` hold `page_size` tokens each, the last one `last`. Causal parts are aligned to the end: the last query is
    the last key's token.
    """

    queries: Sequence[tuple[int, int]]
    pages: Sequence[int]
    last: int
    causal: bool
    page_size: int


class Class(NamedTuple):
    """What parts that are planned together have in common.

    `width`: the tile that their queries fill, since FA2 picks one tile from their average, so that wide requests
    (shared openings) and narrow ones are apart. In padded passes, of causal parts their number of queries, so that none
    of them gets more: FA2's causal mask is wrong for requests of more queries than keys (0.7.2, read in its source).
    """

    causal: bool
    page_size: int
    width: int


@dataclass(frozen=True)
class GroupShape:
    """The fixed capacity of a padded group: requests, queries of each of them, and page indices of all."""

    kind: Class
    requests: int
    queries: int
    indices: int


@dataclass(frozen=True)
class Shape:
    """The fixed capacities of a captured pass: every launch of one shape fits the same static arrays."""

    tokens: int
    groups: tuple[GroupShape, ...]


@dataclass(frozen=True)
class Group:
    """R requests that FlashInfer plans and runs together, in its conventions: `qo_indptr` [R+1], `kv_indptr` [R+1],
    `kv_indices`, `kv_last_page_len` [R]. `uniform`: the number of queries of every request, 0 where they differ."""

    kind: Class
    qo_indptr: list[int]
    kv_indptr: list[int]
    kv_indices: list[int]
    kv_last_page_len: list[int]
    uniform: int = 0

    def __post_init__(self) -> None:
        assert len(self.qo_indptr) == len(self.kv_indptr) == len(self.kv_last_page_len) + 1
        assert len(self.kv_indices) == self.kv_indptr[-1]
        assert all(0 < n <= self.kind.page_size for n in self.kv_last_page_len), "a request has at least one key"

    @property
    def requests(self) -> int:
        return len(self.kv_last_page_len)

    @property
    def queries(self) -> int:
        return self.qo_indptr[-1]

    @property
    def kv_lengths(self) -> list[int]:
        """Tokens that each request reads."""
        pages = [end - start for start, end in pairwise(self.kv_indptr)]
        return [(n - 1) * self.kind.page_size + last for n, last in zip(pages, self.kv_last_page_len, strict=True)]


@dataclass(frozen=True)
class Launch:
    """One pass's attention for layers of one window: T query tokens, G gathered queries in the order of the groups.

    - `rows` [G]: the query token of each gathered query; `deltas` [G]: how far it is rotated beyond what the model did;
    - `merge_indptr` [T+1], `merge_indices`: the gathered queries whose partial results make up each token's output.
    """

    groups: tuple[Group, ...]
    rows: list[int]
    deltas: list[int]
    merge_indptr: list[int]
    merge_indices: list[int]

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.deltas) == sum(group.queries for group in self.groups)

    @property
    def tokens(self) -> int:
        return len(self.merge_indptr) - 1


# --- From a plan to parts ---


def blocks(plan: Plan, window: int | None) -> Iterator[Part]:
    """The plan's requests, each as far as its queries see it.

    A sliding window is defined in view positions: a query sees the keys k of a block with position - k < window, where
    its position counts from the start of that block. Causal requests are left whole: there FlashInfer's own window is
    the same thing.
    """
    for request in range(plan.requests):
        gathered = range(plan.qo_indptr[request], plan.qo_indptr[request + 1])
        if window is None or plan.causal[request]:
            yield _whole(plan, request, gathered)
        else:
            yield from _within(plan, request, gathered, window)


def page_tables(plan: Plan) -> Iterator[Part]:
    """One causal part per writer, over its whole view, tokens as pages; queries are rotated back to position 0.

    A block whose pages are not full cannot be followed by another one in a table of pages, hence pages of one token.
    """
    seen: list[list[tuple[int, int]]] = [[] for _ in plan.locals]  # by token: (position in the block, request)
    for request in range(plan.requests):
        for g in range(plan.qo_indptr[request], plan.qo_indptr[request + 1]):
            seen[plan.rows[g]].append((plan.positions[g], request))
    for first, end in _writers(plan):
        view = [request for _, request in sorted(seen[end - 1], reverse=True)]  # the first block is the farthest back
        slots = [slot for request in view for slot in _slots(plan, request)]
        yield Part([(token, -plan.locals[token]) for token in range(first, end)], slots, 1, True, 1)


def effective(plan: Plan, window: int | None) -> int | None:
    """The window, or None where all of this pass's views fit in it."""
    return window if window is not None and max(plan.positions, default=0) >= window else None


def _whole(plan: Plan, request: int, gathered: Sequence[int]) -> Part:
    pages = plan.kv_indices[plan.kv_indptr[request] : plan.kv_indptr[request + 1]]
    queries = [(plan.rows[g], plan.deltas[g]) for g in gathered]
    return Part(queries, pages, plan.kv_last_page_len[request], plan.causal[request], plan.page_size)


def _within(plan: Plan, request: int, gathered: Sequence[int], window: int) -> Iterator[Part]:
    """The pages that all queries see whole are one part; the tokens before them, from where each query's window starts,
    are parts with pages of one token."""
    size, length = plan.page_size, plan.kv_length(request)
    starts = {g: max(0, plan.positions[g] - window + 1) for g in gathered}
    starts = {g: start for g, start in starts.items() if start < length}
    if not starts:
        return
    cut = min(-(-max(starts.values()) // size) * size, length)
    pages = plan.kv_indices[plan.kv_indptr[request] + cut // size : plan.kv_indptr[request + 1]]
    if cut < length:
        queries = [(plan.rows[g], plan.deltas[g]) for g in starts]
        yield Part(queries, pages, plan.kv_last_page_len[request], False, size)
    slots = _slots(plan, request)
    for start in sorted({start for start in starts.values() if start < cut}):
        queries = [(plan.rows[g], plan.deltas[g]) for g, its_start in starts.items() if its_start == start]
        yield Part(queries, slots[start:cut], 1, False, 1)


def _slots(plan: Plan, request: int) -> list[int]:
    """Where the storage holds the request's keys, token by token."""
    size = plan.page_size
    pages = plan.kv_indices[plan.kv_indptr[request] : plan.kv_indptr[request + 1]]
    return [slot for page in pages for slot in range(page * size, (page + 1) * size)][: plan.kv_length(request)]


def _writers(plan: Plan) -> Iterator[tuple[int, int]]:
    """The query tokens of each writer: those of a causal request, or one token."""
    firsts = {plan.rows[plan.qo_indptr[r]]: plan.qo_indptr[r + 1] - plan.qo_indptr[r] for r in range(plan.requests)
              if plan.causal[r]}  # fmt: skip
    token = 0
    while token < len(plan.locals):
        end = token + firsts.get(token, 1)
        yield token, end
        token = end


# --- From parts to a launch ---


def classed(parts: Iterator[Part], group_size: int, pads: bool) -> dict[Class, list[Part]]:
    """Parts by class. `group_size`: query heads for each K/V head, which FA2 packs into one tile; `pads`: whether the
    launch is to be padded."""
    classes: dict[Class, list[Part]] = {}
    for part in parts:
        width = len(part.queries) if part.causal and pads else _tile(len(part.queries) * group_size)
        classes.setdefault(Class(part.causal, part.page_size, width), []).append(part)
    return dict(sorted(classes.items()))


def _tile(packed: int) -> int:
    return next((tile for tile in TILES if packed <= tile), 2 * TILES[-1])


def shape_of(classes: Mapping[Class, Sequence[Part]], tokens: int) -> Shape:
    """The smallest shape that fits, its capacities powers of two."""
    return Shape(power_of_two(tokens), tuple(_group_shape(kind, parts) for kind, parts in classes.items()))


def _group_shape(kind: Class, parts: Sequence[Part]) -> GroupShape:
    requests = power_of_two(len(parts))
    indices = sum(len(part.pages) for part in parts) + requests * STATIC_TOKENS  # padding requests have pages, too
    queries = kind.width if kind.causal else power_of_two(max(len(part.queries) for part in parts))
    return GroupShape(kind, requests, queries, max(FEWEST_INDICES, power_of_two(indices)))


def power_of_two(number: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (number - 1).bit_length()


def launch(classes: Mapping[Class, Sequence[Part]], tokens: int, shape: Shape | None = None, spare: int = 0) -> Launch:
    """The arrays of a pass of `tokens` tokens, padded to `shape` where there is one.

    What is padded reads the tokens of page `spare`, which no block owns, and is merged into nothing.
    """
    capacities = {group.kind: group for group in shape.groups} if shape else {}
    rows: list[int] = []
    deltas: list[int] = []
    partial: list[list[int]] = [[] for _ in range(shape.tokens if shape else tokens)]
    groups = []
    for kind, parts in classes.items():
        capacity = capacities.get(kind)
        group, gathered = _group(kind, _padded(parts, kind, capacity, spare), capacity)
        for row, delta in gathered:
            if row >= 0:
                partial[row].append(len(rows))
            rows.append(max(row, 0))
            deltas.append(delta)
        groups.append(group)
    merged = [index for indices in partial for index in indices]
    return Launch(
        groups=tuple(groups),
        rows=rows,
        deltas=deltas,
        merge_indptr=[0, *accumulate(len(indices) for indices in partial)],
        merge_indices=merged + [0] * (len(rows) - len(merged) if shape else 0),
    )


def _padded(parts: Sequence[Part], kind: Class, capacity: GroupShape | None, spare: int) -> Iterator[Part]:
    """The parts with as many queries and as many requests as there is capacity for; query token -1 is none."""
    if capacity is None:
        yield from parts
        return
    nobody = [(-1, 0)] * capacity.queries
    for part in parts:
        yield part._replace(queries=[*part.queries, *nobody[len(part.queries) :]])
    size = kind.page_size
    pages = [spare // size] * -(-capacity.queries // size)  # as many keys as queries
    for _ in range(capacity.requests - len(parts)):
        yield Part(nobody, pages, (capacity.queries - 1) % size + 1, kind.causal, size)


def _group(kind: Class, parts: Iterator[Part], capacity: GroupShape | None) -> tuple[Group, list[tuple[int, int]]]:
    """A group and its gathered queries."""
    taken = list(parts)
    group = Group(
        kind=kind,
        qo_indptr=[0, *accumulate(len(part.queries) for part in taken)],
        kv_indptr=[0, *accumulate(len(part.pages) for part in taken)],
        kv_indices=list(chain.from_iterable(part.pages for part in taken)),
        kv_last_page_len=[part.last for part in taken],
        uniform=capacity.queries if capacity else 0,
    )
    return group, [query for part in taken for query in part.queries]
