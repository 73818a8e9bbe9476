"""`hw explain FILE`: the views, what happens when, tokens and headroom, and the plan of a pass."""

import json
from pathlib import Path

import pytest

from hwlang.checker import check_text
from hwlang.explaining.arrays import Arrays, arrays
from hwlang.explaining.headroom import Counter
from hwlang.explaining.overview import Overview, overview
from hwlang.lowering import lower
from hwruntime.errors import InputError
from hwruntime.program import Program
from hwruntime.scripted import WordTokenizer
from tests.hwlang.cli.test_run import hw

ROOT = Path(__file__).parents[3]
PROGRAMS = sorted((ROOT / "programs").glob("*.hw"))

CREW = """
role solver {
  sees "{{q}}\\n"
  layout combined before others "### Others\\n"
  step "{{name}} [{{step}}]: " until "\\n\\n"
  on step { move self to history }
  on /^ASK (.+)$/ { ask "Is it {{1}}? " { "yes" { resume Dan } "no" { say "No." } } }
}
program crew(q: str, n: int = 2, loud: bool = false) {
  budget 100 passes
  scratchpad history = "# {{q}}\\n"
  stream news
  workers n of Ann, Ben, Cem is solver
  worker Dan paused {
    scratchpad notes = "Mine."
    sees "{{q}}\\n", notes, news, Ann, "\\nI am {{name}}.", self
    max 10 tokens
    on news { pause self }
    on every 5 tokens { move self to notes }
    on end { stop }
  }
  sync every 7 tokens { say "Done already?" }
  answer history else "So {{q}}:" max 3 tokens
}
"""


def compiled() -> Program:
    (program,) = check_text(CREW).programs
    return Program.from_json(lower(program))


def seen(given: dict[str, str | int] | None = None, count: int | None = None, counted: bool = False) -> Overview:
    checked = check_text(CREW)
    assert checked.diagnostics[1:] == (), [d.render() for d in checked.diagnostics]
    counter = Counter("words", WordTokenizer(), 500, {}) if counted else None
    return overview(checked.programs[0], compiled(), given or {}, count, counter)


def test_a_view_lists_its_blocks_with_writers_and_readers() -> None:
    ann, _, dan = seen().workers
    assert (ann.role, ann.layout) == ("solver", "combined")
    assert ann.sees == '"{{q}}\\n", history, "### Others\\n", others, self'
    assert [(row.block, row.kind, row.writers, row.readers) for row in ann.view] == [
        ("text 1", "constant", (), ("Ann", "Ben", "Dan")),
        ("history", "scratchpad", ("Ann", "Ben"), ("Ann", "Ben")),
        ("text 2", "constant", (), ("Ann", "Ben")),
        ("Ben", "worker", ("Ben",), ("Ann", "Ben")),
        ("Dan", "worker", ("Dan",), ("Ann", "Ben", "Dan")),
        ("Ann", "self", ("Ann",), ("Ann", "Ben", "Dan")),
    ]
    private = {row.block: (row.what, row.writers, row.shared) for row in dan.view}
    assert private["Dan.notes"] == ('scratchpad of its own, starts as "Mine."', ("Dan",), False)
    assert private["news"] == ("stream: filled from outside", ("outside",), False)
    assert private["text 3"] == ('"\\nI am Dan." (encoded by itself)', (), False)


def test_rules_and_settings_are_told_in_words() -> None:
    told = seen()
    ann, _, dan = told.workers
    assert [(rule.when, rule.then) for rule in ann.rules] == [
        ("it ends a step", ("move its block to history",)),
        ("a step matches /^ASK (.+)$/", ('ask "Is it {{1}}? ": "yes" -> resume Dan; "no" -> say "No."',)),
    ]
    assert [rule.when for rule in dan.rules] == ["text comes into news", "every 5 tokens", "it has ended"]
    assert [rule.then for rule in dan.rules] == [("pause itself",), ("move its block to notes",), ("end the run",)]
    assert ann.clauses == {"step": '"Ann [{{step}}]: " until "\\n\\n"'}
    assert (dan.paused, dan.clauses) == (True, {"max": "10 tokens"})
    assert told.syncs[0].then == ('say "Done already?"',)
    assert (told.answer, told.otherwise) == ("the scratchpad history", 'complete "So {{q}}:" by at most 3 tokens')
    assert (told.budget, told.budget_given, told.left_out) == (100, True, ("Cem",))


def test_parameters_fill_holes_where_they_are_given() -> None:
    told = seen({"q": "Why?", "n": 1})
    assert told.workers[0].view[0].what == '"Why?\\n" (opening, encoded once)'
    assert told.workers[0].view[1].what == 'scratchpad, starts as "# Why?\\n"'
    assert [(p.name, p.default, p.value) for p in told.params] == [
        ("q", None, "Why?"),
        ("n", "2", "1"),
        ("loud", "false", None),
    ]
    assert [worker.name for worker in told.workers] == ["Ann", "Dan"]
    assert [worker.name for worker in seen(count=3).workers] == ["Ann", "Ben", "Cem", "Dan"]
    for given in ({"q": 3}, {"z": "x"}, {"n": 4}):
        with pytest.raises(InputError):
            seen(given)  # type: ignore[arg-type]


def test_tokens_and_headroom() -> None:
    ann, _, dan = seen({"q": "Why so?"}, counted=True).workers
    assert [row.tokens for row in ann.view] == [5, 7, 6, None, None, None]
    assert ann.headroom is not None
    assert dan.headroom is not None
    assert (ann.headroom.constants, ann.headroom.writers) == (18, ("Ann", "Ben", "Dan"))
    assert (ann.headroom.worst, ann.headroom.left) == (18 + 100 + 100 + 10, 500 - 228)
    assert (dan.headroom.writers, dan.headroom.worst) == (("Ann", "Dan"), 5 + 2 + 7 + 110)
    opening = seen(counted=True).workers[0].view[0]
    assert (opening.tokens, opening.unfilled) == (1, ("q",))


# --- The plan ---


def check_plan(plan: Arrays) -> None:
    """The arrays say the same as the requests, and the positions add up."""
    assert plan.qo_indptr[-1] == len(plan.positions) == sum(len(r.rows) for r in plan.requests)
    assert plan.kv_indptr[-1] == len(plan.kv_indices)
    assert [(r.tokens - 1) % plan.page_size + 1 for r in plan.requests] == list(plan.kv_last_page_len)
    assert tuple(page for r in plan.requests for page in r.pages) == plan.kv_indices
    for row in plan.rows:
        length = sum(r.tokens for r in plan.requests if row in r.rows)
        positions = [p for r in plan.requests for who, p in zip(r.rows, r.positions, strict=True) if who == row]
        assert max(positions) == length - 1


def test_the_plan_of_a_pass() -> None:
    plan = arrays(compiled(), {}, None, WordTokenizer())
    check_plan(plan)
    assert plan.rows == ("Ann", "Ben", "Dan")
    assert {r.block: r.rows for r in plan.requests}["Ann"] == ("Ann", "Ben", "Dan")
    assert not any(r.causal for r in plan.requests)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_program_fits_in_80_and_in_120_columns(path, capsys, monkeypatch):
    for name in [p.name for p in check_text(path.read_text(), path.name, path.parent).programs]:
        for width in (80, 120):
            monkeypatch.setenv("COLUMNS", str(width))
            code, out, err = hw(capsys, "explain", f"{path}:{name}", "--plan")
            assert (code, err) == (0, "")
            assert all(len(line) <= width and line == line.rstrip() for line in out.splitlines())
            assert "\x1b" not in out
        data = json.loads(hw(capsys, "explain", f"{path}:{name}", "--plan", "--json")[1])
        assert data["program"] == name
        assert data["plan"]["rows"]


def test_json_has_tokens_where_they_were_asked_for(capsys):
    code, out, _ = hw(capsys, "explain", str(ROOT / "programs" / "sums.hw"), "--tokens", "--json", "-p", "n=1")
    data = json.loads(out)
    assert (code, data["tokens"]) == (0, {"model": "tiny", "context": 2048})
    assert data["workers"][0]["headroom"] == {"constants": 50, "writers": ["Alice"], "worst": 450, "left": 1598}
    assert "plan" not in data


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["HW20111"], 2, "is no code and no file"),
        (["nothing.hw"], 2, "HW401"),
        (["PROGRAM", "-p", "z=1"], 2, "has no parameter `z`"),
        (["PROGRAM", "--workers", "7"], 2, "cannot run with 7 workers"),
        (["PROGRAM", "--tokens", "--model", "./nowhere"], 1, "HW510"),
        (["PROGRAM:other"], 2, "HW109"),
    ],
)
def test_what_cannot_be_explained(arguments, code, message, capsys):
    arguments = [word.replace("PROGRAM", str(ROOT / "programs" / "sums.hw")) for word in arguments]
    found, out, err = hw(capsys, "explain", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_chat_text_without_a_template_is_pointed_at(capsys):
    code, _, err = hw(capsys, "explain", str(ROOT / "programs" / "report.hw"), "--tokens")
    assert code == 1
    assert "report.hw:5:10" in err


@pytest.mark.parametrize(
    ("program", "rows"),
    [
        ('program p(n: int) { workers n of A, B { sees "x {{n}}", others, self max 1 tokens } }', ("A", "B")),
        ('program p { worker A { sees "x", self on start { stop } } answer A else "So" }', ("A",)),
        ('program p { worker A { sees "x", self on start { ask "q" { "yes" {} "yes no" {} } } } }', ("A",)),
        (
            'program p { worker A { sees "x", self on "a" { stop self resume B } } worker B paused { sees A, self } }',
            "A",
        ),
        ('program p { worker A { sees "a b", self match /\\d/ step until "." forbid "a" } }', ("A",)),
    ],
)
def test_the_plan_of_a_program_that_would_end_at_once(program: str, rows: tuple[str, ...]) -> None:
    (resolved,) = check_text(program).programs
    plan = arrays(Program.from_json(lower(resolved)), {}, None, WordTokenizer())
    check_plan(plan)
    assert plan.rows == tuple(rows)
