"""Traces read back: random runs are told in full, cut ones as far as they go, bad ones are refused."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwlang as hw
from hwlang.checker import check_file
from hwruntime.errors import InputError
from hwruntime.recording import Recording, cache_at, caches, course, read, result_of, view_at
from hwruntime.result import Result
from hwruntime.rows import Block
from hwruntime.trace import Head, Trace
from tests.hwruntime.test_session_properties import FEEDS, SCRIPTS, programs
from tests.play import Play
from tests.properties import examples

ROOT = Path(__file__).parents[2]
TWO = """program p(q: str = "Go. ") { scratchpad board worker Ann { sees "{{q}}", board, others, self step until "."
  on step { move self to board } } worker Ben { sees "{{q}}", board, others, self } }"""
LINES = {"Ann": "one two. three.", "Ben": "a b c"}


class Recorded:
    """A run on the scripted model, and its trace as text."""

    def __init__(self, source: str | hw.Program, lines: dict[str, str], feeds=None, asks=None, inputs=None) -> None:
        file = io.StringIO()
        trace = Trace(file, "scripted")
        self.game = Play(source, lines, asks, feeds=feeds, inputs=inputs, log=trace.log(0))
        head = Head(self.game.program, str(source), "scripted", {"model": "scripted"}, {}, [{"inputs": {}, "seed": 0}])
        begun = file.getvalue()
        file.seek(0)
        file.truncate()
        trace.start(head)
        file.write(begun)
        while self.game.step():
            pass
        self.game.session.close()
        self.text = file.getvalue()
        self.result = self.game.session.result("scripted")

    def read(self, folder: Path, text: str | bytes | None = None) -> Recording:
        path = folder / "trace.jsonl"
        text = self.text if text is None else text
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)


@examples(100)
@given(programs(), SCRIPTS, FEEDS, st.booleans())
def test_a_trace_has_every_event_every_block_and_the_result(tmp_path_factory, source, scripts, feeds, yes):
    made = Recorded(source, scripts, feeds, {"well?": "yes" if yes else "no"})
    recording = made.read(tmp_path_factory.mktemp("trace"))
    run = recording.runs[0]
    assert recording.cut is None
    assert run.events == made.game.events
    assert result_of(recording, run) == made.result.to_json()
    assert Result.from_json(run.result) == made.result
    assert [each.known.tokens for each in run.passes] == [tuple(r.tokens for r in rows) for rows in made.game.passes]
    assert [event for events, _, _ in course(run) for event in events] == [*made.game.events][: -len(run.more) or None]


@pytest.mark.parametrize("name", [path.name for path in (ROOT / "programs").glob("*.hw")])
def test_every_program_of_ours_is_told_in_full(tmp_path, name):
    checked = check_file(ROOT / "programs" / name)
    for program in (hw.load(ROOT / "programs" / name, each.name) for each in checked.programs):
        inputs = {param.name: "Go." for param in program.compiled.params if param.default is None}
        lines = {worker.name: "One is 1. Two.\n\nThree, four.\n\nFive.</think>" for worker in program.compiled.workers}
        made = Recorded(program, lines, inputs=inputs)
        run = made.read(tmp_path).runs[0]
        assert run.events == made.game.events
        assert result_of(made.read(tmp_path), run) == made.result.to_json()


@examples(50)
@given(programs(), SCRIPTS, FEEDS)
def test_views_hold_what_the_cache_held(tmp_path_factory, source, scripts, feeds):
    made = Recorded(source, scripts, feeds)
    run = made.read(tmp_path_factory.mktemp("trace")).runs[0]
    decode, cache = made.game.model.tokenizer.decode, dict[Block, list[int]]()
    for row in made.game.session.openings:
        cache.setdefault(row.block, []).extend(row.tokens)
    views = made.game.session.views
    for (each, _), edits, rows in zip(caches(run), made.game.edits, made.game.passes, strict=False):
        for edit in edits:
            moved = cache.pop(getattr(edit, "source", None) or edit.block, [])
            if hasattr(edit, "target"):
                cache.setdefault(edit.target, []).extend(moved)
        for row in rows:
            cache.setdefault(row.block, []).extend(row.tokens)
        if each.last:
            break
        for worker, view in views.items():
            expected = [(decode(cache.get(block, [])), len(cache.get(block, []))) for block in view]
            assert [(block.text, block.tokens) for block in view_at(run, worker, each.number)] == expected


@examples(60)
@given(st.floats(0, 1))
def test_a_trace_that_is_cut_off_anywhere_is_read_up_to_there(tmp_path_factory, where):
    made = Recorded(TWO, LINES)
    whole, text = made.read(tmp_path_factory.mktemp("trace")), made.text.encode()
    first = text.index(b"\n") + 1
    at = first + int(where * (len(text) - 1 - first))
    recording = made.read(tmp_path_factory.mktemp("trace"), text[:at])
    lines = text[:at].count(b"\n")
    assert recording.size == text[:at].rfind(b"\n") + 1
    assert recording.cut == (None if text[:at].endswith(b"\n") else f"line {lines + 1} is cut off")
    assert recording.cut_at_end == (recording.cut is not None)
    run = recording.runs[0]
    assert run.events == whole.runs[0].events[: len(run.events)]
    assert run.passes == whole.runs[0].passes[: len(run.passes)]
    assert run.can_go_on == (run.result is None)
    if run.begun:
        told = result_of(recording, run)
        assert told["passes"] == run.length
        assert set(told["workers"]) == {"Ann", "Ben"}


def test_the_view_of_a_pass_has_what_the_pass_writes(tmp_path):
    run = Recorded(TWO, LINES).read(tmp_path).runs[0]
    texts = [[(block.text, block.tokens) for block in view_at(run, "Ann", number)] for number in (1, 2, 5, 7)]
    assert texts[0] == [("Go. ", 3), ("", 0), ("", 0), ("", 0)]  # the first row only reads
    assert texts[1] == [("Go. ", 3), ("", 0), ("a", 1), ("one", 1)]
    assert texts[2] == [("Go. ", 3), ("one two", 3), ("a b ", 4), (".", 1)]  # what ended the step opens the next one
    assert texts[3] == [("Go. ", 3), ("one two", 3), ("a b c", 5), (". three", 3)]
    assert [block.name for block in view_at(run, "Ben", 2)] == ["text", "board", "Ann", "Ben"]
    assert sum(block.tokens for block in cache_at(run, 0)) == 3


@pytest.mark.parametrize(("worker", "number", "message"), [("Cid", 1, "no worker `Cid`"), ("Ann", 99, "no pass 99")])
def test_a_view_that_is_not_there(tmp_path, worker, number, message):
    run = Recorded(TWO, LINES).read(tmp_path).runs[0]
    with pytest.raises(InputError, match=message):
        view_at(run, worker, number)


def broken(change) -> str:
    """The trace of two workers with one change: of (line number, its object)."""
    lines = [json.loads(line) for line in Recorded(TWO, LINES).text.splitlines()]
    change(lines)
    return "".join(json.dumps(line) + "\n" for line in lines)


BAD = {
    "format": (lambda lines: lines[0].update(trace=2, hw="9.9"), "written by hwlang 9.9, in format 2"),
    "no trace": (lambda lines: lines[0].pop("trace"), "is not a trace"),
    "no program": (lambda lines: lines[0].pop("program"), "no first line of a trace"),
    "bad program": (lambda lines: lines[0].update(program={"kind": "x"}), "no first line of a trace"),
    "a pass twice": (lambda lines: lines.insert(3, lines[2]), "pass 1 comes after pass 1"),
    "a pass less": (lambda lines: lines.pop(3), "pass 3 comes after pass 1"),
    "no such block": (lambda lines: lines[2]["rows"][0].update(block=9), "no block 9"),
    "no such run": (lambda lines: lines[2].update(run=3), ":3: this is no line of a trace"),
    "no rows": (lambda lines: lines[2].pop("rows"), ":3: this is no line of a trace"),
    "tokens that are none": (lambda lines: lines[2]["rows"][0].update(tokens=["x"]), "'x' is no number"),
    "a view of no block": (lambda lines: lines[1]["views"].update(Ann=[7]), "no block 7"),
    "an edit of no block": (lambda lines: lines[-1].update(edits=[{"clear": 8}]), "no block 8"),
    "no such event": (lambda lines: lines[2]["events"][0].update(kind="what"), "no event `what`"),
    "logits that are none": (lambda lines: lines[2]["events"][0].update(logits=["x"]), "'x' is no number"),
    "seconds that never end": (lambda lines: lines[2].update(seconds=float("nan")), "nan is no number"),
    "half a result": (lambda lines: lines[-1]["result"].pop("reason"), "this is no line of a trace"),
    "events that are none": (lambda lines: lines[2].update(events=[{"what": 1}]), ":3: this is no line of a trace"),
    "a result that is none": (lambda lines: lines[-1].update(result=7), "this is no line of a trace"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_trace_is_refused_with_the_place(tmp_path, name):
    change, message = BAD[name]
    with pytest.raises(InputError, match=message):
        Recorded(TWO, LINES).read(tmp_path, broken(change))


@pytest.mark.parametrize("text", [b"", b"{}\n", b"[1]\n", b"no\n", b"\xff\xfe\n", b'{"trace": 1'])
def test_a_file_that_is_something_else_is_refused(tmp_path, text):
    (tmp_path / "t").write_bytes(text)
    with pytest.raises(InputError, match="is not a trace"):
        read(tmp_path / "t")
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "none")


def test_a_line_in_the_middle_that_is_not_json_is_told_apart_from_a_cut(tmp_path):
    made = Recorded(TWO, LINES)
    lines = made.text.splitlines(keepends=True)
    recording = made.read(tmp_path, "".join([*lines[:4], "{oops\n", *lines[5:]]))
    assert (recording.cut, recording.cut_at_end) == ("line 5 is not JSON", False)
    assert recording.runs[0].length == 2


@pytest.mark.parametrize("what", ["workers", "scratchpads"])
def test_a_trace_that_contradicts_itself_is_told(tmp_path, what):
    def change(lines):
        told = lines[-1]["result"][what]
        told.update({"Ann": {**told["Ann"], "text": "else"}} if what == "workers" else {"board": "else"})

    recording = Recorded(TWO, LINES).read(tmp_path, broken(change))
    with pytest.raises(InputError, match="contradicts itself"):
        result_of(recording, recording.runs[0])
