"""The numbers game: puzzles have solutions, and only arithmetic is arithmetic."""

import random

import pytest

from hwlang.evaluation.countdown import HIGHEST, NUMBERS, NotArithmetic, evaluated, make_puzzle, right


@pytest.mark.parametrize("seed", range(30))
def test_a_puzzle_has_a_solution(seed):
    puzzle = make_puzzle(random.Random(seed))
    assert len(puzzle.numbers) == NUMBERS
    assert 1 <= puzzle.target <= HIGHEST
    assert right(puzzle.expected, puzzle.solution)
    assert not right(puzzle.expected, str(puzzle.target))
    assert all(str(number) in puzzle.text for number in (*puzzle.numbers, puzzle.target))


BAD = ["", "1 +", "x + 1", "abs(1)", "1 if 1 else 2", "True", "1.5", "-1", "(1, 2)", "1 // 2", "(" * 300, "9" * 300]


@pytest.mark.parametrize("text", [*BAD, "1 / 0", "1; 2", "__import__('os')", "1 << 99999"])
def test_anything_else_is_refused(text):
    with pytest.raises(NotArithmetic):
        evaluated(text)


@pytest.mark.parametrize("text", ["6 / 4 * 2", r"\frac{6}{4} \times 2", "$6 ÷ 4 × 2$", "6/4*2 = 3"])
def test_an_expression_may_be_written_as_people_write(text):
    value, used = evaluated(text)
    assert (value, sorted(used)) == (3, [2, 4, 6])
