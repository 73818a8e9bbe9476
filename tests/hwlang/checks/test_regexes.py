"""Regexes: read in bounded time, never run."""

import re
import time

import pytest

from hwlang.checker import check_text
from hwlang.checks.regexes import MAX_REGEX, compiled, matches_nothing, nesting
from hwlang.syntax import Regex

PATTERNS = ["", "a", "a*", "a+", "a?b*", "a|", "a|b", "(a|b*)c*", "(a)?", "^$", r"\b", r"\B", "(?=a)", "(?!a)"]
PATTERNS += ["(?:a{0,3}){2}", "a{2}", "[ab]*", "(?P<x>a*)", r"\A\Z", "(?<!a)", "(?>a*)", "a*+", "a*?", ".", "(?i:a*)"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_regex_that_matches_the_empty_text(pattern: str) -> None:
    assert matches_nothing(Regex(pattern)) == bool(re.search(pattern, "", re.MULTILINE))


CATASTROPHES = {
    "nested groups": "(" * 40 + "a*" + ")+" * 40,
    "nested repeats": "(?:" * 40 + "a?" + "){0,999}" * 40,
    "large repeats": "(?:(?:(?:a{0,65535}){0,65535}){0,65535}){0,65535}",
    "wide ranges": "(?i)" + "[a-\U0010ffff]" * 190,
    "many branches": "|".join(["a*"] * 300),
    "too deep": "(" * 400 + ")" * 400,
    "too long": "a" * 5000,
}


@pytest.mark.parametrize("name", CATASTROPHES)
def test_no_regex_takes_long(name: str) -> None:
    start = time.process_time()
    checked = check_text(f'program p {{ worker A {{ sees "a", self on /{CATASTROPHES[name]}/ {{ stop }} }} }}')
    assert {d.code for d in checked.diagnostics} <= {"HW308", "HW408", "HW011"}
    assert time.process_time() - start < 2


def test_what_is_refused() -> None:
    assert compiled("a" * (MAX_REGEX + 1)) == "it is longer than 1,000 characters"
    assert compiled("(" * 51 + ")" * 51) == "its groups are nested more than 50 deep"
    assert nesting(r"(\((a))") == 2
