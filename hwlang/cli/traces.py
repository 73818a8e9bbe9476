"""Traces as commands take them: read, with what is to be said of them, and what it takes to run them again."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.cli.inputs import not_negative
from hwlang.cli.output import loading
from hwlang.diagnostics import Source

if TYPE_CHECKING:
    from hwruntime.program import Json
    from hwruntime.recording import RecordedRun, Recording


def add_trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", metavar="TRACE", help="a file that `hw run --trace` has written")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=not_negative, default=0, metavar="N", dest="number",
                        help="of a trace of many runs: which one, from 0 (default: the first)")  # fmt: skip


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust-remote-code", action="store_true", help="let a model run code of its own")


def open_recording(path: str) -> Recording:
    """Read a trace; what is odd about it is told on stderr. Raises `InputError`."""
    from hwruntime.recording import read

    recording = read(Path(path))
    if recording.hw != version("hwlang"):
        print(f"note: `{path}` was written by hwlang {recording.hw}, this is {version('hwlang')}", file=sys.stderr)
    if recording.cut is not None:
        print(f"warning: `{path}`: {recording.cut}, it is read up to there", file=sys.stderr)
    return recording


def chosen_run(recording: Recording, number: int) -> RecordedRun:
    """A run of a trace. Raises `InputError` if there is none such, or if it has not begun."""
    from hwruntime.errors import InputError

    if number >= len(recording.runs):
        raise InputError(f"the trace has no run {number}", help=f"it has runs 0 to {len(recording.runs) - 1}")
    run = recording.runs[number]
    if not run.begun:
        why = f": {run.error['message']}" if run.error else ", the trace ends before it does"
        raise InputError(f"run {number} of the trace has not begun{why}")
    return run


def engine_of(recording: Recording, model: str | None, trust_remote_code: bool) -> api.Engine:
    """The engine that a trace's runs were made on, or with another `model`. Raises `ModelError`, `DeviceError`."""

    def text(option: str) -> str:
        return str(told.get(option, "auto"))

    told = recording.head.engine
    where, interval = text("engine"), _number(told.get("sync_interval"))
    name = model or str(told["model"])
    with loading(name or where):
        engine = api.Engine(
            name or None,
            engine=where,
            sync_interval=interval,
            attention=text("attention"),
            device=text("device"),
            dtype=text("dtype"),
            weights=text("weights"),
            kv_tokens=_number(told.get("kv_tokens")),
            kv_dtype=text("kv_dtype"),
            trust_remote_code=trust_remote_code,
            tp=_number(told.get("tp")) or 1,
        )
    _note_differences(recording, engine)
    return engine


def program_of(recording: Recording) -> api.Program:
    """The program that a trace's runs are of, as it was then."""
    head = recording.head
    return api.Program(head.program, (), Source(head.program.file, head.source))


def _note_differences(recording: Recording, engine: api.Engine) -> None:
    then, now = recording.head.identity, engine.identity
    others = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    for name in others:
        was, is_now = ("", "") if name == "config" else (f": it was {then.get(name)}", f", now it is {now.get(name)}")
        print(f"warning: the model has another {name} than the trace's{was}{is_now}", file=sys.stderr)


def _number(value: Json) -> int | None:
    return value if isinstance(value, int) else None
