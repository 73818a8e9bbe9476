"""`hw show`: what a worker's view held at a pass of a recorded run."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hwlang.cli.errors import OK, told
from hwlang.cli.inputs import not_negative
from hwlang.cli.output import make_console, print_json
from hwlang.cli.traces import add_run, add_trace, chosen_run, open_recording

if TYPE_CHECKING:
    from rich.console import Console

    from hwruntime.recording import Content


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show what a worker's view held at a pass of a recorded run, block by block."
    add_trace(parser)
    parser.add_argument("--worker", metavar="NAME", help="whose view (default: the first worker's)")
    parser.add_argument("--pass", type=not_negative, metavar="N", dest="at",
                        help="with what it wrote; 0 is before the first one (default: the last)")  # fmt: skip
    parser.add_argument("--diff", type=not_negative, metavar="N", help="only what has changed since pass N")
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace) -> int:
    from hwruntime.errors import HwError
    from hwruntime.recording import view_at

    try:
        run = chosen_run(open_recording(options.trace), options.number)
        worker = options.worker or next(iter(run.views))
        at = run.length if options.at is None else options.at
        view = view_at(run, worker, at)
        before = None if options.diff is None else view_at(run, worker, options.diff)
    except HwError as error:
        return told(error)
    if options.json:
        blocks = [asdict(block) for block in view]
        print_json({"run": run.number, "worker": worker, "pass": at, "tokens": length(view), "blocks": blocks})
    elif before is None:
        print_view(make_console(), f"{worker}'s view in pass {at} of {run.length}", view)
    else:
        print_changes(make_console(), f"{worker}'s view in pass {at}, since pass {options.diff}", before, view)
    return OK


def length(view: Sequence[Content]) -> int:
    """Its tokens."""
    return sum(block.tokens for block in view)


def print_view(out: Console, title: str, view: Sequence[Content]) -> None:
    """Each block under a line that names it, with the positions that it has in this view."""
    from rich.text import Text

    out.print(Text(f"{title}: {length(view):,} tokens in {len(view)} blocks", style="bold"))
    start = 0
    for block in view:
        out.print(Text(f"\n── {title_of(block)}, {span_of(block, start)}", style="cyan"))
        out.print(Text(block.text), end="" if block.text.endswith("\n") else "\n")
        start += block.tokens


def print_changes(out: Console, title: str, before: Sequence[Content], after: Sequence[Content]) -> None:
    """What came to each block, what went from it, line by line where both did."""
    from rich.text import Text

    out.print(Text(f"{title}: {length(before):,} tokens then, {length(after):,} now", style="bold"))
    for old, new in zip(before, after, strict=True):
        if old == new:
            continue
        out.print(Text(f"\n── {title_of(new)}, {old.tokens:,} tokens then, {new.tokens:,} now", style="cyan"))
        if new.text.startswith(old.text):
            out.print(Text(f"+ {new.text[len(old.text) :]}", style="green"))
            continue
        for line in difflib.ndiff(old.text.splitlines(), new.text.splitlines()):
            if line[0] in "+-":
                out.print(Text(line, style="green" if line[0] == "+" else "red"))


def title_of(block: Content) -> str:
    return "constant" if block.kind == "constant" else block.name


def span_of(block: Content, start: int) -> str:
    if not block.tokens:
        return "empty"
    return f"{block.tokens:,} tokens at {start:,}–{start + block.tokens - 1:,}"
