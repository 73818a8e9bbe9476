"""`hw eval` as it is used: on models, killed and started again, on files, with plots."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest

from hwlang.cli import main
from hwlang.evaluation.weights import identity
from tests.hwruntime.models_for_tests import Family, random_model

TINY = Path(str(files("hwruntime.tiny")))
FEW = ["sums", "--prompts", "2", "--problems", "2", "--budgets", "8,16", "--workers", "1,2"]
LATEX = [r"\frac{1}{2}", r"\sqrt{2}", "x^2+1", "(1, 2]", "0.25", r"\pi", "3", r"\{1, 2\}", "-7", r"2\sqrt{3}"]


def hw_eval(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    try:
        code = main(["eval", *map(str, arguments)])
    except SystemExit as exit:
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def untimed(page: str) -> str:
    """A table without its last column, the seconds."""
    return re.sub(r" [\d,]+ \|$", "", page, flags=re.MULTILINE)


def test_sums_on_tiny(capsys, tmp_path):
    code, out, err = hw_eval(capsys, *FEW, "--out", tmp_path, "--plot")
    assert (code, out) == (0, (tmp_path / "table.md").read_text())
    table = [line.split(" | ") for line in out.splitlines() if line.startswith("|")]
    assert table[0][:6] == ["| configuration", "solved in 8", "solved in 16", "all solved", "passes", "of 1 worker's"]
    assert [line[0] for line in table[2:]] == [
        "| 1 worker",
        "| 2 workers, combined",
        "| 2 workers, combined, no sync prompt",
        "| 2 workers, interleaved",
        "| 2 workers, contiguous",
        "| 2 workers, blind: union",
        "| 2 workers, blind: vote",
    ]
    assert "2 workers: combined takes " in out
    assert err.startswith("written: ")
    assert (tmp_path / "solved.png").read_bytes().startswith(b"\x89PNG")
    assert "solved fraction" in (tmp_path / "solved.svg").read_text()


def test_killed_and_started_again_it_ends_with_the_same_table(capsys, tmp_path):
    arguments = ["sums", "--prompts", "9", "--budgets", "30", "--batch", "3", "--layouts", "combined"]
    arguments += ["--workers", "2", "--sync", "none"]
    runs = tmp_path / "killed" / "runs.jsonl"
    command = [sys.executable, "-m", "hwlang.cli", "eval", *arguments, "--out", str(runs.parent)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and (not runs.exists() or runs.read_bytes().count(b"\n") < 3):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done too soon to be killed"
    assert 3 <= runs.read_bytes().count(b"\n") < 10
    with runs.open("ab") as file:
        file.write(b'{"configuration": "1 wor')

    code, resumed, err = hw_eval(capsys, *arguments, "--out", runs.parent)
    assert (code, "was torn (24 bytes) and has been cut off" in err) == (0, True)
    code, undisturbed, _ = hw_eval(capsys, *arguments, "--out", tmp_path / "undisturbed")
    assert code == 0
    assert untimed(resumed) == untimed(undisturbed)


def test_what_is_complete_needs_no_model(capsys, tmp_path, monkeypatch):
    few = ["sums", "--prompts", "1", "--budgets", "4", "--layouts", "combined", "--workers", "1", "--out", tmp_path]
    first = hw_eval(capsys, *few)
    monkeypatch.setattr("hwlang.api.Engine", None)
    assert hw_eval(capsys, *few) == first


def test_the_folder_follows_from_the_settings(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["sums", "--prompts", "1", "--budgets", "2", "--layouts", "combined", "--workers", "1"]
    for seed in ("1", "2", "1"):
        assert hw_eval(capsys, *few, "--seed", seed)[0] == 0
    folders = [path.name for path in (tmp_path / "eval").iterdir()]
    assert len(folders) == 2
    assert all(re.fullmatch("sums-[0-9a-f]{8}", name) for name in folders)


def test_where_openings_are_kept_is_no_setting(capsys, tmp_path):
    few = ["sums", "--prompts", "1", "--budgets", "2", "--layouts", "combined", "--workers", "1"]
    kept = ["--opening-cache", tmp_path / "openings"]
    for name, options in (("a", []), ("b", kept)):
        assert hw_eval(capsys, *few, *options, "--out", tmp_path / name)[0] == 0
    heads = [(tmp_path / name / "runs.jsonl").read_text().splitlines()[0] for name in "ab"]
    assert heads[0] == heads[1]
    assert hw_eval(capsys, *few, *kept, "--out", tmp_path / "a")[0] == 0
    assert (tmp_path / "openings").is_dir()


def test_other_settings_in_the_same_folder_are_refused(capsys, tmp_path):
    few = ["sums", "--prompts", "1", "--budgets", "2", "--layouts", "combined", "--workers", "1", "--out", tmp_path]
    assert hw_eval(capsys, *few)[0] == 0
    code, out, err = hw_eval(capsys, *few, "--seed", "2")
    assert (code, out) == (2, "")
    assert "were made with other settings (seed: 1 there, 2 here; configurations: " in err
    assert "help: choose another --out, or delete that file" in err


def test_collisions_on_tiny(capsys, tmp_path):
    code, out, _ = hw_eval(capsys, "collisions", "--prompts", "2", "--budgets", "12", "--out", tmp_path, "--plot")
    assert code == 0
    assert "| same problem, asked in the middle of a step | 2 of 2 | " in out
    assert not (tmp_path / "solved.png").exists()


# --- Files of problems ---


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory) -> Path:
    """A model with random weights, that writes anything; without a chat template."""
    folder = tmp_path_factory.mktemp("random")
    words = len(json.loads((TINY / "tokenizer.json").read_text())["model"]["vocab"])
    random_model(
        Family("llama").config(vocab_size=words, num_hidden_layers=1, max_position_embeddings=2048)
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, folder)
    return folder


def test_ten_latex_problems_on_any_model(capsys, tmp_path, random_folder):
    pytest.importorskip("math_verify")
    file = tmp_path / "ten.jsonl"
    lines = [json.dumps({"problem": f"What is {each}?", "answer": each}) for each in LATEX]
    file.write_text("\n".join([*lines[:4], "{torn", *lines[4:]]) + "\n")
    code, out, err = hw_eval(
        capsys, file, "--model", random_folder, "--workers", "2", "--layouts", "combined,blind", "--budgets", "2",
        "--sync", "none", "--out", tmp_path / "out", "--plot",
    )  # fmt: skip
    assert code == 0, err
    assert f"{file}:5: the line is not JSON" in err
    assert f"Left out: {file}:5: the line is not JSON" in out
    assert f"### ten: 10 prompts, {random_folder}" in out
    assert "| configuration | solved | all solved |" in out
    assert "| 2 workers, blind: union | 0.000 | 0.00 |" in out
    assert (tmp_path / "out" / "solved.png").exists()


def test_a_program_of_ones_own(capsys, tmp_path):
    file, program = tmp_path / "two.jsonl", tmp_path / "own.hw"
    file.write_text('{"q": "1) 47+38", "a": "85"}\n{"q": "1) reverse abc", "a": "x#### cba"}\n')
    program.write_text('program own(q: str) { worker Ann { sees "{{q}}\\nAnn: ", self max 3 tokens } answer Ann }')
    code, out, err = hw_eval(
        capsys, file, "--program", program, "--input-as", "q", "--input-field", "q", "--answer-field", "a",
        "--extract", "regex:#### (.*)", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert re.search(r"^\| own \| 0.000 \| 0.00 \| 3.0 \| 3.0 \| \d+ \|$", out, re.MULTILINE)


WRONG = {
    ("sumz",): "there is no suite `sumz`",
    ("none.jsonl", "--extract", "exact"): "cannot read `none.jsonl`",
    ("sums", "--problems", "10"): "a list has 1 to 9 problems, not 10",
    ("sums", "--workers", "5"): "cannot run with 5 workers",
    ("sums", "--workers", "0"): "must be at least 1, not 0",
    ("sums", "--temperature", "-1"): "must be 0 or more, not -1",
    ("sums", "--sync", "often"): "argument --sync: invalid",
    ("sums", "--prompts", "1", "--model", "nowhere/at/all"): "nowhere/at/all",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_is_wrong_is_told(capsys, tmp_path, arguments):
    code, out, err = hw_eval(capsys, *arguments, "--out", tmp_path / "out")
    assert (code in (1, 2), out) == (True, "")
    assert WRONG[arguments] in err
    assert "Traceback" not in err


def test_a_missing_library_is_told_before_anything_is_run(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = hw_eval(capsys, *FEW, "--plot")
    assert (code, "help: pip install 'hwlang[eval]'" in err) == (2, True)


def test_other_weights_are_another_model(tmp_path):
    shutil.copytree(TINY, tmp_path / "copy")
    copy = str(tmp_path / "copy")
    assert identity(copy) == identity("tiny")
    with (tmp_path / "copy" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert identity(copy) != identity("tiny")
    assert identity("nobody/nothing") == identity("a:b") == "unknown"
