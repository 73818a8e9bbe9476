"""Valid programs with something taken out, put in or exchanged, and token soup: never an exception, always few and
well-placed diagnostics."""

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hwlang import syntax
from hwlang.checker import Checked, check_text
from hwlang.diagnostics import Diagnostic, summary
from hwlang.lexer import tokens
from hwlang.lowering import lower
from hwlang.sarif import sarif
from tests.hwlang.programs import DESIGN

ROOT = Path(__file__).parents[2]
PROGRAMS = [DESIGN, *sorted((ROOT / "programs").glob("*.hw"))]
SOURCES = [path.read_text() for path in PROGRAMS]
TOKENS = [tokens(source)[:-1] for source in SOURCES]
WORDS = sorted({str(token) for found in TOKENS for token in found})
STRAYS = [*"\"'/;:=[]\\\0é漢😀\ud800\r", '"""', "//", "{{", "}}"]
FEW = 6  # diagnostics that one slip may have at most; most have one


def well_formed(checked: Checked) -> None:
    """What holds of every check, whatever was checked."""
    for d in checked.diagnostics:
        placed_inside(d)
        assert d.render().startswith(f"{d.severity}[{d.code}]: ")
        assert d.message in d.render(colour=True)
        assert d.to_json()["line"]
    for file in {d.file for d in checked.diagnostics}:
        places = [d.span for d in checked.diagnostics if d.file == file]
        assert places == sorted(places)
    assert len({(d.file, d.code, d.span) for d in checked.diagnostics}) == len(checked.diagnostics)
    if checked.diagnostics:
        assert summary(checked.diagnostics)
        assert sarif(checked.diagnostics)
    if checked.tree == syntax.File() and re.sub(r"#.*", "", checked.source.text).strip():
        assert checked.errors
    for program in checked.programs if not checked.errors else ():
        lower(program)


def placed_inside(d: Diagnostic) -> None:
    for span in (d.span, *(label.span for label in d.labels)):
        lines = span.source.lines
        assert 0 <= span.line <= span.end_line <= len(lines)
        assert span.start <= span.end
        if span:
            assert 1 <= span.column <= len(lines[span.line - 1]) + 2
            assert 1 <= span.end_column <= len(lines[span.end_line - 1]) + 2


def check(source: str) -> Checked:
    checked = check_text(source, folder=DESIGN.parent)
    well_formed(checked)
    return checked


def few(source: str, before: str) -> None:
    """One slip has few diagnostics."""
    checked = check(source)
    assert len(checked.diagnostics) <= FEW, [d.message for d in checked.diagnostics]


programs = st.integers(0, len(SOURCES) - 1)
places = st.integers(0, 10_000)


@given(st.lists(st.sampled_from([*WORDS, *STRAYS]), max_size=80), st.sampled_from([" ", "\n", ""]))
@settings(max_examples=200, deadline=None)
def test_token_soup(pieces: list[str], space: str) -> None:
    check(space.join(pieces))


@given(st.lists(st.sampled_from([*WORDS, *STRAYS]), max_size=30))
@settings(max_examples=100, deadline=None)
def test_token_soup_in_a_worker(pieces: list[str]) -> None:
    check('program p {\n worker A {\n  sees "a", self\n' + " ".join(pieces) + "\n }\n}\n")


@given(programs, places)
@settings(max_examples=150, deadline=None)
def test_a_token_is_left_out(program: int, place: int) -> None:
    found = TOKENS[program]
    token = found[place % len(found)]
    few(SOURCES[program][: token.start_pos] + SOURCES[program][token.end_pos :], str(token))


@given(programs, places)
@settings(max_examples=150, deadline=None)
def test_a_token_is_there_twice(program: int, place: int) -> None:
    found = TOKENS[program]
    token = found[place % len(found)]
    few(SOURCES[program][: token.end_pos] + f" {token}" + SOURCES[program][token.end_pos :], str(token))


@given(programs, places)
@settings(max_examples=150, deadline=None)
def test_two_tokens_are_exchanged(program: int, place: int) -> None:
    source, found = SOURCES[program], TOKENS[program]
    index = place % (len(found) - 1)
    one, two = found[index], found[index + 1]
    between = source[one.end_pos : two.start_pos]
    few(source[: one.start_pos] + f"{two}{between or ' '}{one}" + source[two.end_pos :], str(one))


@given(programs, places, st.sampled_from([*WORDS, *STRAYS]))
@settings(max_examples=150, deadline=None)
def test_a_token_is_replaced(program: int, place: int, other: str) -> None:
    found = TOKENS[program]
    token = found[place % len(found)]
    check(SOURCES[program][: token.start_pos] + other + SOURCES[program][token.end_pos :])


@given(programs, st.lists(st.tuples(places, st.sampled_from(["", "x", *STRAYS])), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_characters_are_replaced(program: int, changes: list[tuple[int, str]]) -> None:
    source = SOURCES[program]
    for place, text in changes:
        at = place % max(1, len(source))
        source = source[:at] + text + source[at + 1 :]
    check(source)


@given(programs, places)
@settings(max_examples=100, deadline=None)
def test_the_file_ends_early(program: int, place: int) -> None:
    source = SOURCES[program]
    few(source[: place % len(source)], "")
