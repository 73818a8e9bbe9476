"""`hw view`: one page for a run of a trace; in a browser it shows what the trace says, and runs nothing else."""

import html
import json
import os
import re
import shutil
import subprocess
import webbrowser
from pathlib import Path

import pytest

from hwlang.cli import main
from hwruntime.recording import read, view_at
from tests.recorded import LONG, record, record_long

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
SOURCE = """program p(q: str) {
  scratchpad board
  worker Ann { sees "{{q}}", board, self  step until "."  on step { move self to board } }
  answer board
}"""
ATTACK = "</script><img src=x onerror=\"document.documentElement.dataset.hacked='yes'\"><b>bold</b>"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return record(tmp_path / "run.jsonl", SOURCE, {"Ann": "One. Two. Three"}, inputs={"q": "Count. "})


def hw(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    try:
        code = main([*map(str, arguments)])
    except SystemExit as exit:  # argparse's way to end
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


# --- The command ---


def test_the_page_is_beside_its_trace(capsys, trace):
    page = trace.with_suffix(".html")
    assert hw(capsys, "view", trace) == (0, f"written: {page}\n", "")
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "Three" in text
    assert page.stat().st_mode & 0o777 == 0o666 & ~umask()


def test_o_says_where_the_page_goes_and_what_was_there_is_replaced(capsys, trace, tmp_path):
    page = tmp_path / "other.html"
    page.write_text("old")
    assert hw(capsys, "view", trace, "-o", page) == (0, f"written: {page}\n", "")
    assert "old" not in page.read_text()[:10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.html", "run.jsonl"]  # nothing temporary is left


def test_open_shows_it_in_the_browser(capsys, trace, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert hw(capsys, "view", trace, "--open")[0] == 0
    assert opened == [trace.with_suffix(".html").as_uri()]


def test_an_interrupted_run_has_a_page(capsys, tmp_path):
    trace = record(tmp_path / "run.jsonl", SOURCE, {"Ann": "One. Two. Three"}, inputs={"q": "Count. "}, until=4)
    with trace.open("a") as file:
        file.write('{"run": 0, "pass": 5, "sec')
    code, _, err = hw(capsys, "view", trace)
    assert code == 0
    assert "is cut off" in err
    assert '"badge":"interrupted after pass 4"' in trace.with_suffix(".html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.jsonl"], "error[HW530]: cannot read `missing.jsonl`"),
        (["run.jsonl", "--run", "3"], "error[HW530]: the trace has no run 3"),
        (["notes.txt"], "error[HW530]: `notes.txt` is not a trace"),
        (["failed.jsonl"], "error[HW530]: run 0 of the trace has not begun"),
        (["run.jsonl", "-o", "none/run.html"], "error: cannot write `none/run.html`: No such file or directory"),
        (["run.jsonl", "-o", "."], "error: cannot write `.`: it is not a file"),
        (["run.jsonl", "-o", "run.jsonl"], "error: `run.jsonl` is the trace itself"),
        (["run.jsonl", "-o", "/dev/null"], "error: cannot write `/dev/null`: it is not a file"),
        ([], "the following arguments are required: TRACE"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(capsys, trace, monkeypatch, arguments, said):
    monkeypatch.chdir(trace.parent)
    Path("notes.txt").write_text("notes\n")
    Path("failed.jsonl").write_text(trace.read_text().splitlines(keepends=True)[0])
    before = trace.read_bytes()
    code, out, err = hw(capsys, "view", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert trace.read_bytes() == before
    assert not [path for path in Path().iterdir() if path.suffix == ".html" or path.name.startswith(".hw")]


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


# --- In a browser ---


def loaded(page: Path, address: str = "") -> str:
    """The page's elements, once its script has run."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", page.as_uri() + address]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    assert re.search(r'<html[^>]* data-ready="yes"', dom), "the page's script has failed"
    return dom


def shown(dom: str) -> list[str]:
    """The text of each block that is in sight."""
    found = re.findall(r'<div class="text">(.*?)</div></section>', dom, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]*>", "", text)) for text in found]


@needs_browser
def test_the_page_shows_what_the_trace_says_a_worker_saw(capsys, tmp_path):
    trace = record_long(tmp_path / "run.jsonl", 300)
    assert hw(capsys, "view", trace)[0] == 0
    run = read(trace).runs[0]
    for worker, position in (("Bob", 128), ("Dave", 251)):  # on a kept state, and between two
        dom = loaded(trace.with_suffix(".html"), f"#pass={position}&worker={worker}")
        view = view_at(run, worker, position)
        assert shown(dom) == [block.text for block in view]
        tokens = sum(block.tokens for block in view)
        assert f"{worker} sees {tokens:,} tokens in {len(view)} blocks" in dom
        assert f"Pass {position} of 300" in dom


@needs_browser
def test_nothing_that_a_trace_says_is_run(capsys, tmp_path):
    """Texts, names and inputs: all of them are shown, none of them is taken for HTML."""
    trace = record(tmp_path / "run.jsonl", SOURCE, {"Ann": f"One {ATTACK}. Two."}, inputs={"q": ATTACK})
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    trace.write_text("".join(f"{json.dumps(renamed(line))}\n" for line in lines))
    assert hw(capsys, "view", trace)[0] == 0
    dom = loaded(trace.with_suffix(".html"), "#pass=9&view=cache")
    visible = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert "data-hacked" not in re.findall(r"<html[^>]*>", dom)[0]
    assert "<img" not in visible
    assert "<b>bold" not in visible
    assert ATTACK in shown(dom)[0]
    assert html.escape(ATTACK, quote=False) in visible


def renamed(value: object) -> object:
    """The line with markup in its names: of workers, pads, the program and the model."""
    if isinstance(value, dict):
        return {("Ann" + ATTACK if key == "Ann" else key): renamed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each) for each in value]
    return value + ATTACK if value in ("Ann", "board", "p", "scripted") else value


def test_a_long_run_makes_a_small_page(capsys, tmp_path):
    """2.5 MB for a run of 5,000 passes would be too much to hand round."""
    trace = record(tmp_path / "run.jsonl", LONG, {"Alice": "a b " * 300, "Bob": "c d " * 300}, inputs={"task": "Go."})
    assert hw(capsys, "view", trace)[0] == 0
    passes = read(trace).runs[0].length
    assert trace.with_suffix(".html").stat().st_size < 60_000 + passes * 150
