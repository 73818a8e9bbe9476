"""The pool: pages are never leaked, given twice or shared; the storage keeps what was written."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from torch import Tensor

from hwruntime.cache import FIRST_CAPACITY, Block, Pool, Storage
from hwruntime.errors import RunError

PAGES = 12  # of the pool that is full sooner or later


class PoolMachine(RuleBasedStateMachine):
    """Blocks that are extended, cleared and handed over at random; `content` is what the storage must hold."""

    blocks = Bundle("blocks")
    tokens: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(self.tokens, page_size=4)
        self.storage = Storage(self.pool)
        self.content: dict[int, tuple[Block, list[float]]] = {}
        self.written = 0

    @rule(target=blocks)
    def new(self) -> Block:
        block = Block()
        self.content[id(block)] = (block, [])
        return block

    @rule(block=blocks, count=st.integers(0, 14))
    def extend(self, block: Block, count: int) -> None:
        before = (list(block.pages), block.length, self.pool.used)
        need = -(-(block.length + count) // 4) - len(block.pages)
        if not self.pool.grows and need * 4 > self.pool.capacity - self.pool.used:
            with pytest.raises(RunError):
                self.pool.extend(block, count)
            assert (block.pages, block.length, self.pool.used) == before
            return
        positions = self.pool.extend(block, count)
        assert positions == range(before[1], before[1] + count)
        self._write(block, positions)

    @rule(block=blocks, other=blocks, count=st.integers(0, 14))
    def look_ahead(self, block: Block, other: Block, count: int) -> None:
        """What is counted in and out again has never been, and `extend` then finds the same pages."""
        ahead = [block] if block is other else [block, other]
        need = sum(-(-(b.length + count) // 4) - len(b.pages) for b in ahead)
        assert self.pool.has_room(ahead, count) == (need * 4 <= self.pool.capacity - self.pool.used)
        if not self.pool.has_room(ahead, count):
            return
        before = (self.pool.used, self.pool.capacity, [(list(b.pages), b.length) for b in ahead])
        found = []
        for _ in range(2):
            found.append([(self.pool.extend(b, count), list(b.pages)) for b in ahead])
            for b in ahead:
                self.pool.shrink(b, count)
            assert (self.pool.used, self.pool.capacity, [(b.pages, b.length) for b in ahead]) == before
        assert found[0] == found[1]

    @rule(block=blocks)
    def clear(self, block: Block) -> None:
        self.pool.clear(block)
        self.content[id(block)][1].clear()

    @rule(block=blocks)
    def read(self, block: Block) -> None:
        expected = self.content[id(block)][1]
        if expected:
            keys, values = self.storage.layer(0)
            slots = self.pool.slots(block, range(block.length))
            assert keys[0, slots, 0].tolist() == expected
            assert values[0, slots, 0].tolist() == [-x for x in expected]

    @rule(source=blocks, pad=blocks)
    def hand_over(self, source: Block, pad: Block) -> None:
        if source is pad:
            return
        self.clear(pad)
        self.pool.hand_over(source, pad)
        self._gains(pad, source)

    @rule(source=blocks, pad=blocks)
    def move(self, source: Block, pad: Block) -> None:
        """`move self to pad`: copy behind what the pad holds, then empty the source."""
        if source is pad or not source.length or not self.pool.grows:
            return
        slots = torch.tensor(self.pool.slots(source, range(source.length)))
        positions = self.pool.extend(pad, source.length)
        self.storage.move(slots, torch.tensor(self.pool.slots(pad, positions)), lambda layer, keys: keys)
        self.pool.clear(source)
        self._gains(pad, source)

    @invariant()
    def pages_have_one_owner(self) -> None:
        pages = [page for block, _ in self.content.values() for page in block.pages]
        assert len(pages) == len(set(pages)), "a page belongs to one block"
        assert self.pool.used == 4 * len(pages), "no page is leaked"
        for block, content in self.content.values():
            assert block.length == len(content)
            assert len(block.pages) == -(-block.length // 4)

    def _gains(self, pad: Block, source: Block) -> None:
        self.content[id(pad)][1].extend(self.content[id(source)][1])
        self.content[id(source)][1].clear()

    def _write(self, block: Block, positions: range) -> None:
        numbers = [float(self.written + i + 1) for i in range(len(positions))]
        self.written += len(positions)
        self.content[id(block)][1].extend(numbers)
        if numbers:
            keys = torch.tensor(numbers)[None, :, None]
            self.storage.write(0, torch.tensor(self.pool.slots(block, positions)), keys, -keys)


class FullMachine(PoolMachine):
    tokens = PAGES * 4


TestGrowingPool = PoolMachine.TestCase
TestFullPool = FullMachine.TestCase
TestGrowingPool.settings = TestFullPool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_whatever_may_change_a_block_changes_the_version():
    pool = Pool(8, page_size=4)
    block, other = Block(), Block()
    versions = [pool.version]
    for change in (
        lambda: pool.extend(block, 3),
        lambda: pool.extend(block, 0),
        lambda: pool.shrink(block, 1),
        lambda: pool.hand_over(block, other),
        lambda: pool.clear(other),
    ):
        change()
        versions.append(pool.version)
    with pytest.raises(RunError):
        pool.extend(block, 9)
    versions.append(pool.version)
    assert len(set(versions)) == 7
    assert pool.has_room([block, other], 4)
    assert pool.version == versions[-1]


def test_a_full_pool_says_what_it_needs():
    pool = Pool(64)
    pool.extend(Block(), 40)  # three pages of four
    with pytest.raises(RunError) as failure:
        pool.extend(Block(), 33)
    assert str(failure.value) == "the run needs 96 tokens of cache, the pool has 64: raise kv_tokens"


@pytest.mark.parametrize("tokens", [0, -5])
def test_a_pool_without_room(tokens):
    with pytest.raises(RunError, match="kv_tokens must be at least 1"):
        Pool(tokens)


def test_a_pool_is_rounded_up_to_whole_pages():
    assert Pool(65).capacity == 80
    assert Pool(65).fits([33, 32])
    assert not Pool(65).fits([33, 33])
    assert Pool().fits([10**9])


def test_a_growing_pool_grows():
    pool = Pool()
    before = pool.capacity
    block = Block()
    pool.extend(block, 10 * before)
    assert pool.capacity >= 10 * before == 10 * FIRST_CAPACITY * pool.page_size
    assert len(set(block.pages)) == len(block.pages)


def test_pages_of_a_block_lie_next_to_each_other():
    pool = Pool()
    first, second = Block(), Block()
    for _ in range(20):
        pool.extend(first, 16)
        pool.extend(second, 16)
    for block in (first, second):
        assert block.pages == list(range(block.pages[0], block.pages[0] + 20))


def test_storage_grows_without_losing_anything():
    pool = Pool(page_size=4)
    storage, block = Storage(pool), Block()
    written: list[Tensor] = []
    for _ in range(4):
        slots = torch.tensor(pool.slots(block, pool.extend(block, 700)))
        written.append(torch.randn(2, 700, 3))
        storage.write(5, slots, written[-1], written[-1][..., :1])
    keys, values = storage.layer(5)
    slots = pool.slots(block, range(block.length))
    assert torch.equal(keys[:, slots], torch.cat(written, 1))
    assert torch.equal(values[:, slots], torch.cat(written, 1)[..., :1])


def test_a_move_rotates_keys_of_every_layer_and_not_values():
    pool = Pool(page_size=4)
    storage = Storage(pool)
    source, target = Block(), Block()
    slots = torch.tensor(pool.slots(source, pool.extend(source, 6)))
    pool.extend(target, 3)
    for layer in range(2):
        storage.write(layer, slots, torch.full((2, 6, 4), layer + 1.0), torch.full((2, 6, 2), -layer - 1.0))
    moved = torch.tensor(pool.slots(target, pool.extend(target, 6)))
    storage.move(slots, moved, lambda layer, keys: keys * 10 + layer)
    for layer in range(2):
        keys, values = storage.layer(layer)
        assert (keys[:, moved] == (layer + 1) * 10 + layer).all()
        assert (values[:, moved] == -layer - 1).all()
        assert (keys[:, slots] == layer + 1).all()


def test_a_cache_of_8_bits_saturates_and_moves():
    """What is too large is the largest number there is; what is moved is not rounded again where nothing rotates it."""
    pool = Pool(page_size=4)
    storage, block = Storage(pool, torch.float8_e4m3fn), Block()
    slots = torch.tensor(pool.slots(block, pool.extend(block, 3)))
    values = torch.tensor([1e4, -1e4, 3.25]).expand(2, 5, 3).transpose(1, 2).contiguous()
    storage.write(0, slots, values, values)
    expected = torch.tensor([448.0, -448.0, 3.25])
    assert torch.equal(storage.layer(0)[1].float()[0, slots, 0], expected)
    target = torch.tensor(pool.slots(block, pool.extend(block, 3)))
    storage.move(slots, target, lambda _, keys: keys.to(torch.float32))
    for stored in storage.layer(0):
        assert torch.equal(stored.float()[1, target, 4], expected)
