"""Text -> syntax tree. The grammar is `grammar/hw.lark`, from which Lark makes the tables that are parsed with.

`parse` and `load` raise `CompileError` and nothing else, whatever the text. `read` goes on after slips
(`parsing.recovery` says how), so that the checker can report the rest of the file in the same go. Its parts are in
`parsing`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hwlang import syntax
from hwlang.diagnostics import CompileError, Diagnostic, Source, Span, in_order, quoted
from hwlang.diagnostics.source import Damage
from hwlang.garbage import uncollected
from hwlang.parsing import lexer
from hwlang.parsing.builder import ToSyntax
from hwlang.parsing.lalr import Unexpected

MAX_SIZE = 1024 * 1024  # bytes of a file
MUCH = 20_000  # characters: from here on it pays to keep the garbage collector away
TO_A_FILE = 'put long texts into files of their own: `text NAME = file "..."`'


@dataclass(frozen=True)
class Reading:
    """What a text was read as, what is wrong with it, and where it was guessed what was meant."""

    tree: syntax.File
    problems: tuple[Diagnostic, ...] = ()
    damage: tuple[Damage, ...] = ()
    complete: bool = True  # whether all of the text is in the tree
    tokens: int = 0


def parse(text: str, file: str = "<program>") -> syntax.File:
    """The syntax tree of a program's text. Raises `CompileError`."""
    tree, problems = read(Source(file, text.removeprefix("\ufeff")))
    if problems:
        raise CompileError(problems)
    return tree


def load(path: Path | str) -> Source:
    """Read a `.hw` file, as UTF-8. Raises `CompileError`."""
    path = Path(path)
    file = str(path)
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise CompileError([unreadable(file, error)]) from None
    if len(data) > MAX_SIZE:
        raise CompileError([too_large(Source(file, ""))])
    try:
        return Source(file, data.decode().removeprefix("\ufeff"), path)
    except UnicodeDecodeError as error:
        raise CompileError([_not_utf8(file, data, error.start)]) from None


def read(source: Source) -> tuple[syntax.File, tuple[Diagnostic, ...]]:
    """The syntax tree and what is wrong with it."""
    reading = read_on(source)
    return reading.tree, reading.problems


def read_on(source: Source, most: int = lexer.MAX_TOKENS) -> Reading:
    """Read a text of at most so many tokens, past all of its slips."""
    surrogate = re.search("[\ud800-\udfff]", source.text)
    if surrogate:
        span = source.span(surrogate.start(), surrogate.end())
        return failed(Diagnostic("HW009", "the text has half of a surrogate pair", span))
    if len(source.text) > MAX_SIZE:
        return failed(too_large(source))
    with uncollected(len(source.text) > MUCH):
        try:
            tokens = lexer.tokens(source.text, most)
        except lexer.TooManyTokens as error:
            return failed(too_many(source, error.offset))
        to_syntax = ToSyntax(source)
        try:
            tree = to_syntax(tokens)
            return Reading(tree, in_order(to_syntax.problems), tokens=len(tokens))
        except Unexpected:
            from hwlang.parsing.recovery import Recovery  # only programs with errors need it

        recovered = Recovery(source, lexer.tokens(source.text, most)).run()
        to_syntax = ToSyntax(source)
        tree = to_syntax(recovered.tokens)
        guessed = [each.span for each in recovered.damage]
        inside = [each for each in to_syntax.problems if not any(map(each.span.touches, guessed))]
        problems = in_order([*recovered.problems, *inside])
        return Reading(tree, problems, recovered.damage, recovered.complete, len(tokens))


def failed(problem: Diagnostic) -> Reading:
    return Reading(syntax.File(), (problem,), complete=False)


# --- Texts that are not read -----------------------------------------------------------------------------------------


def unreadable(file: str, error: OSError | ValueError) -> Diagnostic:
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return Diagnostic("HW401", f"cannot read {quoted(file, 200)}: {reason}", Span(0, 0, 0, 0, Source(file, "")))


def too_large(source: Source) -> Diagnostic:
    message = f"the file is larger than {MAX_SIZE // 2**20} MiB"
    return Diagnostic("HW011", message, Span(0, 0, 0, 0, source), TO_A_FILE)


def too_many(source: Source, offset: int) -> Diagnostic:
    message = f"a program may have {lexer.MAX_TOKENS:,} words, strings and symbols; this one has more from here on"
    return Diagnostic("HW011", message, source.span(offset, offset + 1), TO_A_FILE)


def _not_utf8(file: str, data: bytes, start: int) -> Diagnostic:
    source = Source(file, data.decode(errors="replace"))
    at = len(data[:start].decode(errors="replace"))
    return Diagnostic("HW009", f"byte 0x{data[start]:02x} is not UTF-8", source.span(at, at + 1), "save it as UTF-8")
