"""What came of tests, on paper and as JSON: a line for each, a diagnostic and the difference for what failed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hwlang.diagnostics import Diagnostic, plural
from hwlang.diagnostics.snippets import shown
from hwlang.explaining.wording import quoted_text

if TYPE_CHECKING:
    from hwlang.testing.runner import Failure, Verdict

FAILED = "HW550"  # as of an error of the run: the program itself is fine
MOST_LINES = 40  # of a text or a difference that are shown
MOST_COLUMNS = 70  # of texts that are shown one below the other
MESSAGES = {
    "is": "`{what}` is not the text that was expected",
    "contains": "`{what}` does not contain the text that was expected",
    "lacks": "`{what}` has what it should not have",
    "matches": "`{what}` does not match the regex",
    "passes": "the run took {got} passes: {expected} were expected",
    "runs": "{got}",
}


def line_of(verdict: Verdict) -> str:
    """`pass  sums.hw  sums: two workers share the list  (63 passes, 0.21 s)`"""
    case = verdict.case
    took = f"({verdict.passes:,} pass{'' if verdict.passes == 1 else 'es'}, {verdict.seconds:.2f} s)"
    return f"{'pass' if verdict.passed else 'FAIL'}  {case.span.source.file}  {case.name}  {took}"


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    failed = sum(not verdict.passed for verdict in verdicts)
    counts = f"{failed} failed, " if failed else ""
    return f"{counts}{len(verdicts) - failed} passed in {seconds:.1f} s"


def diagnostic(failure: Failure) -> Diagnostic:
    message = MESSAGES[failure.how].format(what=failure.what, got=failure.got, expected=failure.expected)
    return Diagnostic(FAILED, message, failure.span, failure.help)


def explained(failure: Failure) -> Iterator[str]:
    """What was expected and what there is, line by line."""
    if failure.how == "is":
        yield from difference(failure.expected, failure.got)
    elif failure.how in ("contains", "lacks", "matches"):
        yield f"got {len(failure.got):,} characters:" if failure.got else "got nothing"
        yield from indented(failure.got.split("\n")) if failure.got else ()


def difference(expected: str, got: str) -> Iterator[str]:
    """Two texts one below the other with a mark under the first difference, or a unified diff where they are long."""
    wanted, found = quoted_text(expected), quoted_text(got)
    if max(len(wanted), len(found)) <= MOST_COLUMNS:
        yield f"expected {wanted}"
        yield f"got      {found}"
        yield " " * (len("expected ") + common(wanted, found)) + "^"
        return
    line, column = place(expected, got)
    yield f"first difference in line {line}, column {column}:"
    old, new = expected.split("\n"), got.split("\n")
    yield from indented(list(difflib.unified_diff(old, new, "expected", "got", lineterm="", n=2)))


def common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def place(expected: str, got: str) -> tuple[int, int]:
    """Line and column of the first difference, from 1."""
    before = got[: common(expected, got)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def indented(lines: Sequence[str]) -> Iterator[str]:
    """Lines of texts, two columns in; what would move the cursor is written as an escape."""
    for line in lines[:MOST_LINES]:
        yield f"  {''.join(map(shown, line))}".rstrip()
    if len(lines) > MOST_LINES:
        yield f"  ... and {plural(len(lines) - MOST_LINES, 'line')} more"


def as_json(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The object that `hw test --json` prints."""
    failed = sum(not verdict.passed for verdict in verdicts)
    return {"passed": len(verdicts) - failed, "failed": failed, "tests": list(map(verdict_json, verdicts))}


def verdict_json(verdict: Verdict) -> dict[str, object]:
    case = verdict.case
    return {
        "file": case.span.source.file,
        "line": case.span.line,
        "program": case.program.name,
        "title": case.title,
        "model": verdict.model,
        "passed": verdict.passed,
        "passes": verdict.passes,
        "seconds": round(verdict.seconds, 3),
        "failures": list(map(failure_json, verdict.failures)),
    }


def failure_json(failure: Failure) -> dict[str, object]:
    return {
        **diagnostic(failure).to_json(),
        "how": failure.how,
        "what": failure.what,
        "expected": failure.expected,
        "got": failure.got,
    }
