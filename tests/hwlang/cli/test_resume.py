"""`hw resume`: an interrupted run comes to the end that it would have had."""

import json
import shutil
from pathlib import Path

import pytest

from tests.hwlang.cli.recorded import FEW, SUMS, cut, few, hw, kill_after, record

SAMPLED = """program sampled(q: str = "1) 47+38\\n2) reverse abc\\n") {
  sampling { temperature 1.5 seed 3 }
  budget 30 passes
  scratchpad done
  worker Ann, Ben {
    sees "{{q}}", done, others, self
    step "\\n{{name}}: " until ".", ","
    on step { move self to done ask "ready? " { "yes" { say "y" } "no" { post "n" to done } } }
  }
  sync every 9 tokens { say "? " }
  answer /zzz/ else "\\n#" max 4 tokens
}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return few(tmp_path_factory.mktemp("trace") / "t.jsonl")


@pytest.fixture
def sampled(tmp_path):
    path = tmp_path / "sampled.hw"
    path.write_text(SAMPLED)
    return path


def without_times(trace):
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
    return lines


def test_a_killed_run_comes_to_the_same_end(capsys, tmp_path, whole):
    killed = tmp_path / "killed.jsonl"
    expected = hw(capsys, "replay", whole, "--json")[1]
    lines = kill_after(killed, 12, "run", SUMS, *FEW, "--trace", killed)
    assert 12 <= lines < len(whole.read_text().splitlines())
    code, out, err = hw(capsys, "resume", killed, "--json")
    assert (code, out) == (0, expected)
    assert err.strip() == "" or "is cut off" in err
    assert without_times(killed) == without_times(whole)


def test_a_run_cut_anywhere_comes_to_the_same_end_and_so_does_its_trace(capsys, tmp_path, sampled):
    whole = tmp_path / "whole.jsonl"
    expected = record(capsys, whole, program=sampled)
    count = len(whole.read_text().splitlines())
    assert json.loads(expected)["usage"]["finisher_passes"] == 4
    for lines in [1, 2, 11, count - 6, count - 1]:
        part = tmp_path / f"{lines}.jsonl"
        shutil.copy(whole, part)
        cut(part, lines, b'{"run": 0, "pa')
        code, out, err = hw(capsys, "resume", part, "--json")
        assert (code, out) == (0, expected), lines
        assert f"line {lines + 1} is cut off" in err
        assert without_times(part) == without_times(whole)


def test_a_run_that_was_cancelled_goes_on(capsys, tmp_path, whole):
    part = Path(shutil.copy(whole, tmp_path))
    expected = hw(capsys, "replay", whole, "--json")[1]
    cut(part, 9)
    result = {**json.loads(expected), "reason": "cancelled"}
    with part.open("a") as file:
        file.write(json.dumps({"run": 0, "result": result, "edits": [], "events": []}) + "\n")
    assert hw(capsys, "resume", part, "--json") == (0, expected, "")
    assert hw(capsys, "replay", part, "--json") == (0, expected, "")


def test_many_runs_each_come_to_their_end(capsys, tmp_path):
    inputs, whole, part = tmp_path / "in.jsonl", tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    texts = ["1) 45+22\\n", "1) 45+22\\n2) sort 312\\n", "1) reverse abc\\n"]
    inputs.write_text("".join(f'{{"problems": "{text}"}}\n' for text in texts) + "[]\n")
    options = ["--inputs", inputs, "--max-concurrency", 2]
    code, expected, _ = hw(capsys, "run", SUMS, *options, "--trace", whole)
    assert code == 1
    ends = [i for i, line in enumerate(whole.read_text().splitlines()) if '"result"' in line]
    for lines in (1, 5, ends[0] - 1, ends[0] + 4, ends[1] + 3):
        shutil.copy(whole, part)
        cut(part, lines)
        code, out, _ = hw(capsys, "resume", part)
        assert (code, out) == (1, expected)
        assert hw(capsys, "replay", part)[1] == "".join(expected.splitlines(keepends=True)[:3])


def test_what_has_ended_is_left_as_it_is(capsys, tmp_path, whole):
    trace = Path(shutil.copy(whole, tmp_path))
    before = trace.read_bytes()
    code, out, err = hw(capsys, "resume", trace)
    assert (code, out) == (0, "")
    assert "has ended" in err
    assert trace.read_bytes() == before


def test_a_trace_that_cannot_be_written_is_not_resumed(capsys, tmp_path, whole):
    trace = Path(shutil.copy(whole, tmp_path))
    cut(trace, 6)
    trace.rename(tmp_path / "kept")
    trace.mkdir()
    code, _, err = hw(capsys, "resume", trace)
    assert (code, "cannot read" in err) == (2, True)


def test_nothing_is_lost_behind_a_bad_line(capsys, tmp_path, whole):
    trace = Path(shutil.copy(whole, tmp_path))
    lines = trace.read_text().splitlines(keepends=True)[:-1]
    trace.write_text("".join([*lines[:5], "oops\n", *lines[6:]]))
    before = trace.read_bytes()
    code, _, err = hw(capsys, "resume", trace)
    assert code == 2
    assert "cannot be resumed: line 6 is not JSON" in err
    assert trace.read_bytes() == before


def test_a_model_that_goes_on_otherwise_is_told(capsys, tmp_path, whole):
    trace = Path(shutil.copy(whole, tmp_path))
    lines = [json.loads(line) for line in trace.read_text().splitlines()[:6]]
    drew = lines[2]["rows"][0]["drew"]
    lines[2]["rows"][0]["drew"] = lines[3]["rows"][0]["tokens"][0] = drew + 1
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = hw(capsys, "resume", trace, "--json")
    assert code == 0
    assert "would be others now, first in pass 1" in err


def test_passes_that_cannot_be_made_again_end_the_run(capsys, tmp_path, whole):
    trace = Path(shutil.copy(whole, tmp_path))
    lines = [json.loads(line) for line in trace.read_text().splitlines()[:6]]
    lines[4]["rows"][0]["tokens"] = [5]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = hw(capsys, "resume", trace, "--json")
    assert code == 1
    assert "pass 3 cannot be made again" in err


def test_another_dtype_is_told(capsys, tmp_path, whole):
    trace = Path(shutil.copy(whole, tmp_path))
    cut(trace, 6)
    text = trace.read_text()
    trace.write_text(text.replace('"dtype": "float32"', '"dtype": "float16"', 1))
    assert "has another dtype than the trace's: it was float16, now it is float32" in hw(capsys, "resume", trace)[2]
