"""Attempts and checks, read from events that are written by hand."""

import pytest

from hwlang.evaluation.attempts import Attempt, Check, work_of
from hwruntime.result import Event
from tests.hwlang.evaluation.script import ASKED, handed, stepped, written

BOTH = ["Alice", "Bob"]


def test_a_finished_step_is_an_attempt_with_a_result():
    events = [*handed("Alice", 0, "\nAlice: "), *stepped("Alice", 1, "1) 47+38: 85, #1=85.")]
    [attempt] = work_of(events, BOTH).attempts
    assert attempt == Attempt("Alice", 1, taken=1, left=16, result="85", tokens=16)


def test_what_begin_hands_over_is_taken_from_the_start():
    events = [*handed("Bob", 0, "\nBob: 2) 8-3: "), *stepped("Bob", 1, "5, #2=5.")]
    events[-1] = Event("step", events[-1].at, "Bob", "2) 8-3: 5, #2=5")
    assert work_of(events, BOTH).attempts == (Attempt("Bob", 2, taken=0, left=8, result="5", tokens=8),)


@pytest.mark.parametrize("step", ["1) 47+38: 8+3+1=12 (#1=85).", "1) 47+38: 85, #1=85.", "1) 47+38: 85."])
def test_a_result_may_stand_in_brackets_or_by_itself(step):
    [attempt] = work_of(stepped("Alice", 1, step), BOTH).attempts
    assert attempt.result == "85"


def test_a_step_that_states_another_problem_has_no_result():
    [attempt] = work_of(stepped("Alice", 1, "1) 47+38: #2=85."), BOTH).attempts
    assert attempt.result is None


def test_waiting_for_a_result_takes_nothing():
    [attempt] = work_of(stepped("Alice", 1, "5) #1+17: #1? #1? #1=85, #5=102."), BOTH).attempts
    assert (attempt.number, attempt.result) == (5, "102")


def test_an_attempt_that_the_run_cut_short_is_open():
    [attempt] = work_of(written("Alice", 3, "1) 47+"), BOTH).attempts
    assert (attempt.taken, attempt.left, attempt.result, attempt.tokens) == (3, None, None, 5)


def test_a_worker_that_ends_leaves_its_problem():
    events = [*written("Alice", 3, "1) 47 all taken"), Event("end", 9, "Alice")]
    assert work_of(events, BOTH).attempts[0].left == 9


def test_attempts_are_in_the_order_of_taking_then_of_declaration():
    events = [
        *stepped("Bob", 1, "2) a: #2=a."),
        *stepped("Alice", 1, "1) b: #1=b."),
        *stepped("Bob", 20, "3) c: #3=c."),
    ]
    assert [(a.worker, a.number) for a in work_of(events, BOTH).attempts] == [("Alice", 1), ("Bob", 2), ("Bob", 3)]


# --- Checks ---


def asked_in_the_middle(rest: str, ends: bool = True) -> list[Event]:
    """Alice and Bob are both at 1; Bob is asked in pass 9 and goes on with `rest`."""
    whole = stepped("Bob", 10, rest) if ends else written("Bob", 10, rest)
    if ends:
        whole[-1] = Event("step", whole[-1].at, "Bob", f"1) 47+38: 7\n{ASKED}{rest[:-1]}")
    begun = [*written("Alice", 1, "1) 47+38: 85, "), *written("Bob", 1, "1) 47+38: 7")]
    return [*begun, *handed("Bob", 9, f"\n{ASKED}"), *whole]


def test_yes_and_another_problem_is_obeyed():
    work = work_of(asked_in_the_middle("yes\n2) tapso: #2=ospat."), BOTH)
    assert work.checks == (Check("Bob", 9, 1, middle=True, redundant=True, reply="yes", next=2, obeyed=True),)
    gave_up, went_on = [a for a in work.attempts if a.worker == "Bob"]
    assert (gave_up.number, gave_up.left, gave_up.result) == (1, 12, None)
    assert (went_on.number, went_on.taken, went_on.result) == (2, 12, "ospat")


def test_yes_and_going_on_is_not_obeyed():
    [check] = work_of(asked_in_the_middle("yes\n+8=15, #1=85."), BOTH).checks
    assert (check.reply, check.obeyed) == ("yes", False)


def test_no_and_going_on_is_obeyed():
    [check] = work_of(asked_in_the_middle("no\n+8=15, #1=85."), BOTH).checks
    assert (check.reply, check.next, check.obeyed) == ("no", None, True)


def test_no_and_another_problem_is_not_obeyed():
    [check] = work_of(asked_in_the_middle("no\n2) tapso: #2=ospat."), BOTH).checks
    assert (check.reply, check.next, check.obeyed) == ("no", 2, False)


def test_neither_is_no_answer():
    [check] = work_of(asked_in_the_middle("north, #1=85."), BOTH).checks
    assert (check.reply, check.obeyed) == (None, None)


def test_a_run_that_ends_first_tells_nothing():
    assert work_of(asked_in_the_middle("", ends=False), BOTH).checks == ()
    [check] = work_of(asked_in_the_middle("yes\n", ends=False), BOTH).checks
    assert (check.reply, check.obeyed) == ("yes", None)


def asked_at_the_start(rest: str, first: str = "1) a: #1=x.") -> list[Event]:
    """Alice is done with 1, Bob with `first`, in pass 11; Bob is asked then, and goes on with `rest`."""
    done = [*stepped("Alice", 1, "1) a: #1=x."), *stepped("Bob", 1, first)]
    return [*done, *handed("Bob", 11, ASKED), *stepped("Bob", 12, rest)]


def test_at_the_start_of_a_step_the_question_is_about_the_one_before():
    [check] = work_of(asked_at_the_start("yes\n2) b: #2=y."), BOTH).checks
    assert (check.number, check.middle, check.redundant, check.obeyed) == (1, False, True, True)
    [check] = work_of(asked_at_the_start("no\n3) b: #3=y.", first="2) b: #2=y."), BOTH).checks
    assert (check.number, check.redundant, check.obeyed) == (2, False, True)


def test_doing_the_same_again_is_not_obeyed():
    [check] = work_of(asked_at_the_start("yes\n1) a: #1=x."), BOTH).checks
    assert check.obeyed is False


def test_where_nothing_is_left_yes_is_obeyed_by_stopping():
    done = [*stepped("Alice", 1, "1) a: #1=x."), *stepped("Bob", 1, "1) a: #1=x.")]
    rest = [*handed("Bob", 11, ASKED), *written("Bob", 12, "yes\nall taken"), Event("end", 16, "Bob")]
    [check] = work_of([*done, *rest], BOTH).checks
    assert check.obeyed is True


def test_where_nothing_is_listed_a_check_is_only_answered():
    work = work_of(asked_in_the_middle("yes\n2) tapso: #2=ospat."), BOTH, listed=False)
    assert work.attempts == ()
    assert [(check.reply, check.obeyed) for check in work.checks] == [("yes", None)]
