"""`hw resume`: carries on with the runs of a trace that were interrupted, to the ends that they would have had."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, cast

from hwlang.cli.errors import OK, told
from hwlang.cli.inputs import positive
from hwlang.cli.jobs import Batch, Job, Single, to_append
from hwlang.cli.traces import add_engine, add_trace, engine_of, open_recording, program_of
from hwlang.python.batches import MOST

if TYPE_CHECKING:
    from hwruntime.program import Value
    from hwruntime.recording import RecordedRun, Recording
    from hwruntime.session import RunOptions


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Carry on with the runs of a trace that were interrupted. Their passes are made again, with the tokens that "
        "the trace has; then they go on as if nothing had happened. What they do is added to the trace."
    )
    add_trace(parser)
    parser.add_argument("--model", help="a folder, a hub name, or `tiny` (default: where the trace had its model from)")
    add_engine(parser)
    parser.add_argument("--max-concurrency", type=positive, default=MOST, metavar="N",
                        help=f"runs at the same time (default: {MOST})")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")


def run(options: argparse.Namespace) -> int:
    from hwruntime.errors import HwError
    from hwruntime.trace import Trace

    try:
        recording = open_recording(options.trace)
        jobs = [job_of(run) for run in recording.runs]
        if all(job.ended for job in jobs):
            print(f"`{options.trace}` has ended: there is nothing to resume, `hw replay` shows it", file=sys.stderr)
            return OK
        check_end(recording)
        engine, program = engine_of(recording, options.model, options.trust_remote_code), program_of(recording)
        with to_append(options.trace) as file:
            file.truncate(recording.size)
            trace = Trace(file, recording.head.model)
            if recording.head.inputs is None:
                return Single(engine, program, trace).run(jobs[0], options.json)
            return Batch(engine, program, trace, recording.head.inputs).run(jobs, options.max_concurrency)
    except HwError as error:
        return told(error)


def job_of(run: RecordedRun) -> Job:
    """What is left to do of a recorded run."""
    inputs, options = cast("dict[str, Value]", run.inputs), cast("RunOptions", run.limits)
    return Job(inputs, options, run.line, past=run)


def check_end(recording: Recording) -> None:
    """A line that was cut off is written again. Raises `InputError` where whole ones would be lost behind a bad one."""
    from hwruntime.errors import InputError

    rest = recording.path.stat().st_size - recording.size
    if recording.cut and not recording.cut_at_end:
        raise InputError(
            f"`{recording.path}` cannot be resumed: {recording.cut}, and {rest:,} bytes come from there on",
            help="`hw replay` reads it up to there; cut the file off there to resume it from that pass",
        )
