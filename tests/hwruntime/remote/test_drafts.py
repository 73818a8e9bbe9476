"""Views as flat texts, and when what was written ahead still holds."""

from hwruntime.remote.drafts import drafted, flat, written
from hwruntime.rows import Block, Draw, Row, again_row, whole_row

DRAW = Draw(0.0, 1.0, 0, 0.0, 0, 0, 0, frozenset())


def block(name: str, *tokens: int) -> Block:
    return Block(name, tokens=list(tokens))


def texts(*rows: Row) -> list[tuple[int, ...]]:
    added = written(rows)
    return [flat(row, added[row]) for row in rows]


def test_a_view_is_read_in_its_order_with_what_others_write_in_this_pass():
    text, ann, ben = block("text", 1, 2), block("Ann", 3), block("Ben")
    first = whole_row("Ann", (text, ben, ann), (4,), DRAW)
    second = whole_row("Ben", (text, ann, ben), (5, 6), DRAW)
    assert texts(first, second) == [(1, 2, 5, 6, 3, 4), (1, 2, 3, 4, 5, 6)]


def test_of_its_own_block_a_row_sees_what_comes_before_it():
    text, pad = block("text", 1), block("pad", 2)
    posts = [whole_row(name, (text, pad), (number,)) for name, number in (("Ann", 3), ("Ben", 4))]
    reader = whole_row("Ann", (text, pad, block("Ann")), (5,), DRAW)
    assert texts(*posts, reader) == [(1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5)]


def test_a_row_that_reads_its_last_token_again_reads_it_once():
    text, ann = block("text", 1, 2), block("Ann")
    again = again_row("Ann", (text, ann), DRAW)
    assert again is not None
    assert texts(again) == [(1, 2)]


def test_a_draft_holds_while_its_worker_only_goes_on():
    text, ann, other = block("text", 1), block("Ann", 2), block("Ben")
    draft = drafted(whole_row("Ann", (text, ann), (3, 4), DRAW), (7, 8, 9))
    assert draft.take(made=5) == 7
    ann.tokens += [3, 4]
    going_on = whole_row("Ann", (text, ann), (7,), DRAW)
    assert draft.goes_on(going_on, made=6)
    assert not draft.goes_on(going_on, made=7)  # it was paused
    assert not draft.goes_on(whole_row("Ann", (text, ann), (7, 3), DRAW), made=6)  # a text was handed to it
    assert not draft.goes_on(whole_row("Ann", (text, ann), (8,), DRAW), made=6)
    assert not draft.goes_on(whole_row("Ann", (text, other, ann), (7,), DRAW), made=6)
    ann.tokens.clear()  # it was moved
    assert not draft.goes_on(going_on, made=6)


def test_a_draft_ends():
    ann = block("Ann")
    draft = drafted(whole_row("Ann", (ann,), (1,), DRAW), (7,))
    assert draft.take(made=1) == 7
    ann.tokens.append(1)
    assert not draft.goes_on(whole_row("Ann", (ann,), (7,), DRAW), made=2)
