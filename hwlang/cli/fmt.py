"""`hw fmt`: puts files in the one style."""

import argparse

from hwlang.cli.errors import BAD, FAILED, OK, Usage
from hwlang.cli.output import report
from hwlang.formatting.files import STDIN, fmt


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Put programs in the one style, in place."
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .hw file; `-` is standard input, printed on stdout")
    parser.add_argument(
        "--check", action="store_true", help="write nothing, list what would change, exit with 1 if any"
    )
    parser.add_argument(
        "--diff", action="store_true", help="write nothing, print what would change, exit with 1 if any"
    )


def run(options: argparse.Namespace) -> int:
    if STDIN in options.files and len(options.files) > 1:
        raise Usage(f"`{STDIN}` (standard input) stands alone")
    done = fmt(options.files, options.check, options.diff, report)
    if done.failed:
        return BAD
    return FAILED if done.changed and (options.check or options.diff) else OK
