"""`hw view`: a recorded run as one HTML page, to look at in a browser."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from hwlang.cli.errors import OK, Usage, told
from hwlang.cli.traces import add_run, add_trace, chosen_run, open_recording


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a recorded run as one HTML file that needs no network: when each worker wrote and what happened, and "
        "what every worker saw in any pass."
    )
    add_trace(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the page (default: TRACE with the ending .html)")
    add_run(parser)
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def run(options: argparse.Namespace) -> int:
    from hwlang.viewing.facts import facts
    from hwlang.viewing.page import render
    from hwruntime.errors import HwError

    output = Path(options.output) if options.output else Path(options.trace).with_suffix(".html")
    try:
        recording = open_recording(options.trace)
        page = render(facts(recording, chosen_run(recording, options.number)))
    except HwError as error:
        return told(error)
    if output.exists() and output.samefile(options.trace):
        raise Usage(f"`{output}` is the trace itself: give another file with -o")
    write_page(output, page)
    print(f"written: {output}")
    if options.open:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
    return OK


def write_page(path: Path, text: str) -> None:
    """All at once: a file that is there stays as it is until the new one is whole. Raises `Usage`."""
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():
            raise Usage(f"cannot write `{path}`: it is not a file")
        handle, temporary = tempfile.mkstemp(prefix=".hw-view-", dir=target.parent)
        try:
            with open(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.chmod(temporary, 0o666 & ~mask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Usage(f"cannot write `{path}`: {error.strerror}") from None


def mask() -> int:
    """The permissions that a new file does not get."""
    now = os.umask(0)
    os.umask(now)
    return now
