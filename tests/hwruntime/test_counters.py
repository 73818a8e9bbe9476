"""Counters of an engine: they agree with the results of its runs."""

import re

import pytest

from hwruntime.cache import Pool
from hwruntime.counters import HELP
from hwruntime.engine import Engine
from hwruntime.errors import RunError
from tests.hwruntime.fake_model import Remembering
from tests.hwruntime.test_room import crew


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'hw_\w+(\{\w+="\w+"\})? [\d.e-]+', line) for line in lines)
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_counters_agree_with_what_runs_tell():
    engine = Engine(Remembering(Pool(2 * 4 + 4 * 26, page_size=4), ends=0))
    runs = [engine.start(crew(2, "Go. " if n else "On. "), {}, seed=n) for n in range(2)]
    before = samples(engine.metrics())
    assert (before['hw_runs{pages="yes"}'], before["hw_runs_begun_total"]) == (2, 2)
    passes = 0
    while engine.step(runs):
        passes += 1
    results = [run.result("") for run in runs]
    told = samples(engine.metrics())
    assert told["hw_sampled_tokens_total"] == sum(result.usage.sampled_tokens for result in results)
    assert told['hw_runs_ended_total{reason="budget"}'] == 2
    assert told["hw_passes_total"] == len(engine.model.plans)
    assert told["hw_encoded_tokens_total"] == sum(len(plan.locals) for plan in engine.model.plans)
    assert told["hw_runs_suspended_total"] >= 1
    assert (told['hw_runs{pages="yes"}'], told['hw_runs{pages="no"}']) == (0, 0)
    assert told["hw_pass_seconds_total"] > 0


def test_a_run_is_counted_once_however_it_ends():
    engine = Engine(Remembering(Pool(page_size=4)))
    run = engine.start(crew(1), {})
    engine.step([run])
    run.cancel()
    while engine.step([run]):
        pass
    engine.finish(run)
    engine.finish(engine.start(crew(1), {}))
    assert engine.counters.runs_ended == {"cancelled": 2}
    small = Engine(Remembering(Pool(8, page_size=4)))
    with pytest.raises(RunError):
        small.start(crew(2, "Go. " * 9), {})
    assert (small.counters.runs_begun, small.counters.runs_ended) == (0, {})


def test_every_number_has_a_help_and_a_type():
    text = Engine(Remembering(Pool(page_size=4))).metrics()
    for name in HELP:
        assert f"# HELP {name} " in text
        assert f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n" in text
    assert {name.partition("{")[0] for name in samples(text)} <= set(HELP)
