"""Colours: the Pygments lexer on every program, and that its words and those of the editors are the grammar's."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("pygments")

from pygments.token import Comment, Error, Keyword, Name, String

from hwlang.diagnostics import Diagnostic, Source, Span
from hwlang.highlight import HwLexer, coloured
from hwlang.parsing.lexer import lexicon

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted([*(ROOT / "programs").glob("*.hw"), *(Path(__file__).parent / "data").glob("*.hw")])
EXTENSION = ROOT / "editors" / "vscode"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_program_is_lexed_whole(path: Path) -> None:
    found = list(HwLexer(stripnl=False, ensurenl=False).get_tokens(path.read_text()))
    assert "".join(text for _, text in found) == path.read_text()
    assert Error not in {kind for kind, _ in found}


def test_kinds_of_tokens() -> None:
    text = 'program text(n: int) { # no\nworker A { sees user "a {{ n }}\\n{{{{", self on /x\\/"/ { say """{{n}}""" } }'
    found = [(kind, written) for kind, written in HwLexer().get_tokens(text) if written.strip()]
    for expected in [
        (Keyword, "program"), (Name.Function, "text"), (Name.Variable, "n"), (Keyword.Type, "int"),
        (Comment.Single, "# no"),
        (Name.Tag, "user"), (String.Interpol, "{{"), (String.Escape, "\\n"), (String.Escape, "{{{{"),
        (Name.Builtin.Pseudo, "self"), (String.Regex, '/x\\/"/'), (Name.Builtin, "say"),
    ]:  # fmt: skip
        assert expected in found


def test_a_line_is_coloured_and_nothing_else_is_changed() -> None:
    line = '  sees user "{{x}}", self'
    assert "\x1b[" in coloured(line)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured(line)) == line


def test_pygments_finds_the_lexer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, name = project["entry-points"]["pygments.lexers"]["hw"].split(":")
    assert getattr(import_module(module), name) is HwLexer


def test_a_check_that_no_terminal_shows_needs_no_pygments(tmp_path: Path) -> None:
    (tmp_path / "x.hw").write_text("program p { wroker }")
    code = "import sys; from hwlang.cli import main; main(['check', 'x.hw']); sys.exit('pygments' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0


# --- The TextMate grammar --------------------------------------------------------------------------------------------


def textmate(name: str) -> dict:
    return json.loads((EXTENSION / "syntaxes" / f"{name}.tmLanguage.json").read_text())


def patterns(node: object) -> list[str]:
    """All regexes of a TextMate grammar."""
    if isinstance(node, dict):
        own = [
            value for key, value in node.items() if key in ("match", "begin", "end", "while") and isinstance(value, str)
        ]
        return own + [regex for value in node.values() for regex in patterns(value)]
    return [regex for value in node for regex in patterns(value)] if isinstance(node, list) else []


def test_the_words_of_the_editors_are_those_of_the_grammar() -> None:
    found = [rule["match"] for rule in textmate("hw")["repository"]["keywords"]["patterns"]]
    words = [word for regex in found for word in re.fullmatch(r"\\b\(\?:([\w|]+)\)\\b", regex)[1].split("|")]
    assert sorted(words) == sorted(lexicon().words)


@pytest.mark.parametrize("name", ["hw", "markdown"])
def test_the_regexes_of_the_editors_can_be_read(name: str) -> None:
    for regex in patterns(textmate(name)):
        re.compile(re.sub(r"\\[G23]", "", regex))  # where the last match ended, and groups of another regex


def test_the_extension_names_files_that_are_there() -> None:
    package = json.loads((EXTENSION / "package.json").read_text())["contributes"]
    files = [each["path"] for each in package["grammars"]] + [each["configuration"] for each in package["languages"]]
    assert all((EXTENSION / file).exists() for file in files)


def test_source_lines_of_a_diagnostic_are_coloured_on_a_terminal() -> None:
    """The same text without the codes; plain elsewhere, and for lines of Python."""
    span = Span(1, 9, 1, 10, Source("a.hw", "program p { budget 3 passes }\n"))
    problem = Diagnostic("HW101", "what is this", span)
    coloured, plain = problem.render(colour=True), problem.render()
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert "\x1b" not in plain
    assert "\x1b[34mbudget\x1b" in coloured
    in_python = Diagnostic("HW101", "what is this", Span(1, 9, 1, 10, Source("a.py", "program.budget(3)\n")))
    assert "program.budget(3)" in in_python.render(colour=True)
