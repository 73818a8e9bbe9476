"""`hw test`: runs the tests in files."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.checker import check_file
from hwlang.cli import models
from hwlang.cli.errors import BAD, FAILED, OK, Usage
from hwlang.cli.output import in_colour, print_json, report

if TYPE_CHECKING:
    from hwlang.testing.cases import Case
    from hwlang.testing.runner import Verdict


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the tests in .hw files."
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-k", metavar="PART", help="only tests in whose file, program or title this text is")
    models.add(parser.add_argument_group("what tests without a script run on"), "what they or their programs say")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from hwlang.testing.cases import cases_of

    checked = [check_file(file) for file in options.files]
    report([diagnostic for each in checked for diagnostic in each.diagnostics])
    if any(each.errors for each in checked):
        return BAD
    from hwlang.testing.runner import chosen

    cases = chosen((case for each in checked for case in cases_of(each)), options.k)
    if not cases:
        raise Usage(f"no test has `{options.k}` in its name" if options.k else "there are no tests in these files")
    from hwlang.testing.verdicts import as_json, summary

    started = time.monotonic()
    verdicts = list(judged(cases, options))
    if options.json:
        print_json(as_json(verdicts), indent=2)
    else:
        print(summary(verdicts, time.monotonic() - started))
    return OK if all(verdict.passed for verdict in verdicts) else FAILED


def judged(cases: Sequence[Case], options: argparse.Namespace) -> Iterator[Verdict]:
    """Run tests, and tell of each as soon as it is done."""
    from hwlang.testing.runner import engines, judge
    from hwlang.testing.verdicts import diagnostic, explained, line_of

    load = engines(lambda name: api.Engine(name, **models.where(options)).runtime)
    for case in cases:
        verdict = judge(case, load, options.model)
        yield verdict
        if options.json:
            continue
        print(line_of(verdict), flush=True)
        for failure in verdict.failures:
            lines = [diagnostic(failure).render(in_colour(sys.stdout)), *(f"   {line}" for line in explained(failure))]
            print("\n".join(map(str.rstrip, lines)), end="\n\n")
