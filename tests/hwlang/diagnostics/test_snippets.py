"""Snippets: several lines, several places, long lines. (One line: test_diagnostics.)"""

from hwlang.diagnostics import Diagnostic, Label, Source, Span, summary
from hwlang.diagnostics.snippets import MOST_LINES, Mark, rows

SOURCE = Source("a.hw", "one {\n\ttwo 漢\n}\n" + "line\n" * 9 + "end\n")


def drawn(*marks: Mark) -> list[str]:
    return [row.text for row in rows(marks)]


def test_a_span_of_several_lines_is_marked_on_each_of_them() -> None:
    span = Span(1, 5, 3, 2, SOURCE)
    assert drawn(Mark(span, main=True)) == ["one {", "    ^", "    two 漢", "    ^^^^^^", "}", "^"]


def test_of_a_long_span_the_first_lines_and_the_last_are_shown() -> None:
    shown = rows([Mark(Span(1, 1, 13, 3, SOURCE), "all of it", main=True)])
    assert [row.number for row in shown if row.number] == [1, 2, 3, 13]
    assert len([row for row in shown if row.number]) == MOST_LINES
    assert [row.text for row in shown if row.gap] == ["..."]
    assert shown[-1].text == "^^ all of it"


def test_places_on_one_line_have_rows_of_their_own() -> None:
    marks = [Mark(Span(1, 5, 1, 6, SOURCE), main=True), Mark(Span(1, 1, 1, 4, SOURCE), "first written here")]
    assert drawn(*marks) == ["one {", "    ^", "--- first written here"]


def test_labels_show_their_lines_and_their_files() -> None:
    other = Source("b.hw", "x\ny here")
    labels = (Label(Span(5, 1, 5, 5, SOURCE), "used here, too"), Label(Span(2, 3, 2, 7, other), "first written here"))
    text = Diagnostic("HW999", "wrong", Span(1, 5, 1, 6, SOURCE), "do it", labels=labels).render()
    assert text.split("\n") == [
        "error[HW999]: wrong",
        "  --> a.hw:1:5",
        "   |",
        " 1 | one {",
        "   |     ^",
        "...",
        " 5 | line",
        "   | ---- used here, too",
        "  ::: b.hw:2:3",
        "   |",
        " 2 | y here",
        "   |   ---- first written here",
        "   = help: do it",
    ]


def test_colours_only_where_they_are_wanted() -> None:
    found = Diagnostic("HW999", "wrong", Span(1, 5, 1, 6, SOURCE))
    assert "\x1b" not in found.render()
    assert "\x1b[1;31merror[HW999]" in found.render(colour=True)


def test_marks_outside_of_what_is_shown_of_a_long_line_are_left_out() -> None:
    long = Source("a.hw", "x" * 5000)
    marks = [Mark(Span(1, 10, 1, 12, long), main=True), Mark(Span(1, 4000, 1, 4001, long), "far away")]
    assert len(drawn(*marks)) == 2


def test_summaries() -> None:
    error = Diagnostic("HW101", "wrong", Span(1, 5, 1, 6, SOURCE))
    warning = Diagnostic("HW105", "unused", Span(1, 5, 1, 6, SOURCE), severity="warning")
    assert summary([error]) == "1 error in 1 file"
    assert summary([error, error, warning]) == "2 errors, 1 warning in 1 file"
    assert summary([warning, Diagnostic("HW401", "none")]) == "1 error, 1 warning in 2 files"
