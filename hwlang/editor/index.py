"""What editors ask about a file: what is at a place, where it is declared and used, what a new name would change.

`analyse` checks a text, valid or not, and finds all of its names. Places are offsets into the text.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hwlang import syntax
from hwlang.checker import Checked, check
from hwlang.diagnostics import Source, Span, quoted
from hwlang.editor.positions import Positions
from hwlang.editor.symbols import Env, Link, Names, Symbol, Use, names_of, title

NAME = re.compile(r"[A-Za-z_]\w*")
CLASHES = ("HW102", "HW104", "HW202")  # what is said first of a name that is taken


class CannotRename(Exception):
    """Why a name cannot be changed."""


@dataclass(frozen=True)
class Edit:
    """Put this text between two offsets."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Entry:
    """A line of a file's outline: a declaration and what is declared in it."""

    name: str
    kind: str
    whole: Span
    span: Span
    inner: tuple["Entry", ...] = ()


@dataclass(frozen=True)
class Index:
    """A checked file and its names."""

    checked: Checked
    names: Names

    @property
    def source(self) -> Source:
        return self.checked.source

    @cached_property
    def positions(self) -> Positions:
        return Positions(self.source.text)

    @cached_property
    def here(self) -> tuple[Use, ...]:
        """The uses in the file itself, in order."""
        return tuple(use for use in self.names.uses if use.span.source is self.source)

    def at(self, offset: int) -> Use | None:
        """The name at a place, or just before it."""
        place = self.source.place(offset)
        return next((use for use in self.here if use.span.start <= place <= use.span.end), None)

    def link_at(self, offset: int) -> Link | None:
        """The string at a place that names a file."""
        place = self.source.place(offset)
        return next((link for link in self.names.links if holds(link.span, place, self.source)), None)

    def uses_of(self, use: Use) -> list[Use]:
        """Every place where what is meant here is written, in this file and in those that it imports."""
        wanted = set(use.symbols)
        return [each for each in self.names.uses if wanted & set(each.symbols)]

    def around(self, offset: int) -> tuple[Env, ...]:
        """The names of the program or the role at a place, or of the worker in it."""
        place = self.source.place(offset)
        found: tuple[Env, ...] = ()
        latest = (0, 0)
        for node, envs in self.names.spaces:
            here = node.span.source is self.source and node.span.start <= place
            open_ = isinstance(node, syntax.Item) or node.span.end >= place or not self._closed(node.span)
            if here and open_ and node.span.start >= latest:
                found, latest = envs, node.span.start
        return found

    def _closed(self, span: Span) -> bool:
        """Whether what is there ends with its brace."""
        _, end = self.positions.bounds(span)
        return self.source.text[end - 1 : end] == "}"

    def visible(self, offset: int) -> list[Symbol]:
        """The names that can be used at a place."""
        envs = self.around(offset)
        return list({s.name: s for env in envs for space in reversed(env) for s in space.values()}.values())

    # Renaming

    def group(self, use: Use) -> list[Use]:
        """The uses that have one name together: those of a role may belong to several programs."""
        found: dict[Symbol, None] = dict.fromkeys(use.symbols)
        while True:
            uses = [each for each in self.names.uses if any(symbol in found for symbol in each.symbols)]
            more = [symbol for each in uses for symbol in each.symbols if symbol not in found]
            if not more:
                return uses
            found |= dict.fromkeys(more)

    def renamable(self, offset: int) -> Use:
        """The name at a place, where it can be changed. Raises `CannotRename`."""
        use = self.at(offset)
        if use is None:
            raise CannotRename("there is no name here")
        if not use.symbols:
            raise CannotRename(f"{quoted(use.span.text)} is not declared in this file")
        outside = next((each for each in self.group(use) if each.span.source is not self.source), None)
        if outside:
            raise CannotRename(f"{quoted(use.span.text)} is written in {quoted(outside.span.source.file, 200)}, too")
        return use

    def rename(self, offset: int, new: str) -> list[Edit]:
        """The edits that give what is at a place a new name. Raises `CannotRename`."""
        use = self.renamable(offset)
        if not NAME.fullmatch(new):
            raise CannotRename(f"{quoted(new)} is not a name: names have letters, digits and `_`")
        edits = [Edit(*self.positions.bounds(each.span), new) for each in self.group(use)]
        self._unchanged(analyse(self.edited(edits)), new)
        return edits

    def edited(self, edits: Iterable[Edit]) -> Source:
        return replace(self.source, text=applied(self.source.text, edits))

    def _unchanged(self, after: "Index", new: str) -> None:
        """Raises `CannotRename` where a file means something else than before."""
        before = Counter(problem.code for problem in self.checked.errors)
        for problem in sorted(after.checked.errors, key=lambda each: (each.code not in CLASHES, each.code)):
            before[problem.code] -= 1
            if before[problem.code] < 0:
                raise CannotRename(f"with the name {quoted(new)}, line {problem.span.line}: {problem.message}")
        if shape(self.here) != shape(after.here):
            raise CannotRename(f"{quoted(new)} means something else in this file")

    # Outline

    def outline(self) -> tuple[Entry, ...]:
        """The programs and roles, and in each what it declares."""
        items = [item for item in self.checked.tree.items if isinstance(item, syntax.Program | syntax.Role)]
        starts = [item.span.start for item in items]
        inner: list[list[Symbol]] = [[] for _ in items]
        for symbol in (symbol for use in self.here if use.declares for symbol in use.symbols if symbol.inside):
            at = bisect_right(starts, symbol.span.start) - 1
            if at >= 0 and within(symbol.whole, items[at].span):
                inner[at].append(symbol)
        return tuple(entry(item, symbols) for item, symbols in zip(items, inner, strict=True) if item.name.value)


def entry(item: syntax.Program | syntax.Role, symbols: Iterable[Symbol]) -> Entry:
    entries = tuple(Entry(s.name, s.kind, s.whole, s.span) for s in sorted(symbols, key=lambda s: s.span))
    return Entry(item.name.value, title(item).split()[0], item.span, item.name.span, entries)


def analyse(source: Source) -> Index:
    """Check a text and find its names; it may be broken in any way."""
    checked = check(source)
    return Index(checked, names_of(checked.tree, source))


def applied(text: str, edits: Iterable[Edit]) -> str:
    """A text with edits made."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def shape(uses: Sequence[Use]) -> list[tuple[int, ...]]:
    """Which names mean the same, whatever they are."""
    numbers: dict[Symbol, int] = {}
    return [tuple(numbers.setdefault(symbol, len(numbers)) for symbol in use.symbols) for use in uses]


def holds(span: Span, place: tuple[int, int], source: Source) -> bool:
    return span.source is source and span.start <= place <= span.end


def within(inner: Span, outer: Span) -> bool:
    return inner.source is outer.source and outer.start <= inner.start and inner.end <= outer.end
