"""Every program in programs/ runs: on `tiny` where it is made for that, else on the scripted model."""

from pathlib import Path

import pytest

import hwlang as hw
from hwruntime.result import Result
from hwruntime.scripted import ScriptedModel
from hwruntime.session import Session

PROGRAMS = Path(__file__).parents[1] / "programs"


@pytest.fixture(scope="module")
def tiny() -> hw.Engine:
    return hw.Engine("tiny")


def scripted(name: str, lines: dict[str, str], asks: dict[str, str] | None = None, **options: object) -> Result:
    model = ScriptedModel(lines, asks)
    return model.play(Session(hw.load(PROGRAMS / name).compiled, {}, model.tokenizer, **options))  # type: ignore[arg-type]


def test_every_program_is_run_here():
    assert {path.name for path in PROGRAMS.glob("*.hw")} == {
        "chains.hw",
        "layouts.hw",
        "live.hw",
        "math.hw",
        "report.hw",
        "sums.hw",
        "vote.hw",
    }


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.hw")), ids=lambda path: path.name)
def test_the_first_line_says_what_the_program_shows(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith((".", "`."))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_sums_on_tiny(workers, tiny):
    result = tiny.run(hw.load(PROGRAMS / "sums.hw"), n=workers)
    assert result.reason == "done"
    for solved in ("85", "ospat", "1259", "57", "nomel", "125"):
        assert solved in result.scratchpads["done"]
    for name, worker in result.workers.items():
        assert worker.text.startswith(f"\n{name}: ")
        assert worker.text.endswith("all taken")


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_chains_on_tiny(workers, tiny):
    result = tiny.run(hw.load(PROGRAMS / "chains.hw"), n=workers)
    assert result.reason == "done"
    for number, solved in enumerate(("85", "ospat", "102", "1259", "tapso", "56", "9521", "3"), 1):
        assert f"#{number}={solved}" in result.scratchpads["done"]


@pytest.mark.parametrize("name", ["sums.hw", "chains.hw"])
def test_two_workers_need_fewer_passes_than_one(name, tiny):
    program = hw.load(PROGRAMS / name)
    one, two = (tiny.run(program, n=n).passes for n in (1, 2))
    assert two < 0.7 * one


def test_vote_on_tiny(tiny):
    """At this temperature single workers go wrong; most of them do not."""
    results = [tiny.run(hw.load(PROGRAMS / "vote.hw"), seed=seed) for seed in range(4)]
    assert [(result.answer, result.reason) for result in results] == [("85", "done")] * 4
    texts = {worker.text for result in results for worker in result.workers.values()}
    assert any("85" not in text for text in texts)


@pytest.mark.parametrize("layout", ["contiguous", "interleaved", "combined"])
def test_layouts_on_tiny(layout, tiny):
    result = tiny.run(hw.load(PROGRAMS / "layouts.hw", layout))
    assert "1) 47+38: 7+8=15, 4+3+1=8 (#1=85)" in result.workers["Alice"].text
    assert bool(result.scratchpads) == (layout != "contiguous")


def test_math_ends_with_the_boxed_answer():
    lines = {
        "Alice": " split this. I take the first five: 25.\n\nThen 25 + 75 = \\boxed{100}.\n\nDone.",
        "Bob": " I take the last five: 11 + 13 + 15 + 17 + 19 = 75.\n\nWaiting.",
    }
    result = scripted("math.hw", lines)
    assert (result.reason, result.answer) == ("answer", "100")
    history = result.scratchpads["history"]
    assert history.startswith("**Alice [1]:** Hi, I'm Alice. Here's how we can split this.")
    assert "**Bob [1]:** Hi, I'm Bob. I take the last five" in history


def test_math_is_finished_when_the_budget_ends():
    result = scripted("math.hw", {"Alice": " think." * 50, "Bob": " too." * 50, "answer": "100}. End"}, budget=20)
    assert (result.reason, result.answer, result.passes) == ("budget", "100", 20)


def test_report_publishes_to_the_board_and_keeps_notes_private():
    lines = {
        "Planner": "Ann: yeast. Ben: heat. PLAN DONE",
        "Ann": "Yeast eats sugar.\n\nPUBLISH: Yeast makes gas.\n\n",
        "Ben": "PUBLISH: Heat sets the crumb.\n\nNothing else.",
    }
    result = scripted("report.hw", lines)
    assert sorted((result.answer or "").splitlines()) == ["Ann: Yeast makes gas.", "Ben: Heat sets the crumb."]
    assert result.scratchpads["Ann.notes"].startswith("Yeast eats sugar.")
    assert "Yeast" not in result.scratchpads["Ben.notes"]


def test_live_lets_the_writer_speak_when_the_thoughts_are_ahead():
    lines = {"Thinker": "Oil floats on water.\n\nSo a litre of water weighs more.\n\n</think>", "Writer": "Water does."}
    ahead = scripted("live.hw", lines, {"ahead of the reply": "yes"})
    assert (ahead.reason, ahead.answer) == ("stopped", "Water does.")
    behind = scripted("live.hw", {**lines, "Thinker": lines["Thinker"].removesuffix("</think>")}, {"ahead": "no"})
    assert (behind.reason, behind.answer) == ("stalled", "")


def test_live_hears_what_the_user_adds():
    model = ScriptedModel({"Thinker": "Oil floats.\n\nNow iron sinks.\n\n</think>", "Writer": "Water, and iron."})
    session = Session(hw.load(PROGRAMS / "live.hw").compiled, {}, model.tokenizer)
    while rows := session.next_pass().rows:
        session.advance([model.reply(row) for row in rows])
        if session.passes == 4:
            session.feed("user", "And iron?")
    result = session.result("scripted")
    assert "\n\nWait, the user just added: " in result.workers["Thinker"].text
    assert result.answer == "Water, and iron."
