"""What editors ask about a file, without an editor; and that no text whatever brings it down."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwlang.diagnostics import Source
from hwlang.editor.completion import complete
from hwlang.editor.fixes import fix_for
from hwlang.editor.hover import hover
from hwlang.editor.index import CannotRename, Index, analyse, applied
from hwlang.editor.symbols import Use
from hwlang.parsing.lexer import lexicon
from tests.properties import examples

ROOT = Path(__file__).parents[3]
PROGRAMS = sorted((ROOT / "programs").glob("*.hw"))
BROKEN = sorted((Path(__file__).parents[1] / "broken").glob("*.hw"))
BUILT_IN = {"name", "step", "workers", "1", "2", "answer", "reason"}


def index_of(text: str) -> Index:
    return analyse(Source("x.hw", text))


def index_at(text: str) -> tuple[Index, int]:
    """The index of a text, and where its `|` was."""
    before, _, after = text.partition("|")
    return index_of(before + after), len(before)


def use_at(index: Index, offset: int) -> Use:
    found = index.at(offset)
    assert found
    return found


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_name_of_a_program_is_found_and_declared(path: Path) -> None:
    index = analyse(Source(str(path), path.read_text(), path))
    assert {use.span.text for use in index.here if not use.symbols} <= BUILT_IN
    code = re.sub(r'#.*|"""[\s\S]*?"""|/(?:\\.|[^/\n])+/|"(?:\\.|[^"\\\n])*"', "", index.source.text)
    for symbol in {symbol for use in index.here for symbol in use.symbols}:
        uses = [use for use in index.here if use.span.text == symbol.name]
        if symbol.name not in lexicon().words:
            assert len(uses) >= len(re.findall(rf"\b{symbol.name}\b", code)) > 0


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_name_can_be_changed_there_and_back(path: Path) -> None:
    index = analyse(Source(str(path), path.read_text(), path))
    for use in {use.symbols: use for use in index.here if use.symbols}.values():
        offset, _ = index.positions.bounds(use.span)
        edits = index.rename(offset, "Other_name")
        new = analyse(index.edited(edits))
        assert len(edits) == len(index.group(use))
        assert applied(new.source.text, new.rename(offset_after(offset, edits), use.span.text)) == index.source.text


def offset_after(offset: int, edits: list) -> int:
    return offset + sum(len(edit.text) - (edit.end - edit.start) for edit in edits if edit.start < offset)


def test_a_role_means_the_names_of_all_programs_that_use_it() -> None:
    index, offset = index_at(
        'role r { sees "Go.", his|tory, self step until "." on step { move self to history } }\n'
        "program a { scratchpad history worker A is r }\n"
        "program b { scratchpad history worker B is r }\n"
        'program c { scratchpad history = "c" worker C { sees history, self } }\n'
    )
    assert [symbol.inside for symbol in use_at(index, offset).symbols] == ["program a", "program b"]
    assert len(index.rename(offset, "done")) == 4


def test_private_scratchpads_of_a_role_are_its_workers_too() -> None:
    index, offset = index_at(
        'role r { scratchpad notes sees "Go.", notes, self }\n'
        'program p { worker A is r { on start { post "x" to no|tes } } }'
    )
    (symbol,) = use_at(index, offset).symbols
    assert (symbol.kind, symbol.inside, symbol.span.line) == ("scratchpad", "role r", 1)


@pytest.mark.parametrize(
    ("text", "new", "reason"),
    [
        ('program p(a|: int = 1) { text b = "{{a}}" worker A { sees b, self } }', "b", "`b` is the name of"),
        ('program p(a|: int = 1) { worker A { sees "{{a}} {{c}}", self } }', "c", "means something else"),
        ('program p { worker A| { sees "x", self } worker B { sees "y", A, self } }', "B", "two workers"),
        ('program p { worker A { sees "x", zz|, self } }', "b", "is not declared"),
        ('program p { worker A| { sees "x", self } }', "é", "is not a name"),
        ("program| p { }", "b", "there is no name here"),
    ],
)
def test_names_that_would_clash_are_refused(text: str, new: str, reason: str) -> None:
    index, offset = index_at(text)
    with pytest.raises(CannotRename, match=reason):
        index.rename(offset, new)


def test_what_is_not_in_the_text_has_no_place() -> None:
    index = index_of('program p { scratchpad "board" worker { sees "Go.", self on step { pause } } }')
    assert all(use.span.text for use in index.here)


def test_a_text_block_knows_its_holes() -> None:
    index, offset = index_at(
        'program p(topic: str) {\n  worker A { sees """\n      😀 漢 {{ topic| }}\n    {{{topic}}}\n    """, self }\n}'
    )
    assert [use.span.start for use in index.uses_of(use_at(index, offset))] == [(1, 11), (3, 14), (4, 8)]


def test_a_test_uses_the_names_of_its_program() -> None:
    index, offset = index_at(
        'program p(n: int) { worker Ann { scratchpad notes| sees "{{n}}", notes, self on end { post "x" to notes } }}\n'
        'test p "one" { given n = 2 says Ann "x" expect notes of Ann "x" }\n'
    )
    assert [use.span.line for use in index.uses_of(use_at(index, offset))] == [1, 1, 1, 2]
    assert [use.span.text for use in index.here if use.span.line == 2 and use.symbols] == [
        "p",
        "n",
        "Ann",
        "notes",
        "Ann",
    ]


# --- Any text --------------------------------------------------------------------------------------------------------

PIECES = [
    "{",
    "}",
    '"',
    '"""',
    "{{",
    "}}",
    "/",
    "#",
    "\n",
    "😀",
    "漢",
    ",",
    "sees ",
    "worker ",
    "pause ",
    "on ",
    "self",
    "\r\n",
]
CUTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.sampled_from(PIECES)), max_size=4)
TEXTS = [path.read_text() for path in [*PROGRAMS, *BROKEN[::8]]]


@examples(60)
@given(st.sampled_from(TEXTS), CUTS, st.floats(0, 1))
def test_nothing_that_is_typed_brings_it_down(text: str, cuts: list[tuple[float, float, str]], where: float) -> None:
    for at, length, piece in cuts:
        start = int(at * len(text))
        text = text[:start] + piece + text[start + int(length * len(text)) :]
    index = index_of(text)
    offset = int(where * len(text))
    hover(index, offset)
    complete(index, offset)
    index.outline()
    for use in index.here:
        assert use.span.text == text[slice(*index.positions.bounds(use.span))]
    for problem in index.checked.diagnostics[:3]:
        fix_for(index, problem)
    with suppress(CannotRename):
        index.rename(offset, "renamed")
