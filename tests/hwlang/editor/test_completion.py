"""What may be written at the `|` of a program."""

from pathlib import Path

import pytest

from hwlang.diagnostics import Source
from hwlang.editor.completion import complete
from hwlang.editor.index import analyse

START = """\
program p(topic: str, n: int = 2) {
  text rules = "Be brief."
  scratchpad board
  stream news
  worker Ann { sees "Go.", self }
"""


def offered(text: str, path: Path | None = None) -> list[str]:
    before, _, after = text.partition("|")
    return [each.label for each in complete(analyse(Source("x.hw", before + after, path)), len(before))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|", ["hw", "import", "program", "role", "test"]),
        ("rol|", ["hw", "import", "program", "role", "test"]),
        (START + "sampling { |", ["min_p", "seed", "temperature", "top_k", "top_p"]),
        ("program p(a: |", ["bool", "float", "int", "str"]),
        ("program p(a: bool = |", ["false", "true"]),
        ("program |", []),
        (START + "budget 9 |", ["passes"]),
        (START + "worker Ben { layout |", ["combined", "contiguous", "interleaved"]),
        (START + "worker |", []),
        (START + "workers |", ["n"]),
        (START + "worker Ben { on start { resume |", ["Ann", "Ben", "self"]),
        (START + "worker Ben { on start { resume A| } }\n}", ["Ann", "Ben", "self"]),
        (START + "worker Ben { scratchpad notes on start { move self to |", ["board", "notes"]),
        (START + "worker Ben { scratchpad notes } worker Cem { on start { clear |", ["board"]),
        (START + "worker Ben { on |", ["news", "end", "every", "start", "step"]),
        (START + "answer |", ["board", "Ann", "vote"]),
        (START + 'worker Ben { sees "{{|}}", self }', ["topic", "n", "rules", "name", "step", "workers"]),
        (START + 'worker Ben { sees "{{{{|', []),
        (START + 'worker Ben { sees "to|', []),
        (START + "worker Ben # no|", []),
        ("role r { }\nprogram p { worker Ann is |", ["r"]),
        ('role r { on start { post "x" to | } }\nprogram p { scratchpad pad worker A is r }', ["pad"]),
        (START + "wroker Cem { sees self } worker Ben { on start { pause |", ["Ann", "Cem", "Ben", "self"]),
        (START + "}\ntest |", ["p"]),
        (START + '}\ntest p "x" { given |', ["topic", "n"]),
        (START + '}\ntest p "x" { says |', ["Ann"]),
        (START + '}\ntest p "x" { expect |', ["board", "Ann", "answer", "reason", "max"]),
        (START + '}\ntest p "x" { expect board of |', ["Ann"]),
    ],
)
def test_only_what_fits_is_offered(text: str, expected: list[str]) -> None:
    assert offered(text) == expected


def test_a_view_takes_all_that_can_be_seen() -> None:
    found = offered(START + "worker Ben { scratchpad notes sees |")
    assert {"topic", "rules", "board", "notes", "news", "Ann", "others", "self", "user", "system", "in"} <= set(found)


def test_paths_are_those_below_the_file(tmp_path: Path) -> None:
    (tmp_path / "rules.md").touch()
    (tmp_path / "roles.hw").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "deep.hw").touch()
    main = tmp_path / "x.hw"
    assert offered('import "|', main) == ["more/", "roles.hw"]
    assert offered('import "more/|', main) == ["deep.hw"]
    assert offered(START + 'text a = file "|"', main) == ["more/", "roles.hw", "rules.md"]
    assert offered('import "../|', main) == []
    assert offered('import "|') == []
