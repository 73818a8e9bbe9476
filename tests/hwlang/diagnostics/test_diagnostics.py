"""Diagnostics: carets stand under the span whatever the line is made of."""

import pytest

from hwlang.diagnostics import (
    GUESSES,
    CompileError,
    Diagnostic,
    Report,
    Source,
    Span,
    in_order,
    quoted,
)
from hwlang.diagnostics.snippets import Mark, columns, rows


def excerpt(span: Span) -> tuple[str, str]:
    """The first line of a span as it is shown, and the carets below it."""
    line, carets, *_ = [row.text for row in rows([Mark(span, main=True)])]
    return line, carets


def diagnostic(line: str, column: int, end_column: int, help: str | None = None) -> Diagnostic:
    source = Source("a.hw", f"first\n{line}\nlast")
    return Diagnostic("HW999", "wrong", Span(2, column, 2, end_column, source), help)


def test_rendering() -> None:
    assert diagnostic("sees slef", 6, 10, "did you mean `self`?").render() == (
        "error[HW999]: wrong\n  --> a.hw:2:6\n   |\n 2 | sees slef\n   |      ^^^^\n   = help: did you mean `self`?"
    )


def test_rendering_without_a_place() -> None:
    nowhere = Diagnostic("HW401", "no file", Span(0, 0, 0, 0, Source("a.hw", "")), severity="warning")
    assert nowhere.render() == "warning[HW401]: no file\n  --> a.hw"


def test_json() -> None:
    assert diagnostic("sees slef", 6, 10).to_json() == {
        "code": "HW999",
        "severity": "error",
        "message": "wrong",
        "file": "a.hw",
        "line": 2,
        "column": 6,
        "end_line": 2,
        "end_column": 10,
        "help": None,
    }


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        ("sees slef", "slef"),
        ("\tsees\tslef", "slef"),
        ("你好 slef 你好", "slef"),
        ("a 你好 b", "你好"),
        ("e\u0301e\u0301 slef", "slef"),  # an e and a combining accent, twice
        ("\x1b[31m slef", "slef"),
        ("a\u202eb slef", "slef"),  # would turn the rest of the line around
        ("slef", "slef"),
        ("x" * 500 + " slef " + "y" * 500, "slef"),
        ("你" * 500 + " slef " + "好" * 500, "slef"),
    ],
)
def test_carets_stand_under_the_span(line: str, marked: str) -> None:
    start = line.index(marked)
    shown, carets = excerpt(diagnostic(line, start + 1, start + 1 + len(marked)).span)
    assert shown.isprintable()
    assert columns([shown]) <= 110
    assert columns([shown[: shown.index(marked)]]) == carets.index("^")
    assert carets.count("^") == columns([marked])


def test_long_lines_show_where_they_are_cut() -> None:
    shown, _ = excerpt(diagnostic("x" * 500 + " slef " + "y" * 500, 502, 506).span)
    assert shown.startswith("…x")
    assert shown.endswith("y…")


def test_a_span_of_several_lines_is_marked_to_the_end_of_its_first() -> None:
    source = Source("a.hw", "on step {\n}\n")
    assert excerpt(Span(1, 4, 2, 2, source)) == ("on step {", "   ^^^^^^")


def test_a_span_after_the_end_of_the_text_has_one_caret() -> None:
    assert excerpt(Span(1, 8, 1, 9, Source("a.hw", "program"))) == ("program", "       ^")


def test_carriage_returns_are_not_shown() -> None:
    assert excerpt(Span(1, 1, 1, 4, Source("a.hw", "abc\r\ndef\r\n"))) == ("abc", "^^^")


def test_diagnostics_are_sorted_and_told_once() -> None:
    source = Source("a.hw", "abc")
    first, second = (
        Diagnostic("HW101", "b", Span(1, 1, 1, 2, source)),
        Diagnostic("HW101", "a", Span(1, 3, 1, 4, source)),
    )
    assert in_order([second, first, second]) == (first, second)


def test_a_compile_error_says_everything() -> None:
    error = CompileError([diagnostic("sees slef", 6, 10), diagnostic("sees slef", 1, 5)])
    assert str(error).count("error[HW999]") == 2


def test_quoted_pieces_are_short_and_printable() -> None:
    assert quoted("a\nb") == "`a\\nb`"
    assert quoted("\x1b[0m\ud800") == "`\ufffd[0m\ufffd`"
    assert len(quoted("x" * 1000)) == 42


def test_a_report_guesses_only_for_its_first_problems() -> None:
    report = Report()
    assert report.suggestion("histroy", ["board", "history"]) == "did you mean `history`?"
    assert report.suggestion("topic", ["board", "history"]) is None
    for _ in range(GUESSES):
        report.suggestion("xyz", [])
    assert report.suggestion("histroy", ["board", "history"]) is None
