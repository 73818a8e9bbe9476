"""Syntax nodes: frozen dataclasses that do not compare where they come from."""

import dataclasses

import pytest

from hwlang import syntax
from hwlang.diagnostics import Span

NODES = [kind for kind in vars(syntax).values() if isinstance(kind, type) and issubclass(kind, syntax.Node)]


def test_nodes_are_the_same_wherever_they_stand() -> None:
    here, there = (syntax.Name("Ann", span=Span(1, column, 1, column + 3)) for column in (1, 5))
    assert here == there
    assert len({here, there, syntax.Name("Ben")}) == 2
    assert here.span != there.span


def test_nodes_of_two_kinds_are_never_the_same() -> None:
    assert syntax.Pause(syntax.Name("Ann")) != syntax.Resume(syntax.Name("Ann"))
    assert syntax.Name("Ann") != "Ann"


def test_nodes_print_as_they_are_made() -> None:
    made = syntax.String(("a", syntax.Hole("b")))
    assert repr(made) == "String(parts=('a', Hole(name='b')))"
    assert eval(repr(made), vars(syntax)) == made


@pytest.mark.parametrize("kind", NODES, ids=lambda kind: kind.__name__)
def test_nodes_are_frozen_dataclasses(kind: type[syntax.Node]) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__doc__
    assert "span" in {field.name for field in dataclasses.fields(kind)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind.__setattr__(object.__new__(kind), "span", Span(1, 1, 1, 2))
