"""What commands print: diagnostics on stderr, JSON and tables on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TextIO

from hwlang.diagnostics import Diagnostic

if TYPE_CHECKING:  # a check does without
    from rich.console import Console


def report(diagnostics: Sequence[Diagnostic]) -> None:
    """Print diagnostics to stderr, in colour on a terminal."""
    colour = in_colour(sys.stderr)
    for diagnostic in diagnostics:
        print(diagnostic.render(colour), file=sys.stderr, end="\n\n" if colour else "\n")


def in_colour(stream: TextIO) -> bool:
    """Whether to write colours: on a terminal that has them, unless NO_COLOR (https://no-color.org) is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(data: object, indent: int | None = None) -> None:
    """To stdout: as it reads best, or with JSON's own escapes where the encoding does not hold every character."""
    print(json.dumps(data, ensure_ascii=not sys.stdout.encoding.lower().startswith("utf"), indent=indent), flush=True)


def loading(model: str) -> AbstractContextManager[object]:
    """Say on a terminal that a model is being loaded, as long as it is."""
    errors = make_console(stderr=True)
    return errors.status(f"loading {model}") if errors.is_terminal else nullcontext()


def make_console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)
