"""Answers: every form is compared as it should be, the last match counts, and slips are told."""

import sys

import pytest

from hwlang.evaluation.answers import make_extractor, split_group
from hwruntime.errors import InputError

CASES = [
    ("exact", "Paris", " Paris\n", True),
    ("exact", "Paris", "paris", False),
    ("exact", "", "", False),
    ("number", "She has 5 + 13 = 18\n#### 18", "It is 12. No, it is 18.00 dollars.", True),
    ("number", "18", "18 at first, then 17", False),
    ("number", "1,234.5", "so $1234.50", True),
    ("number", "-3", "x = −3", True),
    ("number", "3", "10-3", True),
    ("number", "18", "no idea", False),
    (r"regex:answer is (\w+)", "85", "the answer is 84; the answer is 85", True),
    (r"regex:answer is (\w+)", "The answer is 85", "answer is 85", True),
    (r"regex:\d+", "85", "none", False),
    ("latex", r"\frac{1}{2}", "0.5", True),
    ("latex", r"\frac{\sqrt{2}}{2}", r"\frac1{\sqrt2}", True),
    ("latex", "x^2+1", "1+x^2", True),
    ("latex", "$(1, 2]$", r"(1,2]", True),
    ("latex", r"\frac{1}{2}", r"first \boxed{2}, no: \boxed{\dfrac{1}{2}}", True),
    ("latex", r"\frac{1}{2}", r"\frac{1}{3}", False),
    ("latex", "1", "", False),
    ("expression", "3 8 8 3 = 24", r"8 \div (3 - 8 \div 3)", True),
    ("expression", "3 8 = 24", "3*8=24", True),
    ("expression", "3 8 = 24", "24", False),
    ("expression", "2 2 = 4", "2**2", False),
    ("expression", "1 2 = 3", "1 + 2 or exit()", False),
    ("expression", "1 2 = 3", "1/0 + 2", False),
]


@pytest.mark.parametrize(("form", "expected", "told", "right"), CASES)
def test_an_answer_is_right_or_not(form, expected, told, right):
    assert make_extractor(form).right(expected, told) is right


def test_a_group_is_parted_at_commas_outside_of_brackets():
    assert list(split_group("3, (1, 2); \\frac{1,5}{2}", 3)) == ["3", " (1, 2)", " \\frac{1,5}{2}"]
    assert list(split_group("[1, 2]", 3)) == ["1", " 2", ""]
    assert list(split_group("1, 2, 3", 2)) == ["1", " 2"]
    assert list(split_group("1,234", 1)) == ["1,234"]


@pytest.mark.parametrize(("form", "message"), [("maths", "no extractor `maths`"), ("regex:(", "is no regex")])
def test_a_form_that_is_none_is_told(form, message):
    with pytest.raises(InputError, match=message):
        make_extractor(form)


def test_a_missing_library_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(InputError, match="math-verify") as told:
        make_extractor("latex")
    assert told.value.help == "pip install 'hwlang[eval]'"
