"""Many runs of one program, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwlang.python.runs import Run, State
    from hwruntime.errors import HwError
    from hwruntime.result import Event

Watch = Callable[[int, "Run", "Sequence[Event]"], None]
MOST = 64  # runs at once: with more a pass takes about as much longer as there are more


class BatchError(Exception):
    """Some runs of a batch failed; the others went on to their ends. `results` has the states of those, in the order of
    the inputs, and the errors in the places of the runs that failed.

    >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
    >>> try:
    ...     program.run_batch([{"q": "reverse abc"}, {"p": "47+38"}])
    ... except hw.BatchError as error:
    ...     print(error)
    ...     print(error.results[0].reason)
    1 of 2 runs failed; input 1: program `p` has no parameter `p`
    done
    """

    def __init__(self, results: list[State | HwError]) -> None:
        self.results = results
        failed = {i: error for i, error in enumerate(results) if isinstance(error, Exception)}
        first, error = next(iter(failed.items()))
        super().__init__(f"{len(failed)} of {len(results)} runs failed; input {first}: {error}")


def side_by_side(
    starts: Iterable[Callable[[], Run | HwError]], most: int, watch: Watch | None = None
) -> Iterator[tuple[int, State | HwError]]:
    """Carry runs to their ends, `most` at a time: (place, state or error), in the order in which they end. They must be
    eager, so that a pass of one is a pass of all. `watch` is told of the events of each pass: (place, run, events)."""
    supply = enumerate(starts)
    going: dict[int, Run] = {}
    with ExitStack() as open_runs:
        while True:
            while len(going) < most and (coming := next(supply, None)):
                place, start = coming
                run = start()
                if isinstance(run, Exception):
                    yield place, run
                else:
                    going[place] = open_runs.enter_context(run)
            if not going:
                return
            next(iter(going.values())).advance()
            for place, run in going.items():
                events = run.take_events()
                if watch and events:
                    watch(place, run, events)
            for place in [place for place, run in going.items() if run.over]:
                run = going.pop(place)
                yield place, run.runtime.error or run.state


def states_of(found: Iterable[tuple[int, State | HwError]]) -> list[State]:
    """The states, in their places. Raises `BatchError` where there are errors among them."""
    results = [result for _, result in sorted(found, key=lambda each: each[0])]
    if any(isinstance(result, Exception) for result in results):
        raise BatchError(results)
    return [result for result in results if not isinstance(result, Exception)]
