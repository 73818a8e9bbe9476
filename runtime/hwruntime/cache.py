"""The paged K/V pool: which pages a block is made of (`Pool`), and the tensors behind them (`Storage`).

K/V of a token are stored once, at block-local positions, however many workers read them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from hwruntime.errors import RunError

PAGE_SIZE = 16  # tokens
FIRST_CAPACITY = 256  # pages of a pool that grows on demand


@dataclass(eq=False)
class Block:
    """An append-only run of tokens in the pool."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class Pool:
    """Hands out pages to blocks. Without `tokens` it grows as needed, else it holds that many tokens and no more.

    Pages of one block are kept next to each other where there is room, so that a block is one slice of the storage.
    """

    def __init__(self, tokens: int | None = None, page_size: int = PAGE_SIZE) -> None:
        if tokens is not None and tokens < 1:
            raise RunError(f"a cache of {tokens} tokens holds nothing: kv_tokens must be at least 1")
        self.page_size = page_size
        self.grows = tokens is None
        self._taken = bytearray(FIRST_CAPACITY if tokens is None else -(-tokens // page_size))

    @property
    def capacity(self) -> int:
        """Tokens that the pool has room for now."""
        return len(self._taken) * self.page_size

    @property
    def used(self) -> int:
        """Tokens' worth of pages that blocks hold now."""
        return sum(self._taken) * self.page_size

    def fits(self, lengths: list[int]) -> bool:
        """Whether an empty pool of this size could hold blocks of these lengths at once."""
        return self.grows or sum(-(-n // self.page_size) for n in lengths) <= len(self._taken)

    def extend(self, block: Block, tokens: int) -> range:
        """Make room for `tokens` more and count them in; the new tokens' block-local positions.

        Raises `RunError` where the pool is full; the block is unchanged then.
        """
        start, end = block.length, block.length + tokens
        need = -(-end // self.page_size) - len(block.pages)
        if need > 0:
            self._reserve(need)
            for _ in range(need):
                block.pages.append(self._take(after=block.pages[-1] if block.pages else None))
        block.length = end
        return range(start, end)

    def clear(self, block: Block) -> None:
        """Give a block's pages back; it is empty afterwards."""
        for page in block.pages:
            assert self._taken[page], "a page is given back once"
            self._taken[page] = 0
        block.pages.clear()
        block.length = 0

    def hand_over(self, source: Block, target: Block) -> None:
        """Give `source`'s pages to `target`, which is empty; `source` is empty afterwards."""
        assert not target.pages, "only an empty block takes pages over"
        target.pages, target.length = source.pages, source.length
        source.pages, source.length = [], 0

    def slots(self, block: Block, positions: range) -> list[int]:
        """Where the storage holds these tokens of a block."""
        size = self.page_size
        return [block.pages[p // size] * size + p % size for p in positions]

    def _reserve(self, pages: int) -> None:
        missing = pages - self._taken.count(0)
        if missing <= 0:
            return
        if not self.grows:
            need = self.used + pages * self.page_size
            raise too_small(need, self.capacity)
        self._taken.extend(bytes(max(missing, len(self._taken))))

    def _take(self, after: int | None) -> int:
        if after is not None and after + 1 < len(self._taken) and not self._taken[after + 1]:
            page = after + 1
        else:
            page = self._roomiest()
        self._taken[page] = 1
        return page

    def _roomiest(self) -> int:
        """The middle of the largest free run: room to grow for the new run as well as for the block before it."""
        runs = [[i for i, _ in run] for taken, run in groupby(enumerate(self._taken), key=lambda x: x[1]) if not taken]
        largest = max(runs, key=len)
        return largest[0] if largest[0] == 0 else largest[len(largest) // 2]


def too_small(need: int, capacity: int) -> RunError:
    return RunError(f"the run needs {need} tokens of cache, the pool has {capacity}: raise kv_tokens")


class Storage:
    """K and V of every layer, [kv heads, slots, head dim] each; K are rotated for their block-local positions.

    Layers are allocated when they are first written, with the shapes that the model gives them.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        return self._layers[index]

    def write(self, index: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store `keys` and `values` [kv heads, tokens, head dim] of a pass at `slots` [tokens]."""
        k, v = self._sized(index, keys, values)
        k.index_copy_(1, slots, keys)
        v.index_copy_(1, slots, values)

    def move(self, source: Tensor, target: Tensor, rotate: Callable[[int, Tensor], Tensor]) -> None:
        """Copy every layer's K/V from `source` to `target` slots [tokens]; keys go through `rotate(layer, keys)`."""
        for index in self._layers:
            k, v = self._layers[index]
            self.write(index, target, rotate(index, k[:, source]), v[:, source])

    def _sized(self, index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        capacity = self._pool.capacity
        old = self._layers.get(index)
        if old is not None and old[0].shape[1] >= capacity:
            return old
        new = tuple(
            torch.zeros(x.shape[0], capacity, x.shape[2], dtype=x.dtype, device=x.device) for x in (keys, values)
        )
        if old is not None:
            for bigger, smaller in zip(new, old, strict=True):
                bigger[:, : smaller.shape[1]] = smaller
        self._layers[index] = (new[0], new[1])
        return self._layers[index]
