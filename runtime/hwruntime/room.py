"""Who has pages of the pool, and who gives theirs back when there are not enough.

First go constants that no run uses, the least recently used one first; then blocks that coroutines only keep for later;
then runs that are not asked to go on; then younger ones. A run that gives its pages back loses nothing: its K/V wait in
the host's memory, and as they are stored at block-local positions, any pages will do for them later.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Protocol

from hwruntime.batch import Tenant
from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool, Stored
from hwruntime.errors import PoolFull
from hwruntime.rows import Block


class Memory(Protocol):
    """The K/V behind a pool."""

    @property
    def pool(self) -> Pool: ...

    def read(self, slots: list[int]) -> Stored:
        """A copy of what is stored at slots, in the host's memory."""

    def write(self, stored: Stored, slots: list[int]) -> None:
        """Store what was read."""


class Constants:
    """Constants that are encoded alone, by their tokens: stored once for all runs, and kept when no run uses them."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[int, ...], CacheBlock] = OrderedDict()  # the least recently used one first
        self._users: dict[Block, tuple[int, ...]] = {}

    def take(self, user: Block, tokens: tuple[int, ...]) -> CacheBlock | None:
        if tokens in self._blocks:
            self._users[user] = tokens
            self._blocks.move_to_end(tokens)
        return self._blocks.get(tokens)

    def add(self, user: Block, tokens: tuple[int, ...], block: CacheBlock) -> None:
        self._blocks[tokens] = block
        self._users[user] = tokens

    def release(self, user: Block) -> bool:
        """Whether the user's block is one of these."""
        return self._users.pop(user, None) is not None

    def drop(self) -> CacheBlock | None:
        """Forget the least recently used one that no run uses."""
        used = Counter(self._users.values())
        tokens = next((tokens for tokens in self._blocks if not used[tokens]), None)
        return None if tokens is None else self._blocks.pop(tokens)


class Room:
    """`runs`: those that have begun and not ended; `asked`: those that are to go on in this pass."""

    def __init__(self, memory: Memory) -> None:
        self.constants = Constants()
        self.runs: list[Tenant] = []
        self.asked: Sequence[Tenant] = ()
        self.suspended = 0  # how often one was
        self._memory = memory

    @property
    def pool(self) -> Pool:
        return self._memory.pool

    def extend(self, run: Tenant, block: CacheBlock, tokens: int) -> range:
        """`Pool.extend`, after others have made room for it. Raises `PoolFull`."""
        while not self.pool.has_room([block], tokens) and (
            self.drop_constant() or self._drop_spare() or self._suspend_for(run)
        ):
            pass
        return self.pool.extend(block, tokens)

    def drop_constant(self) -> bool:
        """Give back the pages of a constant that no run uses; whether there was one."""
        dropped = self.constants.drop()
        if dropped is not None:
            self.pool.clear(dropped)
        return dropped is not None

    def suspend(self, run: Tenant) -> None:
        """Take a run's pages, and keep what only they held."""
        for block, held in run.blocks.items():
            if held.length and not self.constants.release(block):
                run.away[block] = held.length, self._memory.read(self.pool.slots(held, range(held.length)))
                self.pool.clear(held)
        run.blocks.clear()
        run.stage = "away"
        self.suspended += 1

    def bring_back(self, run: Tenant) -> None:
        """Give a suspended run pages for what it had. Raises `PoolFull`, with the run suspended as it was."""
        made: dict[Block, CacheBlock] = {}
        try:
            for block, (length, stored) in run.away.items():
                held = made[block] = CacheBlock()
                positions = self.extend(run, held, length)
                self._memory.write(stored, self.pool.slots(held, positions))
        except PoolFull:
            for held in made.values():
                self.pool.clear(held)
            raise
        run.blocks.update(made)
        run.away.clear()

    def release(self, run: Tenant) -> None:
        """Take a run's pages for good; once or more often."""
        self.free(run)
        run.away.clear()
        if run in self.runs:
            self.runs.remove(run)

    def drop(self, run: Tenant, block: Block) -> None:
        """Take the pages of one of a run's blocks for good."""
        self.pool.clear(run.held(block))
        del run.blocks[block]
        run.away.pop(block, None)

    def free(self, run: Tenant) -> None:
        """Give back the pages that a run has now."""
        for block, held in run.blocks.items():
            if not self.constants.release(block):
                self.pool.clear(held)
        run.blocks.clear()

    def _drop_spare(self) -> bool:
        """Give back the pages of a block that is only kept for later; whether there was one."""
        for run in self.runs:
            block = run.take_spare() if run.stage == "here" else None
            if block is not None:
                self.drop(run, block)
                return True
        return False

    def _suspend_for(self, run: Tenant) -> bool:
        """Suspend one run that has to make room for this one; whether there was one. A pool that can grow does."""
        if self.pool.grows:
            return False
        holding = [other for other in self.runs if other is not run and other.stage == "here" and other.blocks]
        idle = [other for other in holding if other not in self.asked]
        younger = [other for other in holding if other.number > run.number]
        given = (idle or younger)[-1:]
        for other in given:
            self.suspend(other)
        return bool(given)
