"""The names of a program: what each stands for, what is done with it, and names that are not declared."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

from hwlang.diagnostics import Diagnostic, Label, Report, Span, in_order, quoted
from hwlang.syntax import Name

# Words that the grammar has a use for where a name could stand too, and the holes that every program has.
RESERVED = frozenset(
    {"self", "others", "in", "name", "workers", "vote"}
    | {"scratchpad", "sees", "layout", "begin", "step", "forbid", "stop", "max", "paused", "sampling", "match", "json"}
    | {"on", "every", "start", "end", "say", "ask", "post", "move", "clear", "pause", "resume"}
)

MAX_LABELS = 20  # other uses of a name that are pointed at

Kind = Literal["parameter", "text", "scratchpad", "stream", "worker"]
KINDS: tuple[Kind, ...] = ("parameter", "text", "scratchpad", "stream", "worker")


class Names:
    """The names that a program declares, and what its workers and syncs do with them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.declared: dict[str, tuple[Kind, Name]] = {}
        self._kinds: dict[str, set[Kind]] = {}  # more than one where a name is declared twice
        self._missing: dict[str, list[Diagnostic]] = {}  # by name: each use of one that is not declared
        self.private: dict[str, str] = {}  # a private pad's name -> a worker that has it
        self.used: set[str] = set()
        self.seen: dict[str, Span] = {}  # shared pads in a view or as the answer
        self.written: set[str] = set()  # shared pads
        self.no_steps: dict[object, list[Diagnostic]] = {}  # by body: what needs steps where there are none
        self.unknown: set[str] = set()  # what the names that are not declared should have been
        self.misnamed: set[Kind] = set()  # what was declared by a word of the language: what it should be is not known

    def declare(self, kind: Kind, name: Name) -> None:
        wrong = reserved(name, self.report)
        if wrong or name.value in self.declared:
            self.used.add(name.value)  # one slip, one message: it is not "never used" as well
        if wrong:
            self.misnamed.add(kind)
        self._kinds.setdefault(name.value, set()).add(kind)
        if name.value not in self.declared:
            self.declared[name.value] = kind, name
            return
        other, first = self.declared[name.value]
        where, labels = place(first.span, name.span), first_here(first.span)
        if kind == other == "worker":
            message = f"two workers {quoted(name.value)} would write one block; the first is {where}"
            self.report.error("HW202", name.span, message, "give each worker a name of its own", labels)
        else:
            message = f"{quoted(name.value)} is the name of a {other} already, {where}"
            self.report.error("HW102", name.span, message, labels=labels)

    def kind_of(self, name: str) -> Kind | None:
        """What a name stands for; None where it is not declared."""
        return self.declared[name][0] if name in self.declared else None

    def kinds(self) -> dict[str, Kind]:
        return {name: kind for name, (kind, _) in self.declared.items()}

    def use(self, name: Name, wanted: Kind | None = None) -> Kind | None:
        """What a name stands for; marks it as used. Of a name that is declared twice, what is wanted."""
        self.used.add(name.value)
        return wanted if wanted in self._kinds.get(name.value, ()) else self.kind_of(name.value)

    def see_pad(self, name: Name) -> None:
        """Note that a shared scratchpad is read, by a view or as the answer."""
        self.seen.setdefault(name.value, name.span)

    def undefined(self, name: Name, what: str, kinds: tuple[Kind, ...], extra: Iterable[str] = ()) -> None:
        """Report a name that is not declared where there should be one of these kinds (or of `extra`)."""
        if "scratchpad" in kinds and name.value in self.private:
            message = f"the scratchpad {quoted(name.value)} is private to {quoted(self.private[name.value])}"
            self.unknown |= {"scratchpad"} if kinds == ("scratchpad",) else set()
            self.report.error("HW203", name.span, message, "declare it in the program to share it")
            return
        self.unknown.add(what)
        help = None
        if name.value not in self._missing:
            help = self.report.suggestion(name.value, chain(extra, self.of_kinds(kinds)))
            if help is None and not self.misnamed.isdisjoint(kinds):
                return  # what has a wrong name may be what is meant here
        if help is None and what in ("scratchpad", "stream"):
            help = f"declare it in the program: `{what} {name.value}`"
        self.missing(name.value, Diagnostic("HW101", f"there is no {what} {quoted(name.value)}", name.span, help))

    def missing(self, name: str, use: Diagnostic) -> None:
        """Note a use of a name that is not declared."""
        self._missing.setdefault(name, []).append(use)

    def needs_steps(self, body: object, problem: Diagnostic) -> None:
        """Note what cannot be as the worker's body has no steps; without a body it is reported at once."""
        if body is None:
            self.report.problems.append(problem)
        else:
            self.no_steps.setdefault(body, []).append(problem)

    def is_told(self, name: str, kinds: tuple[Kind, ...]) -> bool:
        """Whether it has been told why a name does not stand for one of these kinds."""
        return name in self._missing or not self.misnamed.isdisjoint(kinds)

    def tell_missing(self) -> None:
        """Report the names that are not declared."""
        self.report.problems += map(once, self._missing.values())
        for needs in self.no_steps.values():  # one slip: the `step` that is not there
            first, *others = in_order(needs)
            labels = tuple(Label(each.span, "nor does this") for each in others)
            self.report.problems.append(replace(first, labels=labels[:MAX_LABELS]))

    def of_kinds(self, kinds: tuple[Kind, ...]) -> Iterable[str]:
        return (name for name, (kind, _) in self.declared.items() if kind in kinds)

    def warn_unused(self) -> None:
        if self.unknown:
            return  # the name that is not known may have been meant for one of these
        for name, (kind, node) in self.declared.items():
            if kind == "worker" or name in self.used or (kind == "scratchpad" and name in self.written):
                continue
            self.report.warning("HW105", node.span, f"the {kind} {quoted(name)} is never used")


def once(uses: Sequence[Diagnostic]) -> Diagnostic:
    """All uses of a name that is not there, as one problem: at the first of them, the others are labels."""
    first, *others = in_order(uses)
    help = next((use.help for use in uses if use.help), None)
    labels = tuple(Label(use.span, "used here, too") for use in others if use.span != first.span)
    return replace(first, help=help, labels=labels[:MAX_LABELS])


def reserved(name: Name, report: Report) -> bool:
    """Whether a name is a word of the language; reports it."""
    if name.value in RESERVED:
        report.error("HW104", name.span, f"{quoted(name.value)} has a meaning of its own and cannot be a name")
    return name.value in RESERVED


def first_here(first: Span) -> tuple[Label, ...]:
    """The label of the first of two declarations."""
    return (Label(first, "first written here"),) if first else ()


def place(first: Span, second: Span) -> str:
    """Where the first of two declarations is, for a message about the second."""
    if not first:
        return "declared before"
    return f"on line {first.line}" + ("" if first.source is second.source else f" of {first.source.file}")
