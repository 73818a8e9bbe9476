"""Metrics on records that are written by hand: who did work twice, what counts as solved, and when."""

from dataclasses import replace

import pytest

from hwlang.evaluation.answers import Exact
from hwlang.evaluation.attempts import Attempt, Check, Work
from hwlang.evaluation.configurations import Choice, Configuration, configurations_of
from hwlang.evaluation.metrics import Arm, Row, arm, curve, curves, is_twice, row, rows
from hwlang.evaluation.records import Record
from hwlang.evaluation.scoring import Scoring, finished
from hwlang.evaluation.suites import make_countdown, make_lists

NAMES = ("Alice", "Bob", "Carol")


def record(*attempts: Attempt, checks: tuple[Check, ...] = (), **fields: object) -> Record:
    given = {"configuration": "c", "budget": 100, "prompt": 0, "seed": 1, "reason": "done", **fields}
    return Record(texts=dict.fromkeys(NAMES, ""), work=Work(attempts, checks), **given)  # type: ignore[arg-type]


def done(worker: str, number: int, taken: int, left: int, result: str = "x", tokens: int = 10) -> Attempt:
    return Attempt(worker, number, taken, left, result, tokens)


TWICE = {
    "another one was at it": ([done("Alice", 1, 1, 20), done("Bob", 1, 5, 25)], ["Bob"]),
    "another one had finished it": ([done("Bob", 1, 1, 4), done("Alice", 1, 5, 25)], ["Alice"]),
    "both took it in one pass: the later declared": ([done("Bob", 1, 1, 9), done("Alice", 1, 1, 25)], ["Bob"]),
    "three took it in one pass": ([done(name, 1, 1, 9) for name in NAMES], ["Bob", "Carol"]),
    "different problems": ([done("Alice", 1, 1, 20), done("Bob", 2, 5, 25)], []),
    "the other one had given it up": ([Attempt("Alice", 1, 1, 4), done("Bob", 1, 5, 25)], []),
    "the other one gave it up in that pass": ([Attempt("Alice", 1, 1, 5), done("Bob", 1, 5, 25)], []),
    "the other one gave it up later": ([Attempt("Alice", 1, 1, 8), done("Bob", 1, 5, 25)], ["Bob"]),
    "the other one never finished": ([Attempt("Alice", 1, 1), done("Bob", 1, 5, 25)], ["Bob"]),
    "a worker does its own again": ([done("Alice", 1, 1, 20), done("Alice", 1, 21, 40)], []),
}


@pytest.mark.parametrize("title", TWICE)
def test_who_did_it_twice(title):
    attempts, twice = TWICE[title]
    run = record(*attempts)
    assert [attempt.worker for attempt in finished(run) if is_twice(attempt, run)] == twice


def test_the_rate_is_of_finished_steps():
    run = record(done("Alice", 1, 1, 20), done("Bob", 1, 5, 25), done("Bob", 2, 26, 30), Attempt("Carol", 2, 27, 29))
    assert made(run, workers=2).twice == pytest.approx(1 / 3)


# --- Solved ---


def configuration(layout: str, workers: int = 2, budgets: tuple[int, ...] = (100,)) -> Configuration:
    suite = make_lists("sums", 1, 2, seed=1)
    task = replace(suite.tasks[0], expected=("85", "ospat"))
    choice = Choice(layouts=(layout,), workers=(workers,), syncs=("own",), budgets=budgets)
    return configurations_of(replace(suite, tasks=(task,)), choice)[0]


def made(run: Record, layout: str = "combined", workers: int = 2, scoring: Scoring = "shared") -> Row:
    chosen = configuration(layout, workers)
    return row(chosen, {(chosen.name, 100, 0): run}, scoring)


def test_of_workers_that_share_the_first_result_counts():
    run = record(done("Bob", 1, 1, 9, "85"), done("Alice", 1, 2, 8, "84"), done("Bob", 2, 10, 20, "ospat"))
    assert made(run).solved == (0.5,)
    assert made(run).all_solved == 0.0


@pytest.mark.parametrize(("results", "union", "vote"), [
    (("85", "84", "84"), 1, 0),
    (("84", "85", "85"), 1, 1),
    (("85", "84", "83"), 1, 1),  # of equals the one of the worker declared first
    (("84", "85", "83"), 1, 0),
    (("84", "84", "84"), 0, 0),
])  # fmt: skip
def test_of_workers_that_do_not_the_union_or_the_vote_counts(results, union, vote):
    times = (30, 20, 10)  # the last declared is the first to be done
    run = record(*(done(n, 1, 1, t, r) for n, t, r in zip(NAMES, times, results, strict=True)))
    assert made(run, "blind", 3, "union").solved == (union / 2,)
    assert made(run, "blind", 3, "vote").solved == (vote / 2,)


def test_blind_workers_have_two_rows_and_others_one():
    for layout, workers, names in (
        ("blind", 2, ["2 workers, blind: union", "2 workers, blind: vote"]),
        ("combined", 2, ["2 workers, combined"]),
        ("blind", 1, ["1 worker"]),
    ):
        chosen = configuration(layout, workers)
        assert [each.name for each in rows(chosen, {(chosen.name, 100, 0): record()})] == names


def test_smaller_budgets_are_read_from_the_same_run():
    chosen = configuration("combined", budgets=(10, 20, 100))
    run = record(done("Alice", 1, 1, 10, "85"), done("Bob", 2, 1, 21, "ospat"), passes=25)
    assert chosen.runs == (100,)
    assert row(chosen, {(chosen.name, 100, 0): run}, "shared").solved == (0.5, 0.5, 1.0)
    drawn = curve(chosen, {(chosen.name, 100, 0): run}, "shared")
    assert (drawn.passes, drawn.solved, drawn.steps) == ((0, 10, 21), (0.0, 0.5, 1.0), True)


def test_useful_are_the_tokens_of_the_first_right_attempts():
    run = record(
        done("Alice", 1, 1, 9, "84", tokens=7),
        done("Bob", 1, 1, 11, "85", tokens=11),
        done("Bob", 1, 12, 20, "85", tokens=13),
        done("Alice", 9, 12, 20, "85", tokens=17),
        sampled=44,
    )
    assert made(run).useful == 0.25


def test_questions_are_counted_and_what_is_not_known_is_not():
    checks = (
        Check("Bob", 5, 1, redundant=True, reply="yes", obeyed=True),
        Check("Bob", 6, 1, redundant=True, reply="no", obeyed=False),
        Check("Bob", 7, 1, redundant=True),
        Check("Bob", 8, reply="yes"),
    )
    told = made(record(checks=checks))
    assert (told.asked, told.answered, told.truly, told.obeyed) == (4, 0.75, 0.5, 0.5)
    nobody = made(record())
    assert (nobody.asked, nobody.answered, nobody.truly, nobody.obeyed) == (0, None, None, None)
    assert (nobody.twice, nobody.useful) == (None, None)


def test_a_run_that_is_missing_is_an_error():
    with pytest.raises(KeyError):
        row(configuration("combined"), {}, "shared")


def test_an_arm_of_the_collisions():
    from hwlang.evaluation.configurations import collision_configurations

    [chosen, *_] = collision_configurations(4, 6, 1, Choice(budgets=(60,)))
    checks = [
        Check("Alice", 3, 1, middle=True, reply="yes", obeyed=True),
        Check("Bob", 3, 1, middle=True, reply="yes", obeyed=False),
        Check("Alice", 3, 1, middle=True, reply="no", obeyed=True),
        Check("Bob", 3, 1, middle=False, reply="no"),  # it was done before it was asked
    ]
    records = {(chosen.name, 60, i): record(checks=(check,), prompt=i) for i, check in enumerate(checks)}
    name = "same problem, asked in the middle of a step"
    assert arm(chosen, records) == Arm(name, 4, 3, 1.0, pytest.approx(2 / 3), 0.5, pytest.approx(1 / 3), 1.0)


# --- Answers of runs ---


@pytest.mark.parametrize(("answers", "answer", "union", "vote"), [
    ({"Alice": "41", "Bob": "42"}, "41", 1, 0),
    ({"Alice": "41"}, "41", 0, 0),
    ({}, "42", 1, 1),  # by the finisher
    ({}, None, 0, 0),
])  # fmt: skip
def test_of_a_question_one_answer_counts_or_the_vote(answers, answer, union, vote):
    suite = make_countdown(1, seed=1)
    suite = replace(suite, tasks=(replace(suite.tasks[0], expected=("42",)),), extractor=Exact())
    [chosen] = configurations_of(suite, Choice(("blind",), (3,), budgets=(100,)))
    run = record(answers=answers, answer=answer)
    assert [each.solved for each in rows(chosen, {(chosen.name, 100, 0): run})] == [(union,), (vote,)]


def test_each_problem_of_a_group_counts():
    suite = make_countdown(1, seed=1)
    suite = replace(suite, tasks=(replace(suite.tasks[0], expected=("1", "2", "3")),), extractor=Exact())
    [chosen] = configurations_of(suite, Choice(("interleaved",), (2,), ("own",), budgets=(10, 20)))
    records = {(chosen.name, budget, 0): record(answer=answer) for budget, answer in ((10, "1"), (20, "3, 2, 3"))}
    records[chosen.name, 10, 0] = replace(records[chosen.name, 10, 0], reason="budget")
    [made] = rows(chosen, records)
    assert (made.solved, made.all_solved) == ((pytest.approx(1 / 3), pytest.approx(2 / 3)), 0.0)
    [drawn] = curves(chosen, records)
    assert (drawn.passes, drawn.steps) == ((10, 20), False)
