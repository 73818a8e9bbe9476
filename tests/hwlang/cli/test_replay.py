"""`hw replay`: a recorded run is seen again, and made again."""

import json
from pathlib import Path

import pytest

from tests.hwlang.cli.recorded import FEW, ROOT, SUMS, cut, hw, record

ON_TINY = ["sums.hw", "chains.hw", "vote.hw", *(f"layouts.hw:{name}" for name in ("contiguous", "interleaved"))]


def test_what_is_shown_is_what_was_shown(capsys, tmp_path):
    trace = tmp_path / "t.jsonl"
    code, shown, _ = hw(capsys, "run", SUMS, *FEW, "--trace", trace)
    code, again, err = hw(capsys, "replay", trace)
    assert (code, err) == (0, "")
    assert again.splitlines()[:-1] == shown.splitlines()[:-1]  # the last one has the tokens/s
    assert hw(capsys, "replay", trace, "--speed", "1000")[1].splitlines()[:-1] == shown.splitlines()[:-1]


@pytest.mark.parametrize("program", ON_TINY)
def test_programs_are_replayed_exactly(capsys, tmp_path, program):
    trace = tmp_path / "t.jsonl"
    expected = record(capsys, trace, "--budget", 60, program=ROOT / "programs" / program)
    assert hw(capsys, "replay", trace, "--json") == (0, expected, "")
    code, events, _ = hw(capsys, "replay", trace, "--events")
    assert code == 0
    told = [json.loads(line) for line in events.splitlines()]
    written = [event for line in trace.read_text().splitlines() for event in json.loads(line).get("events", [])]
    assert [{**event, "run": 0, "time": t["time"]} for event, t in zip(written, told, strict=True)] == told
    texts = dict.fromkeys(json.loads(expected)["workers"], "")
    for event in told:
        if event["kind"] in ("token", "say") and event["worker"] in texts:
            texts[event["worker"]] += event["text"]
    assert texts == {name: worker["text"] for name, worker in json.loads(expected)["workers"].items()}


def test_a_trace_that_is_cut_off_is_replayed_up_to_there(capsys, tmp_path):
    trace = tmp_path / "t.jsonl"
    record(capsys, trace, *FEW)
    cut(trace, 8, b'{"run": 0, "pass": 7, "sec')
    code, out, err = hw(capsys, "replay", trace, "--json")
    assert code == 0
    assert "line 9 is cut off, it is read up to there" in err
    assert "run 0 was interrupted after pass 6" in err
    told = json.loads(out)
    assert (told["passes"], told["reason"], told["answer"]) == (6, None, None)
    assert told["workers"]["Alice"]["text"].startswith("\nAlice: 1) 47+")
    assert "Alice: 1) 47" in hw(capsys, "replay", trace)[1]


def test_a_trace_of_another_version_says_so(capsys, tmp_path):
    trace = tmp_path / "t.jsonl"
    expected = record(capsys, trace, *FEW)
    head, rest = trace.read_text().split("\n", 1)
    fields = json.loads(head)
    trace.write_text(json.dumps({**fields, "hw": "0.0.9"}) + "\n" + rest)
    code, out, err = hw(capsys, "replay", trace, "--json")
    assert (code, out) == (0, expected)
    assert "was written by hwlang 0.0.9, this is" in err
    trace.write_text(json.dumps({**fields, "trace": 7, "hw": "9.0"}) + "\n" + rest)
    code, out, err = hw(capsys, "replay", trace, "--json")
    assert (code, out) == (2, "")
    assert "is written by hwlang 9.0, in format 7" in err


def test_the_passes_are_made_again_with_the_model(capsys, tmp_path):
    trace = tmp_path / "t.jsonl"
    record(capsys, trace, *FEW)
    code, out, err = hw(capsys, "replay", trace, "--model")
    assert (code, err) == (0, "")
    assert "passes made again, all" in out
    lines = trace.read_text().splitlines()
    row = json.loads(lines[-2])
    row["rows"][0]["drew"] = 3
    trace.write_text("\n".join([*lines[:-2], json.dumps(row)]) + "\n")
    code, out, _ = hw(capsys, "replay", trace, "--model", "tiny")
    assert code == 1
    assert f"1 of {len(lines) and out.split(' of ')[1].split(' ')[0]} tokens are others now" in out
    assert f"first in pass {row['pass']}" in out
    code, out, _ = hw(capsys, "replay", trace, "--model", "--json")
    told = json.loads(out)
    assert (code, told["other"], told["first"]["pass"]) == (1, 1, row["pass"])
    assert told["first"]["was"] != told["first"]["is"]


def test_runs_of_a_trace_of_many(capsys, tmp_path):
    inputs, trace = tmp_path / "in.jsonl", tmp_path / "t.jsonl"
    inputs.write_text('{"problems": "1) 45+22\\n"}\n{"nothing": 1}\n{"problems": "1) sort 312\\n"}\n')
    _, out, _ = hw(capsys, "run", SUMS, "--inputs", inputs, "--trace", trace)
    first, _, last = out.splitlines()
    assert hw(capsys, "replay", trace)[:2] == (0, f"{first}\n{last}\n")
    assert hw(capsys, "replay", trace, "--json", "--run", 2)[:2] == (0, f"{last}\n")
    assert (
        "run 1 of the trace has not begun: program `sums` has no parameter"
        in hw(capsys, "replay", trace, "--run", 1)[2]
    )
    assert "has no run 3" in hw(capsys, "replay", trace, "--run", 3)[2]


@pytest.mark.parametrize("command", ["replay", "resume", "show"])
def test_a_file_that_is_no_trace(capsys, tmp_path, command):
    code, _, err = hw(capsys, command, tmp_path / "none")
    assert (code, "cannot read" in err) == (2, True)
    code, _, err = hw(capsys, command, SUMS)
    assert (code, "is not a trace" in err) == (2, True)
    assert "hw run --trace FILE" in err


def test_a_folder_that_is_called_like_the_model_is_not_taken_for_it(capsys, tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    record(capsys, Path("t.jsonl"), *FEW)
    assert hw(capsys, "replay", "t.jsonl", "--model")[0] == 0
