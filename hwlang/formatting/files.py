"""`hw fmt`: put the files of a command line in the one style, or tell which are not in it.

A file is replaced in one go (a temporary file beside it takes its name) or, where anything is wrong, not at all.
"""

import difflib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwlang.diagnostics import CompileError, Diagnostic, Source, Span
from hwlang.formatting.formatter import Unfaithful, formatted
from hwlang.parser import load

STDIN = "-"
NO_LINE_END = "\\ No newline at end of file\n"

Report = Callable[[Sequence[Diagnostic]], None]


class Unwritable(Exception):
    """A file that cannot be replaced; the message says why."""


@dataclass(frozen=True)
class Summary:
    """How many files were (or would be) changed, how many were fine, and how many could not be formatted."""

    changed: int
    unchanged: int
    failed: int


def fmt(files: Sequence[str], check: bool, diff: bool, report: Report) -> Summary:
    """Format these files in place; with `check` or `diff` only tell what would change. `-` is standard input.

    What keeps a file from being formatted is reported, and the others are formatted all the same.
    """
    counts = {True: 0, False: 0, None: 0}
    for file in files:
        counts[one_file(file, check, diff, report)] += 1
    done = Summary(counts[True], counts[False], counts[None])
    if not diff and (check or STDIN not in files):
        print(in_words(done, "would be " if check else ""))
    return done


def in_words(done: Summary, would_be: str) -> str:
    files = "1 file" if done.changed == 1 else f"{done.changed} files"
    failed = f", {done.failed} with errors" if done.failed else ""
    return f"{files} {would_be}reformatted, {done.unchanged} left unchanged{failed}"


def one_file(file: str, check: bool, diff: bool, report: Report) -> bool | None:
    """Whether a file was or would be changed; `None` where it could not be formatted."""
    try:
        source = read_stdin() if file == STDIN else load(file)
        new = formatted(source)
        changed = new != source.text
        if diff:
            show(difference(source, new))
        elif check:
            print(f"would reformat {source.file}\n" if changed else "", end="")
        elif file == STDIN:
            write_exactly(new)
        elif changed:
            replace(Path(file), new)
        return changed
    except CompileError as error:
        report(error.diagnostics)
    except Unwritable as error:
        print(f"error: cannot write `{file}`: {error}", file=sys.stderr)
    except Unfaithful as error:
        print(f"error: `{file}` is left as it is, for a bug in `hw fmt`: {error}; please report it", file=sys.stderr)
    return None


def read_stdin() -> Source:
    """The program on standard input. Raises `CompileError` where it is not UTF-8."""
    data = sys.stdin.buffer.read()
    try:
        return Source("<stdin>", data.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(errors="replace").removeprefix("\ufeff")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        span = Span(line, column, line, column + 1, Source("<stdin>", data.decode(errors="replace")))
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise CompileError([Diagnostic("HW009", message, span)]) from None


def replace(path: Path, text: str) -> None:
    """Give a file a new text, all at once; its permissions stay, and a link stays a link. Raises `Unwritable`."""
    try:
        target = path.resolve(strict=True)
        if not target.is_file() or not os.access(target, os.W_OK):
            raise Unwritable("it is not a file that may be written")
        handle, temporary = tempfile.mkstemp(prefix=".hw-fmt-", dir=target.parent)
        try:
            with open(handle, "wb") as file:
                file.write(text.encode())
                os.fsync(handle)
            os.chmod(temporary, target.stat().st_mode & 0o7777)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Unwritable((error.strerror or str(error)).lower()) from None


# --- What is printed -------------------------------------------------------------------------------------------------


def difference(source: Source, new: str) -> Iterator[str]:
    """A unified diff, line by line. Lines end where `hw` ends them: with a line feed."""
    old_lines, new_lines = lines_of(source.text), lines_of(new)
    for line in difflib.unified_diff(old_lines, new_lines, source.file, source.file):
        yield line
        if not line.endswith("\n"):
            yield "\n" + NO_LINE_END


def lines_of(text: str) -> list[str]:
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


def show(lines: Iterator[str]) -> None:
    """A diff on stdout: in colour on a terminal, elsewhere byte for byte."""
    if not sys.stdout.isatty():
        write_exactly("".join(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        console.print(Text(line, style=style_of(line)), end="")


def style_of(line: str) -> str:
    if line.startswith(("---", "+++")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")


def write_exactly(text: str) -> None:
    """To stdout as UTF-8, whatever the terminal's encoding is: this may be a program's new text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
