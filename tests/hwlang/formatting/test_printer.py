"""The printer: any tree that text can say is written down, and parsing the text gives an equal tree."""

import inspect
import re

import pytest
from hypothesis import given

from hwlang import syntax
from hwlang.diagnostics import Source
from hwlang.formatting.formatter import formatted
from hwlang.formatting.printer import Unprintable, string_text, to_hw
from hwlang.parser import parse
from hwlang.syntax import Hole, Name, Number, String
from tests.hwlang import trees
from tests.hwlang.programs import DESIGN
from tests.properties import examples


def role(*clauses: syntax.Clause) -> syntax.File:
    return syntax.File((syntax.Role(Name("r"), syntax.Body(clauses)),))


def program(*declarations: syntax.Declaration) -> syntax.File:
    return syntax.File((syntax.Program(Name("p"), declarations=declarations),))


@given(trees.files)
@examples(100)
def test_a_printed_tree_parses_to_an_equal_one(tree: syntax.File) -> None:
    text = to_hw(tree)
    again = parse(text)
    assert again == tree
    assert repr(again) == repr(tree)  # 1 and 1.0 are equal, and no spans are shown
    assert formatted(Source("a.hw", text)) == text


@given(trees.strings)
@examples(300)
def test_any_string_is_spelt_so_that_it_reads_back(string: String) -> None:
    assert parse(f"role r {{ begin {string_text(string)} }}").roles[0].body.clauses == (syntax.Begin(string),)


def test_every_node_is_in_the_strategies() -> None:
    """A new node of the language is printed and formatted in these tests, too."""
    nodes = {cls.__name__ for cls in syntax.Node.__subclasses__()}
    assert nodes == set(re.findall(r"\b(?:syntax\.)?([A-Z]\w+)", inspect.getsource(trees))) & nodes


@pytest.mark.parametrize(
    ("parts", "want"),
    [
        (("plain",), '"plain"'),
        ((), '""'),
        (('say "hi"\n',), r'"say \"hi\"\n"'),
        (("tab\there\\",), r'"tab\there\\"'),
        (("\0\u2028\u00a0",), r'"\u0000\u2028\u00a0"'),
        (("é 中 😀",), '"é 中 😀"'),
        (("\U000e0001",), r'"\udb40\udc01"'),
        (("a ", Hole("name"), " b"), '"a {{name}} b"'),
        (("\\boxed{", Hole("1"), "}"), r'"\\boxed{{{1}}}"'),
        (("{{name}}",), '"{{{{name}}"'),
        (("{{{", Hole("x")), '"{{{{{{{x}}"'),
        (("\n\nWait.\n\n",), r'"\n\nWait.\n\n"'),
        (("a\nb",), r'"a\nb"'),
        (("one\ntwo\n\nthree\n",), '"""\n    one\n    two\n\n    three\n    """'),
        (("one\n  two\nthree",), '"""\n    one\n      two\n    three"""'),
        (("a \\ and\n", Hole("x"), '\n"quoted" {{\n'), '"""\n    a \\ and\n    {{x}}\n    "quoted" {{{{\n    """'),
        # What a text block cannot hold, or would hide.
        (("  one\n  two\n  three",), r'"  one\n  two\n  three"'),
        (("one\ntwo \nthree",), r'"one\ntwo \nthree"'),
        (("one\ntwo\n  \nthree",), r'"one\ntwo\n  \nthree"'),
        (('one\ntwo\n"three"',), r'"one\ntwo\n\"three\""'),
        (('one\ntwo """\nthree',), r'"one\ntwo \"\"\"\nthree"'),
        (("one\n\ttwo\nthree",), r'"one\n\ttwo\nthree"'),
        (("one\r\ntwo\r\nthree",), r'"one\r\ntwo\r\nthree"'),
    ],
)
def test_spellings(parts: syntax.Parts, want: str) -> None:
    assert string_text(String(parts)) == want


def test_two_long_lines_are_a_text_block() -> None:
    assert string_text(String(("x" * 40 + "\n" + "y" * 40,))).startswith('"""\n')


def test_a_tree_without_places_reads_well() -> None:
    """Built in Python, as the decorators do: bodies, lists and text blocks are laid out as by hand."""
    sees = syntax.Sees(
        (syntax.Constant(String(("Sort these.\n\n1. b\n2. a\n",)), "user"), syntax.Others(), syntax.Own())
    )
    yes = syntax.Choice(String(("yes",)), (syntax.Stop(Name("self")),))
    rule = syntax.On((syntax.AtStep(),), (syntax.Ask(String(("Done? ",)), (yes, syntax.Choice(String(("no",))))),))
    worker = syntax.Worker((Name("Ann"), Name("Ben")), body=syntax.Body((sees, rule)))
    default = syntax.Value(Number(0.5))
    tree = syntax.File((syntax.Program(Name("p"), (syntax.Param(Name("heat"), "float", default),), (worker,)),))
    assert to_hw(tree) == (
        "program p(heat: float = 0.5) {\n"
        "  worker Ann, Ben {\n"
        '    sees user """\n'
        "        Sort these.\n"
        "\n"
        "        1. b\n"
        "        2. a\n"
        '        """, others, self\n'
        "    on step {\n"
        '      ask "Done? " {\n'
        '        "yes" { stop self }\n'
        '        "no" {}\n'
        "      }\n"
        "    }\n"
        "  }\n"
        "}\n"
    )


def test_the_design_page_survives_being_printed() -> None:
    tree = parse(DESIGN.read_text())
    assert parse(to_hw(tree)) == tree


def test_a_slash_in_a_regex_gets_its_backslash() -> None:
    assert to_hw(role(syntax.Match(syntax.Regex(r"a/b\\/\."))))[11:-3] == r"match /a\/b\\\/\./"


def test_an_empty_file() -> None:
    assert to_hw(syntax.File()) == ""


@pytest.mark.parametrize(
    "tree",
    [
        role(syntax.Sees(())),
        role(syntax.Forbid(())),
        role(syntax.MaxTokens(Number(1.5))),
        role(syntax.Match(syntax.Regex("a\nb"))),
        role(syntax.Match(syntax.Regex(r"a\/b"))),
        role(syntax.Begin(String(("\ud800",)))),
        role(syntax.Begin(String(("in ", "pieces")))),
        role(syntax.Begin(String((Hole("no name"),)))),
        role(syntax.Sampling((syntax.Option("top_p", Number(float("nan"))),))),
        role(syntax.Sees((syntax.Constant(String(("a",)), "user", in_context=True),))),
        program(syntax.Stream(Name("two words"))),
        program(syntax.Stream(Name("x } program q { stream y"))),
        program(syntax.Worker((Name("A"), Name("is")), role=None), syntax.Stream(Name(""))),
        syntax.File((*program().items, syntax.Version(Number(1)))),
        syntax.File((syntax.Version(Number(2)),)),
    ],
    ids=lambda tree: repr(tree.items[0])[-70:],
)  # fmt: skip
def test_what_text_cannot_say_is_an_error(tree: syntax.File) -> None:
    with pytest.raises(Unprintable):
        to_hw(tree)
