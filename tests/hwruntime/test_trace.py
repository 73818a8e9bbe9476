"""Traces: whole lines as they come, and all that it takes to run again."""

import io
import json

import hwlang as hw
from hwruntime.errors import RunError
from hwruntime.program import Program
from hwruntime.trace import Head, Trace
from tests.play import Play

SOURCE = """program p(q: str = "é") { scratchpad pad stream s worker Ann { sees "{{q}}", pad, s, self step until "."
  on step { ask "ready? " { "yes" { move self to pad } "no" { } } } } }"""


def test_the_first_line_says_all_it_takes_to_run_again():
    program, file = hw.parse(SOURCE).compiled, io.StringIO()
    Trace(file, "tiny").start(Head(program, SOURCE, "tiny", {"model": "tiny"}, {"dtype": "float32"}, [{"inputs": {}}]))
    head = json.loads(file.getvalue())
    assert Program.from_json(head["program"]) == program
    assert (head["trace"], head["source"], len(head["hash"])) == (1, SOURCE, 64)
    assert (head["engine"], head["identity"], head["runs"]) == (
        {"model": "tiny"},
        {"dtype": "float32"},
        [{"inputs": {}}],
    )


def test_a_run_is_a_line_where_it_begins_one_a_pass_and_one_at_its_end():
    file = io.StringIO()
    game = Play(SOURCE, {"Ann": "A."}, feeds={0: ("s", "hi")}, log=Trace(file, "tiny").log(3))
    result = game.run()
    game.session.close()
    game.session.close()
    begin, *passes, end = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["run"] for line in (begin, *passes, end)] == [3] * (len(passes) + 2)
    assert [block["name"] for block in begin["blocks"]] == ["text", "pad", "s", "Ann"]
    assert begin["views"] == {"Ann": [0, 1, 2, 3]}
    feed, again = passes[0]["rows"]
    assert (feed["writer"], feed["text"], feed["block"]) == ("s", "hi", 2)
    assert (again["drew"] > 0, "block" in again) == (True, False)  # it reads the last token once more
    asked = [row for line in passes for row in line["rows"] if "choice" in row]
    assert [(row["choice"], row["text"], "block" in row) for row in asked] == [(0, "ready? ", False)]
    assert [line["edits"] for line in passes if line["edits"]] == [[{"move": 3, "to": 1}]] or end["edits"]
    assert end["result"] == {**result.to_json(), "model": "tiny"}


def test_an_error_is_told_once():
    file = io.StringIO()
    trace = Trace(file, "tiny")
    game = Play(SOURCE, {"Ann": "A."}, log=trace.log(0))
    game.session.close(RunError("too bad"))
    trace.fail(0, RunError("too bad"))
    assert json.loads(file.getvalue().splitlines()[-1]) == {
        "run": 0,
        "error": {"code": "HW540", "message": "too bad"},
    }
    assert len(file.getvalue().splitlines()) == 2


def test_passes_that_are_in_the_file_already_are_not_written_again():
    whole, rest = io.StringIO(), io.StringIO()
    for file, known in ((whole, None), (rest, 2)):
        game = Play(SOURCE, {"Ann": "A."}, log=Trace(file, "tiny").log(0, known))
        game.run()
        game.session.close()
    lines = [[json.loads(line) for line in file.getvalue().splitlines()] for file in (whole, rest)]
    for line in (*lines[0], *lines[1]):
        line.pop("seconds", None)
    assert lines[1] == lines[0][3:]
