"""The suite `collisions`: is redundant work noticed when a worker is asked about it?

Two workers are made to begin a problem: the same one (a collision), or two different ones (the control). Then one of
them, Alice and Bob by turns, is asked: in the middle of its step, or at the start of its next one.
"""

from __future__ import annotations

from hwlang.evaluation import problems
from hwlang.evaluation.answers import Exact
from hwlang.evaluation.suites import PROGRAMS, Feed, Suite, Task, rng_of

WORKERS = ("Alice", "Bob")
PLACES = ("middle", "start")  # of a step: where the question is asked
LATEST = 4  # passes behind which a worker is asked in the middle of its step: the shortest ones have not many more


def arms() -> list[tuple[str, bool]]:
    """Where the question is asked, and whether the workers collide."""
    return [(place, collide) for place in PLACES for collide in (True, False)]


def arm_name(place: str, collide: bool) -> str:
    asked = "in the middle of a step" if place == "middle" else "at the start of the next step"
    return f"{'same problem' if collide else 'different problems'}, asked {asked}"


def make_collisions(prompts: int, count: int, seed: int, place: str, collide: bool) -> Suite:
    """One arm. The same prompt number has the same problems in every arm."""
    tasks = tuple(_task(number, count, seed, place, collide) for number in range(prompts))
    return Suite("collisions", tasks, PROGRAMS / "collisions.hw", Exact(), listed=True)


def _task(number: int, count: int, seed: int, place: str, collide: bool) -> Task:
    rng = rng_of("collisions", seed, number)
    asked = problems.make_sums(rng, count)
    mine, other = rng.sample(range(1, count + 1), 2)
    after = rng.randint(1, LATEST)
    worker = WORKERS[number % 2]
    begun = {worker: mine, WORKERS[1 - number % 2]: mine if collide else other}
    inputs = {name.lower(): f"{begun[name]}) {asked[begun[name] - 1]}: " for name in WORKERS}
    feed = Feed(f"ask_{worker.lower()}", worker, after if place == "middle" else None)
    lead = "\n" if place == "middle" else ""
    return Task(number, {"problems": problems.opening(asked), "lead": lead, **inputs}, problems.results(asked), feed)
