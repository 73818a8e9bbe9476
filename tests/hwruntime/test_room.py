"""Who has pages of the pool: runs that wait, make room and come back write what they write alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hwlang as hw
from hwruntime.batch import Run
from hwruntime.cache import Block as CacheBlock
from hwruntime.cache import Pool
from hwruntime.engine import Engine
from hwruntime.errors import RunError
from hwruntime.models import Model
from hwruntime.program import Program
from hwruntime.result import Event, Result
from hwruntime.room import Constants
from hwruntime.rows import Block
from hwruntime.session import Known
from tests.hwruntime.fake_model import Remembering
from tests.hwruntime.test_session_properties import programs

Orders = Mapping[int, str]  # by pass of a run: what happens to it then


def crew(workers: int = 2, opening: str = "Go. ", budget: int = 24) -> Program:
    names = ", ".join(["Ann", "Ben", "Cid"][:workers])
    return hw.parse(
        f'program p {{ budget {budget} passes scratchpad done worker {names} {{ sees "{opening}", done, others, self '
        'step "<" until ".", "b" on step { move self to done } } }'
    ).compiled


def give(run: Run, orders: dict[int, str]) -> None:
    """Do to a run what is due before its next pass."""
    order = orders.pop(run.session.passes, "") if run.now is None else ""
    if order == "cancel":
        run.cancel()
    elif order == "fail":
        run.known.append(Known((), (), 0.0, ()))  # no pass is without rows
    elif order == "feed" and "chat" in run.session.program.streams:
        run.feed("chat", f"{run.session.passes} y")


@dataclass
class Came:
    """What has come of a run."""

    end: Result | str
    events: list[Event] = field(default_factory=list)


def play(engine: Engine, started: Sequence[tuple[Program, int, Orders]], at_once: int) -> list[Result | str]:
    """What comes of runs that are begun in this order, never more than so many at once."""
    return [came.end for came in watch(engine, started, at_once)]


def watch(
    engine: Engine, started: Sequence[tuple[Program, int, Orders]], at_once: int, arrivals: Sequence[int] = ()
) -> list[Came]:
    """As `play`, with their events; each waits for so many passes of the engine before it begins."""
    waiting = list(zip(range(len(started)), started, arrivals or [0] * len(started), strict=True))
    going: dict[Run, tuple[int, dict[int, str]]] = {}
    came = [Came("") for _ in started]
    for passed in count():
        if not waiting and not going:
            return came
        while len(going) < at_once and (due := next((each for each in waiting if each[2] <= passed), None)):
            waiting.remove(due)
            index, (program, seed, orders), _ = due
            try:
                going[engine.start(program, {}, seed=seed)] = index, dict(orders)
            except RunError as error:
                came[index].end = str(error)
        for run, (_, orders) in going.items():
            give(run, orders)
        engine.step(list(going))
        for run in list(going):
            came[going[run][0]].events += run.session.drain()
            if run.stage == "over":
                came[going.pop(run)[0]].end = str(run.error) if run.error else run.result("fake")
    raise AssertionError("counting never ends")


ORDERS = st.dictionaries(st.integers(0, 12), st.sampled_from(["feed", "feed", "cancel", "fail"]), max_size=2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(programs(), min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 1), ORDERS, st.integers(0, 15)), min_size=1, max_size=7),
    st.sampled_from([None, 120, 200, 320, 640]),
    st.integers(1, 7),
)
def test_runs_write_what_they_write_alone_however_little_room_there_is(sources, picked, tokens, at_once):
    compiled = [hw.parse(source).compiled for source in sources]
    started = [(compiled[which % len(compiled)], seed, orders) for seed, (which, orders, _) in enumerate(picked)]
    engine = Engine(Remembering(Pool(tokens, page_size=4)))
    together = watch(engine, started, at_once, [arrival for _, _, arrival in picked])
    alone = [watch(Engine(Remembering(Pool(tokens, page_size=4))), [one], 1)[0] for one in started]
    assert together == alone, "tokens, events and errors are those of the run alone"
    engine.forget()
    assert engine.model.pool.used == 0, "no page is leaked"


def test_a_pool_for_three_runs_carries_fifty():
    program = crew(budget=20)
    room = Pool(3 * (4 + 2 * 20 + 40), page_size=4)
    engine = Engine(Remembering(room))
    came = play(engine, [(program, seed, {}) for seed in range(50)], at_once=50)
    assert [each.reason for each in came if isinstance(each, Result)].count("cache") == 0
    assert len(came) == 50
    alone = [play(Engine(Remembering(Pool(page_size=4))), [(program, seed, {})], 1)[0] for seed in range(0, 50, 7)]
    assert [came[seed] for seed in range(0, 50, 7)] == alone


def test_the_oldest_run_goes_on_and_younger_ones_make_room():
    engine = Engine(Remembering(Pool(2 * 4 + 4 * 26, page_size=4), ends=0))
    first, second = (engine.start(crew(2, "Go. " if n else "On. "), {}, seed=n) for n in range(2))
    stages = set()
    while first.stage != "over":
        passes = first.session.passes
        engine.step([second, first])
        assert first.session.passes == passes + 1 or first.stage == "over"
        stages.add(second.stage)
    assert stages == {"here", "away"}
    assert not second.away or second.stage == "away"
    while engine.step([second]):
        pass
    assert second.session.reason == "budget"


def test_a_run_that_is_not_asked_to_go_on_makes_room_for_a_younger_one():
    engine = Engine(Remembering(Pool(4 + 2 * 40, page_size=4), ends=0))
    idle = engine.start(crew(2), {})
    for _ in range(10):
        engine.step([idle])
    text = idle.session.result("").workers["Ann"].text
    busy = engine.start(crew(2), {})
    while engine.step([busy]):
        pass
    assert (idle.stage, busy.session.reason) == ("away", "budget")
    while engine.step([idle]):
        pass
    assert idle.session.reason == "budget"
    assert idle.session.result("").workers["Ann"].text.startswith(text)


def test_a_run_that_fails_fails_alone():
    """A worker that sees nothing cannot begin."""
    engine = Engine(Remembering(Pool(page_size=4)))
    broken = engine.start(hw.parse('program q(x: str = "") { worker Ann { sees "{{x}}", self } }').compiled, {})
    sound = engine.start(crew(1), {})
    while engine.step([broken, sound]):
        pass
    assert sound.result("").reason in ("done", "budget")
    with pytest.raises(RunError, match="no text to start from"):
        broken.result("")
    assert broken.stage == "over"


# --- Constants ---


def test_constants_are_kept_and_the_least_recently_used_goes_first():
    constants = Constants()
    users, held = [Block(name) for name in "abc"], [CacheBlock() for _ in range(2)]
    constants.add(users[0], (1,), held[0])
    constants.add(users[1], (2,), held[1])
    assert constants.drop() is None, "both are used"
    for user in users[:2]:
        assert constants.release(user)
    assert not constants.release(users[0])
    assert constants.take(users[2], (1,)) is held[0]
    assert constants.release(users[2])
    assert [constants.drop(), constants.drop(), constants.drop()] == [held[1], held[0], None]


def test_an_opening_is_encoded_once_for_runs_that_follow_one_another():
    model = Remembering(Pool(page_size=4))
    engine = Engine(model)
    for _ in range(3):
        engine.run(crew(1, "one two three "), {})
    assert model.pool.used == -(-len(model.tokenizer.encode("one two three ")) // 4) * 4
    engine.forget()
    assert model.pool.used == 0


def test_kept_constants_make_room():
    engine = Engine(Remembering(Pool(4 * 30, page_size=4)))
    for text in ("one two three ", "four five six ", "seven eight nine ") * 2:
        assert engine.run(crew(1, text * 3), {}).reason in ("done", "budget")


# --- On a real model ---

QWEN = str(Path(__file__).parents[1] / "parity" / "qwen2")


def test_kv_that_were_away_are_the_same_bits():
    model = Model.load(QWEN, dtype="float32")
    engine = Engine(model)
    run = engine.start(real(), {})
    for _ in range(9):
        engine.step([run])
    slots = {block: model.pool.slots(held, range(held.length)) for block, held in run.blocks.items() if held.length}
    before = {block: model.read(where) for block, where in slots.items()}
    engine._room.suspend(run)
    other = CacheBlock()
    model.pool.extend(other, 40)  # so that it comes back to other pages
    engine.step([run])
    for block, stored in before.items():
        held = run.blocks[block]
        again = model.read(model.pool.slots(held, range(len(slots[block]))))
        assert all(torch.equal(a, b) for layer in stored for a, b in zip(stored[layer], again[layer], strict=True))


def test_runs_of_a_real_model_write_what_they_write_alone_in_a_pool_for_one_of_them():
    started = [(real(), seed, {}) for seed in range(4)]
    small, large = (Engine(Model.load(QWEN, dtype="float32", kv_tokens=tokens)) for tokens in (160, None))
    assert play(small, started, at_once=4) == [play(large, [one], 1)[0] for one in started]


def real() -> Program:
    return hw.parse("""program p { budget 20 passes sampling { temperature 1 } scratchpad done
      worker Ann, Ben {
        sees "丈不与专世丙", done, others, self step until "丈", "不", "与" on step { move self to done } } }
    """).compiled


def test_an_opening_of_many_runs_is_stored_once_and_read_once_in_a_pass():
    source = f'program p {{ worker Ann, Ben {{ sees "{"word " * 500}", others, self begin "Hi" }} }}'  # 1,000 tokens
    program = hw.parse(source).compiled
    model = Remembering(Pool(page_size=4), ends=0)
    engine = Engine(model)
    runs = [engine.start(program, {}, seed=seed) for seed in range(32)]
    assert model.pool.used == 1000
    for _ in range(3):
        engine.step(runs)
    assert model.pool.used == 1000 + 32 * 2 * 4  # a page for each worker
    plan = model.plans[-1]
    assert len(plan.locals) == 64
    assert plan.reads == 1000 + 32 * 2 * 3
    engine.forget()
    assert model.pool.used == 1000 + 32 * 2 * 4, "it is in use"
