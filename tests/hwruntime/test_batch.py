"""Passes that are laid out ahead are those that are laid out when they are due."""

from collections.abc import Mapping, Sequence
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hwlang as hw
from hwruntime.batch import Run, chosen
from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool
from hwruntime.engine import Engine
from hwruntime.errors import RunError
from hwruntime.rows import Block, whole_row
from tests.hwruntime.fake_model import FakeModel, Forward
from tests.hwruntime.test_session_properties import programs

PLAIN = """program p { budget 30 passes stream chat
  worker Ann, Ben { sees "Go. ", others, chat, self begin "Hi {{name}}" %s } }"""


def plain(body: str = "") -> hw.Program:
    return hw.parse(PLAIN % body)


# --- What is foreseen changes nothing ---


class Scene:
    """Runs of several programs on one engine, and what happens to them meanwhile: (action, run) before each step."""

    def __init__(self, sources: Sequence[str], tokens: int | None, events: Mapping[int, tuple[str, int]]) -> None:
        self.model = FakeModel(Pool(tokens, page_size=4))
        self.engine = Engine(self.model)
        self.programs = [hw.parse(source).compiled for source in sources]
        self.runs: list[Run] = []
        self.events = events
        self.others = CacheBlock()  # of somebody else who has the same pool

    def play(self) -> list[object]:
        """All that was asked of the model, and what came of the runs."""
        self._happen("start", 0)
        for step in range(45):
            self._happen(*self.events.get(step, ("", 0)))
            self.engine.step(self.runs)
        results = [run.session.result("fake") for run in self.runs]
        for run in self.runs:
            self.engine.finish(run)
        self.engine.forget()
        self.model.pool.clear(self.others)
        assert self.model.pool.used == 0
        return [*self.model.calls, *results]

    def _happen(self, action: str, number: int) -> None:
        run = self.runs[number % len(self.runs)] if self.runs else None
        if action == "start":
            try:
                self.runs.append(self.engine.start(self.programs[number % len(self.programs)], {}, seed=number))
            except RunError as error:
                self.model.calls.append(str(error))
        elif action == "write" and self.model.pool.has_room([self.others], 3):
            self.model.pool.extend(self.others, 3)
        elif action == "feed" and run:
            run.feed("chat", "x y")
        elif action == "cancel" and run:
            run.cancel()
        elif action == "finish" and run:
            self.runs.remove(run)
            self.engine.finish(run)


EVENTS = st.dictionaries(
    st.integers(0, 30),
    st.tuples(st.sampled_from(["start", "start", "feed", "write", "cancel", "finish"]), st.integers(0, 3)),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(programs(), min_size=1, max_size=2), st.sampled_from([None, None, 96, 160, 400, 800]), EVENTS)
def test_what_is_foreseen_changes_nothing(sources, tokens, events):
    seen, blind = (Scene(sources, tokens, events) for _ in range(2))
    with patch("hwruntime.engine.foresee", return_value=None):
        expected = blind.play()
    assert seen.play() == expected
    assert blind.model.foreseen == 0


# --- What is foreseen, and what is not ---


def test_workers_that_go_on_are_foreseen_from_their_first_pass_on():
    model = FakeModel(ends=0)
    result = Engine(model).run(plain().compiled, {})
    assert (result.passes, model.foreseen) == (30, 29)


def test_a_step_prefix_is_not_foreseen_but_the_pass_after_it_is():
    model = FakeModel(ends=0)
    result = Engine(model).run(plain('step "<{{step}}> " until "c"').compiled, {})
    assert result.workers["Ann"].steps > 1
    passes = [call for call in model.calls if isinstance(call, Forward)][2:]  # after the opening and the first inputs
    assert [call.foreseen for call in passes] == [len(call.tokens) == 2 for call in passes]
    assert {call.foreseen for call in passes} == {False, True}


def test_a_last_token_that_is_only_written_is_where_it_was_foreseen():
    source = """program p { budget 10 passes
      worker Ann { sees "Go. ", Ben, self begin "Hi" max 5 tokens }
      worker Ben { sees "Go. ", Ann, self begin "Hi" } }"""
    model = FakeModel(ends=0)
    Engine(model).run(hw.parse(source).compiled, {})
    passes = [call for call in model.calls if isinstance(call, Forward)]
    assert [len(call.wanted) for call in passes] == [0, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]  # the opening, then ten passes
    assert [call.foreseen for call in passes] == [False] * 2 + [True] * 5 + [False] + [True] * 3


def test_a_token_that_is_read_once_more_is_nothing_to_go_on_from():
    model = FakeModel(ends=0)
    engine = Engine(model)
    run = engine.start(hw.parse('program q { worker Ann { sees "Go. ", self } }').compiled, {})
    prepared = [model.prepared is not None for _ in range(2) if engine.step([run])]
    assert prepared == [False, True]


def feed(engine: Engine, run: Run) -> None:
    run.feed("chat", "x")


def start_another(engine: Engine, run: Run) -> None:
    engine.start(hw.parse('program q { worker Cid { sees "Else. ", self } }').compiled, {})


def write(engine: Engine, run: Run) -> None:
    engine.model.pool.extend(CacheBlock(), 1)


def clear(engine: Engine, run: Run) -> None:
    engine.model.pool.clear(CacheBlock())


def take_over(engine: Engine, run: Run) -> None:
    engine.model.pool.hand_over(CacheBlock(), CacheBlock())


@pytest.mark.parametrize("happens", [feed, start_another, write, clear, take_over])
def test_what_happens_between_passes_drops_what_was_foreseen(happens):
    model = FakeModel(ends=0)
    engine = Engine(model)
    run = engine.start(plain().compiled, {})
    engine.step([run])
    engine.step([run])
    assert model.foreseen == 1
    happens(engine, run)
    engine.step([run])
    assert model.foreseen == 1


def test_a_run_that_joins_or_leaves_drops_what_was_foreseen():
    model = FakeModel(ends=0)
    engine = Engine(model)
    first, second = (engine.start(plain().compiled, {}) for _ in range(2))
    foreseen = []
    for runs in ([first], [first], [first, second], [first, second], [second, first], [second], [second]):
        engine.step(runs)
        foreseen.append(model.foreseen)
    assert foreseen == [0, 1, 1, 2, 3, 3, 4], "in which order they are named does not matter"


def test_what_is_only_foreseen_takes_no_room():
    """In the last pass the blocks of 32 tokens and the opening fill what somebody else has left of the pool."""
    model = FakeModel(Pool(4 + 2 * 32 + 8, page_size=4), ends=0)
    model.pool.extend(CacheBlock(), 8)
    engine = Engine(model)
    run = engine.start(plain().compiled, {})
    for passes in range(1, 31):
        engine.step([run])
        assert model.pool.used == 8 + 4 + 2 * -(-(2 + passes) // 4) * 4
    assert model.pool.used == model.pool.capacity
    assert not engine.step([run])
    assert (run.session.reason, model.foreseen) == ("budget", 29)


# --- What comes of rows ---


def test_asks_take_the_likeliest_choice_each_and_the_earlier_of_two_equal_ones():
    block = Block("probe", "throw-away")
    rows = [whole_row(str(i), [block], [1], choices=choices) for i, choices in enumerate([(4, 2), (), (1, 3, 0)])]
    logits = torch.tensor([[9, 9, 2, 9, 3], [0, 0, 0, 0, 0], [5, 7, 9, 7, 9]], dtype=torch.float32)
    came = chosen(rows, logits)
    assert [(came[rows[i]].token, came[rows[i]].logits) for i in (0, 2)] == [(0, (3, 2)), (0, (7, 7, 5))]
    assert rows[1] not in came
