"""The names of a program: what each stands for, what is done with it, and names that are not declared."""

from collections.abc import Iterable
from itertools import chain
from typing import Literal

from hwlang.diagnostics import Report, Span, quoted
from hwlang.syntax import Name

# Words that the grammar has a use for where a name could stand too, and the holes that every program has.
RESERVED = frozenset(
    {"self", "others", "in", "name", "workers", "vote"}
    | {"scratchpad", "sees", "layout", "begin", "step", "forbid", "stop", "max", "paused", "sampling", "match", "json"}
    | {"on", "every", "start", "end", "say", "ask", "post", "move", "clear", "pause", "resume"}
)

Kind = Literal["parameter", "text", "scratchpad", "stream", "worker"]
KINDS: tuple[Kind, ...] = ("parameter", "text", "scratchpad", "stream", "worker")


class Names:
    """The names that a program declares, and what its workers and syncs do with them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.declared: dict[str, tuple[Kind, Name]] = {}
        self.private: dict[str, str] = {}  # a private pad's name -> a worker that has it
        self.used: set[str] = set()
        self.seen: dict[str, Span] = {}  # shared pads in a view or as the answer
        self.written: set[str] = set()  # shared pads
        self.unknown: set[str] = set()  # what the names that are not declared should have been

    def declare(self, kind: Kind, name: Name) -> None:
        wrong = reserved(name, self.report)
        if wrong or name.value in self.declared:
            self.used.add(name.value)  # one slip, one message: it is not "never used" as well
        if name.value not in self.declared:
            self.declared[name.value] = kind, name
            return
        other, first = self.declared[name.value]
        where = place(first.span, name.span)
        if kind == other == "worker":
            message = f"two workers {quoted(name.value)} would write one block; the first is {where}"
            self.report.error("HW202", name.span, message, "give each worker a name of its own")
        else:
            self.report.error("HW102", name.span, f"{quoted(name.value)} is the name of a {other} already, {where}")

    def kind_of(self, name: str) -> Kind | None:
        """What a name stands for; None where it is not declared."""
        return self.declared[name][0] if name in self.declared else None

    def kinds(self) -> dict[str, Kind]:
        return {name: kind for name, (kind, _) in self.declared.items()}

    def use(self, name: Name) -> Kind | None:
        """What a name stands for; marks it as used."""
        self.used.add(name.value)
        return self.kind_of(name.value)

    def see_pad(self, name: Name) -> None:
        """Note that a shared scratchpad is read, by a view or as the answer."""
        self.seen.setdefault(name.value, name.span)

    def undefined(self, name: Name, what: str, kinds: tuple[Kind, ...], extra: Iterable[str] = ()) -> None:
        """Report a name that is not declared where there should be one of these kinds (or of `extra`)."""
        if "scratchpad" in kinds and name.value in self.private:
            message = f"the scratchpad {quoted(name.value)} is private to {quoted(self.private[name.value])}"
            self.report.error("HW203", name.span, message, "declare it in the program to share it")
            return
        self.unknown.add(what)
        help = self.report.suggestion(name.value, chain(extra, self.of_kinds(kinds)))
        self.report.error("HW101", name.span, f"there is no {what} {quoted(name.value)}", help)

    def of_kinds(self, kinds: tuple[Kind, ...]) -> Iterable[str]:
        return (name for name, (kind, _) in self.declared.items() if kind in kinds)

    def warn_unused(self) -> None:
        if self.unknown:
            return  # the name that is not known may have been meant for one of these
        for name, (kind, node) in self.declared.items():
            if kind == "worker" or name in self.used or (kind == "scratchpad" and name in self.written):
                continue
            self.report.warning("HW105", node.span, f"the {kind} {quoted(name)} is never used")


def reserved(name: Name, report: Report) -> bool:
    """Whether a name is a word of the language; reports it."""
    if name.value in RESERVED:
        report.error("HW104", name.span, f"{quoted(name.value)} has a meaning of its own and cannot be a name")
    return name.value in RESERVED


def place(first: Span, second: Span) -> str:
    """Where the first of two declarations is, for a message about the second."""
    if not first:
        return "declared before"
    return f"on line {first.line}" + ("" if first.source is second.source else f" of {first.source.file}")
