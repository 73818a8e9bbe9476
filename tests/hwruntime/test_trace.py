"""Traces: whole lines as they come."""

import io
import json

import hwlang as hw
from hwruntime.program import Program
from hwruntime.result import Event
from hwruntime.trace import Trace


def test_a_trace_is_lines_of_json_that_say_all_it_takes_to_run_again():
    program = hw.parse('program p(q: str) { worker Ann { sees "{{q}}", self } }').compiled
    file = io.StringIO()
    trace = Trace(file)
    trace.start(program, "tiny", {"q": "é"}, 7)
    trace.add(
        3, [Event("token", 2, "Ann", "x"), Event("ask", 2, "Ann", "ready? yes", (1.5, -2.0)), Event("sync", 2, "Ann")]
    )
    head, line = map(json.loads, file.getvalue().splitlines())
    assert Program.from_json(head["program"]) == program
    assert (head["model"], head["inputs"], head["seed"]) == ("tiny", {"q": "é"}, 7)
    assert line == {
        "pass": 3,
        "events": [
            {"kind": "token", "at": 2, "worker": "Ann", "text": "x"},
            {"kind": "ask", "at": 2, "worker": "Ann", "text": "ready? yes", "logits": [1.5, -2.0]},
            {"kind": "sync", "at": 2, "worker": "Ann"},
        ],
    }
