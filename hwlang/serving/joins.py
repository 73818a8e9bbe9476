"""Texts that branches have written, put behind one another in the cache: what SGLang's frontend calls `join`.

Its `join(mode="concate_and_append")` has every branch's text written, names the branches by ids that no request has
carried, and goes on with a text in which what they added stands behind their opening. So a join waits until such a text
comes, made of as many written ones as were named. Requests that carry an id (`rid`) are joined at once.

A joined text is one by its characters, whoever sends it, and its tokens are those that the branches have.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hwruntime.errors import InputError

if TYPE_CHECKING:
    from hwlang.serving.sglang_api import Join
    from hwruntime.prefixes import Prefix

T = TypeVar("T")
MOST = 256  # texts, ids and joins that are remembered; branches of one join
GLANCE = 16  # characters that are compared before a whole text is


@dataclass(frozen=True)
class Branches:
    """An opening, and the texts that begin with it, in their order. `text` has all of what they add to it."""

    opening: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.opening + "".join(text[len(self.opening) :] for text in self.texts)


@dataclass(frozen=True)
class Joined:
    """The tokens of a joined text, and the prefix that the cache has of it."""

    tokens: tuple[int, ...]
    prefix: Prefix

    @property
    def there(self) -> bool:
        return not self.prefix.gone and self.prefix.block.error is None


class Joins:
    """What was written, what is to be joined, and what was."""

    def __init__(self) -> None:
        self._written: OrderedDict[str, None] = OrderedDict()
        self._by_id: OrderedDict[str, str] = OrderedDict()
        self._waiting: deque[int] = deque(maxlen=MOST)  # joins: of how many branches
        self._joined: OrderedDict[str, Joined] = OrderedDict()

    def note_written(self, text: str) -> None:
        """A text was written into the cache by a request for nothing else."""
        remember(self._written, text, None)

    def note_id(self, rid: str, text: str) -> None:
        """What there is of a request that carried an id."""
        remember(self._by_id, rid, text)

    def ask(self, join: Join) -> Branches | None:
        """What to join now; None where it has to wait for the text. Raises `InputError`."""
        if len(join.sources) > MOST:
            raise InputError(f"{len(join.sources)} branches are joined: {MOST} can be")
        known = [rid for rid in (*join.sources, join.target) if rid in self._by_id]
        if not known:
            if len(join.sources) > 1:  # the text of one branch is what it is
                self._waiting.append(len(join.sources))
            return None
        for rid in (*join.sources, join.target):
            if rid not in self._by_id:
                raise InputError(f"no request had the id `{rid}`", help="send it as `rid`, with each or with none")
        opening = self._by_id[join.target]
        branches = Branches(opening, tuple(self._by_id[rid] for rid in join.sources))
        for rid, text in zip(join.sources, branches.texts, strict=True):
            if not text.startswith(opening):
                raise InputError(f"the text of `{rid}` does not begin with that of `{join.target}`")
        self.note_id(join.target, branches.text)
        return branches

    def due(self, text: str) -> Branches | None:
        """The branches of a join that waits, where this is the text that goes on behind them."""
        for count in self._waiting:
            branches = self._branches_of(text, count)
            if branches is not None:
                self._waiting.remove(count)
                return branches
        return None

    def add(self, branches: Branches, joined: Joined) -> None:
        remember(self._joined, branches.text, joined)

    def of(self, text: str) -> tuple[str, Joined] | None:
        """The longest joined text that a text begins with."""
        for gone in [each for each, joined in self._joined.items() if not joined.there]:
            del self._joined[gone]
        found = max((each for each in self._joined if text.startswith(each)), key=len, default=None)
        return None if found is None else (found, self._joined[found])

    def _branches_of(self, text: str, count: int) -> Branches | None:
        for first in sorted(filter(text.startswith, self._written), key=len, reverse=True):
            for cut in self._cuts(text, first):
                parts = {each[cut:]: each for each in self._written if each.startswith(text[:cut]) and len(each) > cut}
                found = next(split(text[len(first) :], sorted(parts, key=len, reverse=True), count - 1), None)
                if found is not None:
                    return Branches(text[:cut], (first, *(parts[part] for part in found)))
        return None

    def _cuts(self, text: str, first: str) -> list[int]:
        """Where the opening of a text can end that begins with the branch `first`, the longest one first: where another
        branch goes on as the text does behind `first`."""
        cuts: set[int] = set()
        for second in self._written:
            same = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))
            for cut in range(same + 1):
                if all(text.startswith(second[cut:end], len(first)) for end in (cut + GLANCE, None)):
                    cuts.add(cut)
        return sorted((cut for cut in cuts if cut < len(first)), reverse=True)


def split(text: str, parts: Sequence[str], count: int) -> Iterator[list[str]]:
    """The ways in which a text begins with `count` of the parts, one behind the other."""
    ways: list[tuple[str, list[str]]] = [(text, [])]
    while ways:
        rest, taken = ways.pop()
        if len(taken) == count:
            yield taken
            continue
        ways += [(rest[len(part) :], [*taken, part]) for part in reversed(parts) if rest.startswith(part)]


def remember(things: OrderedDict[str, T], name: str, thing: T) -> None:
    """As the newest of `MOST`."""
    things[name] = thing
    things.move_to_end(name)
    while len(things) > MOST:
        things.popitem(last=False)
