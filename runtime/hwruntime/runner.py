"""What runs programs: an engine that has a model (`engine.Engine`), or one that asks a server (`remote.engine`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Unpack

from hwruntime.batch import Run, Tenant, Visit
from hwruntime.result import Progress, Result

if TYPE_CHECKING:
    from hwruntime.counters import Counters
    from hwruntime.program import Program, Value
    from hwruntime.session import Known, Log, RunOptions
    from hwruntime.tokenizer import Tokenizer

Watch = Callable[[Run], None]  # called after every pass


class Named(Protocol):
    """What is to be known of a runner's model."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context(self) -> int:
        """The longest view, in tokens."""

    @property
    def why(self) -> Sequence[str]:
        """What was chosen, a line each."""


class Runner(Protocol):
    """Runs programs; many runs can be under way at once. `engine.Engine` says what each call does."""

    counters: Counters

    @property
    def model(self) -> Named: ...

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        watch: Watch | None = None,
        log: Log | None = None,
        known: Iterable[Known] = (),
        **options: Unpack[RunOptions],
    ) -> Result: ...

    def start(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        log: Log | None = None,
        known: Iterable[Known] = (),
        **options: Unpack[RunOptions],
    ) -> Run: ...

    def step(self, runs: Sequence[Tenant]) -> bool: ...

    def finish(self, run: Tenant) -> None: ...

    def progress(self, run: Run) -> Progress: ...

    def metrics(self) -> str: ...

    def visit(self) -> Visit: ...

    def join(self, visit: Visit) -> None: ...

    def settle(self, visit: Visit) -> None: ...


def carried_out(runner: Runner, run: Run, watch: Watch | None) -> Result:
    """Carry a run to its end. `watch` is called after every pass; `KeyboardInterrupt` ends the run, keeping what there
    is. Raises what ends it."""
    try:
        while runner.step([run]):
            if watch:
                watch(run)
    except KeyboardInterrupt:
        run.cancel()
    finally:
        runner.finish(run)
    return run.result(runner.model.name)
