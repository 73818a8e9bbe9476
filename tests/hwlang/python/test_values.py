"""Python values as nodes: what a text, a regex or a number becomes is the same after a way through a file."""

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import hwlang as hw
from hwlang import syntax
from hwlang.formatting.printer import to_hw
from hwlang.parser import parse
from hwlang.python.functions import tree_of

BRACES = st.text(st.sampled_from('ab{}x1 \n"\\'), max_size=14) | st.text(max_size=8)
SLASHES = st.text(st.sampled_from("ab/\\\n\r\t \0\x85\u2028\"#{}()[]^$.|*'é"), max_size=8)
SUBJECTS = ("a/b\n\\", "ab", "\r\n", "x / y")


def same(tree: syntax.File) -> bool:
    return parse(to_hw(tree)) == tree


def tree_or_code(example: Callable[..., None]) -> syntax.File | str:
    """The tree of a function, or the code of what does not fit in it."""
    try:
        return tree_of(example)[0]
    except hw.CompileError as error:
        (diagnostic,) = error.diagnostics
        return diagnostic.code


@given(BRACES)
def test_literal_texts(text: str) -> None:
    def example(p: hw.ProgramBuilder, default: str = text) -> None:
        p.text("a", hw.literal(text))

    tree, _ = tree_of(example)
    (program,) = tree.programs
    (made,) = program.declarations
    (param,) = program.params
    assert isinstance(made, syntax.Text)
    assert isinstance(made.value, syntax.String)
    assert (made.value.literal, made.value.holes) == (text, ())
    assert param.default
    assert param.default.value == made.value
    assert same(tree)


@given(BRACES)
def test_texts_with_holes(text: str) -> None:
    def example(p: hw.ProgramBuilder) -> None:
        p.text("a", text)

    made = tree_or_code(example)
    assert (made == "HW006" and "{{" in text) or (isinstance(made, syntax.File) and same(made))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of `re`, about regexes like [[a]
@given(SLASHES)
def test_regexes_find_what_they_found(text: str) -> None:
    try:
        compiled = re.compile(text, re.MULTILINE)
    except (re.error, RecursionError):
        assume(False)

    def example(p: hw.ProgramBuilder) -> None:
        p.answer(compiled)
        p.answer(text)

    tree, _ = tree_of(example)
    one, two = (node.source for node in tree.programs[0].declarations if isinstance(node, syntax.Answer))
    assert one == two
    assert isinstance(one, syntax.Regex)
    for subject in (*SUBJECTS, text):
        spans = [found.span() for found in compiled.finditer(subject)]
        assert [found.span() for found in re.finditer(one.pattern, subject, re.MULTILINE)] == spans
    assert same(tree)


@given(st.sampled_from([re.I, re.S, re.X, re.A, re.I | re.S, re.M]), st.sampled_from(["Ab.", "a b\\w"]))
def test_flags_of_regexes_are_kept(flags: re.RegexFlag, text: str) -> None:
    compiled = re.compile(text, flags | re.M)
    found = re.compile(hw.regex(compiled).node.pattern, re.M)
    for subject in ("ab\n", "AB.", "a bé", "abé", "a bc"):
        assert bool(found.search(subject)) == bool(compiled.search(subject))


@given(st.integers() | st.floats())
def test_numbers(number: float) -> None:
    def example(p: hw.ProgramBuilder) -> None:
        p.sampling(temperature=number)

    made = tree_or_code(example)
    assert made == "HW007" or (isinstance(made, syntax.File) and same(made))
