"""Programs as JSON: what the language writes and the runtime reads."""

import json
from pathlib import Path

import pytest

import hwlang as hw
from hwruntime.program import Hole, Program, ProgramError, Text, kind_of

PROGRAMS = Path(__file__).parents[2] / "programs"


@pytest.mark.parametrize("name", ["sums", "math", "report", "live", "vote"])
def test_programs_survive_json(name):
    program = hw.load(PROGRAMS / f"{name}.hw").compiled
    again = Program.from_json(json.loads(json.dumps(program.to_json())))
    assert again == program
    assert [worker.span for worker in again.workers] == [worker.span for worker in program.workers]


def test_texts_fill_their_holes():
    text = Text(("a ", Hole("x"), " b ", Hole("flag")))
    assert text.fill({"x": "{{y}}", "flag": True}) == "a {{y}} b true"


def test_kinds_are_class_names():
    assert kind_of(Hole) == "hole"
    assert kind_of(type("PadEntry", (Hole,), {})) == "pad_entry"


GOOD = {"kind": "program", "name": "p", "file": "p.hw", "params": [], "workers": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 3}, "program.workers: a list is needed, got 3"),
        ({"kind": "poem"}, "program: 'poem' is not one of program"),
        ({"colour": "red"}, "program: Program has no field colour"),
        ({"budget": "long"}, "program.budget: 'long' does not fit here"),
        ({"budget": True}, "program.budget: True does not fit here"),
        (
            {"params": [{"kind": "param", "name": "x", "type": "blob"}]},
            "program.params[0].type: 'blob' is not one of str",
        ),
        ({"workers": [{"kind": "worker", "name": "A"}]}, "program.workers[0]: "),
    ],
)
def test_json_that_does_not_fit_is_an_error_with_its_place(change, message):
    with pytest.raises(ProgramError) as caught:
        Program.from_json({**GOOD, **change})
    assert str(caught.value).startswith(message)
