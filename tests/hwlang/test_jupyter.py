"""`%%hw` in an IPython shell within this process, on `tiny`."""

import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("IPython")

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output

from hwlang.diagnostics import Diagnostic, Source
from hwlang.jupyter import magic as jupyter
from hwlang.jupyter.panes import Panes, problems, summary
from hwruntime.result import Event

CELL = """\
program p(q: str = "47+38") {
  worker Ann, Ben { sees "1) {{q}} {{name}}:", others, self max 9 tokens }
  answer Ann
}
"""


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    vars(builtins).pop("_", None)  # doctests leave one there, and IPython then keeps its own to itself
    made = InteractiveShell.instance()
    made.run_line_magic("load_ext", "hwlang.jupyter")
    yield made
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, line: str, cell: str = CELL) -> tuple[object, list[RichOutput]]:
    """The cell's value, and what it displayed."""
    with capture_output() as shown:
        value = shell.run_cell_magic("hw", line, cell)
    return value, shown.outputs


def refused(shell: InteractiveShell, line: str, cell: str = CELL) -> tuple[str, list[RichOutput]]:
    with capture_output() as shown, pytest.raises(UsageError) as error:
        shell.run_cell_magic("hw", line, cell)
    return str(error.value), shown.outputs


def test_a_cell_is_run_and_its_state_is_the_value(shell: InteractiveShell) -> None:
    state, shown = run(shell, "")
    assert state.reason == "done"
    last = shown[-1].data
    assert "Ann" in last["text/html"]
    assert state["Ben"] in last["text/plain"]
    assert len(shown) == 1  # without a kernel nothing that is displayed can be changed
    assert summary(state).startswith("p: done after 9 passes, seed 0\nanswer: ")


def test_panes_grow_in_a_notebook(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jupyter, "can_update", lambda shell: True)
    monkeypatch.setattr(jupyter, "FRAME", 0)
    state, (first, *others) = run(shell, "")
    assert "Ann" not in first.data["text/html"]
    assert len(others) > 9
    assert all(each.update for each in others)
    assert state["Ann"] in others[-1].data["text/plain"]


def test_the_value_of_the_cell_is_the_underscore(shell: InteractiveShell) -> None:
    with capture_output():
        done = shell.run_cell("%%hw\n" + CELL, store_history=True)
    assert done.success
    assert shell.user_ns["_"] is done.result
    html = shell.display_formatter.format(done.result)[0]
    assert "<b>answer</b>" in html["text/html"]
    assert html["text/plain"].startswith("p: done")


def test_options_and_a_variable(shell: InteractiveShell) -> None:
    value, _ = run(shell, '-p q="reverse abc" --budget 3 --seed 5 --model tiny result')
    assert value is None
    state = shell.user_ns["result"]
    assert (state.passes, state.seed, state.model) == (3, 5, "tiny")
    group = CELL.replace("worker Ann, Ben", "workers 2 of Ann, Ben")
    value, _ = run(shell, "--workers 1", group)
    assert list(value) == ["Ann"]


def test_the_engine_is_kept(shell: InteractiveShell) -> None:
    magics = shell.magics_manager.magics["cell"]["hw"].__self__
    run(shell, "")
    engine = magics._engine
    run(shell, "--model tiny")
    assert magics._engine is engine


def test_problems_are_shown_and_the_cell_fails(shell: InteractiveShell) -> None:
    said, (shown,) = refused(shell, "", 'program p { worker Ann { sees "<b>", bord, self } scratchpad board = "x" }')
    assert said.startswith("HW101: ")
    assert "did you mean `board`" in shown.data["text/plain"]
    assert "&lt;b&gt;" in shown.data["text/html"]
    assert "<b>" not in shown.data["text/html"]
    _, (warning, *_) = run(shell, "", CELL.replace("q: str", "unused: int = 1, q: str"))
    assert "HW105" in warning.data["text/plain"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nothing", "unrecognized arguments"),
        ("--budget 0", "at least 1"),
        ("two words", "unrecognized arguments"),
        ("9x", "not the name of a variable"),
        ('-p q="a', "no closing quotation"),
        ("-p q", "takes NAME=VALUE"),
        ("-p other=1", "has no parameter"),
        ("--workers 1", "cannot be set from outside"),
        ("--program other", "HW109"),
    ],
)
def test_mistakes_are_told_without_a_traceback(shell: InteractiveShell, line: str, said: str) -> None:
    assert said in refused(shell, line)[0]


def test_files_are_those_of_the_folder(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.md").write_text("1) 47+38")
    monkeypatch.chdir(tmp_path)
    value, _ = run(shell, "", 'program p { text rules = file "rules.md" worker A { sees rules, self max 2 tokens } }')
    assert value.passes == 2


# --- What is shown ---------------------------------------------------------------------------------------------------


def test_texts_are_escaped_and_handed_text_is_told_apart() -> None:
    panes = Panes()
    for event in [
        Event("say", 1, "A", "<i>"),
        Event("token", 2, "A", "&"),
        Event("token", 3, "<s>", "x"),
        Event("end", 3, "A"),
    ]:
        panes.add(event)
    html = panes.shown(live=True).html
    assert '<span style="opacity:.6">&lt;i&gt;</span>&amp;' in html
    assert "&lt;s&gt;" in html
    assert "A ✓" in html
    assert repr(panes.shown(live=False)) == "--- A\n<i>&\n--- <s>\nx\n(pass 3, 2 tokens sampled)"


def test_long_texts_are_cut_only_while_they_grow() -> None:
    panes = Panes()
    for number in range(3000):
        panes.add(Event("say" if number % 2 else "token", number, "A", f"<{number}>"))
    assert len(panes.shown(live=True).html) < 120_000
    assert "&lt;0&gt;" not in panes.shown(live=True).html
    assert "&lt;0&gt;" in panes.shown(live=False).html


def test_problems_of_all_kinds_are_escaped() -> None:
    source = Source("<x>", "<script>")
    shown = problems([Diagnostic("HW001", "a & b", source.span(0, 3), "<help>", "warning")])
    assert "<script>" not in shown.html
    assert "<help>" not in shown.html
    assert "<script>" in shown.text
