"""How many passes programs/sums.hw takes with 1, 2, 3 and 4 workers, and how many problems come out right.

    python benchmarks/sums.py --prompts 100 --model tiny

Prompts are made fresh from the seed, by the generator that the embedded model was trained with; every result is checked
against it. Prints a Markdown table.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hwlang as hw
from hwruntime.batch import Run
from hwruntime.result import Result

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from training.generator import make_problems, opening, result, solution  # noqa: E402

SIDE_BY_SIDE = 16  # runs that share the passes


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prompts", type=int, default=100)
    options.add_argument("--problems", type=int, default=6)
    options.add_argument("--workers", default="1,2,3,4")
    options.add_argument("--seed", type=int, default=2611)
    options.add_argument("--model", default="tiny")
    chosen = options.parse_args()
    rng = random.Random(chosen.seed)
    prompts = [make_problems(rng, chosen.problems) for _ in range(chosen.prompts)]
    engine = hw.Engine(chosen.model)
    program = hw.load(ROOT / "programs" / "sums.hw")
    print(f"{chosen.prompts} prompts of {chosen.problems} problems, seed {chosen.seed}, model {chosen.model}\n")
    print("| workers | solved | prompts all solved | passes (mean) | of one worker's | done twice | seconds |")
    print("|---|---|---|---|---|---|---|")
    alone = None
    for workers in map(int, chosen.workers.split(",")):
        started = time.monotonic()
        results = run_all(engine, program, prompts, workers)
        right = [solved(problems, result) for problems, result in zip(prompts, results, strict=True)]
        passes = sum(result.passes for result in results) / len(results)
        alone = alone or passes
        twice = sum(repeated(problems, result) for problems, result in zip(prompts, results, strict=True))
        cells = [
            f"{workers}",
            f"{sum(map(sum, right)) / sum(map(len, right)):.3f}",
            f"{sum(map(all, right)) / len(right):.2f}",
            f"{passes:.1f}",
            f"{passes / alone:.2f}",
            f"{twice / len(prompts) / chosen.problems:.3f}",
            f"{time.monotonic() - started:.0f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def run_all(engine: hw.Engine, program: hw.Program, prompts: Sequence[Sequence[str]], workers: int) -> list[Result]:
    """Run all prompts, several side by side: their rows share the passes."""
    runtime, results = engine.runtime, []
    for first in range(0, len(prompts), SIDE_BY_SIDE):
        runs: list[Run] = [
            runtime.start(program.compiled, {"problems": opening(problems), "n": workers})
            for problems in prompts[first : first + SIDE_BY_SIDE]
        ]
        while runtime.step(runs):
            pass
        results += [run.session.result(runtime.model.name) for run in runs]
        for run in runs:
            runtime.finish(run)
    return results


def steps(outcome: Result) -> list[tuple[int, str]]:
    """(number of the problem, the step's text) of everything that was published."""
    found = re.finditer(r"^\w+: (\d)\) (.*?)\.?$", outcome.scratchpads["done"], re.MULTILINE)
    return [(int(match[1]), match[2]) for match in found]


def solved(problems: Sequence[str], outcome: Result) -> list[bool]:
    """Whether each problem's first published step ends in its result."""
    told = dict(reversed(steps(outcome)))
    return [result(told.get(number, "")) == result(solution(p)) for number, p in enumerate(problems, 1)]


def repeated(problems: Sequence[str], outcome: Result) -> int:
    """How many published steps are on a problem that another one is on, too."""
    numbers = [number for number, _ in steps(outcome)]
    return len(numbers) - len(set(numbers))


if __name__ == "__main__":
    main()
