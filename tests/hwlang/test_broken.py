"""Programs with slips as people make them: each slip gets one diagnostic, at its place, and nothing else is said.

A slip is told in a comment: `#! CODE COLUMN SUGGESTION` at the end of its line, or `#! CODE LINE:COLUMN SUGGESTION` on
a line of its own where the slip is in a string. The suggestion, where there is one, is the one that the help gives.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from hwlang.checker import check_file
from hwlang.diagnostics import Diagnostic

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.hw"))
SLIP = re.compile(r"#! (HW\d{3}) (?:(\d+):)?(\d+)(?: (\w+))?")


class Slip(NamedTuple):
    line: int
    column: int
    code: str
    suggestion: str


def expected(path: Path) -> list[Slip]:
    lines = enumerate(path.read_text().split("\n"), 1)
    found = [(number, match) for number, line in lines for match in SLIP.finditer(line)]
    return sorted(Slip(int(match[2] or number), int(match[3]), match[1], match[4] or "") for number, match in found)


def told(problem: Diagnostic, suggestion: str) -> Slip:
    """What was told; the suggestion if it is the one that is wanted, else all of the help."""
    fits = not suggestion or f"`{suggestion}`" in (problem.help or "")
    return Slip(problem.span.line, problem.span.column, problem.code, suggestion if fits else problem.help or "none")


def test_there_are_enough() -> None:
    assert len(BROKEN) >= 60
    assert sum(len(expected(path)) for path in BROKEN) >= 120


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_slip_is_told_once_and_nothing_else(path: Path) -> None:
    slips = expected(path)
    found = check_file(path).diagnostics
    suggestions = {slip[:3]: slip.suggestion for slip in slips}
    assert [told(d, suggestions.get((d.span.line, d.span.column, d.code), "")) for d in found] == slips
    assert all(d.severity == "warning" or d.code not in ("HW105", "HW305", "HW306", "HW308") for d in found)
