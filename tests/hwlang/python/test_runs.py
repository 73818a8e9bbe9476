"""Runs from Python: states, events, observers that fail, asyncio. Every wait has a limit: nothing may hang."""

import asyncio
import gc
from collections.abc import Coroutine
from threading import get_ident
from typing import TypeVar

import pytest

import hwlang as hw
from hwruntime.errors import InputError, RunError
from hwruntime.result import Event

T = TypeVar("T")
LIMIT = 60  # seconds


@pytest.fixture(scope="module")
def engine() -> hw.Engine:
    return hw.Engine("tiny")


@pytest.fixture
def used(engine: hw.Engine):
    """The tokens in the cache that runs hold; a test must leave none."""

    def held() -> int:
        engine.runtime.forget()
        return engine.runtime.model.pool.used

    assert held() == 0
    yield held
    assert held() == 0


@hw.program
def talk(p: hw.ProgramBuilder, problem: str = "1) 47+38", n: int = 2) -> None:
    p.budget(20)
    history, news = p.scratchpad("history"), p.stream("news")
    team = p.workers(n, "Alice", "Bob", "Carol")
    notes = team.scratchpad("notes")
    team.sees("{{problem}}", news, history, notes, hw.others, hw.me)
    team.step("\n{{name}}: ", until=(".", ","))
    team.on(hw.step, hw.post("{{step}} ", to=notes), hw.move(hw.me, to=history))
    team.on(news, hw.say(" news "))
    p.answer(team["Bob"])


def wait(task: Coroutine[object, object, T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(task, LIMIT)

    return asyncio.run(limited())


# --- States ----------------------------------------------------------------------------------------------------------


def test_a_state_has_the_texts_by_name(engine, used):
    state = talk.run(engine=engine, seed=7)
    assert list(state) == ["Alice", "Bob", "history", "Alice.notes", "Bob.notes"]
    assert state["Alice"] == state.workers["Alice"].text
    assert state["history"] == state.scratchpads["history"]
    assert state["Bob"] == state.answer
    assert (state.seed, state.program, state.model, len(state), "Carol" in state) == (7, "talk", "tiny", 5, False)
    assert state.to_json()["passes"] == state.passes
    assert state.usage.sampled_tokens > 10
    with pytest.raises(KeyError, match="the run has no `Carol`: it has `Alice`, `Bob`, `history`"):
        state["Carol"]


def test_a_program_and_an_engine_run_alike(engine, used):
    state = talk.run(problem="1) reverse abc", engine=engine, seed=1, n=3)
    assert state == engine.run(talk, problem="1) reverse abc", seed=1, n=3)
    assert state == talk.run({"problem": "1) reverse abc", "n": 3}, engine=engine, seed=1)
    assert state == talk.bind(n=3).bind(problem="1) reverse abc").run(engine=engine, seed=1)
    assert state == talk.bind({"n": 1}).run(problem="1) reverse abc", engine=engine, seed=1, n=3)
    assert [state] == talk.run_batch([{"problem": "1) reverse abc", "n": 3}], engine=engine, seed=1)
    assert state == wait(talk.arun(problem="1) reverse abc", n=3, engine=engine, seed=1))
    assert state == wait(engine.arun(talk, problem="1) reverse abc", n=3, seed=1))


def test_the_engine_of_a_program_is_made_once_and_kept():
    assert talk.run(n=1).model == "tiny"
    first = talk.stream()
    second = hw.load("programs/sums.hw").stream()
    assert first._turns is second._turns


def test_bind_checks_what_it_is_given(engine):
    with pytest.raises(InputError, match="has no parameter `problems`"):
        talk.bind(problems="")
    with pytest.raises(InputError, match="`n`"):
        talk.bind(n="two")
    assert hash(talk.bind(n=1)) == hash(talk)
    assert talk.bind(n=1) != talk


def test_an_error_at_the_start_shows_the_line(engine, used):
    @hw.program
    def chat(p: hw.ProgramBuilder) -> None:
        p.worker("Ann").sees(hw.user("Go."), hw.me)

    with pytest.raises(RunError, match="no chat template") as caught:
        chat.run(engine=engine)
    (note,) = caught.value.__notes__
    assert f"{__file__}:" in note
    assert '        p.worker("Ann").sees(hw.user("Go."), hw.me)\n' in note


# --- Streams ---------------------------------------------------------------------------------------------------------


def test_a_run_is_iterated_over_and_can_be_fed(engine, used):
    with talk.stream(engine=engine) as run:
        for event in run:
            if (event.kind, event.at) == ("token", 5):
                run.feed("news", "1) 2+2")
                break
        assert used() > 0
        half = run.state
        events = list(run)
    kinds = [(event.kind, event.worker) for event in events]
    assert ("feed", "news") in kinds
    assert " news " in run.state["Alice"]
    assert run.state["Alice"].startswith(half["Alice"])
    assert (half.passes < run.state.passes, run.state.reason) == (True, "budget")
    with pytest.raises(InputError, match="no stream `olds`"):
        run.feed("olds", "")


def test_a_run_can_be_cancelled(engine, used):
    run = talk.stream(engine=engine)
    next(run)
    run.cancel()
    passes = run.state.passes
    assert all(event.at <= passes + 1 for event in run)
    assert (run.state.reason, run.state.passes <= passes + 1) == ("cancelled", True)


def test_a_run_that_is_dropped_or_closed_gives_its_pages_back(engine, used):
    for event in talk.stream(engine=engine):
        if event.at == 3:
            break
    gc.collect()
    assert used() > 0  # until the next run takes its turn
    run = talk.stream(engine=engine)
    run.close()
    run.close()
    assert list(run) == []
    assert run.state.reason == "cancelled"


def test_runs_can_be_interleaved(engine, used):
    alone = [list(talk.stream(engine=engine, seed=seed)) for seed in (1, 2)]
    runs = [talk.stream(engine=engine, seed=seed) for seed in (1, 2)]
    together: list[list[Event]] = [[], []]
    for one, two in zip(*runs, strict=False):
        together[0].append(one)
        together[1].append(two)
    assert [events[:20] for events in together] == [events[:20] for events in alone]
    for run in runs:
        run.close()


def test_an_error_in_a_pass_ends_the_run(engine, used, monkeypatch):
    run = talk.stream(engine=engine)
    monkeypatch.setattr(engine.runtime, "step", lambda runs: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        list(run)
    assert used() == 0
    assert list(run) == []


# --- Observers -------------------------------------------------------------------------------------------------------


def test_an_observer_sees_every_event(engine, used):
    events: list[Event] = []
    talk.run(engine=engine, on_event=events.append)
    assert events == list(talk.stream(engine=engine))


def fail(event: Event) -> None:
    if event.kind == "step":
        raise ValueError("boom")


def test_an_observer_that_fails_names_the_worker_and_ends_the_run(engine, used):
    for run in (lambda: talk.run(engine=engine, on_event=fail), lambda: wait(talk.arun(engine=engine, on_event=fail))):
        with pytest.raises(
            hw.CallbackError, match=r"at a `step` of worker `(Alice|Bob)`, pass \d+: ValueError: boom"
        ) as caught:
            run()
        assert caught.value.worker == caught.value.event.worker
        assert isinstance(caught.value.__cause__, ValueError)
        assert used() == 0


def test_ctrl_c_in_an_observer_is_no_failure_of_it(engine, used):
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk.run(engine=engine, on_event=interrupt)


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_passes_are_made_in_a_thread_and_observed_on_the_loop(engine, used, monkeypatch):
    threads: set[int] = set()
    step = engine.runtime.step
    monkeypatch.setattr(engine.runtime, "step", lambda runs: (threads.add(get_ident()), step(runs))[1])
    seen: set[int] = set()
    wait(talk.arun(engine=engine, on_event=lambda event: seen.add(get_ident())))
    assert seen == {get_ident()}
    assert get_ident() not in threads


def test_many_runs_at_once_are_each_as_if_alone(engine, used):
    async def gathered() -> list[hw.State]:
        return await asyncio.gather(*(talk.arun(engine=engine, seed=seed) for seed in range(8)))

    assert wait(gathered()) == [talk.run(engine=engine, seed=seed) for seed in range(8)]


def test_astream_can_be_fed_before_and_while_it_runs(engine, used):
    async def events() -> list[Event]:
        made: list[Event] = []
        async with talk.astream(engine=engine) as run:
            with pytest.raises(RuntimeError, match="has not begun"):
                _ = run.state
            run.feed("news", "one")
            async for event in run:
                made.append(event)
                if (event.kind, event.at) == ("token", 3):
                    run.feed("news", "two")
                if event.at == 6:
                    run.cancel()
            assert run.state.reason == "cancelled"
        return made

    fed = [(event.at, event.text) for event in wait(events()) if event.kind == "feed"]
    assert fed[0] == (0, "one")
    assert {text for _, text in fed} == {"one", "two"}


def test_inputs_that_do_not_fit_are_told_by_the_task(engine, used):
    with pytest.raises(InputError):
        wait(talk.arun(engine=engine, nope=1))


@pytest.mark.parametrize("after", [0, 0.02, 0.1])
def test_cancelling_a_task_ends_its_run(engine, used, after):
    @hw.program
    def endless(p: hw.ProgramBuilder) -> None:
        p.budget(1_000_000)
        w = p.worker("Ann")
        w.sees("Go on.", hw.me)
        w.step(until=".")
        w.on(hw.every(2, "tokens"), hw.clear(w.scratchpad("notes", "x")))
        w.on(hw.end, hw.resume(hw.me))
        w.sampling(temperature=5)

    async def cancelled() -> None:
        task = asyncio.create_task(endless.arun(engine=engine))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    wait(cancelled())
    assert used() == 0


def test_a_timeout_ends_a_run_that_is_iterated_over(engine, used):
    async def slow() -> None:
        async for _ in talk.astream(engine=engine, budget=100_000):
            await asyncio.sleep(0.02)

    async def limited() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.3)

    wait(limited())
    gc.collect()
    talk.stream(engine=engine).close()
    assert used() == 0


# --- Shared passes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(engine, monkeypatch) -> list[int]:
    """How many runs went on in each pass of the engine."""
    made: list[int] = []
    step = engine.runtime.step

    def counted(runs):
        made.append(len(runs))
        return step(runs)

    monkeypatch.setattr(engine.runtime, "step", counted)
    return made


def test_runs_of_one_loop_share_their_passes(engine, used, steps):
    async def all_of_them() -> list[hw.State]:
        return await asyncio.gather(*(talk.arun(engine=engine, seed=seed) for seed in range(6)))

    states = wait(all_of_them())
    assert sum(steps) >= sum(state.passes for state in states)
    assert len(steps) < sum(state.passes for state in states) / 2
    assert states == [talk.run(engine=engine, seed=seed) for seed in range(6)]


def test_a_batch_takes_as_many_passes_as_its_longest_run(engine, used, steps):
    alone = []
    for n in (1, 2, 3):
        talk.run(n=n, engine=engine)
        alone.append(len(steps))  # what is moved or posted at its end takes one more, or two
        steps.clear()
    talk.run_batch([{"n": 1 + seed % 3} for seed in range(9)], engine=engine)
    assert max(steps) == 9
    assert len(steps) == max(alone)


def test_a_stream_goes_on_as_far_as_it_is_looked_at_whatever_others_do(engine, used):
    with talk.stream(engine=engine) as slow:
        next(slow)
        before = slow.state.passes
        talk.run_batch([{}, {"n": 3}], engine=engine)
        assert slow.state.passes == before
        assert [*slow]
    assert slow.state == talk.run(engine=engine)


def test_an_eager_run_waits_for_who_looks_at_its_events(engine, used, monkeypatch):
    monkeypatch.setattr("hwlang.python.runs.MOST_EVENTS", 10)
    slow = engine.begin(talk, {}, {}, eager=True)
    talk.run(engine=engine)
    assert 2 <= slow.state.passes < 12
    assert len([*slow]) > 10
    assert slow.state == talk.run(engine=engine)
    slow.close()


def test_a_pass_that_is_interrupted_ends_the_runs_that_shared_it(engine, used, monkeypatch):
    other = engine.begin(talk, {}, {}, eager=True)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with talk.stream(engine=engine) as run:
        next(run)
        forward = engine.runtime._forward
        monkeypatch.setattr(engine.runtime, "_forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(run)
        monkeypatch.setattr(engine.runtime, "_forward", forward)
    other.take_events()
    with pytest.raises(RunError, match="shared a pass with others, and that was interrupted"):
        next(other)
