"""What a diagnostic's help says to write, as an edit.

It is offered only where the file, checked again with it, has one problem of its kind less and no error more."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hwlang.checker import Checked, check
from hwlang.diagnostics import Diagnostic, Span
from hwlang.editor.index import Edit, Index, holds

REPLACE = re.compile(r"did you mean `(.+)`\?|names are written without quotes: `(.+)`|write `(.+?)`(?: instead)?")
REMOVE = re.compile(r"remove (?:it|this `.+`|`.+`)")
INSERT = re.compile(r"write `(.+)` before it")
APPEND = re.compile(r"add `(.+)` at the end")
DECLARE = re.compile(r"declare it in the program: `(.+)`")
MISSING = re.compile(r"a `(.)` is missing (?:between|before)")
QUOTES = "strings are written with straight quotes"
QUOTED = re.compile(r"[“”„«‘'`]([^“”„»’'`\"\\\n]*)[“”»’'`]")


@dataclass(frozen=True)
class Fix:
    """Edits that put a diagnostic right, and what to call them."""

    title: str
    edits: tuple[Edit, ...]


def fix_for(index: Index, problem: Diagnostic) -> Fix | None:
    """The edits that a diagnostic's help stands for; None where it stands for none that is certain."""
    for edits in candidates(index, problem):
        if mended(index.checked, check(index.edited(edits)), problem):
            return Fix((problem.help or problem.message).rstrip("?"), tuple(edits))
    return None


def mended(before: Checked, after: Checked, problem: Diagnostic) -> bool:
    """Whether an edit took a problem away and brought no error."""
    was, still = (sum(d.code == problem.code for d in each.diagnostics) for each in (before, after))
    return still < was and len(after.errors) <= len(before.errors)


def candidates(index: Index, problem: Diagnostic) -> Iterator[list[Edit]]:
    """What the help may mean, the likeliest first."""
    if problem.span.source is not index.source or not problem.span:
        return
    help = problem.help or ""
    start, end = index.positions.bounds(problem.span)
    if symbol := MISSING.match(problem.message):
        yield from missing_symbol(index.source.text, start, symbol[1])
    elif found := INSERT.fullmatch(help):
        yield [inserted(index.source.text, start, found[1])]
    elif found := REPLACE.fullmatch(help):
        new = next(group for group in found.groups() if group)
        places = [problem.span, *(label.span for label in problem.labels)]
        yield from swapped(index.source.text, start, new.split(" "))
        yield list(replaced(index, places, new))
        yield list(replaced(index, places[:1], new))
    elif REMOVE.fullmatch(help):
        yield [removed(index.source.text, start, end)]
    elif found := APPEND.fullmatch(help):
        yield [Edit(end, end, found[1])]
    elif help.startswith(QUOTES) and (quote := QUOTED.match(index.source.text, start)):
        yield [Edit(start, quote.end(), f'"{quote[1]}"')]
    elif found := DECLARE.fullmatch(help):
        yield from declared(index, problem.span, found[1])


def replaced(index: Index, places: Iterable[Span], new: str) -> Iterator[Edit]:
    """Other words at these places; of a hole, the name in it."""
    for span in places:
        if span.source is index.source:
            start, end = index.positions.bounds(span)
            hole = index.source.text[start:end].startswith("{{") and not new.startswith("{{")
            yield Edit(start, end, "{{" + new + "}}" if hole else new)


def swapped(text: str, start: int, words: list[str]) -> Iterator[list[Edit]]:
    """Two words the other way round."""
    if len(words) == 2 and (
        found := re.compile(rf"{re.escape(words[1])}(\s+){re.escape(words[0])}").match(text, start)
    ):
        yield [Edit(start, found.end(), words[0] + found[1] + words[1])]


def missing_symbol(text: str, start: int, symbol: str) -> Iterator[list[Edit]]:
    before = len(text[:start].rstrip())
    spaced = symbol if symbol in ",:)" else f" {symbol}"
    yield [Edit(before, before, spaced)]
    yield [Edit(start, start, f"{symbol} ")]


def inserted(text: str, start: int, words: str) -> Edit:
    """Words before a place, apart from what is around it."""
    before = "" if text[:start][-1:].isspace() else " "
    after = "" if text[start : start + 1].isspace() or start >= len(text) else " "
    return Edit(start, start, before + words + after)


def removed(text: str, start: int, end: int) -> Edit:
    """Nothing in its place, and one space less."""
    while start > 0 and text[start - 1] in " \t" and text[end : end + 1] in ("", " ", "\n", "\r"):
        start -= 1
    return Edit(start, end, "")


def declared(index: Index, place: Span, declaration: str) -> Iterator[list[Edit]]:
    """A declaration, as the first of the program around a place or of the one program of the file."""
    programs = index.checked.tree.programs
    around = [program for program in programs if holds(program.span, place.start, index.source)] or list(programs)
    for program in around[:1]:
        if program.declarations and program.declarations[0].span.source is index.source:
            first = program.declarations[0].span
            at, _ = index.positions.bounds(first)
            indent = " " * (first.column - 1) if first.line > program.span.line else ""
            yield [Edit(at, at, declaration + ("\n" + indent if indent else " "))]
