"""Texts that are kept in the cache: one that begins as another did reads what is there, and encodes only its rest.

A tree of blocks (as SGLang's RadixAttention has one), of which none is ever cut: a block goes on behind the first
`start` tokens of its text, which its parents hold, and a view limits how much of each of them it sees.

    lease = prefixes.take(tokens)             what there is of a text, held; and a block to write the rest to
    Request(lease.view, seen=lease.seen)      ... which lease.block.waiting is
    prefixes.give_back(lease)                 the block is kept, until its pages are needed

All is called in the thread of the event loop, but for `drop_oldest`, which the thread that makes a pass calls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from hwruntime.requests import OpenBlock, Requests


@dataclass(eq=False)
class Prefix:
    """A block that holds the tokens of texts from `start` on. `children`: those that go on behind some of it, by where
    and with which token; `users`: leases that hold it, and copies of it that are still to be made."""

    block: OpenBlock
    parent: "Prefix | None"
    start: int
    children: dict[tuple[int, int], list["Prefix"]] = field(default_factory=dict)
    below: int = 0  # prefixes whose parent this is: the children, and joined texts
    users: int = 0
    used: int = 0  # when it was last, on the clock of the tree
    full: int = 0  # tokens that the block will have at most when those who write it are through
    gone: bool = False

    @property
    def end(self) -> int:
        """How many tokens a text has that ends with this block."""
        return self.start + len(self.block.tokens)


@dataclass(frozen=True)
class Piece:
    """The tokens of a text that one prefix has: the first `stop - start` of its block."""

    prefix: Prefix
    start: int
    stop: int


@dataclass(eq=False)
class Lease:
    """A text that is held: its first `cached` tokens were there. The others wait for the last block of `view`."""

    prefix: Prefix | None  # the last of what is held
    cached: int
    view: tuple[OpenBlock, ...]
    seen: tuple[int | None, ...]
    writes: bool  # the last block of the view

    @property
    def block(self) -> OpenBlock:
        return self.view[-1]


class Prefixes:
    """The texts that one event loop's requests have written. `page`: tokens of a page."""

    def __init__(self, requests: Requests, page: int) -> None:
        self._requests = requests
        self._page = page
        self._roots: dict[tuple[int, int], list[Prefix]] = {}
        self._all: dict[Prefix, None] = {}
        self._clock = 0
        self._lock = Lock()
        self._copied: list[Prefix] = []  # held until the copies of them are made
        requests.kept = self

    # --- Leases ---

    def take(self, tokens: Sequence[int], most: int, grow: int = 0, root: Prefix | None = None) -> Lease:
        """Hold what there is of a text, of its first `most` tokens, and have the others wait for a block.

        `grow`: how many tokens will be added behind the text, at most. `root`: of a text that begins with a joined one;
        raises `LookupError` where that is not there any more.
        """
        with self._lock:
            if root and root.gone:
                raise LookupError(root.block.name)
            self._clock += 1
            self._settle_copies()
            found, cached = self._longest(tokens, most, root)
            if cached == len(tokens) and not grow:
                lease = Lease(found, cached, *self._view(found, cached), writes=False)
            else:
                own = self._to_write(found, cached, tokens)
                blocks, seen = self._view(own.parent, own.start)
                lease = Lease(own, cached, (*blocks, own.block), (*seen, None), writes=True)
                own.block.waiting += tokens[cached:]
                own.full = len(tokens) - own.start + grow
            self._hold(lease.prefix)
            return lease

    def coming(self, tokens: Sequence[int], most: int, root: Prefix | None = None) -> int:
        """How many more of a text's first `most` tokens will be there, once others have written what waits for them."""
        with self._lock:
            if root and root.gone:
                return 0
            return self._longest(tokens, most, root, ahead=True)[1] - self._longest(tokens, most, root)[1]

    def give_back(self, lease: Lease) -> None:
        """Hold it no longer; once, when no pass is under way that writes it."""
        prefix = lease.prefix
        if prefix is None:
            return
        with self._lock:
            prefix.users -= 1
            if lease.writes:
                prefix.block.waiting.clear()
                prefix.full = 0
            if not (prefix.block.tokens or prefix.below or prefix.users):
                self._forget(prefix)
                self._requests.drop(prefix.block)

    def pieces(self, prefix: Prefix | None, stop: int) -> list[Piece]:
        """Where the first `stop` tokens of a text are that ends with a prefix, in their order."""
        found: list[Piece] = []
        while prefix is not None:
            if prefix.start < stop:
                found.append(Piece(prefix, prefix.start, stop))
                stop = prefix.start
            prefix = prefix.parent
        return found[::-1]

    # --- Joined texts ---

    def join(self, first: Lease, others: Sequence[tuple[Lease, int]]) -> Prefix:
        """A text that goes on behind `first` with what others have written behind a common opening, each from its
        token `start` on: copied, not encoded. No text without a `root` finds it. All leases are whole texts."""
        with self._lock:
            self._clock += 1
            joined = Prefix(self._requests.block("joined"), first.prefix, first.cached, used=self._clock)
            self._all[joined] = None
            if first.prefix is not None:
                first.prefix.below += 1
            sources = [lease.prefix for lease, _ in others if lease.prefix is not None]
            for lease, start in others:
                for piece in self.pieces(lease.prefix, lease.cached):
                    inner = range(max(piece.start, start) - piece.start, piece.stop - piece.start)
                    if inner:
                        self._requests.copy(piece.prefix.block, inner, joined.block)
            for prefix in (joined, *sources):
                prefix.users += 1
                self._copied.append(prefix)
        return joined

    # --- Room ---

    def drop_oldest(self) -> OpenBlock | None:
        """Forget the block that was not used for longest, of those that nobody uses nor goes on behind."""
        with self._lock:
            self._settle_copies()
            prefix = min(self._spare(), key=lambda each: each.used, default=None)
            if prefix is None:
                return None
            self._forget(prefix)
            return prefix.block

    def drop_all(self) -> None:
        """Give all back that nobody uses."""
        while (block := self.drop_oldest()) is not None:
            self._requests.drop(block)

    def pages(self) -> int:
        """That are needed by all who hold something, when they are through; and two for each of them, as one is read
        anew, and another thrown away."""
        with self._lock:
            users = [prefix for prefix in self._all if prefix.users]
        held = {piece.prefix for prefix in users for piece in self.pieces(prefix, prefix.end + 1)}
        own = sum(-(-max(prefix.full, len(prefix.block.tokens)) // self._page) for prefix in held)
        return own + 2 * sum(prefix.users for prefix in users)

    @property
    def tokens(self) -> int:
        """That are kept."""
        with self._lock:
            return sum(len(prefix.block.tokens) for prefix in self._all)

    # --- Inside of the lock ---

    def _longest(
        self, tokens: Sequence[int], most: int, root: Prefix | None, ahead: bool = False
    ) -> tuple[Prefix | None, int]:
        """The prefix that has most of the first `most` tokens, and how many it has; `ahead`: with what waits for it."""
        best: tuple[Prefix | None, int] = (None, 0)
        left = list(self._roots.get((0, tokens[0]), ())) if most else []
        if root is not None:
            best, left = (root.parent, min(root.start, most)), [root]
        while left:
            prefix = left.pop()
            held = prefix.block.tokens + prefix.block.waiting if ahead else prefix.block.tokens
            same = prefix.start + common(held, tokens[prefix.start : most])
            if same > best[1]:
                best = prefix, same
            for (start, token), children in prefix.children.items():
                if start <= same and start < most and tokens[start] == token:
                    left += children
        return best

    def _to_write(self, found: Prefix | None, cached: int, tokens: Sequence[int]) -> Prefix:
        """Where a text is written on: the block that it ends with, if nobody else does, or a new one behind it."""
        if found and found.end == cached and not found.full:
            return found
        return self._add(found, cached, tokens[cached])

    def _add(self, parent: Prefix | None, start: int, token: int) -> Prefix:
        while parent is not None and parent.start >= start:  # a text that ends before the block it was found in
            parent = parent.parent
        prefix = Prefix(self._requests.block(f"text from {start}"), parent, start, used=self._clock)
        siblings = self._roots if parent is None else parent.children
        siblings.setdefault((start, token), []).append(prefix)
        if parent is not None:
            parent.below += 1
        self._all[prefix] = None
        return prefix

    def _view(self, prefix: Prefix | None, stop: int) -> tuple[tuple[OpenBlock, ...], tuple[int, ...]]:
        pieces = self.pieces(prefix, stop)
        return tuple(p.prefix.block for p in pieces), tuple(p.stop - p.start for p in pieces)

    def _hold(self, prefix: Prefix | None) -> None:
        if prefix is not None:
            prefix.users += 1
        while prefix is not None:
            prefix.used = self._clock
            prefix = prefix.parent

    def _settle_copies(self) -> None:
        """Let go of what was copied, if it has been."""
        while self._copied and not self._requests.edits:
            self._copied.pop().users -= 1

    def _spare(self) -> Iterator[Prefix]:
        return (prefix for prefix in self._all if not (prefix.users or prefix.below))

    def _forget(self, prefix: Prefix) -> None:
        prefix.gone = True
        del self._all[prefix]
        siblings = self._roots if prefix.parent is None else prefix.parent.children
        for key in [key for key, each in siblings.items() if prefix in each]:
            siblings[key].remove(prefix)
            if not siblings[key]:
                del siblings[key]
        if prefix.parent is not None:
            prefix.parent.below -= 1


def common(held: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = enumerate(zip(held, tokens, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(held), len(tokens)))
