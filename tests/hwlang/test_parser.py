"""The parser: every construct gives its node, every slip a diagnostic at its place; nothing else is ever raised."""

import dataclasses
import re
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwlang import parser, syntax
from hwlang.checker import check_file
from hwlang.checks.names import RESERVED
from hwlang.diagnostics import CompileError, Diagnostic, Source
from hwlang.parser import load, parse, read
from hwlang.parsing.lalr import table
from hwlang.syntax import Hole, Name, String
from tests.hwlang.programs import DESIGN, in_worker
from tests.properties import examples


def text(source: str) -> String:
    """The string that this literal stands for."""
    (role,) = parse(f"role r {{ begin {source} }}").roles
    (begin,) = role.body.clauses
    assert isinstance(begin, syntax.Begin)
    return begin.text


def clause(source: str) -> syntax.Clause:
    return parse(f"role r {{ {source} }}").roles[0].body.clauses[0]


def declaration(source: str) -> syntax.Declaration:
    return parse(f"program p {{ {source} }}").programs[0].declarations[0]


def problem(source: str) -> Diagnostic:
    """The only diagnostic of a text that does not parse."""
    with pytest.raises(CompileError) as caught:
        parse(source)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def string(value: str) -> String:
    return String((value,))


# --- What the constructs give ----------------------------------------------------------------------------------------


def test_the_design_page_parses() -> None:
    tree = parse(DESIGN.read_text())
    assert [program.name.value for program in tree.programs] == ["math", "report", "live"]
    assert [role.name.value for role in tree.roles] == ["solver"]


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ('"plain"', ("plain",)),
        ('""', ()),
        (r'"\n\t\r\"\\"', ('\n\t\r"\\',)),
        (r'"\u00e9\u4E2D"', ("é中",)),
        (r'"\ud83d\ude00"', ("😀",)),
        (r'"\u007b\u007bname}}"', ("{{name}}",)),
        ('"{{name}}"', (Hole("name"),)),
        ('"a {{ name }} b"', ("a ", Hole("name"), " b")),
        ('"{{1}}{{2}}"', (Hole("1"), Hole("2"))),
        (r'"\\boxed{} {x}"', ("\\boxed{} {x}",)),
        ('"{{{{name}}"', ("{{name}}",)),
        ('"{{{name}}}"', ("{", Hole("name"), "}")),
        (r'"\\frac{{{a}}}{{{b}}}"', ("\\frac{", Hole("a"), "}{", Hole("b"), "}")),
        ('"# no comment"', ("# no comment",)),
        ('"""raw \\n {{name}}"""', ("raw \\n ", Hole("name"))),
        ('"""  kept"""', ("  kept",)),
        ('"""a "quoted" word"""', ('a "quoted" word',)),
        ('"""\n    a\n      b\n\n    c\n    """', ("a\n  b\n\nc\n",)),
        ('"""\n    a\n    b"""', ("a\nb",)),
        ('"""\n    a\n  """', ("a\n",)),
        ('"""\r\n    a\r\n    b\r\n    """', ("a\nb\n",)),
        ('""""""', ()),
    ],
)
def test_strings(source: str, want: tuple[str | Hole, ...]) -> None:
    assert text(source).parts == want


def test_holes_know_their_place_in_a_dedented_block() -> None:
    block = 'role r {\n  begin """\n    Hello,\n      {{name}}!\n    """\n}'
    begin = parse(block).roles[0].body.clauses[0]
    assert isinstance(begin, syntax.Begin)
    assert begin.text.parts == ("Hello,\n  ", Hole("name"), "!\n")
    assert dataclasses.astuple(begin.text.holes[0].span)[:4] == (4, 7, 4, 15)


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("scratchpad notes", syntax.Scratchpad(Name("notes"))),
        ('scratchpad notes = "Hi"', syntax.Scratchpad(Name("notes"), string("Hi"))),
        ("layout combined", syntax.Layout("combined")),
        ('layout combined before self "b" before others "a"', syntax.Layout("combined", string("a"), string("b"))),
        ('begin "Hi"', syntax.Begin(string("Hi"))),
        ('step until "."', syntax.Step(None, (string("."),))),
        ('step "> " until ".", "!", after sentence', syntax.Step(string("> "), (string("."), string("!")), True)),
        ('forbid "#", "*"', syntax.Forbid((string("#"), string("*")))),
        ('stop at "END"', syntax.StopAt((string("END"),))),
        ("max 8 tokens", syntax.MaxTokens(syntax.Number(8))),
        ("paused", syntax.Paused()),
        ("sampling { top_k 5 }", syntax.Sampling((syntax.Option("top_k", syntax.Number(5)),))),
        (r"match /a\/b\./", syntax.Match(syntax.Regex(r"a/b\."))),
        ('json "s.json"', syntax.Json(string("s.json"))),
    ],
)
def test_clauses(source: str, want: syntax.Clause) -> None:
    assert clause(source) == want


def test_a_view_has_every_kind_of_entry() -> None:
    view = clause('sees "a", system "b", user "c", assistant "d", in context "e", notes, user, others, self,')
    assert view == syntax.Sees(
        (
            syntax.Constant(string("a")),
            syntax.Constant(string("b"), "system"),
            syntax.Constant(string("c"), "user"),
            syntax.Constant(string("d"), "assistant"),
            syntax.Constant(string("e"), in_context=True),
            Name("notes"),
            Name("user"),
            syntax.Others(),
            syntax.Own(),
        )
    )


def test_a_rule_has_every_kind_of_trigger() -> None:
    rule = clause(
        'on step or every 2 tokens or every 3 steps at step or every 4 passes or "x" or /y/ or user or start or end {}'
    )
    assert isinstance(rule, syntax.On)
    assert rule.triggers == (
        syntax.AtStep(),
        syntax.Every(syntax.Number(2), "tokens"),
        syntax.Every(syntax.Number(3), "steps", at_step=True),
        syntax.Every(syntax.Number(4), "passes"),
        syntax.Seen(string("x")),
        syntax.Matches(syntax.Regex("y")),
        syntax.Arrives(Name("user")),
        syntax.AtStart(),
        syntax.AtEnd(),
    )


def test_a_rule_has_every_kind_of_action() -> None:
    rule = clause(
        'on step { say "a" ask "b" { "y" { stop } "n" {} } post "c" to pad move self to pad clear pad '
        "pause self resume Ben stop Ben stop self stop }"
    )
    assert isinstance(rule, syntax.On)
    assert rule.actions == (
        syntax.Say(string("a")),
        syntax.Ask(string("b"), (syntax.Choice(string("y"), (syntax.Stop(),)), syntax.Choice(string("n")))),
        syntax.Post(string("c"), Name("pad")),
        syntax.Move(Name("pad")),
        syntax.Clear(Name("pad")),
        syntax.Pause(Name("self")),
        syntax.Resume(Name("Ben")),
        syntax.Stop(Name("Ben")),
        syntax.Stop(Name("self")),
        syntax.Stop(),
    )


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ('model "tiny"', syntax.Model(string("tiny"))),
        ("sampling { temperature 0.5 }", syntax.Sampling((syntax.Option("temperature", syntax.Number(0.5)),))),
        ("budget 9 passes", syntax.Budget(syntax.Number(9))),
        ('text t = "x"', syntax.Text(Name("t"), string("x"))),
        ('text t = file "x.md"', syntax.Text(Name("t"), syntax.Included(string("x.md")))),
        ("stream user", syntax.Stream(Name("user"))),
        ("worker A, B is r", syntax.Worker((Name("A"), Name("B")), role=Name("r"))),
        ("worker A paused {}", syntax.Worker((Name("A"),), paused=True)),
        ("workers 2 of A, B is r", syntax.Workers(syntax.Number(2), (Name("A"), Name("B")), role=Name("r"))),
        ("workers n of A, B {}", syntax.Workers(Name("n"), (Name("A"), Name("B")))),
        ("sync every 8 tokens { stop }", syntax.Sync(syntax.Number(8), (syntax.Stop(),))),
        ("answer board", syntax.Answer(Name("board"))),
        ("answer /x/", syntax.Answer(syntax.Regex("x"))),
        ('answer vote /x/ else "So " max 4 tokens',
         syntax.Answer(syntax.Vote(syntax.Regex("x")), syntax.Otherwise(string("So "), syntax.Number(4)))),
    ],
)  # fmt: skip
def test_declarations(source: str, want: syntax.Declaration) -> None:
    assert declaration(source) == want


def test_parameters_and_their_defaults() -> None:
    (program,) = parse('program p(a: str, b: int = -3, c: float = 1e-3, d: bool = true, e: str = "x",) {}').programs
    assert program.params == (
        syntax.Param(Name("a"), "str"),
        syntax.Param(Name("b"), "int", syntax.Value(syntax.Number(-3))),
        syntax.Param(Name("c"), "float", syntax.Value(syntax.Number(0.001))),
        syntax.Param(Name("d"), "bool", syntax.Value(True)),
        syntax.Param(Name("e"), "str", syntax.Value(string("x"))),
    )


def test_keywords_may_be_names_where_the_grammar_has_no_other_use_for_them() -> None:
    (program,) = parse("program model(text: str, file: int) { scratchpad answer }").programs
    assert [param.name.value for param in program.params] == ["text", "file"]


def test_reserved_words_are_those_that_a_name_would_compete_with() -> None:
    """In some state of the parser both the keyword and a name could come: there the keyword wins."""
    words = table().lexicon.words
    competing = {
        word
        for actions in table().states.values()
        if "NAME" in actions
        for word, terminal in words.items()
        if terminal in actions
    }
    assert competing - {"system", "user", "assistant"} == RESERVED - {"name", "workers"}  # the holes of each program


def test_spans_are_one_based_and_end_after_the_last_character() -> None:
    (program,) = parse("\n  program p {\n    budget 9 passes\n  }\n").programs
    assert dataclasses.astuple(program.span)[:4] == (2, 3, 4, 4)
    assert dataclasses.astuple(program.declarations[0].span)[:4] == (3, 5, 3, 20)


def test_nodes_are_equal_wherever_they_come_from() -> None:
    assert parse("program p { budget 9 passes }") == parse("# x\nprogram p\n{ budget\n9 passes }")


# --- Slips -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code", "message", "place"),
    [
        ("program p\n worker A {}", "HW001", "a `{` is missing between `p` and `worker`", "1:10"),
        ("program", "HW001", "expected a name after `program`, found the end of the file", "1:8"),
        ("program p { budget 5 tokens }", "HW001", "expected `passes` after `5`, found `tokens`", "1:22"),
        ("nonsense", "HW001", "expected `program`, `role`, `test` or `import`, found `nonsense`", "1:1"),
        ("}", "HW001", "this `}` closes nothing", "1:1"),
        ("program p {}\n }", "HW001", "this `}` closes nothing", "2:2"),
        ("program p (a: text) {}", "HW001",
         "expected a type (`str`, `int`, `float` or `bool`) after `:`, found `text`", "1:15"),
        ("role r {\n  begin §\n}", "HW002", "unexpected character `§` (U+00A7 SECTION SIGN)", "2:9"),
        ("role r {\0}", "HW002", "unexpected character `\ufffd` (U+0000)", "1:9"),
        ('role r {\n  begin "abc\n}', "HW003", "this string is not closed on its line", "2:9"),
        ('role r {\n  begin """abc\n}', "HW003", 'this `"""` is never closed', "2:9"),
        ("role r {\n  match /abc\n}", "HW003", "this regex is not closed on its line", "2:9"),
        ('program p {\n  worker A {\n    sees self\n', "HW004", "this `{` is never closed", "2:12"),
        (r'role r { begin "a\qb" }', "HW005", r"unknown escape `\q`", "1:18"),
        (r'role r { begin "a\u12" }', "HW005", r"unknown escape `\u`", "1:18"),
        (r'role r { begin "\ud800" }', "HW005", r"`\ud800` is half of a surrogate pair", "1:17"),
        ('role r { begin "a {{b c}}" }', "HW006", "this `{{` does not open a hole", "1:19"),
        ('role r {\n begin """\n   x\n   {{-}}\n   """ }', "HW006", "this `{{` does not open a hole", "4:4"),
        ("role r { max 1.5 tokens }", "HW007", "a whole number is needed here, not `1.5`", "1:14"),
        ("role r { max 9999999999999999999 tokens }", "HW007", "the number `9999999999999999999` is too long", "1:14"),
        ("role r { sampling { top_p 1e999 } }", "HW007", "the number `1e999` is too large", "1:27"),
        ("hw 2", "HW010", "language version `2` is not known", "1:4"),
        ("role r {}\nhw 1", "HW010", "`hw` and the language version come first in a file, once", "2:1"),
    ],
)  # fmt: skip
def test_slips(source: str, code: str, message: str, place: str) -> None:
    found = problem(source)
    assert (found.code, found.message, f"{found.span.line}:{found.span.column}") == (code, message, place)


@pytest.mark.parametrize(
    ("source", "help"),
    [
        ("program p { wroker A {} }", "did you mean `worker`?"),
        ("program p { sampling { temprature 1 } }", "did you mean `temperature`?"),
        ('role r { sees "a" self }', 'write `"a", self`'),
        ("program p {\n worker A {\n  sees self\n\nprogram q {}",
         "write a `}` for it"),
        ('role r { begin “a” }', 'strings are written with straight quotes: `"`'),
        ("program p {\n", "the file ends at line 2, before its `}`"),
    ],
)  # fmt: skip
def test_slips_with_a_guess(source: str, help: str) -> None:
    assert problem(source).help == help


def test_slips_inside_tokens_are_all_reported() -> None:
    with pytest.raises(CompileError) as caught:
        parse('role r {\n begin "\\q {{"\n max 1.5 tokens\n}')
    assert [(d.code, d.span.line) for d in caught.value.diagnostics] == [("HW005", 2), ("HW006", 2), ("HW007", 3)]


def test_messages_never_show_the_grammars_own_names() -> None:
    for end in range(len(in_worker('on step { ask "a" { "b" {} } move self to x }'))):
        source = in_worker('on step { ask "a" { "b" {} } move self to x }')[:end] + "\n= "
        message = " ".join(found.message for found in read(Source("a.hw", source))[1])
        assert not re.search(r"_[A-Z]|\b[A-Z]{4,}\b|Token\(", message), message


# --- Files -----------------------------------------------------------------------------------------------------------


def test_load_reads_utf8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.hw"
    path.write_bytes("\ufeffrole é".encode())
    assert load(path).text == "role é"


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"\xff", "1:1"), (b"role\n  caf\xe9 {}", "2:6"), ("é\n中".encode() + b"\x80", "2:2")],
)
def test_load_says_where_a_file_is_not_utf8(tmp_path: Path, data: bytes, place: str) -> None:
    path = tmp_path / "a.hw"
    path.write_bytes(data)
    with pytest.raises(CompileError) as caught:
        load(path)
    (found,) = caught.value.diagnostics
    assert (found.code, f"{found.span.line}:{found.span.column}") == ("HW009", place)


@pytest.mark.parametrize("name", ["missing.hw", ".", "nul\0.hw", "long" * 999 + ".hw"])
def test_load_of_what_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompileError) as caught:
        load(tmp_path / name)
    assert caught.value.diagnostics[0].code == "HW401"


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing() -> None:
    source = DESIGN.read_text()
    assert parse("\ufeff" + source.replace("\n", "\r\n")) == parse(source)


# --- Whatever comes --------------------------------------------------------------------------------------------------

SOURCE = DESIGN.read_text()
PIECES = sorted(set(re.findall(r"\w+|\s+|[^\w\s]", SOURCE)) | {'"""', "{{", "}}", "\\", "\0", "\ud800", "/", "'", "é"})


def only_compile_errors(source: str) -> None:
    _, problems = parser.read(Source("a.hw", source))
    assert all(found.render() and found.to_json() for found in problems)


@given(st.text())
@examples(200)
def test_any_text_parses_or_is_a_compile_error(source: str) -> None:
    only_compile_errors(source)


@given(st.lists(st.sampled_from(PIECES), max_size=60))
@examples(200)
def test_any_tokens_parse_or_are_a_compile_error(pieces: list[str]) -> None:
    only_compile_errors(" ".join(pieces))


@given(st.integers(0, len(SOURCE)), st.integers(0, 40), st.sampled_from(PIECES))
@examples(200)
def test_a_valid_program_with_a_piece_replaced(start: int, length: int, piece: str) -> None:
    only_compile_errors(SOURCE[:start] + piece + SOURCE[start + length :])


@given(st.binary(max_size=200))
@examples(100)
def test_any_bytes_load_or_are_a_compile_error(data: bytes) -> None:
    with NamedTemporaryFile(suffix=".hw") as file:
        file.write(data)
        file.flush()
        checked = check_file(file.name)
    assert all(found.render() for found in checked.diagnostics)


MEGABYTE = 1_000_000
LARGE = {
    "braces": "{" * MEGABYTE,
    "unclosed string": 'role r { begin "' + "a" * MEGABYTE,
    "unclosed block": 'role r { begin """' + "a\n" * (MEGABYTE // 2),
    "quotes": '"' * MEGABYTE,
    "comment": "#" * MEGABYTE,
    "digits": "role r { max " + "9" * MEGABYTE + " tokens }",
    "one name": "a" * MEGABYTE,
    "one string": 'role r { begin "' + "a{{b}}\\n" * (MEGABYTE // 8) + '" }',
    "one block": 'role r { begin """\n' + "  a{{b}}\n" * (MEGABYTE // 10) + '""" }',
    "deep": "role r { on start { " + 'ask "" { "" { ' * 20_000,
    "deep and closed": "role r { on start { " + 'ask "" { "" { ' * 20_000 + "} } " * 20_000 + "} }",
    "workers": "program p {" + 'worker A { sees user "Go on.", self }\n' * 10_000 + "}",
}


@pytest.mark.parametrize("name", LARGE)
def test_large_texts_are_answered_in_time(name: str) -> None:
    start = time.process_time()
    only_compile_errors(LARGE[name])
    assert time.process_time() - start < 4  # seconds; half of that at most on an idle machine
