"""The paged K/V pool: which pages a block is made of (`Pool`), and the tensors behind them (`Storage`).

K/V of a token are stored once, at block-local positions, however many workers read them.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hwruntime.errors import PoolFull, RunError

Stored = Mapping[int, tuple[Tensor, Tensor]]  # by layer: keys and values [kv heads, tokens, head dim], as the cache has
PAGE_SIZE = 16  # tokens
FIRST_CAPACITY = 256  # pages of a pool that grows on demand; it grows by a quarter, and by as many at least


@dataclass(eq=False)
class Block:
    """An append-only run of tokens in the pool."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class Pool:
    """Hands out pages to blocks. Without `tokens` it grows as needed, else it holds that many tokens and no more.

    Pages of one block are kept next to each other where there is room, so that a block is one slice of the storage.
    `version` is another one after every call that may change a block; which pages a call gives depends on nothing but
    the pool's state, so what was found out at one version holds as long as that lasts.
    """

    def __init__(self, tokens: int | None = None, page_size: int = PAGE_SIZE) -> None:
        if tokens is not None and tokens < 1:
            raise RunError(f"a cache of {tokens} tokens holds nothing: kv_tokens must be at least 1")
        self.page_size = page_size
        self.grows = tokens is None
        self.version = 0
        self._taken = bytearray(FIRST_CAPACITY if tokens is None else -(-tokens // page_size))

    @property
    def capacity(self) -> int:
        """Tokens that the pool has room for now."""
        return len(self._taken) * self.page_size

    @property
    def used(self) -> int:
        """Tokens' worth of pages that blocks hold now."""
        return (len(self._taken) - self._free) * self.page_size

    @property
    def _free(self) -> int:
        return self._taken.count(0)  # pages

    def fits(self, lengths: list[int]) -> bool:
        """Whether an empty pool of this size could hold blocks of these lengths at once."""
        return self.grows or self._pages(lengths) <= len(self._taken)

    def free_for(self, lengths: list[int]) -> bool:
        """Whether there is room now for new blocks of these lengths."""
        return self.grows or self._pages(lengths) <= self._free

    def has_room(self, blocks: Sequence[Block], tokens: int) -> bool:
        """Whether each of these blocks can be extended by so many tokens without the pool growing for it."""
        need = sum(self._missing(block, tokens) for block in blocks)
        return not need or need <= self._free

    def extend(self, block: Block, tokens: int) -> range:
        """Make room for `tokens` more and count them in; the new tokens' block-local positions.

        Raises `RunError` where the pool is full; the block is unchanged then.
        """
        self.version += 1
        if need := self._missing(block, tokens):
            self._reserve(need)
            for _ in range(need):
                block.pages.append(self._take(after=block.pages[-1] if block.pages else None))
        block.length += tokens
        return range(block.length - tokens, block.length)

    def shrink(self, block: Block, tokens: int) -> None:
        """Count the last `tokens` out again and give back the pages that only they had, as if they had never been."""
        self.version += 1
        block.length -= tokens
        kept = -(-block.length // self.page_size)
        for page in block.pages[kept:]:
            assert self._taken[page], "a page is given back once"
            self._taken[page] = 0
        del block.pages[kept:]

    def clear(self, block: Block) -> None:
        """Give a block's pages back; it is empty afterwards."""
        self.shrink(block, block.length)

    def hand_over(self, source: Block, target: Block) -> None:
        """Give `source`'s pages to `target`, which is empty; `source` is empty afterwards."""
        assert not target.pages, "only an empty block takes pages over"
        self.version += 1
        target.pages, target.length = source.pages, source.length
        source.pages, source.length = [], 0

    def slots(self, block: Block, positions: range) -> list[int]:
        """Where the storage holds these tokens of a block."""
        size = self.page_size
        return [block.pages[p // size] * size + p % size for p in positions]

    def _pages(self, lengths: list[int]) -> int:
        """That blocks of these lengths take."""
        return sum(-(-n // self.page_size) for n in lengths)

    def _missing(self, block: Block, tokens: int) -> int:
        """Pages that a block lacks for so many tokens more."""
        return -(-(block.length + tokens) // self.page_size) - len(block.pages)

    def _reserve(self, pages: int) -> None:
        missing = pages - self._free
        if missing <= 0:
            return
        if not self.grows:
            need = self.used + pages * self.page_size
            raise too_small(need, self.capacity)
        self._taken.extend(bytes(max(missing, FIRST_CAPACITY, len(self._taken) // 4)))

    def _take(self, after: int | None) -> int:
        if after is not None and after + 1 < len(self._taken) and not self._taken[after + 1]:
            page = after + 1
        else:
            page = self._roomiest()
        self._taken[page] = 1
        return page

    def _roomiest(self) -> int:
        """The middle of the largest free run: room to grow for the new run as well as for the block before it."""
        start, end = max((run.span() for run in re.finditer(rb"\0+", self._taken)), key=lambda run: run[1] - run[0])
        return start if start == 0 else (start + end) // 2


def too_small(need: int, capacity: int) -> PoolFull:
    return PoolFull(f"the run needs {need} tokens of cache, the pool has {capacity}: raise kv_tokens")


class Storage:
    """K and V of every layer, [kv heads, slots, head dim] each; K are rotated for their block-local positions, unless
    the executor says otherwise.

    Layers are allocated when they are first written. There is one page more than the pool has: its slots belong to no
    block, and take what padding writes.
    """

    def __init__(
        self, pool: Pool, dtype: torch.dtype | None = None, layers: Mapping[int, tuple[Tensor, Tensor]] | None = None
    ) -> None:
        """`dtype`: of the cache; None for what the model computes in. `layers`: tensors that somebody else allocated,
        of any strides but one at the last dimension, with room for a pool that does not grow and the page more."""
        assert layers is None or not pool.grows, "what somebody else allocated cannot grow"
        self._pool = pool
        self.dtype = dtype
        self._layers = dict(layers or {})

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        return self._layers[index]

    def write(self, index: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store `keys` and `values` [kv heads, tokens, head dim] of a pass at `slots` [tokens]."""
        shapes = self._layers.get(index, (keys, values))
        k, v = self.sized(index, len(keys), shapes[0].shape[-1], shapes[1].shape[-1], keys.dtype, keys.device)
        for stored, new in ((k, keys), (v, values)):
            put(stored[..., : new.shape[-1]], slots, new)

    def read(self, slots: Tensor) -> Stored:
        """A copy of what all layers have at `slots` [tokens]."""
        return {index: (k[:, slots], v[:, slots]) for index, (k, v) in sorted(self._layers.items())}

    def move(self, source: Tensor, target: Tensor, rotate: Callable[[int, Tensor], Tensor]) -> None:
        """Copy every layer's K/V from `source` to `target` slots [tokens]; keys go through `rotate(layer, keys)`."""
        for index, (k, v) in self._layers.items():
            self.write(index, target, rotate(index, k[:, source]), v[:, source])

    def sized(
        self, index: int, kv_heads: int, dim: int, value_dim: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, with room for all that the pool has; made where they are not there yet."""
        slots = self._pool.capacity + self._pool.page_size
        old = self._layers.get(index)
        if old is not None and old[0].shape[1] >= slots:
            return old
        made = self.dtype or dtype
        new = tuple(torch.zeros(kv_heads, slots, n, dtype=made, device=device) for n in (dim, value_dim))
        if old is not None:
            for bigger, smaller in zip(new, old, strict=True):
                bigger[:, : smaller.shape[1]] = smaller
        self._layers[index] = (new[0], new[1])
        return self._layers[index]


def put(stored: Tensor, slots: Tensor, new: Tensor) -> None:
    """Write `new` [kv heads, tokens, dim] to `slots` [tokens] of `stored`. What is too large for 8 bits becomes the
    largest number there is, not a nan."""
    if stored.dtype.itemsize > 1:
        stored.index_copy_(1, slots, new.to(stored.dtype))
        return
    limit = largest(stored.dtype)
    if new.dtype != stored.dtype:
        new = new.clamp(-limit, limit).to(stored.dtype)
    stored[:, slots] = new  # torch copies by index in no dtype of 8 bits, and assigns in all


def largest(dtype: torch.dtype) -> float:
    """Where stored values are clamped to: beyond it, an 8-bit float is nan. Wider ones are not clamped."""
    return torch.finfo(dtype).max if dtype.itemsize == 1 else math.inf
