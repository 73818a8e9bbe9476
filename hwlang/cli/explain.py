"""`hw explain`: a program as it will run, or what a code means."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.checker import check_file
from hwlang.cli.errors import OK, Usage, as_diagnostic, exit_code
from hwlang.cli.inputs import read_params, split_target
from hwlang.cli.output import make_console, print_json, report
from hwlang.diagnostics.suggestions import closest

if TYPE_CHECKING:
    from hwlang.explaining.arrays import Arrays
    from hwlang.explaining.headroom import Counter
    from hwruntime.program import Value

CODE = re.compile(r"HW\d{3}", re.IGNORECASE)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show how a program will run, or what a code means."
    parser.add_argument(
        "what", metavar="FILE[:PROGRAM] | CODE", help="a .hw file, or the code of a diagnostic, such as HW201"
    )
    parser.add_argument("-p", dest="params", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter; NAME=@FILE takes a file's text (others are shown as holes)")  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N", help="how many workers of `workers n of ...`")
    parser.add_argument("--tokens", action="store_true", help="count tokens, and what is left of the model's context")
    parser.add_argument("--plan", action="store_true", help="show the attention plan of a pass")
    parser.add_argument("--model", help="whose tokenizer counts: a folder, a hub name, or `tiny`; weights stay unread")
    parser.add_argument("--trust-remote-code", action="store_true", help="let a model run code of its own")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    if CODE.fullmatch(options.what):
        return explain_code(options.what.upper())
    if re.fullmatch(r"HW\d+", options.what, re.IGNORECASE) and not Path(options.what).exists():
        raise Usage(f"`{options.what}` is no code and no file: codes look like HW201")
    return explain_program(options)


def explain_code(code: str) -> int:
    """Print the page on a code."""
    from hwlang.diagnostics.explanations import EXPLANATIONS, explain

    if code not in EXPLANATIONS:
        close = closest(code, EXPLANATIONS)
        raise Usage(f"there is no code {code}" + (f": did you mean {close}?" if close else ""))
    print(explain(code))
    return OK


def explain_program(options: argparse.Namespace) -> int:
    """Print how a program will run."""
    file, name = split_target(options.what)
    program = api.load(file, name)
    resolved = next(each for each in check_file(file).programs if each.name == program.name)
    from hwlang.explaining.overview import overview
    from hwruntime.errors import HwError

    try:
        given = read_params(options.params, program)
        counter = token_counter(options, program) if options.tokens else None
        seen = overview(resolved, program.compiled, given, options.workers, counter)
        plan = pass_arrays(options, program, given, counter) if options.plan else None
    except HwError as error:
        report([as_diagnostic(error, program)])
        return exit_code(error)
    if options.json:
        from hwlang.explaining.overview import as_json

        print_json(as_json(seen, counter, plan), indent=2)
    else:
        from hwlang.explaining.tables import Page

        page = Page(make_console())
        page.overview(seen, counter)
        if plan:
            page.arrays(plan)
    return OK


def token_counter(options: argparse.Namespace, program: api.Program) -> Counter:
    """What counts tokens: with the tokenizer of `--model`, else of the program's model. Raises `ModelError`."""
    from hwlang.explaining.headroom import Counter, defaults
    from hwruntime.checkpoint import open_text

    model = options.model or program.compiled.model or "tiny"
    text = open_text(model, options.trust_remote_code)
    return Counter(model, text.tokenizer, text.context, defaults(program.compiled))


def pass_arrays(
    options: argparse.Namespace, program: api.Program, given: Mapping[str, Value], counter: Counter | None
) -> Arrays:
    """The plan of a pass: with a model's tokenizer where one was asked for, else one token a word."""
    from hwlang.explaining.arrays import arrays
    from hwruntime.scripted import WordTokenizer

    if counter is None and options.model:
        counter = token_counter(options, program)
    tokenizer = counter.tokenizer if counter else WordTokenizer()
    return arrays(program.compiled, given, options.workers, tokenizer)
