"""Blocks and coroutines: tokens as those of programs, shared passes, pages that are given back. Nothing may hang."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Coroutine
from typing import TypeVar

import pytest

import hwlang as hw
from hwlang.python.coroutines import Coroutines
from hwlang.python.runs import Run
from hwruntime.errors import InputError, PoolFull, RunError
from tests.fake_engine import FakeEngine

T = TypeVar("T")
LIMIT = 60  # seconds
PROBLEM = "1) 47+38\n2) reverse lemon\n3) sort 5291\n"


@pytest.fixture(scope="module")
def tiny() -> hw.Engine:
    return hw.Engine("tiny")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def passes(engine, monkeypatch) -> list[str]:
    return watched(engine, monkeypatch)


def watched(engine: Coroutines, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who took part in each pass of an engine."""
    made: list[str] = []
    step = engine._turns.engine.step

    def counted(runs):
        made.append("+".join(sorted(type(run).__name__ for run in runs)))
        return step(runs)

    monkeypatch.setattr(engine._turns.engine, "step", counted)
    return made


def wait(task: Coroutine[object, object, T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(task, LIMIT)

    return asyncio.run(limited())


async def written(engine: Coroutines, prompt: str = "Go. ", tokens: int = 12, **options: float) -> str:
    with engine.block("prompt") as seen, engine.block("own") as own:
        await engine.prefill(seen, prompt)
        generation = engine.generate([seen, own], own, max_tokens=tokens, **options)  # type: ignore[arg-type]
        text = "".join([token.text async for token in generation])
        assert (text, generation.text, own.text, generation.ending) == (own.text, text, text, "max_tokens")
        return text


# --- Tokens ---


def test_a_coroutine_writes_what_a_program_writes(tiny):
    program = hw.parse(
        'program p(q: str) { sampling { temperature 0.9 } scratchpad done worker Alice, Bob { sees "{{q}}", done, '
        'others, self step "\\n{{name}}: " until "." on step { move self to done } on "all taken" { stop self } } }'
    )
    state = program.run(q=PROBLEM, engine=tiny, seed=5, budget=60)

    async def solve(prompt: hw.Block, done: hw.Block, own: hw.Block, other: hw.Block) -> str:
        text = ""
        own.say(f"\n{own.name}: ")
        while "all taken" not in text:
            text += f"\n{own.name}: "
            stream = ("Alice", "Bob").index(own.name)
            step = tiny.generate(
                [prompt, done, other, own], own, stop=(".", "all taken"), stream=stream, temperature=0.9, seed=5
            )
            text += "".join([token.text async for token in step])
            if "all taken" not in text:
                tiny.move(own, done)
                own.say(f"\n{own.name}: ")
        return text

    async def both() -> list[str]:
        with tiny.block() as prompt, tiny.block() as done, tiny.block("Alice") as alice, tiny.block("Bob") as bob:
            await tiny.prefill(prompt, PROBLEM)
            return await asyncio.gather(solve(prompt, done, alice, bob), solve(prompt, done, bob, alice))

    assert wait(both()) == [state["Alice"], state["Bob"]]


def test_tokens_do_not_depend_on_neighbours(engine):
    async def alone(seed: int) -> str:
        return await written(engine, seed=seed, temperature=1, top_k=3)

    async def beside(seed: int) -> str:
        texts = await asyncio.gather(written(engine, "Else. ", 5), alone(seed), written(engine, "More. ", 30))
        return texts[1]

    texts = [wait(alone(seed)) for seed in (1, 2)]
    assert texts[0] != texts[1]
    assert [wait(beside(seed)) for seed in (1, 2)] == texts
    assert engine.used == 0


def test_a_generation_ends_with_a_text_or_with_the_model(tiny):
    async def endings() -> list[str | None]:
        with tiny.block() as own:
            own.say("1) 47+38\n\nAlice: ")
            first = tiny.generate([own], stop=") ", max_tokens=3)
            text = [token.text async for token in first]
            assert (text, [token async for token in first]) == (["1", ") "], [])
            return [first.ending, tiny.generate([own]).ending]

    assert wait(endings()) == ["stop", None]

    async def to_the_end() -> tuple[str, int]:
        fake = FakeEngine(ends=0.3)
        with fake.block() as own:
            own.say("Go. ")
            generation = fake.generate([own])
            tokens = [token async for token in generation]
            assert (generation.ending, generation.text) == ("end", "".join(token.text for token in tokens))
            return own.text, len(tokens)

    text, tokens = wait(to_the_end())
    assert len(text) == len("Go. ") + tokens


def test_chat_is_rendered_and_texts_have_no_holes(engine):
    async def told() -> str:
        with engine.block() as own:
            await engine.prefill(own, hw.system("Be brief."), hw.user(hw.literal("a {{b}}")), "So")
            with pytest.raises(hw.CompileError, match=r"nothing fills `\{\{name\}\}`"):
                await engine.prefill(own, hw.user("{{name}}"))
            with pytest.raises(hw.CompileError, match="a text is needed here, not an int"):
                await engine.prefill(own, 1)  # type: ignore[arg-type]
            return own.text

    assert wait(told()) == "<system>Be brief.</system><user>a {{b}}</user>So"


def test_chat_needs_a_template(tiny):
    async def ask() -> None:
        with tiny.block() as own:
            await tiny.prefill(own, hw.user("Go."))

    with pytest.raises(RunError, match="no chat template"):
        wait(ask())


def test_only_an_opening_has_the_start_token(engine, monkeypatch):
    asked = []
    encode = engine.runtime.model.tokenizer.encode_constants

    def noted(messages, opening):
        asked.append(opening)
        return encode(messages, opening)

    monkeypatch.setattr(engine.runtime.model.tokenizer, "encode_constants", noted)

    async def prefill() -> None:
        with engine.block() as a, engine.block() as b, engine.block() as c:
            await engine.prefill(a, "x")
            await engine.prefill(a, "more")
            await engine.prefill(b, "x", context=[a])
            await engine.prefill(c, "x", opening=False)
            await engine.prefill(c)

    wait(prefill())
    assert asked == [True, False, False, False, False]


def test_a_score_leaves_nothing(engine):
    async def ask() -> None:
        with engine.block() as own:
            await engine.prefill(own, "Go. ")
            used = engine.used
            scores = await engine.score([own], "ahead? ", ["yes", "no"])
            assert (list(scores), len(set(scores.values()))) == (["yes", "no"], 2)
            assert (engine.used, own.text, own.length) == (used, "Go. ", 3)

    wait(ask())


def test_blocks_are_moved_and_cleared(engine):
    async def move() -> None:
        with engine.block() as pad, engine.block() as own:
            own.say("Go. ")
            generation = engine.generate([pad, own], max_tokens=2)
            text = "".join([token.text async for token in generation])
            engine.move(own, pad)
            assert (pad.text, own.text) == ("Go. " + text[:-1], text[-1:])
            await engine.prefill(own, context=[pad])
            engine.move(own, pad)
            await engine.prefill(own, "On. ", context=[pad])
            assert (pad.text, own.text, own.length) == ("Go. " + text, "On. ", 3)
            engine.clear(pad)
            assert pad.text == ""

    wait(move())
    assert engine.used == 0


def test_what_is_moved_or_closed_during_a_pass_is_so_after_it(engine, monkeypatch):
    async def during() -> str:
        own, pad = engine.block("own"), engine.block("pad")
        await engine.prefill(own, "Go. ")
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        step = engine.runtime.step
        monkeypatch.setattr(engine.runtime, "step", lambda runs: (loop.call_soon_threadsafe(begun.set), step(runs)))
        task = asyncio.create_task(engine.prefill(own, "On. "))
        await begun.wait()
        engine.move(own, pad)
        own.close()
        await task
        with pytest.raises(InputError, match="`own` is closed"):
            own.say("x")
        text = pad.text
        await engine.prefill(pad, "x")
        pad.close()
        return text

    assert wait(during()) == "Go. On. "
    assert engine.used == 0


# --- Shared passes ---


def test_coroutines_of_one_loop_share_their_passes(engine, passes):
    async def gathered() -> None:
        await asyncio.gather(*(written(engine, tokens=20) for _ in range(5)))

    wait(gathered())
    assert passes == ["Visit"] * 21


@pytest.mark.parametrize("kind", ["arun", "astream"])
def test_coroutines_and_programs_share_their_passes(tiny, monkeypatch, kind):
    program = hw.parse('program p { budget 20 passes worker Ann { sees "1) reverse abc Ann:", self } }')
    passes = watched(tiny, monkeypatch)

    async def run() -> str:
        if kind == "arun":
            return (await program.arun(engine=tiny))["Ann"]
        return "".join([event.text async for event in program.astream(engine=tiny) if event.kind == "token"])

    async def write() -> str:
        with tiny.block() as own:
            await tiny.prefill(own, "1) reverse abc Ann:")
            return "".join([token.text async for token in tiny.generate([own], max_tokens=20)])

    async def both() -> list[str]:
        return await asyncio.gather(run(), write())

    texts = wait(both())
    assert texts == [program.run(engine=tiny)["Ann"], wait(write())]
    shared = Counter(passes[: passes.index("Run", 10)])
    assert shared["Run+Visit"] >= 18
    assert len(passes) < 30 + 20 + 22


def test_a_chain_of_coroutines_is_waited_for(engine, passes):
    """A pass is not made before all that can go on have asked for something, however they wake each other."""

    async def second(turn: asyncio.Event) -> None:
        await turn.wait()
        await written(engine, tokens=3)

    async def first(turn: asyncio.Event) -> None:
        await asyncio.gather(asyncio.sleep(0))
        turn.set()
        await written(engine, tokens=3)

    async def chain() -> None:
        turn = asyncio.Event()
        await asyncio.gather(second(turn), first(turn))

    wait(chain())
    assert len(passes) == 4


def test_passes_do_not_stop_the_event_loop(engine, monkeypatch):
    step = engine.runtime.step
    monkeypatch.setattr(engine.runtime, "step", lambda runs: (time.sleep(0.05), step(runs)))

    async def ticks() -> int:
        task, count = asyncio.create_task(written(engine, tokens=3)), 0
        while not task.done():
            await asyncio.sleep(0.005)
            count += 1
        return count

    assert wait(ticks()) > 8


# --- The end ---


@pytest.mark.parametrize("after", [0, 0.01, 0.05])
def test_a_coroutine_that_is_cancelled_gives_its_pages_back(engine, after):
    async def cancelled() -> None:
        with engine.block("kept") as kept:
            await engine.prefill(kept, "Go. ")
            used = engine.used
            task = asyncio.create_task(written(engine, tokens=100_000))
            await asyncio.sleep(after)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            generation = engine.generate([kept], max_tokens=2)
            assert len([token async for token in generation]) == 2
            assert engine.used == used

    wait(cancelled())
    assert engine.used == 0


def test_a_block_can_be_written_again_after_its_writer_was_cancelled(engine):
    async def again() -> str:
        with engine.block() as own:
            await engine.prefill(own, "Go. ")
            for _ in range(3):
                task = asyncio.create_task(anext(engine.generate([own])))
                await asyncio.sleep(0)
                task.cancel()
            return "".join([token.text async for token in engine.generate([own], max_tokens=6)])

    async def at_once() -> str:
        with engine.block() as own:
            await engine.prefill(own, "Go. ")
            return "".join([token.text async for token in engine.generate([own], max_tokens=6)])

    assert wait(again()) == wait(at_once())


def test_blocks_that_nobody_holds_give_their_pages_back(engine):
    async def dropped() -> None:
        kept = engine.block()
        for _ in range(5):
            block = engine.block()
            await engine.prefill(block, "a b c d e f g h ")
        block = kept
        await engine.prefill(block, "a b ")
        gc.collect()
        await engine.prefill(block, "c ")
        assert engine.used == 8

    wait(dropped())
    gc.collect()
    wait(written(engine, tokens=1))
    assert engine.used == 0


def test_a_loop_that_is_closed_in_the_middle_leaves_nothing(engine):
    loop = asyncio.new_event_loop()
    task = loop.create_task(written(engine, tokens=1000))
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert engine.used > 0
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    wait(written(engine, tokens=1))
    assert engine.used == 0


def test_a_loop_that_is_left_with_requests_pending_leaves_nothing(engine):
    async def forever() -> None:
        held = engine.block()
        own.append(held)
        await engine.prefill(held, "Go. ")
        async for _ in engine.generate([held]):
            pass

    own: list[hw.Block] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(forever())
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_default_executor())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    with pytest.raises(InputError, match="of another engine or event loop"):
        wait(engine.prefill(own[0], "x"))
    task.get_coro().close()
    own.clear()
    del task, loop
    gc.collect()
    wait(written(engine, tokens=1))
    assert engine.used == 0


# --- Errors ---


def test_errors_reach_who_asked_and_nobody_else(engine):
    async def mixed() -> str:
        with engine.block("a") as a, engine.block("b") as b:
            fine = asyncio.create_task(written(engine, tokens=20))
            await engine.prefill(a, "Go. ")
            with pytest.raises(InputError, match="`into` is not the last block"):
                engine.generate([a, b], into=a)
            with pytest.raises(InputError, match="the view is empty"):
                await engine.score([], "x", ["yes", "no"])
            first = asyncio.create_task(anext(engine.generate([a, b])))
            await asyncio.sleep(0)
            with pytest.raises(InputError, match="is being written by another coroutine"):
                await engine.prefill(b, "x")
            await first
            a.close()
            with pytest.raises(InputError, match="`a` is closed"):
                await anext(engine.generate([a, b]))
            return await fine

    assert wait(mixed()) == wait(written(engine, tokens=20))
    assert engine.used == 0


def test_blocks_are_of_an_engine_and_an_event_loop(engine):
    kept = []

    async def make() -> None:
        kept.append(engine.block("kept"))
        await engine.prefill(kept[0], "x")

    wait(make())
    with pytest.raises(InputError, match="`kept` is of another engine or event loop"):
        wait(engine.prefill(kept[0], "x"))
    with pytest.raises(RuntimeError, match="no running event loop"):
        engine.block()
    kept[0].close()
    assert engine.used == 0


def test_a_full_pool_is_an_error_of_who_asked_last(monkeypatch):
    engine = FakeEngine(tokens=64)

    async def fill() -> tuple[list[bool], str]:
        tasks = [asyncio.create_task(written(engine, tokens=20)) for _ in range(4)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return [isinstance(each, PoolFull) for each in done], next(each for each in done if isinstance(each, str))

    full, text = wait(fill())
    assert Counter(full) == {True: 2, False: 2}
    assert (engine.used, text) == (0, wait(written(engine, tokens=20)))


def test_coroutines_make_room_for_programs_and_come_back():
    engine = FakeEngine(tokens=80)
    program = hw.parse('program p { budget 30 passes worker Ann { sees "Go. ", self begin "Hi" } }').compiled

    async def write() -> str:
        task = asyncio.create_task(written(engine, tokens=40))
        await asyncio.sleep(0.02)
        result = await asyncio.to_thread(lambda: run())
        assert result == "budget"
        return await task

    def run() -> str | None:
        with Run(engine._turns, lambda runtime: runtime.start(program, {})) as each:
            list(each)
            return each.state.reason

    text = wait(write())
    assert text == wait(written(FakeEngine(), tokens=40))
    assert engine.used == 0


def test_an_error_in_a_pass_is_told_to_all_and_new_blocks_go_on(engine, monkeypatch):
    async def fail() -> str:
        with engine.block("old") as old:
            await engine.prefill(old, "Go. ")
            with monkeypatch.context() as patched:
                patched.setattr(engine.runtime, "_forward", lambda batch: 1 // 0)
                both = await asyncio.gather(engine.prefill(old, "x"), written(engine, tokens=5), return_exceptions=True)
            assert [type(each) for each in both] == [ZeroDivisionError] * 2
            with pytest.raises(ZeroDivisionError):
                await engine.prefill(old, "x")
            return await written(engine, tokens=5)

    assert wait(fail()) == wait(written(engine, tokens=5))
    assert engine.used == 0
