"""`hw explain`: every code has a page, and its second example is right."""

import dataclasses
from pathlib import Path

import pytest

from hwlang.checker import check_file
from hwlang.diagnostics.codes import MESSAGES
from hwlang.diagnostics.explanations import EXPLANATIONS, explain
from tests.hwlang.diagnostics.test_codes import write


def test_every_code_has_an_explanation() -> None:
    assert list(EXPLANATIONS) == list(MESSAGES)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_the_fixed_example_has_no_problems(tmp_path: Path, code: str) -> None:
    explanation = EXPLANATIONS[code]
    failing = MESSAGES[code]
    assert (explanation.fixed, explanation.files) != (failing.example, failing.files) or code == "HW009"
    fixed = dataclasses.replace(MESSAGES[code], example=explanation.fixed, encoding="utf-8", files=explanation.files)
    assert [d.render() for d in check_file(write(tmp_path, fixed)).diagnostics] == []


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_a_page_is_short_and_says_what_and_why(code: str) -> None:
    lines = explain(code).split("\n")
    assert lines[0] == f"{code}: {MESSAGES[code].title}"
    assert len(EXPLANATIONS[code].text) > 60
    assert all(len(line) <= 124 for line in lines)
    assert len(lines) < 40
