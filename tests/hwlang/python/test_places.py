"""Where calls stand in Python files: arguments, other scripts' letters, lines that go on, files that are not there."""

import textwrap
from pathlib import Path

import pytest

from hwlang.diagnostics import Source, Span
from hwlang.python.places import PACKAGE, Call, here, within


def call_in(code: str, folder: Path, file: bool = True) -> Call:
    """The call of `mark` in a file; it is looked up as a call from the package is."""
    text = textwrap.dedent(code)
    path = folder / "example.py"
    if file:
        path.write_text(text)
    made: list[Call] = []
    space: dict[str, object] = {"made": made, "here": here, "values": [1, 2]}
    exec(compile("def mark(*_, **__): made.append(here())", f"{PACKAGE}mark.py", "exec"), space)
    exec(compile(text, str(path), "exec"), space)
    return made[0]


def shown(span: Span) -> str:
    """`line:column-end_column text`"""
    return f"{span.line}:{span.column}-{span.end_column} {span.text}"


@pytest.mark.parametrize(
    ("code", "position", "keyword", "item", "expected"),
    [
        ("mark('a', b='c')", 0, "", None, "1:6-9 'a'"),
        ("mark('a', b='c')", 1, "b", None, "1:13-16 'c'"),
        ("mark('a', 'b')", 1, "b", None, "1:11-14 'b'"),
        ("mark('a')", 1, "b", None, "1:1-10 mark('a')"),
        ("x = 'é中😀'; mark('a', 'é', [x, 'b'])", 2, "", 1, "1:31-34 'b'"),
        ("mark(*values, 'a')", 1, "", None, "1:1-19 mark(*values, 'a')"),
        ("mark('a', *values)", 0, "", None, "1:6-9 'a'"),
        ("mark({'a': 1, 'b': 2})", 0, "", 1, "1:15-18 'b'"),
        ("mark({**{}, 'b': 2})", 0, "", 0, "1:6-20 {**{}, 'b': 2}"),
        ("mark([*values, 3])", 0, "", 2, "1:6-18 [*values, 3]"),
        ("mark(values)", 0, "", 1, "1:6-12 values"),
        ("(lambda f: f)(mark)(\n  'a',\n  'b')", 1, "", None, "3:3-6 'b'"),
        ("for each in values: mark(each)", 0, "", None, "1:26-30 each"),
        ("[mark(each) for each in values]", 0, "", None, "1:7-11 each"),
    ],
)
def test_places_of_arguments(
    code: str, position: int, keyword: str, item: int | None, expected: str, tmp_path: Path
) -> None:
    assert shown(call_in(code, tmp_path).at(position, keyword, item)) == expected


def test_without_a_file_the_call_has_its_place(tmp_path: Path) -> None:
    call = call_in("x = 1\ny = mark('a')", tmp_path, file=False)
    assert (call.span.start, call.span.end, call.node) == ((2, 5), (2, 14), None)
    assert call.at(0) == call.span


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    assert shown(call_in("mark('a')", tmp_path).at(0)) == "1:6-9 'a'"
    assert shown(call_in("\n\nmark('much longer')", tmp_path).at(0)) == "3:6-19 'much longer'"


def test_a_text_within_a_span() -> None:
    source = Source("a.py", "w.begin('{{x}}\n {{y}}', '{{y}}')")
    span = Span(1, 9, 2, 8, source)
    assert shown(within(span, r"\{\{y\}\}")) == "2:2-7 {{y}}"
    assert within(span, "z") == span
