"""programs/async_reasoning.py writes what programs/live.hw writes: the same tokens, each in the same pass."""

import asyncio
import json
import runpy
import shutil
from pathlib import Path

import pytest

import hwlang as hw
from hwlang.python.coroutines import Coroutines
from hwruntime import tiny
from hwruntime.engine import Engine
from tests.fake_engine import FakeEngine

PROGRAMS = Path(__file__).parents[1] / "programs"
LIVE = runpy.run_path(str(PROGRAMS / "async_reasoning.py"))["Live"]
CHAT = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
Told = list[tuple[int, str, str]]  # pass, worker, text of a token


def program(temperature: float) -> hw.Program:
    text = (PROGRAMS / "live.hw").read_text().split("\ntest ")[0]
    return hw.parse(text.replace("stream user", f"sampling {{ temperature {temperature} }}\n  stream user", 1))


def of_the_file(
    engine: Engine, problem: str, seed: int, temperature: float, passes: int, feeds: dict[int, str]
) -> tuple[str | None, Told]:
    """Why the run of the file ended, and its tokens."""
    run = engine.start(program(temperature).compiled, {"problem": problem}, seed=seed, budget=passes)
    events = run.session.drain()
    while engine.step([run]):
        events += run.session.drain()
        if run.session.passes in feeds:
            run.feed("user", feeds[run.session.passes])
    events += run.session.drain()
    engine.finish(run)
    return run.session.reason, [(event.at, event.worker, event.text) for event in events if event.kind == "token"]


def of_the_coroutines(
    engine: Coroutines, problem: str, seed: int, temperature: float, passes: int, feeds: dict[int, str]
) -> Told:
    """The same of the coroutines, which are cancelled after so many passes."""
    runtime, told, at = engine._turns.engine, [], 0
    left = dict(feeds)

    async def play() -> None:
        loop, step = asyncio.get_running_loop(), runtime.step

        def counted(runs):
            nonlocal at
            going = any(row.draw or row.choices for run in runs for row in run.session.rows)
            step(runs)
            at += going
            if at > passes:
                loop.call_soon_threadsafe(task.cancel)

        def tell(who: str, text: str) -> None:
            told.append((at, who, text))
            if at in left:
                live.added.put_nowait(left.pop(at))

        live = LIVE(engine, tell, seed, temperature)
        task = asyncio.create_task(live.run(problem))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(runtime, "step", counted)
            await asyncio.wait([task], timeout=100)
        if not task.cancelled():
            assert "".join(text for _, who, text in told if who == "Writer") in task.result()

    asyncio.run(play())
    return [each for each in told if each[0] <= passes]


def test_every_token_is_in_the_pass_that_it_is_in_with_the_file():
    reasons, heard = set(), 0
    for seed in range(16):
        feeds = {9: "And iron?", 31: "And wood?"} if seed % 2 else {}
        engines = [FakeEngine(ends=0.01) for _ in range(2)]
        for engine in engines:  # the fake model knows words by when they came up
            engine.runtime.model.tokenizer.encode("yes no")
        reason, expected = of_the_file(engines[0].runtime, "Oil?", seed, 0.02, 120, feeds)
        assert of_the_coroutines(engines[1], "Oil?", seed, 0.02, 120, feeds) == expected
        assert engines[1].used == 0
        reasons.add(reason)
        heard += len({who for _, who, _ in expected})
    assert reasons >= {"stopped", "stalled"}
    assert heard > 28, "the writer speaks in most of them"


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> hw.Engine:
    """`tiny`, with a chat template."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(Path(tiny.__file__).parent, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": CHAT}))
    return hw.Engine(str(folder))


@pytest.mark.parametrize(("seed", "temperature", "passes"), [(0, 0, 24), (2, 0.8, 48), (3, 0.8, 72), (1, 1.5, 30)])
def test_both_write_the_same_tokens_on_a_model(chat, seed, temperature, passes):
    feeds = {11: "reverse abc\n"}
    problem = "1) 47+38\n2) reverse lemon\n"
    reason, expected = of_the_file(chat.runtime, problem, seed, temperature, passes, feeds)
    assert of_the_coroutines(chat, problem, seed, temperature, passes, feeds) == expected
    assert reason == "budget"
    chat.runtime.forget()
    assert chat.runtime.model.pool.used == 0


def test_it_runs_as_a_script(capsys, monkeypatch):
    engine = FakeEngine(ends=0.02)
    engine.runtime.model.tokenizer.encode("yes no")
    monkeypatch.setattr(hw, "Engine", lambda *_: engine)
    runpy.run_path(str(PROGRAMS / "async_reasoning.py"), run_name="__main__")
    assert capsys.readouterr().err == ""
    assert engine.used == 0
