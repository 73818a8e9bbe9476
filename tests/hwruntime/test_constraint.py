"""Constrained steps on a random model: it would write anything, and writes what it may."""

import json
import re
from pathlib import Path

import pytest

import hwlang as hw
from hwruntime.errors import RunError

QWEN = str(Path(__file__).parents[1] / "parity" / "qwen2")


@pytest.fixture(scope="module")
def engine() -> hw.Engine:
    return hw.Engine(QWEN, dtype="float32")


@pytest.fixture(scope="module")
def tiny() -> hw.Engine:
    return hw.Engine("tiny")


def test_every_step_matches_its_regex(engine):
    program = hw.parse("""program p {
      budget 60 passes
      worker Ann, Ben { sees "丈不与", others, self step "丈" until "世" match /[七万]{2,4}(专|业)/ }
    }""")
    result = engine.run(program)
    for worker in result.workers.values():
        *finished, _ = worker.text.split("世丈")
        assert len(finished) > 5
        assert all(re.fullmatch("[七万]{2,4}(专|业)", step.removeprefix("丈")) for step in finished)


def test_a_worker_without_steps_ends_where_its_constraint_does(engine):
    program = hw.parse('program p { worker Ann { sees "丈不与", self match /[七万]{3}/ } }')
    result = engine.run(program)
    assert result.reason == "done"
    assert re.fullmatch("[七万]{3}", result.workers["Ann"].text)


def test_json_steps_fit_their_schema(tiny, tmp_path):
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 22]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    (tmp_path / "p.hw").write_text(
        'program p { worker Ann { sees "1) 47+38", self json "schema.json" max 40 tokens } }'
    )
    result = tiny.run(hw.load(tmp_path / "p.hw"))
    assert json.loads(result.workers["Ann"].text)["n"] in (1, 22)


def test_a_constraint_that_cannot_be_followed_is_an_error_with_its_place(engine):
    program = hw.parse('program p { worker Ann { sees "丈", self match /(?<=a)b/ } }')
    with pytest.raises(RunError, match="worker `Ann`: the constraint on a step cannot be followed") as caught:
        engine.run(program)
    assert caught.value.span is not None
