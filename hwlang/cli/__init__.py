"""The command line `hw`.

Exit codes: 0 ran, 1 the run failed, 2 bad program or usage, 130 interrupted. Errors go to stderr, never as a traceback.
torch and transformers are imported by what runs a model, once the program has passed its checks.

A command is a module with `add(parser)`, its options, and `run(options)`, which gives the exit code. A command that is
not asked for is not imported, so it may import what it likes.

    errors      exit codes, and errors of the runtime as diagnostics
    output      what is printed, and where          inputs    files, parameters and numbers of a command line
    models      which model is run, and where
    run         with jobs: the runs of a command, and display, keyboard: what is seen of one, and typed
    replay resume show view      with traces: recorded runs
    check explain test eval bench fmt lsp serve
"""

import argparse
import atexit
import errno
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from hwlang.cli.errors import BAD, FAILED, INTERRUPTED, Usage
from hwlang.cli.output import report
from hwlang.diagnostics import CompileError

COMMANDS = {  # what it is called -> its module, and what `hw --help` says of it
    "run": ("hwlang.cli.run", "run a program"),
    "check": ("hwlang.cli.check", "check programs"),
    "explain": ("hwlang.cli.explain", "explain a program or a code"),
    "test": ("hwlang.cli.test", "run tests"),
    "replay": ("hwlang.cli.replay", "show a recorded run again"),
    "resume": ("hwlang.cli.resume", "carry on with an interrupted run"),
    "show": ("hwlang.cli.show", "show what a worker saw in a recorded run"),
    "view": ("hwlang.cli.view", "make a page of a recorded run"),
    "bench": ("hwlang.cli.bench", "time passes on this machine"),
    "eval": ("hwlang.cli.eval", "compare ways to work on a suite of problems"),
    "serve": ("hwlang.cli.serve", "answer requests over HTTP, as an SGLang server"),
    "fmt": ("hwlang.cli.fmt", "format programs"),
    "lsp": ("hwlang.cli.lsp", "serve an editor"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is written as an escape, and ends nothing
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
        code: int = options.command(options)
        return code
    except CompileError as error:
        report(error.diagnostics)
        return BAD
    except Usage as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say, and to whom
        sys.stderr.close()
        return FAILED
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("error: what comes out cannot be written: no space is left", file=sys.stderr)
        return FAILED


def process() -> NoReturn:
    """The process `hw`: `main`, and the end."""
    leave(main())


def leave(code: int) -> NoReturn:
    """End the process with an exit code. What is registered for the end is called and what was printed is written; but
    what torch and transformers have imported is not taken apart, which is most of a second."""
    if threading.active_count() > 1:  # which may have something left to do
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or FAILED
    except (OSError, ValueError):  # a disk is full, or a stream has been closed: Python says it as it always does
        sys.exit(code)
    os._exit(code)


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of these arguments: it knows every command, and the options of the one that is asked for."""
    top = argparse.ArgumentParser(prog="hw", description="Run and check .hw programs: several workers, one KV cache.")
    top.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    wanted = next((each for each in arguments if not each.startswith("-")), None)
    for name, (module, help) in COMMANDS.items():
        one = commands.add_parser(name, help=help)
        if name == wanted:
            command = import_module(module)
            command.add(one)
            one.set_defaults(command=command.run)
    return top


class ShowVersion(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than parsing a program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        parser.exit(message=f"hw {version('hwlang')}\n")
