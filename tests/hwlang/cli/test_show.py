"""`hw show`: what a worker's view held."""

import json

import pytest

from hwruntime.recording import read, view_at
from tests.hwlang.cli.recorded import few, hw


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return few(tmp_path_factory.mktemp("trace") / "t.jsonl")


def test_a_view_is_shown_block_by_block_with_positions(capsys, trace):
    code, out, _ = hw(capsys, "show", trace, "--worker", "Bob", "--pass", 6)
    assert code == 0
    tokens = [block.tokens for block in view_at(read(trace).runs[0], "Bob", 6)]
    titles = [line for line in out.splitlines() if line.startswith("── ")]
    assert out.startswith(f"Bob's view in pass 6 of {read(trace).runs[0].length}: {sum(tokens)} tokens in 4 blocks")
    assert titles[0] == f"── constant, {tokens[0]} tokens at 0–{tokens[0] - 1}"
    assert titles[1] == "── done, empty"
    assert titles[2] == f"── Alice, {tokens[2]} tokens at {tokens[0]}–{tokens[0] + tokens[2] - 1}"
    assert titles[3].startswith("── Bob, ")
    assert "Alice: 1) 47+" in out


def test_the_last_pass_and_the_first_worker_where_nothing_is_said(capsys, trace):
    length = read(trace).runs[0].length
    assert hw(capsys, "show", trace) == hw(capsys, "show", trace, "--worker", "Alice", "--pass", length)


def test_as_json(capsys, trace):
    code, out, _ = hw(capsys, "show", trace, "--worker", "Bob", "--pass", 9, "--json")
    told = json.loads(out)
    assert (code, told["worker"], told["pass"], told["run"]) == (0, "Bob", 9, 0)
    assert told["tokens"] == sum(block["tokens"] for block in told["blocks"])
    assert [block["name"] for block in told["blocks"]] == ["text", "done", "Alice", "Bob"]


def test_what_has_changed_since_a_pass(capsys, trace):
    code, out, _ = hw(capsys, "show", trace, "--worker", "Bob", "--pass", 30, "--diff", 12)
    assert code == 0
    assert out.startswith("Bob's view in pass 30, since pass 12: ")
    assert "── done, 0 tokens then, " in out
    assert "+ \nAlice: 1) 47+38" in out or "+ \nBob: 2) reverse" in out
    assert "constant" not in out
    assert hw(capsys, "show", trace, "--pass", 9, "--diff", 9)[1].count("──") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worker", "Cid"], "no worker `Cid`"),
        (["--pass", "999"], "no pass 999"),
        (["--diff", "999"], "no pass 999"),
        (["--run", "4"], "no run 4"),
        (["--pass", "-1"], "at least 0"),
    ],
)
def test_what_is_not_there(capsys, trace, arguments, message):
    code, out, err = hw(capsys, "show", trace, *arguments)
    assert (code, out) == (2, "")
    assert message in err
