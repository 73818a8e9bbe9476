"""What the words of a text are, as the parser reads them: for editors that colour by what a language server says.

Keywords are those where the grammar has a place for one; names have the kinds of their declarations, in holes, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hwlang.editor.completion import Prefix
from hwlang.editor.index import Index
from hwlang.parsing import lexer
from hwlang.parsing.lexer import END, lexicon

KINDS = {"STRING": "string", "TEXT_BLOCK": "string", "REGEX": "regexp", "NUMBER": "number"}
WORDS = frozenset({"SELF", "OTHERS", "CHAT_ROLE", "LAYOUT_KIND", "OPTION", "BOOL"})


@dataclass(frozen=True)
class Stretch:
    """A stretch of a text on one line, by offsets. `kind` is that of a name, or keyword, string, number, ..."""

    start: int
    end: int
    kind: str
    declares: bool = False


def stretches(index: Index) -> list[Stretch]:
    """All that has a kind, in order; nothing overlaps."""
    text = index.source.text
    names = list(named(index))
    found: list[Stretch] = []
    at = 0
    for stretch in sorted([*names, *cut_out(tokens(index), names)], key=lambda each: (each.start, each.end)):
        if stretch.start >= at:
            found += lines(text, stretch)
            at = stretch.end
    return found


def named(index: Index) -> Iterator[Stretch]:
    for use in index.here:
        if use.symbols:
            yield Stretch(*index.positions.bounds(use.span), use.symbols[0].kind, use.declares)


def tokens(index: Index) -> Iterator[Stretch]:
    """Tokens and comments that are no names."""
    text = index.source.text
    for space in lexicon().pattern.finditer(text):
        if space.lastgroup == "SPACE" and space[0].startswith("#"):
            yield Stretch(space.start(), space.end(), "comment")
    try:
        read = Prefix(index.source, lexer.tokens(text))
    except lexer.TooManyTokens:
        return
    read.run_on()
    for each in read.read:
        kind = "keyword" if each.token.type[0] == "_" or each.token.type in WORDS else KINDS.get(each.token.type, "")
        kind = "type" if each.token.type == "TYPE" else kind
        if each.index is not None and kind and each.token.type != END:
            yield Stretch(each.token.start_pos or 0, each.token.end_pos or 0, kind)


def cut_out(stretches: Iterator[Stretch], names: list[Stretch]) -> Iterator[Stretch]:
    """Strings without the names in their holes."""
    waiting = iter(sorted(names, key=lambda name: name.start))
    name = next(waiting, None)
    for stretch in sorted(stretches, key=lambda each: each.start):
        start = stretch.start
        while name and name.start < stretch.end:
            if name.start > start:
                yield Stretch(start, name.start, stretch.kind)
            start = max(start, name.end)
            name = next(waiting, None)
        if start < stretch.end:
            yield Stretch(start, stretch.end, stretch.kind)


def lines(text: str, stretch: Stretch) -> Iterator[Stretch]:
    """A stretch line by line: not every editor takes more at once."""
    start = stretch.start
    for line in text[stretch.start : stretch.end].splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if bare:
            yield Stretch(start, start + len(bare), stretch.kind, stretch.declares)
        start += len(line)
