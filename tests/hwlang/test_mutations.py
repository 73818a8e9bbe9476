"""Valid programs with something taken out, put in or exchanged, and token soup: never an exception, always few and
well-placed diagnostics."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwlang import syntax
from hwlang.checker import Checked, check_text
from hwlang.diagnostics import Diagnostic, summary
from hwlang.diagnostics.sarif import sarif
from hwlang.lowering import lower
from hwlang.parsing.lexer import tokens
from tests.hwlang.programs import DESIGN
from tests.properties import examples

ROOT = Path(__file__).parents[2]
PROGRAMS = [DESIGN, *sorted((ROOT / "programs").glob("*.hw"))]
SOURCES = [path.read_text() for path in PROGRAMS]
TOKENS = [tokens(source)[:-1] for source in SOURCES]
WORDS = sorted({str(token) for found in TOKENS for token in found})
STRAYS = [*"\"'/;:=[]\\\0é漢😀\ud800\r", '"""', "//", "{{", "}}"]
FEW = 4  # diagnostics that one slip may have at most: of 100 slips 97 have one


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
@examples(200)
def test_token_soup(pieces: list[str], space: str) -> None:
    check(space.join(pieces))


@given(st.lists(st.sampled_from([*WORDS, *STRAYS]), max_size=30))
@example(['"exchanged with what comes next"', "sees"])
@examples(100)
def test_token_soup_in_a_worker(pieces: list[str]) -> None:
    check('program p {\n worker A {\n  sees "a", self\n' + " ".join(pieces) + "\n }\n}\n")


@given(programs, places)
@examples(150)
def test_a_token_is_left_out(program: int, place: int) -> None:
    found = TOKENS[program]
    token = found[place % len(found)]
    few(SOURCES[program][: token.start_pos] + SOURCES[program][token.end_pos :], str(token))


@given(programs, places)
@examples(150)
def test_a_token_is_there_twice(program: int, place: int) -> None:
    found = TOKENS[program]
    token = found[place % len(found)]
    few(SOURCES[program][: token.end_pos] + f" {token}" + SOURCES[program][token.end_pos :], str(token))


@given(programs, places)
@examples(150)
def test_two_tokens_are_exchanged(program: int, place: int) -> None:
    source, found = SOURCES[program], TOKENS[program]
    index = place % (len(found) - 1)
    one, two = found[index], found[index + 1]
    between = source[one.end_pos : two.start_pos]
    few(source[: one.start_pos] + f"{two}{between or ' '}{one}" + source[two.end_pos :], str(one))


@given(programs, places, st.sampled_from([*WORDS, *STRAYS]))
@examples(150)
def test_a_token_is_replaced(program: int, place: int, other: str) -> None:
    found = TOKENS[program]
    token = found[place % len(found)]
    check(SOURCES[program][: token.start_pos] + other + SOURCES[program][token.end_pos :])


@given(programs, st.lists(st.tuples(places, st.sampled_from(["", "x", *STRAYS])), min_size=1, max_size=5))
@examples(200)
def test_characters_are_replaced(program: int, changes: list[tuple[int, str]]) -> None:
    source = SOURCES[program]
    for place, text in changes:
        at = place % max(1, len(source))
        source = source[:at] + text + source[at + 1 :]
    check(source)


@pytest.mark.parametrize(
    ("program", "old", "new", "count"),
    [
        ("report", "worker Ann, Ben paused", "worker AnnBen , paused", 2),  # as if `Ann` were misspelt, and `paused`
        ("report", "worker Ann, Ben paused", "worker , Ben paused", 1),
        ("report", "worker Ann, Ben paused", "worker Ann, paused", 1),
        ("report", "worker Ann, Ben paused", "worker Ann, paused Ben", 1),
        ("report", "step until", "until step", 1),
        ("report", "move self to notes", "move to self notes", 1),
        ("report", "answer board\n}\n\ntest", "answer board\ntest }", 1),
        ("report", 'topic: str = "why bread rises"', "topic: str =", 1),
        ("report", "resume Ann resume Ben", "resume resume Ben", 1),
        ("report", "test report", "report", 1),
        ("live", "worker Writer paused", "worker paused", 1),
        ("live", "sees system", "sees sees system", 1),
        ("math", "worker Bob   is solver", "worker Bob   solver", 1),
        ("math", "worker Bob   is solver", "worker is solver", 1),
        ("sums", "Carol, Dave is solver", "Carol, is solver", 1),
        ("sums", "Carol, Dave is solver", "Carol, Dave solver", 1),
        ("sums", "n: int = 2", "n: = 2", 1),
        ("sums", "scratchpad done", 'scratchpad "answer"', 2),
        ("sums", "scratchpad done", "scratchpad in", 1),
        ("sums", "role solver", "role self", 1),
        ("sums", "role solver", "role", 1),
        ("layouts", "role worker_at_work", "role other", 1),
        ("vote", "is voter", "is", 1),
    ],
)
def test_slips_that_had_many(program: str, old: str, new: str, count: int) -> None:
    source = (ROOT / "programs" / f"{program}.hw").read_text()
    assert old in source
    found = check(source.replace(old, new, 1)).diagnostics
    assert len(found) == count, [d.message for d in found]


@given(programs, places)
@examples(100)
def test_the_file_ends_early(program: int, place: int) -> None:
    source = SOURCES[program]
    few(source[: place % len(source)], "")
