"""What a page knows of a run: folded again, it is what the trace says was in the cache."""

import json
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

from hwlang.viewing.facts import facts
from hwruntime.errors import InputError
from hwruntime.recording import RecordedRun, Recording, caches, carry_out, read
from tests.recorded import record, record_long

PROGRAMS = Path(__file__).parents[3] / "programs"
THOUGHTS = "Oil floats on water.\n\nSo water weighs more.\n\nIron sinks.\n\n</think>"
VOTES = """program finish(q: str) {
  budget 9 passes
  scratchpad board
  worker Ann, Ben {
    scratchpad notes
    sees "{{q}}", board, others, notes, self
    step until "."
    on step { move self to notes }
    on "two" { post "{{name}} is at two\\n" to board }
    on "four" { clear board  stop self }
  }
  answer /answer is (\\w+)/ else "The answer is " max 4 tokens
}"""


def recorded(path: Path, name: str) -> Recording:
    trace = path / f"{name}.jsonl"
    if name == "long":
        record_long(trace, 400)
    elif name == "live":
        lines = {"Thinker": THOUGHTS, "Writer": "Water does.\n\nIron, too."}
        source = (PROGRAMS / "live.hw").read_text()
        record(trace, source, lines, {"ahead": "yes"}, feeds={9: ("user", "And iron?")})
    else:
        lines = {"Ann": "one. two. three. four. five.", "Ben": "it is two. and", "answer": "blue and"}
        record(trace, VOTES, lines, inputs={"q": "What? "}, until=7 if name == "cut" else None)
    return read(trace)


def folded(known: dict, position: int) -> list[tuple[str, int]]:
    """(text, tokens) of every block at a position, as the page's script makes them."""
    cells = [(text, tokens) for _, _, text, tokens, _ in known["blocks"]]
    for _, _, changes, rows, _ in known["passes"][:position]:
        for start, to in changes:
            (text, tokens), cells[start] = cells[start], ("", 0)
            if to >= 0:
                cells[to] = (cells[to][0] + text, cells[to][1] + tokens)
        for _, block, text, tokens, *_ in rows:
            if block >= 0:
                cells[block] = (cells[block][0] + text, cells[block][1] + tokens)
    return cells


def kept(run: RecordedRun) -> list[list[tuple[str, int]]]:
    """The same from the trace, at every position."""
    found = [list(run.blocks), *(blocks for _, blocks in caches(run))]
    if run.changes:
        found.append(list(found[-1]))
        carry_out(run.changes, found[-1])
    return [[(block.text, block.tokens) for block in blocks] for blocks in found]


@pytest.mark.parametrize("name", ["long", "live", "finish", "cut"])
def test_the_passes_fold_into_what_was_in_the_cache(tmp_path, name):
    recording = recorded(tmp_path, name)
    known, expected = facts(recording, recording.runs[0]), kept(recording.runs[0])
    assert len(known["passes"]) == len(expected) - 1
    positions = {0, len(expected) - 1, *random.Random(0).sample(range(len(expected)), min(20, len(expected)))}
    for position in positions:
        cells = expected[position]
        empty = [("", 0)] * (len(known["blocks"]) - len(cells))  # those that come up later
        assert folded(known, position) == cells + empty


@pytest.mark.parametrize("name", ["long", "live", "finish"])
def test_at_the_end_the_blocks_are_those_of_the_result(tmp_path, name):
    recording = recorded(tmp_path, name)
    run = recording.runs[0]
    known = facts(recording, run)
    cells = folded(known, len(known["passes"]))
    found = {block[0]: cells[number][0] for number, block in enumerate(known["blocks"]) if block[1] == "scratchpad"}
    assert {pad: found[pad] for pad in run.result["scratchpads"]} == run.result["scratchpads"]


@pytest.mark.parametrize(
    ("line", "place", "value"),
    [
        (1, ["views", "Ann"], []),
        (2, ["events", 0, "kind"], "toString"),
        (2, ["events", 0, "worker"], {"a": [1]}),
        (2, ["events", 0, "text"], 5),
        (2, ["events", 0, "logits"], ["x"]),
        (2, ["seconds"], math.nan),
        (0, ["runs", 0, "seed"], math.inf),
    ],
)
def test_what_a_trace_should_not_hold_is_still_json(tmp_path, line, place, value):
    trace = recorded(tmp_path, "cut").path
    lines = [json.loads(each) for each in trace.read_text().splitlines()]
    inner = lines[line]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    trace.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    try:
        recording = read(trace)
    except InputError:  # better still
        return
    assert json.dumps(facts(recording, recording.runs[0]), allow_nan=False)


def test_steps_lie_one_behind_the_other_and_hold_their_texts(tmp_path):
    recording = recorded(tmp_path, "live")
    known = facts(recording, recording.runs[0])
    thinker = [step for step in known["steps"] if step[0] == known["writers"].index("Thinker")]
    assert thinker[0][1] == 1
    assert all(before[2] < after[1] for before, after in pairwise(thinker))
    told = [event.text for event in recording.runs[0].events if event.kind == "step" and event.worker == "Thinker"]
    assert [step[3] for step in thinker if step[4]] == told


def test_a_step_that_is_broken_off_is_not_ended(tmp_path):
    recording = recorded(tmp_path, "cut")
    known = facts(recording, recording.runs[0])
    last = [step for step in known["steps"] if step[0] == 0][-1]
    assert (last[2], last[4]) == (len(known["passes"]), False)
    assert known["about"]["badge"] == "interrupted after pass 7"
    assert known["about"]["reason"] is None


def test_marks_are_what_happened_besides_writing(tmp_path):
    recording = recorded(tmp_path, "live")
    known = facts(recording, recording.runs[0])
    said = {(known["writers"][writer], kind) for _, writer, kind, *_ in known["marks"]}
    assert {("user", "feed"), ("Writer", "pause"), ("Writer", "resume"), ("Thinker", "ask"), ("Thinker", "end")} <= said
    assert ("Thinker", "say") in said  # what the stream's trigger says, not a step's prefix
    asked = next(mark for mark in known["marks"] if mark[2] == "ask")
    assert asked[3].endswith("(yes/no): yes")


def test_a_prefix_is_no_mark_and_a_sync_prompt_is_one(tmp_path):
    known = facts(recording := recorded(tmp_path, "long"), recording.runs[0])
    said = {text for _, _, kind, text, *_ in known["marks"] if kind == "say"}
    assert said == {"Quick check: am I doing what others do? "}


def test_blocks_have_their_sort_and_their_owner(tmp_path):
    live, finish = recorded(tmp_path, "live"), recorded(tmp_path, "finish")
    known = facts(live, live.runs[0])
    assert {(name, sort, owner) for name, sort, _, _, owner in known["blocks"]} == {
        ("text", "constant", -1),
        ("user", "stream", -1),
        ("Thinker", "worker", 0),
        ("Writer", "worker", 1),
    }
    known = facts(finish, finish.runs[0])
    assert ("Ben.notes", "scratchpad", 1) in {(name, sort, owner) for name, sort, _, _, owner in known["blocks"]}
    assert known["writers"] == ["Ann", "Ben", "answer"]
