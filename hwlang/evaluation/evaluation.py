"""An evaluation: configurations on one model, of which a folder keeps what has been run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.engines import Where
from hwlang.evaluation.configurations import Configuration, as_text
from hwlang.evaluation.records import Header, RunFile, open_runs
from hwlang.evaluation.runner import check, run_all
from hwlang.evaluation.scoring import played
from hwlang.evaluation.suites import PROGRAMS
from hwlang.evaluation.weights import identity

if TYPE_CHECKING:
    from hwruntime.runner import Runner


@dataclass(frozen=True)
class Settings:
    """What is run on, and how: all but the configurations. `model` None: what the programs name, else `tiny`."""

    suite: str
    where: Where
    seed: int = 1
    extract: str = "latex"
    model: str | None = None
    batch: int = 16


@dataclass(frozen=True)
class Evaluation:
    """`runs`: what has been run of it, and is on disk. Every configuration has the same number of tasks."""

    settings: Settings
    configurations: Sequence[Configuration]
    header: Header
    runs: RunFile

    @property
    def folder(self) -> Path:
        return self.runs.path.parent

    @property
    def size(self) -> int:
        """Runs in all, at most."""
        return sum(len(each.suite.tasks) * len(each.runs) for each in self.configurations)

    @property
    def complete(self) -> bool:
        """Whether all that a table needs has been run."""
        try:
            for each in self.configurations:
                for budget in each.budgets:
                    played(each, self.runs.records, "shared", budget)
        except KeyError:
            return False
        return True

    def run(self, tell: Callable[[int], None]) -> None:
        """Run what is missing. `tell` hears how many more runs are settled. Raises `ModelError`, `DeviceError`."""
        engine = api.Engine(str(self.header["model"]), **self.settings.where).runtime
        configurations = [fitted(each, engine) for each in self.configurations]
        run_all(engine, configurations, self.runs, seed=self.settings.seed, size=self.settings.batch, tell=tell)


def open_evaluation(settings: Settings, configurations: Sequence[Configuration], folder: Path | None) -> Evaluation:
    """An evaluation as a folder has it; without one, in a folder whose name follows from all that it depends on.

    Raises `InputError` where tasks do not fit their programs, or the folder holds another evaluation.
    """
    check(configurations)
    header = header_of(settings, configurations)
    if folder is None:
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
        folder = Path("eval") / f"{configurations[0].suite.name}-{digest[:8]}"
    return Evaluation(settings, configurations, header, open_runs(folder, header))


def header_of(settings: Settings, configurations: Sequence[Configuration]) -> Header:
    """All that decides what comes out: records are only used again under the same header."""
    model = settings.model or configurations[0].program.model or "tiny"
    return {
        **asdict(settings),
        "prompts": len(configurations[0].suite.tasks),
        "model": model,
        "weights": identity(model),
        "versions": {name: version(name) for name in ("hwlang", "torch", "transformers")},
        "configurations": {each.name: each.digest for each in configurations},
    }


def fitted(configuration: Configuration, engine: Runner) -> Configuration:
    """Our own programs write chat messages; for a model without a chat template they are plain texts."""
    from hwruntime.errors import RunError
    from hwruntime.tokenizer import Message

    if configuration.suite.program.parent != PROGRAMS:
        return configuration
    try:
        engine.model.tokenizer.encode_constants([Message("user", "a")], opening=True)
    except RunError:
        return replace(configuration, program=as_text(configuration.program))
    return configuration
