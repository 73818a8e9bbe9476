"""Values from a command line; binding is in test_session.py."""

import pytest

from hwruntime.errors import InputError
from hwruntime.inputs import parse_value
from hwruntime.program import Param


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("str", " as it is ", " as it is "), ("int", "-3", -3), ("float", "1e3", 1000.0), ("bool", "True", True)],
)
def test_values(kind, text, value):
    assert parse_value(Param("x", kind), text) == value
    assert type(parse_value(Param("x", kind), text)) is type(value)


@pytest.mark.parametrize(("kind", "text"), [("int", "3.5"), ("int", ""), ("float", "much"), ("bool", "yes")])
def test_values_of_the_wrong_type(kind, text):
    with pytest.raises(InputError, match=f"parameter `x` is of type {kind}, got '{text}'"):
        parse_value(Param("x", kind), text)


def test_long_values_are_cut_in_messages():
    with pytest.raises(InputError) as caught:
        parse_value(Param("x", "int"), "9x" * 500)
    assert len(str(caught.value)) < 120
