"""`hw replay`: shows the runs of a trace again without a model, or makes them again with one and compares."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, cast

from hwlang.cli.errors import FAILED, OK, told
from hwlang.cli.inputs import not_negative
from hwlang.cli.output import make_console, print_json
from hwlang.cli.traces import add_engine, add_trace, chosen_run, engine_of, open_recording, program_of

if TYPE_CHECKING:
    from hwlang.api import Engine
    from hwruntime.program import Json, Value
    from hwruntime.recording import RecordedRun, Recording
    from hwruntime.rows import Outcome, Row
    from hwruntime.session import RunOptions

AS_IT_WAS = ""  # what `--model` is when no name is given


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show the runs of a trace again, without a model; with --model, make their passes again and say where the "
        "model would draw something else now."
    )
    add_trace(parser)
    parser.add_argument("--run", type=not_negative, metavar="N", dest="number", help="only run N, from 0")
    parser.add_argument("--model", nargs="?", const=AS_IT_WAS, metavar="NAME",
                        help="make the passes again, with the trace's model or another one")  # fmt: skip
    add_engine(parser)
    parser.add_argument("--speed", type=float, metavar="X", help="X times as fast as it was (default: at once)")
    parser.add_argument("--events", action="store_true", help="print every event as a JSON line")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")


def run(options: argparse.Namespace) -> int:
    from hwruntime.errors import HwError

    try:
        recording = open_recording(options.trace)
        if options.number is not None:
            runs = [chosen_run(recording, options.number)]
        else:
            runs = [run for run in recording.runs if run.begun] or [chosen_run(recording, 0)]
        if options.model is not None:
            check_exact(recording)
            engine = engine_of(recording, options.model or None, options.trust_remote_code)
            return max(compare(recording, run, engine, options.json) for run in runs)
        for each in runs:
            result = check(recording, each)
            if options.events:
                print_events(each)
            elif options.json or len(runs) > 1:
                print_json(result)
            else:
                show(each, options.speed)
        return OK
    except HwError as error:
        return told(error)


def check_exact(recording: Recording) -> None:
    """Raises `InputError` where the passes were not made by a model, so that none can make them again."""
    from hwruntime.errors import InputError

    if recording.head.engine.get("approximate"):
        raise InputError(
            f"the runs of this trace are approximate: the server at {recording.head.engine.get('engine')} has written "
            "ahead what workers did not see each other write, and no model draws that again in passes",
            help="`hw replay` without --model shows them",
        )


def check(recording: Recording, run: RecordedRun) -> dict[str, Json]:
    """A run's result. Says where there is none. Raises `InputError` where it is not what the passes say."""
    from hwruntime.recording import result_of

    if run.error is not None:
        print(f"note: run {run.number} failed: {run.error.get('message')}", file=sys.stderr)
    elif run.result is None:
        print(f"note: run {run.number} was interrupted after pass {run.length}", file=sys.stderr)
    return result_of(recording, run)


def print_events(run: RecordedRun) -> None:
    from hwruntime.trace import events_json

    for event, fields in zip(run.events, events_json(run.events), strict=True):
        assert isinstance(fields, dict)
        print_json({"run": run.number, **fields, "time": event.time})


def show(run: RecordedRun, speed: float | None) -> None:
    """As `hw run` has shown it; at once, or as fast as it was."""
    from hwlang.cli.display import Lines, Panes, print_result
    from hwruntime.recording import course
    from hwruntime.result import Result

    out = make_console()
    began = time.monotonic()
    with Panes(out) if speed and out.is_terminal else Lines(out) as display:
        for events, progress, seconds in course(run):
            if speed:
                time.sleep(max(0.0, seconds / speed - (time.monotonic() - began)))
            display.show(events, progress)
    if run.result is not None:
        print_result(out, Result.from_json(run.result), run.passes[-1].seconds if run.passes else 0.0)


def text_of(outcome: Outcome, row: Row, engine: Engine) -> str:
    """The token that was drawn for a row, or chosen."""
    token = row.choices[outcome.token] if row.choices else outcome.token
    return engine.runtime.model.tokenizer.decode([token])


def compare(recording: Recording, run: RecordedRun, engine: Engine, as_json: bool) -> int:
    """Make a run's passes again, and say where the model would have gone on otherwise."""
    inputs, options = cast("dict[str, Value]", run.inputs), cast("RunOptions", run.limits)
    known = [each.known for each in run.passes]
    made = engine.runtime.start(program_of(recording).compiled, inputs, known=known, **options)
    try:
        while made.known and engine.runtime.step([made]):
            pass
    finally:
        engine.runtime.finish(made)
    made.raise_error()
    drawn = sum(row.result != "nothing" for each in run.passes for row in each.rows)
    first: dict[str, Json] | None = None
    if made.strays:
        stray = made.strays[0]
        was, now = (text_of(outcome, stray.row, engine) for outcome in (stray.was, stray.now))
        first = {"pass": stray.number, "writer": stray.row.writer, "was": was, "is": now}
    told: dict[str, Json] = {"run": run.number, "passes": len(known), "drawn": drawn, "other": len(made.strays)}
    if as_json:
        print_json({**told, "first": first})
    elif first is None:
        print(f"run {run.number}: {len(known):,} passes made again, all {drawn:,} tokens are the same")
    else:
        others = f"{len(made.strays):,} of {drawn:,} tokens are others now, first in pass {first['pass']}"
        wrote = f"{first['writer']} wrote {first['was']!r} then, and would write {first['is']!r} now"
        print(f"run {run.number}: {others}: {wrote}")
    return FAILED if first else OK
