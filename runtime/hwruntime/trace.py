"""Runs as JSON lines, written as they go: what is there when a run is killed is whole lines.

{"hw": "0.1.0", "program": {...}, "model": "...", "inputs": {...}, "seed": 7, ...}   one for each run
{"pass": 12, "events": [{"kind": "token", "at": 12, "worker": "Bob", "text": " so"}, ...]}
{"result": {...}}                                                                    as `hw run --json` prints it

Where runs go on side by side, each line begins with `"run": N`, the number of its run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TextIO

from hwruntime.program import Json, Program, Value
from hwruntime.result import Event, Result


class Trace:
    """Writes runs to `file`, one line after another, flushed."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def start(
        self, program: Program, model: str, inputs: Mapping[str, Value], seed: int, run: int | None = None
    ) -> None:
        """The line that says what is run: all that it takes to run it again. `run`: its number, if there are others."""
        self._write(
            run,
            {
                "hw": version("hwlang"),
                "program": program.to_json(),
                "model": model,
                "inputs": dict(inputs),
                "seed": seed,
            },
        )

    def add(self, passes: int, events: Sequence[Event], run: int | None = None) -> None:
        """The events up to pass `passes`."""
        self._write(run, {"pass": passes, "events": [_event(event) for event in events]})

    def end(self, result: Result, run: int | None = None) -> None:
        self._write(run, {"result": result.to_json()})

    def _write(self, run: int | None, line: dict[str, Json]) -> None:
        line = line if run is None else {"run": run, **line}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()


def _event(event: Event) -> Json:
    """An event without the fields that it has no use for."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(event).items() if v not in ("", ())}
