"""What the words of a text are."""

from itertools import pairwise
from pathlib import Path

import pytest

from hwlang.diagnostics import Source
from hwlang.editor.index import analyse
from hwlang.editor.semantic import stretches

ROOT = Path(__file__).parents[3]
TEXTS = sorted([*(ROOT / "programs").glob("*.hw"), *(Path(__file__).parents[1] / "broken").glob("*.hw")])


def kinds(text: str) -> list[tuple[str, str]]:
    return [(text[each.start : each.end], each.kind) for each in stretches(analyse(Source("x.hw", text)))]


def test_words_are_what_the_parser_takes_them_for() -> None:
    text = (
        'program p(text: str) { # hi\n stream user\n worker A { sees user "a {{text}}\\n", user, self max 9 tokens } }'
    )
    assert kinds(text) == [
        ("program", "keyword"), ("p", "program"), ("text", "parameter"), ("str", "type"), ("# hi", "comment"),
        ("stream", "keyword"), ("user", "stream"), ("worker", "keyword"), ("A", "worker"), ("sees", "keyword"),
        ("user", "keyword"), ('"a {{', "string"), ("text", "parameter"), ('}}\\n"', "string"), ("user", "stream"),
        ("self", "keyword"), ("max", "keyword"), ("9", "number"), ("tokens", "keyword"),
    ]  # fmt: skip


def test_a_text_block_is_told_line_by_line() -> None:
    assert kinds('program p { text t = """\r\n  a\n  {{t}}"""')[-6:] == [
        ("t", "text"), ('"""', "string"), ("  a", "string"), ("  {{", "string"), ("t", "text"), ('}}"""', "string"),
    ]  # fmt: skip


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_nothing_overlaps_and_all_is_on_one_line(path: Path) -> None:
    text = path.read_text()
    found = stretches(analyse(Source(str(path), text, path)))
    assert all(one.end <= two.start for one, two in pairwise(found))
    assert all(each.start < each.end and "\n" not in text[each.start : each.end] for each in found)
