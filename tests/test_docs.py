"""Every command in README and docs is run, and prints what is written there.

A `console` block holds commands behind `$ ` and what they print; `...` stands for anything on a line, or for any lines.
An `hw` or `python` block whose first line is `# name.hw: ...` or `# name.py: ...` is that file for the blocks below it;
other `python` blocks are run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import pytest

from hwlang.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "training" / "README.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAKE = {"make demo", "make test"}  # CI runs the one; the other is its last command, run by test_programs


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in BLOCK.finditer(page.read_text())]


def run(command: str, folder: Path) -> str:
    argv = shlex.split(command)
    if argv[0] == "hw":
        return run_here(argv[1:], folder)
    if argv[0] == "python":
        argv[0] = sys.executable
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, env=env, timeout=300)
    return done.stdout + done.stderr


def run_here(arguments: list[str], folder: Path) -> str:
    """What `hw` prints. In this process, as torch is imported here already: that takes longer than most commands."""
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, COLUMNS="120"):
        with suppress(SystemExit):  # argparse's way to end
            main(arguments)
        for each in (out, err):
            each.flush()
    return "".join(each.buffer.getvalue().decode() for each in (out, err))


def like(expected: str) -> str:
    """A regex for output in which `...` stands for anything on a line, and alone on a line for any lines."""
    pieces = expected.split("\n...\n")
    return r"\n(?:.*\n)*".join(".*".join(map(re.escape, piece.split("..."))) for piece in pieces)


def commands(text: str) -> list[tuple[str, str]]:
    """(command, what it prints) of a console block."""
    return re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_programs_of_a_page(page, tmp_path):
    shutil.copytree(ROOT / "programs", tmp_path / "programs")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    shutil.copytree(ROOT / "training", tmp_path / "training")
    for kind, text in blocks(page):
        if kind in ("hw", "python") and (name := re.match(r"# (\w+\.(hw|py))\b", text)):
            (tmp_path / name[1]).write_text(text)
        elif kind == "python":
            subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True, timeout=300)
        for command, expected in commands(text) if kind == "console" else []:
            printed = run(command, tmp_path)
            assert re.fullmatch(like(expected.strip()), printed.strip()), f"$ {command}\n{printed}"


def test_the_commands_of_the_results_run(tmp_path):
    """With one prompt: with all of them they take minutes."""
    told = (ROOT / "docs" / "results.md").read_text()
    found = re.findall(r"^(hw eval .* --prompts )200\b(.*)$", told, re.MULTILINE)
    assert len(found) == 3
    for index, (start, end) in enumerate(found):
        printed = run(f"{start}1{end} --out {index}", tmp_path)
        assert "\n| --- | ---: |" in printed  # a table
        assert f"written: {index}/runs.jsonl" in printed


def test_shell_blocks_hold_make_targets_alone():
    """A `sh` block is not run here: it may only hold what CI runs by itself."""
    lines = [line for page in PAGES for kind, text in blocks(page) if kind == "sh" for line in text.splitlines()]
    assert {line.split("#")[0].strip() for line in lines} <= MAKE | {""}
    assert all(f"\n{target.split()[1]}:" in (ROOT / "Makefile").read_text() for target in MAKE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = target[0] or target[1]
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link
