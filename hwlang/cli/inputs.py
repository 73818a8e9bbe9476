"""What a command line gives: files, parameters, numbers. What is wrong with it raises `Usage`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang.cli.errors import Usage

if TYPE_CHECKING:
    from hwlang.api import Program
    from hwruntime.program import Value

PROGRAM_NAME = re.compile(r"(?P<file>.+):(?P<program>[A-Za-z_]\w*)")


def split_target(target: str) -> tuple[Path, str | None]:
    """`FILE[:PROGRAM]`. A file whose name itself ends so is taken as the file."""
    found = PROGRAM_NAME.fullmatch(target)
    if found is None or Path(target).exists():
        return Path(target), None
    return Path(found["file"]), found["program"]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {number}")
    return number


def numbers(text: str) -> tuple[int, ...]:
    """`1,2,4`, from the smallest."""
    return tuple(sorted({positive(each) for each in text.split(",")}))


def read_params(pairs: Sequence[str], program: Program) -> dict[str, Value]:
    """The `-p` options. Raises `Usage`, and `InputError` for a value of the wrong type."""
    from hwruntime.inputs import parse_value

    known = {param.name: param for param in program.compiled.params}
    values: dict[str, Value] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise Usage(f"-p takes NAME=VALUE, not `{pair}`")
        if text.startswith("@"):
            text = read_text(Path(text[1:]))
        values[name] = parse_value(known[name], text) if name in known else text
    return values


def check_inputs(program: Program, given: Mapping[str, Value], workers: int | None) -> None:
    """Raises `InputError` where the inputs do not fit the program."""
    from hwruntime.inputs import active_workers, bind

    active_workers(program.compiled, bind(program.compiled, given), workers)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Usage(f"`{path}` is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Usage(f"cannot read `{path}`: {reason}") from None
