"""`hw bench`: how long a pass takes, for how many workers behind how long a text."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.cli import models
from hwlang.cli.errors import OK, Usage, told
from hwlang.cli.inputs import numbers, positive
from hwlang.cli.output import make_console
from hwlang.evaluation.records import write_whole
from hwruntime.errors import HwError

if TYPE_CHECKING:
    from hwruntime.bench.measure import Bench, Cell, Settings

SHAPE = "qwen2.5-0.5b"
WORKERS, CONTEXTS = (1, 2, 4), (512, 2048, 8192)
MOST = 16  # workers
PROGRAM = f"""
program bench(opening: str, n: int) {{
  sampling {{ temperature 0 }}
  workers n of {", ".join(f"W{index}" for index in range(1, MOST + 1))} {{ sees "{{{{opening}}}}", others, self }}
}}
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time passes of several workers, beside what this machine allows and what others need."
    parser.add_argument("--shape", metavar="NAME", help=f"a model of that size with random weights (default: {SHAPE})")
    parser.add_argument("--workers", type=workers, default=WORKERS, metavar="N,N", help="how many (default: 1,2,4)")
    parser.add_argument("--contexts", type=tokens, default=CONTEXTS, metavar="N,N",
                        help="tokens that all workers see, as 512 or 2k (default: 512,2k,8k)")  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="in which all take turns (default: 5)")
    parser.add_argument("--passes", type=positive, default=4, metavar="N", help="timed in a round (default: 4)")
    models.add(parser.add_argument_group("the model"), default="a shape", openings=False)
    against = parser.add_argument_group("what it is compared with")
    against.add_argument("--baseline", choices=("transformers",), help="one sequence, and independent ones in a batch")
    against.add_argument("--reference", type=Path, metavar="DIR", help="a clone of the authors' code")
    against.add_argument("--reference-python", default=sys.executable, metavar="PYTHON",
                         help="of an environment with what that code requires (default: this one)")  # fmt: skip
    out = parser.add_argument_group("what comes out")
    out.add_argument("--json", type=Path, metavar="FILE", help="all figures, as JSON")
    out.add_argument("--plot", type=Path, metavar="FILE", help="pass time against stored tokens (.png, .svg)")


def run(options: argparse.Namespace) -> int:
    try:
        bench(options)
    except HwError as error:
        return told(error)
    return OK


def bench(options: argparse.Namespace) -> None:
    """Rows are told as they come; files are written at the end."""
    from hwruntime.threads import wait_briefly

    wait_briefly()
    from hwruntime.bench import report
    from hwruntime.bench.measure import Settings, as_json, cells

    if options.plot:
        report.require_matplotlib(options.plot)
    settings = Settings(
        workers=options.workers,
        contexts=options.contexts,
        rounds=options.rounds,
        passes=options.passes,
        transformers=options.baseline == "transformers",
        clone=options.reference,
        python=options.reference_python,
    )
    others = report.baselines(settings.transformers, settings.clone is not None)
    kinds = list(product(options.dtype.split(","), options.weights.split(",")))
    several = len(kinds) > 1
    done: list[Cell] = []
    with ExitStack() as stack:
        benches = [stack.enter_context(closing(opened(options, dtype, weights, settings))) for dtype, weights in kinds]
        print(*map(report.heading, benches), report.head(others, several), sep="\n", flush=True)
        for cell in cells(benches, settings):
            print(report.row(cell, done, others, several), flush=True)
            done.append(cell)
    print(flush=True)
    if options.json:
        data = {"models": [described(made) for made in benches], "cells": [as_json(cell) for cell in done]}
        write_whole(options.json, (json.dumps(data, indent=2) + "\n").encode())
    if options.plot:
        write_whole(options.plot, report.plot(done, options.plot.suffix[1:]))


def described(made: Bench) -> dict[str, object]:
    machine = {"read": made.weights, "threads": made.threads}
    return {"model": made.name, "dtype": made.dtype, "weights_are": made.bits, "why": made.why, **machine}


def opened(options: argparse.Namespace, dtype: str, weights: str, settings: Settings) -> Bench:
    """The model that is asked for, in a dtype, with weights of a kind. Raises `ModelError`, `DeviceError`, `Usage`."""
    from hwruntime.bench.measure import Bench
    from hwruntime.bench.shapes import open_shape
    from hwruntime.checkpoint import open_checkpoint

    if options.model and options.shape:
        raise Usage("a model is asked for, and a shape: give one of --model and --shape")
    with waiting(f"making {options.model or options.shape or SHAPE} in {dtype}"):
        if options.model:
            trust = options.trust_remote_code
            checkpoint = open_checkpoint(
                options.model, device=options.device, dtype=dtype, trust_remote_code=trust, weights=weights
            )
            checkpoint = replace(checkpoint, tokenizer=checkpoint.tokenizer.endless())
        else:
            checkpoint = open_shape(options.shape or SHAPE, device=options.device, dtype=dtype, weights=weights)
        return Bench(checkpoint, options.attention, api.parse(PROGRAM).compiled, settings, weights)


def waiting(text: str) -> AbstractContextManager[object]:
    """Says what takes long, on stderr, where that is a terminal."""
    console = make_console(stderr=True)
    return console.status(text) if console.is_terminal else nullcontext()


# --- Values of options -----------------------------------------------------------------------------------------------


def workers(text: str) -> tuple[int, ...]:
    found = numbers(text)
    if found[-1] > MOST:
        raise argparse.ArgumentTypeError(f"{MOST} at most, not {found[-1]}")
    return found


def tokens(text: str) -> tuple[int, ...]:
    """`512,2k,8k`, from the smallest."""
    return numbers(",".join(str(thousands(each)) for each in text.split(",")))


def thousands(text: str) -> int:
    """`2k` is 2,048."""
    return int(text[:-1]) * 1024 if text.lower().endswith("k") else int(text)
