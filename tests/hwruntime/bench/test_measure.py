"""Everything by turns."""

from hwruntime.bench.measure import Cell, Timing, interleaved, timing


def test_ways_take_turns_and_the_first_pass_of_a_turn_does_not_count():
    order: list[str] = []

    def way(name: str, times: list[float]):
        def step() -> float:
            order.append(name)
            return times[order.count(name) - 1]

        return step

    ways = {("a", 1): way("a", [99, 1, 2, 99, 3, 4]), ("b", 1): way("b", [99, 5, 5, 99, 5, 5])}
    found = interleaved(ways, rounds=2, passes=2)
    assert "".join(order) == "aaabbbaaabbb"
    assert found["a", 1] == Timing(2.5, 1, 4, 4)
    assert found["b", 1].ms == 5


def test_a_timing_leaves_out_a_tenth_at_either_end():
    assert timing([*range(1, 20), 1000]) == Timing(10.5, 3, 18, 20)


def test_tokens_a_second():
    hw = Timing(20.0, 19.0, 21.0, 8)
    assert Cell("float32", "auto", 64, 4, 70, hw, hw, 1e9, 10.0, {}).tokens_per_second == 200
