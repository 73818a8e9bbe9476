"""`hw check`: the diagnostics of files, as text, JSON or SARIF."""

import argparse
import sys

from hwlang.checker import check_file
from hwlang.cli.errors import BAD, OK
from hwlang.cli.output import print_json, report
from hwlang.diagnostics import summary

MOST_SHOWN = 200  # diagnostics that are printed as text


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Check programs without running them."
    parser.add_argument("files", nargs="+", metavar="FILE")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the diagnostics as a JSON list")
    form.add_argument("--sarif", action="store_true", help="print the diagnostics as SARIF 2.1.0")


def run(options: argparse.Namespace) -> int:
    found = [d for file in options.files for d in check_file(file).diagnostics]
    errors = sum(d.severity == "error" for d in found)
    if options.json:
        print_json([d.to_json() for d in found], indent=2)
    elif options.sarif:
        from hwlang.diagnostics.sarif import sarif

        print_json(sarif(found), indent=2)
    else:
        report(found[:MOST_SHOWN])
        if len(found) > MOST_SHOWN:
            print(f"... and {len(found) - MOST_SHOWN:,} more: `--json` prints all of them", file=sys.stderr)
        if found:
            print(summary(found), file=sys.stderr)
        if not errors:
            count = len(options.files)
            print(f"{count} file{'s' if count > 1 else ''} checked, no errors")
    return BAD if errors else OK
