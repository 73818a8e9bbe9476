"""Places as editors count them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwlang.diagnostics import Source
from hwlang.editor.positions import Positions, Units

TEXT = "a漢😀b\r\n\n😀\rz"


@pytest.mark.parametrize(("units", "column"), [("utf-8", 8), ("utf-16", 4), ("utf-32", 3)])
def test_columns_are_counted_in_the_units_of_the_protocol(units: Units, column: int) -> None:
    assert Positions(TEXT, units).place(3) == (0, column)
    assert Positions(TEXT, units).offset(0, column) == 3


def test_lines_end_as_in_editors() -> None:
    positions = Positions(TEXT)
    assert [positions.place(offset)[0] for offset in range(len(TEXT) + 1)] == [0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 3]
    assert positions.offset(0, 99) == 4  # before the line end
    assert positions.offset(99, 0) == len(TEXT)
    assert positions.offset(0, 3) == 2  # within a surrogate pair: its start


@given(st.text(alphabet="ab漢😀\r\n\t\ufeff", max_size=40), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_every_offset_has_a_place_and_comes_back(text: str, units: Units) -> None:
    positions = Positions(text, units)
    for offset in range(len(text) + 1):
        inside = text[offset - 1 : offset + 1] == "\r\n"  # no place is between the two
        assert positions.offset(*positions.place(offset)) == offset - inside


@given(st.text(alphabet="ab漢😀\r\n", max_size=40), st.data())
def test_spans_have_the_offsets_they_were_made_of(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert Positions(text).bounds(Source("x", text).span(start, end)) == (start, end)
