"""Runs of programs/sums.hw side by side against one after another, on `tiny`: the same texts, in how much less time.

    python benchmarks/batch.py

Both ways are timed by turns, in one process; the ratio of each round is printed.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import hwlang as hw
from hwlang.evaluation.problems import make_sums, opening

PROGRAM = Path(__file__).parents[1] / "programs" / "sums.hw"


def timed(call: Callable[[], list[hw.State]]) -> tuple[float, list[hw.State]]:
    """Seconds, and what came."""
    start = time.perf_counter()
    came = call()
    return time.perf_counter() - start, came


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    engine, program = hw.Engine("tiny"), hw.load(PROGRAM)
    rng = random.Random(1)
    inputs = [{"problems": opening(make_sums(rng, 6)), "n": options.workers} for _ in range(options.runs)]
    program.run(inputs[0], engine=engine)  # what is made once is made before
    for _ in range(options.rounds):
        alone, one_by_one = timed(
            lambda: [program.run(each, engine=engine, seed=seed) for seed, each in enumerate(inputs)]
        )
        together, batched = timed(lambda: program.run_batch(inputs, engine=engine, seed=0))
        assert batched == one_by_one, "a run does not depend on its neighbours"
        told = f"{options.runs} runs: {alone:.1f} s one after another, {together:.1f} s side by side"
        print(f"{told}, {alone / together:.1f} times faster", flush=True)


if __name__ == "__main__":
    main()
