"""Running: batches are always the same ones, what is recorded is not run twice, streams are fed in time."""

from dataclasses import replace
from pathlib import Path

import pytest

from hwlang.evaluation.answers import Exact
from hwlang.evaluation.configurations import Choice, Configuration, collision_configurations, configurations_of
from hwlang.evaluation.records import RunFile, open_runs
from hwlang.evaluation.runner import check, run_all
from hwlang.evaluation.suites import Suite, Task, make_lists
from hwruntime.errors import InputError
from tests.hwlang.evaluation.script import ScriptedEngine

LINES = {"Alice": "1) a: #1=x. 3) c: #3=z. all taken", "Bob": "2) b: #2=y. all taken"}


def run(engine: ScriptedEngine, configurations: list[Configuration], runs: RunFile, size: int = 3) -> int:
    """How many runs were told of."""
    told: list[int] = []
    run_all(engine, configurations, runs, seed=7, size=size, tell=told.append)  # type: ignore[arg-type]
    return sum(told)


@pytest.fixture
def lists() -> list[Configuration]:
    return configurations_of(make_lists("sums", 5, 3, seed=1), Choice(("combined", "blind"), (2,), ("none",)))


def test_every_task_is_run_with_its_own_seed(tmp_path, lists):
    engine, runs = ScriptedEngine(LINES), open_runs(tmp_path, {})
    assert run(engine, lists, runs) == 10
    assert engine.started == [7, 8, 9, 10, 11] * 2
    assert open_runs(tmp_path, {}).records == runs.records
    record = runs.records["2 workers, combined, no sync prompt", 400, 2]
    assert (record.reason, record.seed, record.error) == ("done", 9, None)
    assert [(a.worker, a.number, a.result) for a in record.work.attempts] == [
        ("Alice", 1, "x"),
        ("Bob", 2, "y"),
        ("Alice", 3, "z"),
    ]


def test_what_is_recorded_is_not_run_again(tmp_path, lists):
    runs = open_runs(tmp_path, {})
    run(ScriptedEngine(LINES), lists, runs)
    engine = ScriptedEngine(LINES)
    assert run(engine, lists, runs) == 10
    assert engine.started == []


def test_a_batch_that_was_cut_short_is_run_whole_but_recorded_once(tmp_path, lists):
    runs = open_runs(tmp_path, {})
    run(ScriptedEngine(LINES), lists, runs)
    whole = runs.path.read_text().splitlines()
    runs.path.write_text("\n".join([whole[0], whole[2], *whole[4:]]) + "\n")  # tasks 0 and 2 are lost
    again, engine = open_runs(tmp_path, {}), ScriptedEngine(LINES)
    run(engine, lists, again)
    assert engine.started == [7, 8, 9]
    assert {key: replace(r, seconds=0) for key, r in again.records.items()} == {
        key: replace(r, seconds=0) for key, r in runs.records.items()
    }
    assert len(runs.path.read_text().splitlines()) == len(whole)


def test_an_interrupt_loses_nothing_that_was_done(tmp_path, lists):
    runs = open_runs(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        run(ScriptedEngine(LINES, fail_after=30), lists, runs)
    assert 0 < len(runs.records) < 10
    run(ScriptedEngine(LINES), lists, open_runs(tmp_path, {}))
    assert len(open_runs(tmp_path, {}).records) == 10


QUESTION = """program quick(problem: str, n: int = 2) {
  workers n of Ann, Ben { sees "{{problem}}", others, self step until "." }
  answer /is (\\d+)/ else "So it is" max 3 tokens
}
"""


def questions(tmp_path: Path, budgets: tuple[int, ...]) -> list[Configuration]:
    file = tmp_path / "quick.hw"
    file.write_text(QUESTION)
    suite = Suite("quick", (Task(0, {"problem": "1+1"}, ("2",)), Task(1, {"problem": "2"}, ("3",))), file, Exact())
    return configurations_of(suite, Choice((None,), (2,), budgets=budgets))


def test_a_finisher_answers_for_each_budget_and_what_was_settled_stands(tmp_path):
    engine, runs = ScriptedEngine({"Ann": "Let me see. It is 2.", "answer": "is 2"}), open_runs(tmp_path, {})
    assert run(engine, questions(tmp_path, (4, 40, 80)), runs) == 6
    assert {key[1:]: (r.reason, r.answer, r.finisher) for key, r in runs.records.items()} == {
        (4, 0): ("budget", "2", 3),
        (4, 1): ("budget", "2", 3),
        (40, 0): ("answer", "2", 0),
        (40, 1): ("answer", "2", 0),
    }
    assert runs.records["2 workers, quick", 40, 0].answers == {"Ann": "2"}


def test_a_question_is_asked_in_its_pass_or_at_the_next_step(tmp_path):
    lines = dict.fromkeys(("Alice", "Bob"), "9, #9=9. 8) x: no. 7) y: #7=7.")
    arms, runs = collision_configurations(2, 6, 1, Choice(budgets=(40,))), open_runs(tmp_path, {})
    run(ScriptedEngine(lines), arms, runs)
    for arm in arms:
        for task in arm.suite.tasks:
            [asked] = runs.records[arm.name, 40, task.number].work.checks
            assert task.feed is not None
            assert asked.worker == task.feed.worker
            assert asked.middle == (task.feed.after is not None)
            assert asked.at == (task.feed.after or 8)
            if asked.middle:  # later it is not: neither of the two has stated a result for what it began
                assert asked.redundant == arm.name.startswith("same")


def test_tasks_that_do_not_fit_are_told_before_anything_is_run(tmp_path):
    [made] = questions(tmp_path, (4,))
    wrong = replace(made, suite=replace(made.suite, tasks=(Task(0, {"question": "1"}, ("1",)),)))
    with pytest.raises(InputError, match="has no parameter `question`"):
        check([wrong])
    with pytest.raises(InputError, match="cannot run with 3 workers"):
        check([replace(made, workers=3)])


def test_a_run_that_fails_midway_is_recorded_with_its_error_and_the_others_go_on(tmp_path, lists):
    runs = open_runs(tmp_path, {})
    run(ScriptedEngine(LINES, broken=(8,)), lists, runs)
    errors = {prompt: record.error for (_, _, prompt), record in runs.records.items()}
    assert errors == {0: None, 1: "it broke", 2: None, 3: None, 4: None}
