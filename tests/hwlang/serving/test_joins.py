"""Which texts a join means: found by their characters, or named by ids."""

import pytest

from hwlang.serving.joins import MOST, Branches, Joins, split
from hwlang.serving.sglang_api import Join
from hwruntime.errors import InputError

OPENING = "Two tips: "


def written(*texts: str) -> Joins:
    joins = Joins()
    for text in texts:
        joins.note_written(text)
    return joins


def test_a_join_waits_for_the_text_behind_its_branches():
    joins = written(OPENING + "Tip one. ", OPENING + "Tip two. ")
    joined = OPENING + "Tip one. Tip two. "
    assert joins.due(joined) is None  # nobody has asked
    assert joins.ask(Join(("x", "y"), "z")) is None
    assert joins.due(OPENING + "Tip one. And ") is None
    due = joins.due(joined + "So")
    assert due == Branches(OPENING, (OPENING + "Tip one. ", OPENING + "Tip two. "))
    assert due.text == joined
    assert joins.due(joined + "So") is None  # once


def test_branches_come_in_the_order_of_the_text():
    joins = written(*(OPENING + part for part in ("b", "c", "a")), "Else")
    joins.ask(Join(("x", "y", "z"), "t"))
    due = joins.due(OPENING + "cab!")
    assert due
    assert due.texts == (OPENING + "c", OPENING + "a", OPENING + "b")


def test_branches_can_be_alike():
    joins = written(OPENING + "same ")
    joins.ask(Join(("x", "y"), "t"))
    due = joins.due(OPENING + "same same ")
    assert due == Branches(OPENING, (OPENING + "same ", OPENING + "same "))


def test_one_branch_needs_no_join():
    joins = written(OPENING + "a")
    assert joins.ask(Join(("x",), "t")) is None
    assert joins.due(OPENING + "a") is None


def test_ids_join_at_once():
    joins = Joins()
    for rid, text in (("t", OPENING), ("x", OPENING + "a "), ("y", OPENING + "b ")):
        joins.note_id(rid, text)
    branches = joins.ask(Join(("y", "x"), "t"))
    assert branches
    assert branches.text == OPENING + "b a "
    with pytest.raises(InputError, match="no request had the id `q`"):
        joins.ask(Join(("q",), "t"))
    joins.note_id("other", "Else")
    with pytest.raises(InputError, match="the text of `other` does not begin with that of `x`"):
        joins.ask(Join(("other",), "x"))


def test_what_is_remembered_is_bounded():
    joins = written(*(f"{number} text" for number in range(MOST + 9)))
    assert len(joins._written) == MOST
    with pytest.raises(InputError, match=f"{MOST + 1} branches are joined: {MOST} can be"):
        joins.ask(Join(("x",) * (MOST + 1), "t"))


def test_split_tries_all_ways():
    assert list(split("aab", ["aa", "a", "ab"], 2)) == [["a", "ab"], ["a", "a"]] or list(
        split("aab", ["aa", "a", "ab"], 2)
    ) == [["a", "a"], ["a", "ab"]]
    assert list(split("abc", ["x"], 1)) == []
