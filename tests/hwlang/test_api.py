"""The Python calls of the design: load, parse, Engine."""

import subprocess
import sys
from pathlib import Path

import pytest

import hwlang as hw
from hwruntime.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def engine() -> hw.Engine:
    return hw.Engine("tiny")


def test_load_and_run(engine):
    result = engine.run(hw.load(ROOT / "programs" / "sums.hw"), problems="1) 47+38", n=1, seed=7)
    assert "85" in (result.answer or "")
    assert result.workers["Alice"].text.startswith("\nAlice: 1) 47+38")
    assert result.scratchpads["done"] == result.answer
    assert (result.seed, result.reason, result.usage.sampled_tokens > 10) == (7, "done", True)


def test_parse_text_and_events(engine):
    program = hw.parse(
        'program p(q: str) { worker A { sees "{{q}}", self step "\\n{{name}}: " until "." max 9 tokens } }'
    )
    events = list(engine.stream(program, q="1) reverse abc"))
    assert {event.kind for event in events} >= {"say", "token", "end"}


def test_a_parameter_may_have_the_name_of_an_option(engine):
    program = hw.parse('program p(seed: str) { budget 3 passes worker A { sees "{{seed}}", self } }')
    assert engine.run(program, {"seed": "1) 47+38"}, seed=3).seed == 3


def test_errors_carry_diagnostics():
    with pytest.raises(hw.CompileError) as caught:
        hw.parse("program p { worker A { sees nobody, self } }")
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.span.line, diagnostic.span.column) == (1, 29)
    assert "`nobody`" in str(caught.value)


def test_load_needs_a_name_where_there_are_several():
    path = ROOT / "programs" / "layouts.hw"
    with pytest.raises(hw.CompileError, match="has 3 programs: say which"):
        hw.load(path)
    assert hw.load(path, "combined").name == "combined"


def test_batches_have_a_progress_bar(engine, capsys):
    program = hw.load(ROOT / "programs" / "sums.hw")
    inputs = [{"problems": "1) 47+38"}, {"problems": "1) sort 5291"}]
    results = engine.run_batch(program, inputs, progress_bar=True)
    assert ["85" in (results[0].answer or ""), "1259" in (results[1].answer or "")] == [True, True]
    assert "100%" in capsys.readouterr().out


def test_a_run_of_a_batch_fails_alone(engine):
    program = hw.load(ROOT / "programs" / "sums.hw")
    with pytest.raises(
        hw.BatchError, match="1 of 3 runs failed; input 1: program `sums` has no parameter `nope`"
    ) as caught:
        engine.run_batch(program, [{"problems": "1) 47+38"}, {"nope": 1}, {"problems": "1) sort 5291"}], seed=3)
    first, failed, last = caught.value.results
    assert isinstance(failed, InputError)
    assert [first.seed, last.seed] == [3, 5]
    assert ("85" in first["done"], "1259" in last["done"]) == (True, True)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_batch_is_what_its_runs_are_alone(engine, most):
    program = hw.load(ROOT / "programs" / "sums.hw")
    inputs = [{"problems": f"1) {a}+{b}\n2) sort {a}{b}\n", "n": 1 + a % 3} for a, b in ((47, 38), (11, 92), (58, 67))]
    assert engine.run_batch(program, inputs, max_concurrency=most) == [
        engine.run(program, each, seed=seed) for seed, each in enumerate(inputs)
    ]


def test_importing_the_api_imports_no_torch():
    code = "import sys, hwlang; hwlang.load(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(ROOT / "programs" / "sums.hw")], check=True)
