"""The engine on real (tiny, random) models: what is stored, shared, freed, and what does not depend on what."""

from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import hwlang as hw
from hwruntime.batch import Batch, Run
from hwruntime.engine import Engine
from hwruntime.errors import RunError
from hwruntime.models import Model

QWEN = str(Path(__file__).parents[1] / "parity" / "qwen2")
OPENING = "丁".join("丈不与专世丙业东丝両丢严" * 4)


def program(body: str = "", declarations: str = "", opening: str = OPENING, budget: int = 20) -> hw.Program:
    sees = "chat, pad," if "stream chat" in declarations else "pad," if "scratchpad" in declarations else ""
    return hw.parse(f"""program p(q: str = "一") {{
      budget {budget} passes
      {declarations}
      worker Ann, Ben, Cid {{
        sees "{opening}", "{{{{q}}}}", others, {sees} self
        begin "{{{{name}}}}丈" forbid "丁" {body}
      }}
    }}""")


def alone(opening: str = OPENING, budget: int = 20) -> hw.Program:
    return hw.parse(f'program p {{ budget {budget} passes worker Ann {{ sees "{opening}", self forbid "丁" }} }}')


@pytest.fixture
def model() -> Model:
    return Model.load(QWEN, dtype="float32")


@pytest.fixture
def engine(model) -> Engine:
    return Engine(model)


def held(engine: Engine) -> int:
    """Tokens' worth of pages that runs hold, without constants that are only kept."""
    engine.forget()
    return engine.model.pool.used


def finish(engine: Engine, runs: list[Run]) -> list[dict[str, str]]:
    while engine.step(runs):
        pass
    results = [run.session.result("qwen2") for run in runs]
    for run in runs:
        engine.finish(run)
    return [{name: worker.text for name, worker in result.workers.items()} for result in results]


def test_kv_of_a_token_are_stored_once_however_many_workers_read_it(engine, model):
    one = engine.start(alone().compiled, {})
    stored_for_one = model.pool.used
    engine.finish(one)
    engine.forget()
    three = engine.start(program().compiled, {})
    assert model.pool.used == stored_for_one + 0  # the begins are not written before the first pass
    engine.step([three])
    assert model.pool.used == stored_for_one + 3 * model.pool.page_size
    engine.finish(three)
    assert held(engine) == 0


def test_equal_openings_of_runs_are_stored_once(engine, model):
    first = engine.start(program().compiled, {})
    stored = model.pool.used
    second = engine.start(program().compiled, {})
    assert model.pool.used == stored
    engine.finish(first)
    assert model.pool.used == stored
    engine.finish(second)
    assert model.pool.used == stored, "it is kept for a run that has the same"
    assert held(engine) == 0


def test_runs_side_by_side_write_what_they_write_alone(engine):
    inputs = [{"q": text} for text in ("丙", "业东", "丢严丈")]
    source = program("sampling { temperature 0.8 top_p 0.9 }").compiled
    together = finish(engine, [engine.start(source, given, seed=3) for given in inputs])
    apart = [finish(engine, [engine.start(source, given, seed=3)])[0] for given in inputs]
    assert together == apart
    assert len({text for texts in together for text in texts.values()}) == 9


def test_a_long_opening_is_encoded_in_chunks_to_the_same_end(engine, monkeypatch):
    long = alone("丈不与专世丙业东" * 90)
    whole = engine.run(long.compiled, {})
    monkeypatch.setattr("hwruntime.engine.CHUNK", 64)
    assert engine.run(long.compiled, {}).workers == whole.workers


class Watchful(Engine):
    """Looks in every pass whether the pool holds what the sessions say that it does."""

    def _forward(self, batch: Batch) -> torch.Tensor:
        written = Counter(p.row.block for p in batch.rows for _ in p.row.tokens)
        for run in {p.run for p in batch.rows if batch.wanted}:  # openings want nothing
            for block, held in run.blocks.items():
                assert held.length == len(block.tokens) + written[block], block.name
        return super()._forward(batch)


def test_moves_leave_the_pool_as_full_as_its_texts(model):
    separators = ", ".join(f'"{chr(0x4E03 + i)}"' for i in range(60))  # one token in five ends a step
    steps = program(f"step until {separators} on step {{ move self to pad }}", "scratchpad pad")
    engine = Watchful(model)
    result = engine.run(steps.compiled, {})
    assert any(worker.steps for worker in result.workers.values())
    assert result.scratchpads["pad"]
    assert held(engine) == 0


def test_posts_probes_and_clears_give_their_pages_back(model):
    body = """on every 3 tokens { post "世丙{{name}}" to pad ask "业？" { "丈" { say "严" } "不" { clear pad } } }"""
    engine = Watchful(model)
    kinds = {event.kind for event in engine.stream(program(body, "scratchpad pad", budget=40).compiled, {})}
    assert {"post", "ask"} <= kinds
    assert held(engine) == 0


@pytest.mark.parametrize(
    ("body", "declarations"),
    [
        ("sampling { temperature 1 }", ""),
        ('step until "丈", "不", "与", "专" on step { move self to pad }', "scratchpad pad"),
        (
            'on every 3 tokens { post "世" to pad ask "业？" { "丈" { say "严" } "不" { clear pad } } }',
            "scratchpad pad",
        ),
    ],
)
def test_what_is_foreseen_changes_no_text(model, body, declarations):
    source = program(body, declarations, budget=40).compiled
    with patch("hwruntime.engine.foresee", return_value=None):
        expected = Engine(model).run(source, {}, seed=3)
    assert Engine(model).run(source, {}, seed=3) == expected


def test_what_a_feed_and_a_start_do_to_blocks_is_done_before_the_next_pass(model):
    body = "on chat { move self to pad } on start { clear pad }"
    source = program(body, 'stream chat scratchpad pad = "丙丙丙"')
    engine = Watchful(model)
    run = engine.start(source.compiled, {})
    engine.step([run])
    run.feed("chat", "业业")
    while engine.step([run]):
        pass
    result = run.session.result("qwen2")
    assert result.scratchpads["pad"] == "一一一丈一一一丈一一一丈"  # the names are unknown letters to this tokenizer
    engine.finish(run)
    assert held(engine) == 0


def test_an_opening_that_does_not_fit_a_fixed_pool_is_refused_with_numbers():
    small = Engine(Model.load(QWEN, dtype="float32", kv_tokens=64))
    with pytest.raises(RunError, match=r"the run needs \d+ tokens of cache, the pool has 64: raise kv_tokens"):
        small.run(program().compiled, {})
    assert held(small) == 0
    assert small.run(alone("丈不", budget=40).compiled, {}).reason == "budget"


def test_a_run_for_which_the_pool_gets_too_small_keeps_its_text():
    """Handed-out text is not in the estimate that refuses runs, so a pool can fill up in the middle of a run."""
    small = Engine(Model.load(QWEN, dtype="float32", kv_tokens=160))
    chatty = program('on every 1 tokens { say "丈不与专世丙业东" }', opening="丈不", budget=30)
    result = small.run(chatty.compiled, {})
    assert result.reason == "cache"
    assert 0 < result.passes < 30
    assert len(result.workers["Ann"].text) > 8
    assert held(small) == 0


def test_events_stream_as_they_happen(engine):
    events = list(engine.stream(alone(budget=5).compiled, {}))
    assert [event.kind for event in events] == ["token"] * 5
    assert "".join(event.text for event in events) == engine.run(alone(budget=5).compiled, {}).workers["Ann"].text


def test_a_cancelled_run_keeps_what_there_is(engine, model):
    def cancel_at_three(run: Run) -> None:
        if run.session.passes == 3:
            raise KeyboardInterrupt

    result = engine.run(alone().compiled, {}, watch=cancel_at_three)
    assert (result.reason, result.passes, len(result.workers["Ann"].text)) == ("cancelled", 3, 3)
    assert held(engine) == 0


def test_api_runs_batches_in_order_with_seeds_that_count_up():
    engine = hw.Engine(QWEN, dtype="float32")
    source = program("sampling { temperature 1 }")
    inputs = [{"q": "丙"}, {"q": "丙"}, {"q": "业"}]
    results = engine.run_batch(source, inputs, seed=5)
    assert [result.seed for result in results] == [5, 6, 7]
    assert results[0].workers != results[1].workers
    assert results[1] == engine.run(source, q="丙", seed=6)


def test_one_worker_that_sees_its_prompt_alone_writes_what_generate_writes(model):
    prompt = model.tokenizer.encode(OPENING)
    reference = torch.tensor([prompt])
    hf = Model.load(QWEN, dtype="float32").hf
    hf.set_attn_implementation("eager")
    expected = hf.generate(reference, do_sample=False, max_new_tokens=20, suppress_tokens=model.tokenizer.encode("丁"))
    result = Engine(model).run(alone().compiled, {})
    assert model.tokenizer.encode(result.workers["Ann"].text) == expected[0, len(prompt) :].tolist()
