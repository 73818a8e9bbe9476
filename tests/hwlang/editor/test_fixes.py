"""Quick fixes: what a diagnostic's help says to write is written, and the problem is gone."""

import pytest

from hwlang.diagnostics import Source
from hwlang.editor.fixes import fix_for
from hwlang.editor.index import analyse, applied

IN_WORKER = 'program p {{ scratchpad pad worker Ann {{ sees "Go.", pad, self step until "." {} }} }}'


def fixed(text: str) -> str:
    """The text with the first fix that there is."""
    index = analyse(Source("x.hw", text))
    fixes = [fix for problem in index.checked.diagnostics if (fix := fix_for(index, problem))]
    return applied(text, fixes[0].edits) if fixes else "none"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("on step { move self to pda }", "on step { move self to pad }"),
        ("on step { move self pad }", "on step { move self to pad }"),
        ("on step { mvoe self to pad }", "on step { move self to pad }"),
        ('on step { move self to "pad" }', "on step { move self to pad }"),
        ("max 9 passes on step { move self to pad }", "max 9 tokens on step { move self to pad }"),
        ("max 9 tokens; on step { move self to pad }", "max 9 tokens on step { move self to pad }"),
        ("begin “😀” on step { move self to pad }", 'begin "😀" on step { move self to pad }'),
        ('forbid "a" "b" on step { move self to pad }', 'forbid "a", "b" on step { move self to pad }'),
        ('on step { post "{{nmae}}" to pad }', 'on step { post "{{name}}" to pad }'),
    ],
)
def test_a_certain_help_becomes_an_edit(wrong: str, right: str) -> None:
    assert fixed(IN_WORKER.format(wrong)) == IN_WORKER.format(right)


def test_a_declaration_is_put_first() -> None:
    text = 'program p {\n  worker Ann { sees "Go.", self on start { post "x" to board } }\n  answer board\n}'
    assert fixed(text) == text.replace("{\n", "{\n  scratchpad board\n", 1)


def test_every_use_of_a_misspelt_name_is_fixed_at_once() -> None:
    text = 'program p { scratchpad notes worker Ann { sees "Go.", nots, self on start { post "x" to nots } } }'
    assert fixed(text) == text.replace("nots", "notes")


@pytest.mark.parametrize(
    "text",
    ["program p {", 'program p { worker Ann { sees self, "x" } }', 'program p { worker A { sees "C:\\d", self } }'],
)
def test_what_is_not_certain_is_left_alone(text: str) -> None:
    assert fixed(text) == "none"
