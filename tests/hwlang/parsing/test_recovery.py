"""Recovery: what is read after a slip, and what is no longer said. (Slip by slip: test_broken.)"""

import pytest

from hwlang.checker import check_text
from hwlang.diagnostics import Source
from hwlang.parser import read_on
from hwlang.parsing.recovery import MAX_REPAIRS


def found(source: str) -> list[str]:
    return [f"{d.code} {d.span.line}:{d.span.column}" for d in check_text(source).diagnostics]


def test_the_tree_is_that_of_the_program_put_right() -> None:
    right = 'program p(a: str) {\n  worker A { sees "{{a}}", self }\n  answer A\n}\n'
    for old, new in [
        ("worker", "wroker"),
        (", self", " self"),
        ('"{{a}}"', "'{{a}}'"),
        ("answer A", "answer: A"),
        ("\n}", ""),
    ]:
        reading = read_on(Source("p.hw", right.replace(old, new, 1)))
        assert len(reading.problems) == 1
        assert reading.tree == read_on(Source("p.hw", right)).tree


@pytest.mark.parametrize(
    ("source", "want"),
    [
        # a name that is missing where it is declared may have been any
        ('program p { scratchpad = "x" worker A { sees "a", b, self } }', ["HW001 1:24"]),
        ('program p { scratchpad c = "x" worker A { sees "a", b, self } }', ["HW101 1:53"]),
        # what was left out may have declared, used or written a name
        ('program p { scratchpad b c worker A { sees "a", c, self } }', ["HW001 1:26"]),
        ('program p { text t = "x" worker A { sees "a" + t, self } }', ["HW002 1:46"]),
        ('program p { worker B paused { sees "b", self } worker A { sees "a", self on "x" { wake B } } }',
         ["HW001 1:83"]),
        # another program is another program
        ('program p { scratchpad }\nprogram q { worker A { sees "a", b, self } }', ["HW001 1:24", "HW101 2:34"]),
        # a role may be any program's
        ('role r { sees "a", , self step }\nprogram q { worker A is r }', ["HW001 1:20", "HW001 1:32"]),
        # values are wrong whatever is around them
        ('program p { worker A { sees "a", self max 0 tokens begin } }', ["HW406 1:43", "HW001 1:58"]),
    ],
)  # fmt: skip
def test_what_follows_from_a_slip_is_not_told(source: str, want: list[str]) -> None:
    assert found(source) == want


def test_after_very_many_slips_the_rest_is_not_read() -> None:
    source = "program p {\n" + "  wroker A {}\n" * (MAX_REPAIRS * 2) + "}\n"
    reading = read_on(Source("p.hw", source))
    assert len(reading.problems) == MAX_REPAIRS
    assert not reading.complete
    assert len(check_text(source).diagnostics) == MAX_REPAIRS
