"""Texts that are kept: which of them a new one goes on behind, who holds them, and which goes when room is needed."""

from hypothesis import given
from hypothesis import strategies as st

from hwruntime.prefixes import Lease, Prefixes
from hwruntime.requests import Requests
from hwruntime.scripted import WordTokenizer

LETTERS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def kept() -> tuple[Requests, Prefixes]:
    requests = Requests(WordTokenizer(), context=1000, chunk=256)
    return requests, Prefixes(requests, page=4)


def encode(lease: Lease) -> None:
    """What a pass does with what waits."""
    lease.block.tokens.extend(lease.block.waiting)
    lease.block.waiting.clear()


def seen(prefixes: Prefixes, lease: Lease, tokens: list[int]) -> list[int]:
    """The tokens that a view shows."""
    ends = [len(block.tokens) if most is None else most for block, most in zip(lease.view, lease.seen, strict=True)]
    return [token for block, end in zip(lease.view, ends, strict=True) for token in block.tokens[:end]]


def write(prefixes: Prefixes, tokens: list[int]) -> Lease:
    lease = prefixes.take(tokens, len(tokens))
    if lease.writes:
        encode(lease)
    assert seen(prefixes, lease, tokens) == tokens
    prefixes.give_back(lease)
    return lease


@given(st.lists(LETTERS, max_size=12), st.data())
def test_as_much_of_a_text_is_there_as_any_other_has(texts, data):
    """Whatever was written, and dropped since."""
    _, prefixes = kept()
    there: list[list[int]] = []
    for text in texts:
        lease = write(prefixes, text)
        most = max((common(text, other) for other in there), default=0)
        assert lease.cached == most
        there.append(text)
        if data.draw(st.integers(0, 3)) == 0:
            prefixes.drop_all()
            there.clear()
    prefixes.drop_all()
    assert prefixes.tokens == 0


def common(a: list[int], b: list[int]) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_a_text_goes_on_in_the_block_of_its_beginning_unless_that_is_being_written():
    _, prefixes = kept()
    first = prefixes.take([1, 2, 3], 3, grow=5)
    encode(first)
    beside = prefixes.take([1, 2, 3, 4], 4)
    assert beside.cached == 3
    assert beside.block is not first.block
    assert beside.seen == (3, None)
    prefixes.give_back(beside)
    prefixes.give_back(first)
    assert prefixes.take([1, 2, 3, 5], 4).block is first.block


def test_only_as_much_is_taken_as_is_of_use():
    _, prefixes = kept()
    write(prefixes, [1, 2, 3, 4])
    lease = prefixes.take([1, 2, 3, 4], 3)
    assert (lease.cached, lease.seen, lease.block.waiting) == (3, (3, None), [4])


def test_nothing_is_dropped_that_is_held_or_gone_on_behind():
    _, prefixes = kept()
    write(prefixes, [1, 1, 1])
    held = prefixes.take([1, 1, 2], 3)
    encode(held)
    assert prefixes.drop_oldest() is None
    write(prefixes, [2])
    dropped = prefixes.drop_oldest()
    assert dropped
    assert dropped.tokens == [2]
    prefixes.give_back(held)
    assert [prefixes.drop_oldest(), prefixes.drop_oldest()] == [held.view[1], held.view[0]]
    assert prefixes.drop_oldest() is None


def test_what_was_never_written_is_no_text():
    requests, prefixes = kept()
    lease = prefixes.take([1, 2], 2)
    prefixes.give_back(lease)
    assert prefixes.take([1, 2], 2).cached == 0
    assert len(requests.edits) == 1  # its pages are given back


def test_a_joined_text_is_found_by_those_who_know_it():
    requests, prefixes = kept()
    write(prefixes, [1, 2])
    branches = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 6, 7]]
    for branch in branches:
        write(prefixes, branch)
    leases = [prefixes.take(branch, len(branch)) for branch in branches]
    joined = prefixes.join(leases[0], [(lease, 2) for lease in leases[1:]])
    for lease in leases:
        prefixes.give_back(lease)
    assert joined.block.tokens == [5, 6, 7]
    text = [1, 2, 3, 4, 5, 6, 7, 8]
    assert prefixes.take(text, len(text)).cached == 4
    known = prefixes.take(text, len(text), root=joined)
    assert (known.cached, known.block) == (7, joined.block)
    encode(known)
    prefixes.give_back(known)
    assert prefixes.take([1, 2, 3, 4, 5, 6], 5, grow=1, root=joined).cached == 5
    sources = [lease.prefix for lease in leases[1:]]
    assert all(source and source.users for source in sources)  # until they are copied
    requests.edits.clear()
    prefixes.take([9], 1)
    assert not any(source.users for source in sources if source)


def test_pages_are_those_of_all_who_hold_something():
    _, prefixes = kept()
    write(prefixes, [1] * 9)
    assert prefixes.pages() == 0
    lease = prefixes.take([1] * 9 + [2], 10, grow=6)
    assert prefixes.pages() == 4 + 2  # 16 tokens, and two pages to read anew and throw away
    branch = prefixes.take([1] * 9 + [3], 10, grow=3)
    assert prefixes.pages() == 4 + 1 + 2 * 2
    prefixes.give_back(lease)
    prefixes.give_back(branch)
    assert prefixes.pages() == 0
