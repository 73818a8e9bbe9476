"""What the tests of the evaluation share: events written by hand, and an engine that says what a script says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from hwruntime.batch import Stage
from hwruntime.errors import HwError, RunError
from hwruntime.program import Program, Value
from hwruntime.result import Event
from hwruntime.scripted import PIECES, ScriptedModel
from hwruntime.session import Session

ASKED = "Quick check: am I doing redundant work? (yes/no): "


def handed(worker: str, at: int, text: str) -> list[Event]:
    """A text that is handed to a worker."""
    return [Event("say", at, worker, text)]


def written(worker: str, at: int, text: str) -> list[Event]:
    """Words and signs that a worker samples, one a pass, the first in pass `at`."""
    return [Event("token", when, worker, piece) for when, piece in zip(count(at), PIECES.findall(text))]


def stepped(worker: str, at: int, text: str) -> list[Event]:
    """A whole step, `.` at its end included, and what a run tells then."""
    tokens = written(worker, at, text)
    return [*tokens, *handed(worker, tokens[-1].at, f"\n{worker}: "), Event("step", tokens[-1].at, worker, text[:-1])]


@dataclass(eq=False)
class ScriptedRun:
    session: Session
    script: ScriptedModel
    stage: Stage = "here"
    error: HwError | None = None

    def feed(self, stream: str, text: str) -> None:
        self.session.feed(stream, text)


@dataclass
class ScriptedEngine:
    """An engine on the scripted model: `lines` by worker, the same in every run. `started`: the seeds, in order. Runs
    of the seeds `broken` fail in their third pass."""

    lines: Mapping[str, str]
    name: str = "scripted"
    started: list[int] = field(default_factory=list)
    passes: int = 0
    fail_after: int | None = None  # passes
    broken: Sequence[int] = ()

    @property
    def model(self) -> ScriptedEngine:
        return self

    def start(
        self, program: Program, inputs: Mapping[str, Value], *, seed: int, budget: int, workers: int | None
    ) -> ScriptedRun:
        self.started.append(seed)
        script = ScriptedModel(self.lines)
        return ScriptedRun(
            Session(program, inputs, script.tokenizer, seed=seed, budget=budget, workers=workers), script
        )

    def step(self, runs: Sequence[ScriptedRun]) -> bool:
        self.passes += 1
        if self.passes == self.fail_after:
            raise KeyboardInterrupt
        went_on = [self._step(run) for run in runs]  # all of them, whatever the first one says
        return any(went_on)

    def finish(self, run: ScriptedRun) -> None:
        pass

    def _step(self, run: ScriptedRun) -> bool:
        rows = run.session.next_pass().rows
        if run.session.seed in self.broken and run.session.passes == 2:
            run.error = RunError("it broke")
        elif rows:
            run.session.advance([run.script.reply(row) for row in rows])
        if run.error or not rows:
            run.stage = "over"
        return run.stage != "over"
