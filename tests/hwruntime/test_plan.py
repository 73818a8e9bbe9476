"""The plan's arrays: the design's example literally, and the rules that it follows."""

import pytest

from hwruntime.plan import Block, Piece, Row, build_plan

COMMON, HEADER, A, SEP, B = range(5)
LENGTHS = {COMMON: 100, HEADER: 5, A: 7, SEP: 4, B: 9}  # after the pass


def blocks(lengths: dict[int, int], page_size: int) -> dict[int, Block]:
    """Blocks on consecutive pages, in the order of `lengths`."""
    placed, first = {}, 0
    for block, length in lengths.items():
        count = -(-length // page_size)
        placed[block] = Block(length, range(first, first + count))
        first += count
    return placed


def row(*view: int, tokens: int = 1, lengths: dict[int, int] = LENGTHS) -> Row:
    return Row(tuple(Piece(block, lengths[block]) for block in view), tokens)


@pytest.mark.parametrize(
    ("page_size", "kv_indptr", "kv_last_page_len"),
    [(1, [0, 100, 105, 112, 116, 125], [1, 1, 1, 1, 1]), (16, [0, 7, 8, 9, 10, 11], [4, 5, 7, 4, 9])],
)
def test_two_workers_of_the_design(page_size, kv_indptr, kv_last_page_len):
    rows = [row(COMMON, HEADER, B, SEP, A), row(COMMON, HEADER, A, SEP, B)]
    plan = build_plan(rows, blocks(LENGTHS, page_size), page_size)
    assert plan.qo_indptr == [0, 2, 4, 6, 8, 10]
    assert plan.kv_indptr == kv_indptr
    assert plan.kv_last_page_len == kv_last_page_len
    assert plan.kv_indices == list(range(kv_indptr[-1]))
    assert plan.positions == [124, 124, 24, 24, 6, 19, 10, 12, 19, 8]
    assert plan.rows == [0, 1] * 5
    assert plan.causal == [False] * 5
    assert plan.locals == [6, 8]
    assert plan.deltas == [118, 116, 18, 16, 0, 11, 4, 4, 13, 0]
    assert [plan.kv_length(request) for request in range(plan.requests)] == [100, 5, 7, 4, 9]


def test_several_new_tokens_have_a_causal_request_of_their_own():
    lengths = {0: 10, 1: 6}
    rows = [row(0, 1, tokens=3, lengths=lengths), row(1, 0, lengths=lengths)]
    plan = build_plan(rows, blocks(lengths, 16), 16)
    assert plan.causal == [False, False, True]  # block 0 for both rows, block 1 for the second, block 1 for its writer
    assert plan.qo_indptr == [0, 4, 5, 8]
    assert plan.rows == [0, 1, 2, 3, 3, 0, 1, 2]
    assert plan.positions == [13, 14, 15, 9, 15, 3, 4, 5]
    assert plan.locals == [3, 4, 5, 9]


def test_two_rows_that_write_one_block_see_it_up_to_themselves():
    plan = build_plan([Row((Piece(0, 4),), 1), Row((Piece(0, 5),), 1)], {0: Block(5, [3])}, 16)
    assert [plan.kv_length(request) for request in range(plan.requests)] == [5, 4]
    assert plan.rows == [1, 0]
    assert plan.locals == [3, 4]


def test_a_block_twice_in_a_view_is_one_request_with_both_positions():
    rows = [Row((Piece(0, 3), Piece(1, 2), Piece(0, 3), Piece(2, 1)), 1)]
    plan = build_plan(rows, {0: Block(3, [0]), 1: Block(2, [1]), 2: Block(1, [2])}, 16)
    assert plan.qo_indptr == [0, 2, 3, 4]
    assert plan.positions == [8, 3, 5, 0]
    assert plan.kv_indices == [0, 1, 2]


def test_empty_pieces_have_no_request():
    plan = build_plan([Row((Piece(0, 0), Piece(1, 1)), 1)], {0: Block(0, []), 1: Block(1, [0])}, 16)
    assert plan.requests == 1
    assert plan.positions == [0]


def test_blocks_that_nobody_sees_have_no_request():
    plan = build_plan([Row((Piece(1, 1),), 1)], {0: Block(40, [0, 1, 2]), 1: Block(1, [3])}, 16)
    assert plan.kv_indices == [3]


def test_a_prompt_alone_is_one_causal_request():
    plan = build_plan([Row((Piece(0, 20),), 20)], {0: Block(20, [5, 2])}, 16)
    assert plan.causal == [True]
    assert plan.kv_indices == [5, 2]
    assert plan.positions == plan.locals == list(range(20))
    assert plan.deltas == [0] * 20


@pytest.mark.parametrize("tokens", [0, 4])
def test_a_row_writes_what_it_sees_last(tokens):
    with pytest.raises(AssertionError):
        Row((Piece(0, 3),), tokens)
