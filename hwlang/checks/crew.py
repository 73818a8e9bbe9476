"""The crew of a program: its workers, each with its body and its view. What the checker makes and lowering reads."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hwlang import syntax
from hwlang.checks.names import Kind
from hwlang.diagnostics import Span

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Body:
    """A body as it will run, its clauses by kind: a role's and the worker's own."""

    sees: syntax.Sees | None = None
    layout: syntax.Layout | None = None
    begin: syntax.Begin | None = None
    step: syntax.Step | None = None
    max_tokens: syntax.MaxTokens | None = None
    constraint: syntax.Match | syntax.Json | None = None
    options: tuple[syntax.Option, ...] = ()
    paused: syntax.Paused | None = None
    pads: tuple[syntax.Scratchpad, ...] = ()
    forbid: tuple[syntax.String, ...] = ()
    stop_at: tuple[syntax.String, ...] = ()
    rules: tuple[syntax.On, ...] = ()
    size: int = 0  # nodes, about


@dataclass(frozen=True, eq=False)
class Member:
    """One worker of a program: its name, its body (shared with others of the same role) and its view."""

    name: syntax.Name
    body: Body
    paused: bool
    view: tuple[syntax.Entry, ...]


@dataclass(frozen=True)
class Group:
    """`workers COUNT of NAMES`"""

    count: syntax.Number | syntax.Name
    names: tuple[syntax.Name, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Resolved:
    """A program whose names resolve: what lowering writes out. Only of use where there are no errors."""

    file: str
    tree: syntax.Program
    kinds: Mapping[str, Kind]
    texts: Mapping[str, syntax.Parts]
    schemas: Mapping[Body, str]  # the contents of the files behind `json`
    crew: tuple[Member, ...]
    groups: tuple[Group, ...]

    @property
    def name(self) -> str:
        return self.tree.name.value


# --- Bodies ----------------------------------------------------------------------------------------------------------


def by_kind(body: syntax.Body) -> Body:
    """A body's clauses by kind. Of a clause that is there twice (an error) the last one counts."""
    clauses = body.clauses
    return Body(
        sees=last(clauses, syntax.Sees),
        layout=last(clauses, syntax.Layout),
        begin=last(clauses, syntax.Begin),
        step=last(clauses, syntax.Step),
        max_tokens=last(clauses, syntax.MaxTokens),
        constraint=last(clauses, syntax.Match) or last(clauses, syntax.Json),
        options=tuple(o for c in clauses if isinstance(c, syntax.Sampling) for o in c.options),
        paused=last(clauses, syntax.Paused),
        pads=tuple(c for c in clauses if isinstance(c, syntax.Scratchpad)),
        forbid=tuple(t for c in clauses if isinstance(c, syntax.Forbid) for t in c.texts),
        stop_at=tuple(t for c in clauses if isinstance(c, syntax.StopAt) for t in c.texts),
        rules=tuple(c for c in clauses if isinstance(c, syntax.On)),
        size=sum(map(size_of, clauses)),
    )


def last(clauses: tuple[syntax.Clause, ...], kind: type[T]) -> T | None:
    return next((clause for clause in reversed(clauses) if isinstance(clause, kind)), None)


def size_of(clause: syntax.Clause) -> int:
    if isinstance(clause, syntax.Sees):
        return 1 + len(clause.entries)
    if isinstance(clause, syntax.Forbid | syntax.StopAt):
        return 1 + len(clause.texts)
    if isinstance(clause, syntax.On):
        return len(clause.triggers) + sum(1 for _ in all_actions(clause.actions))
    return 1


def combined(role: Body, own: Body) -> Body:
    """A role's clauses with the worker's own: what can be said once, the worker's wins; the rest adds up."""
    if own.size == 0:
        return role
    whole_view = own.sees is not None and any(isinstance(e, syntax.Own) for e in own.sees.entries)
    mine = {option.name for option in own.options}
    return Body(
        sees=own.sees or role.sees,
        layout=own.layout or (None if whole_view else role.layout),
        begin=own.begin or role.begin,
        step=own.step or role.step,
        max_tokens=own.max_tokens or role.max_tokens,
        constraint=own.constraint or role.constraint,
        options=tuple(o for o in role.options if o.name not in mine) + own.options,
        paused=own.paused or role.paused,
        pads=role.pads + own.pads,
        forbid=role.forbid + own.forbid,
        stop_at=role.stop_at + own.stop_at,
        rules=role.rules + own.rules,
        size=role.size + own.size,
    )


def all_actions(actions: Iterable[syntax.Action]) -> Iterator[syntax.Action]:
    """The actions and those in the choices of an `ask`, depth first."""
    for action in actions:
        yield action
        if isinstance(action, syntax.Ask):
            for choice in action.choices:
                yield from all_actions(choice.actions)
