"""The command line: what is printed where, exit codes, and a diagnostic for everything that can be wrong with input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from hwlang.cli import main

ROOT = Path(__file__).parents[3]
QWEN = ROOT / "tests" / "parity" / "qwen2"
PROGRAM = """program count(q: str, n: int = 2) {
  budget 6 passes
  scratchpad pad
  workers n of Ann, Ben {
    sees "{{q}}丈", pad, others, self
    step "与" until "专", "世"
    on step { move self to pad }
    forbid "丁"
  }
  answer pad
}
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "count.hw"
    path.write_text(PROGRAM)
    return str(path)


def hw(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    try:
        code = main(arguments)
    except SystemExit as exit:  # argparse's way to end
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def run_on_qwen(capsys, program: str, *arguments: str) -> tuple[int, str, str]:
    return hw(capsys, "run", program, "--model", str(QWEN), *arguments)


# --- hw check ---


def test_check_says_how_many_files_are_fine(capsys, program):
    assert hw(capsys, "check", program, program) == (0, "2 files checked, no errors\n", "")


def test_check_shows_a_diagnostic_and_exits_with_2(capsys, tmp_path):
    path = tmp_path / "bad.hw"
    path.write_text('program p {\n  worker Ann { sees "x", histroy, self }\n}\n')
    code, out, err = hw(capsys, "check", str(path))
    assert (code, out) == (2, "")
    first, place, _, line, carets, *_ = err.split("\n")
    assert first.startswith("error[HW1")
    assert "`histroy`" in first
    assert place.endswith("bad.hw:2:26")
    assert line == ' 2 |   worker Ann { sees "x", histroy, self }'
    assert carets == "   |                          ^^^^^^^"


def test_check_json_is_a_list_of_diagnostics(capsys, tmp_path, program):
    bad = tmp_path / "bad.hw"
    bad.write_text('program p { worker A { sees "x", zzz, self } }')
    code, out, err = hw(capsys, "check", "--json", program, str(bad))
    found = json.loads(out)
    assert (code, err, len(found)) == (2, "", 1)
    keys = ["code", "severity", "message", "file", "line", "column", "end_line", "end_column", "help"]
    assert list(found[0]) == keys
    assert [found[0][key] for key in keys[3:8]] == [str(bad), 1, 34, 1, 37]


# --- hw run ---


def test_run_prints_lines_answer_and_figures(capsys, program):
    code, out, err = run_on_qwen(capsys, program, "-p", "q=七")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any(line.startswith("     Ann | 与") for line in lines)
    assert any(line.startswith("     Ben | 与") for line in lines)
    assert lines[-1].startswith("the budget ended after 6 passes: 2 workers, 12 tokens sampled, ")


def test_run_json_is_one_object_per_run(capsys, program):
    code, out, err = run_on_qwen(capsys, program, "-p", "q=七", "--json", "--seed", "3", "--budget", "4")
    assert (code, err, out.count("\n")) == (0, "", 1)
    data = json.loads(out)
    keys = ["program", "model", "seed", "answer", "reason", "passes", "workers", "scratchpads", "usage"]
    assert list(data) == keys
    assert [data[key] for key in ("program", "model", "seed", "reason", "passes")] == [
        "count",
        str(QWEN),
        3,
        "budget",
        4,
    ]
    assert list(data["workers"]) == ["Ann", "Ben"]
    assert list(data["workers"]["Ann"]) == ["text", "tokens", "steps"]
    assert data["usage"]["sampled_tokens"] == 8


def test_workers_sets_the_number_of_workers(capsys, program):
    code, out, _ = run_on_qwen(capsys, program, "-p", "q=七", "--json", "--workers", "1")
    assert (code, list(json.loads(out)["workers"])) == (0, ["Ann"])


def test_a_parameter_can_come_from_a_file(capsys, program, tmp_path):
    (tmp_path / "q.txt").write_text("七丈")
    _, from_file, _ = run_on_qwen(capsys, program, "-p", f"q=@{tmp_path}/q.txt", "--json")
    _, from_line, _ = run_on_qwen(capsys, program, "-p", "q=七丈", "--json")
    assert from_file == from_line


def test_verbose_says_what_was_chosen(capsys, program):
    _, _, err = run_on_qwen(capsys, program, "-p", "q=七", "-v")
    assert "hw: attention: torch" in err


def test_an_opening_is_encoded_once_for_all_commands(capsys, program, tmp_path):
    options = ["-p", f"q={'七' * 100}", "--json"]
    expected = run_on_qwen(capsys, program, *options)
    for _ in range(2):
        assert run_on_qwen(capsys, program, *options, "--opening-cache", str(tmp_path / "openings")) == expected
        assert len(list((tmp_path / "openings").iterdir())) == 1


def test_a_trace_holds_what_was_run_every_event_and_the_result(capsys, program, tmp_path):
    trace = tmp_path / "trace.jsonl"
    code, out, _ = run_on_qwen(capsys, program, "-p", "q=七", "--json", "--trace", str(trace))
    head, begin, *passes, end = [json.loads(line) for line in trace.read_text().splitlines()]
    assert code == 0
    assert (head["program"]["name"], head["source"], head["model"]) == ("count", PROGRAM, str(QWEN))
    assert (head["runs"][0]["seed"], head["runs"][0]["inputs"], head["inputs"]) == (0, {"q": "七"}, None)
    assert list(begin["views"]) == ["Ann", "Ben"]
    assert [line["pass"] for line in passes] == [1, 2, 3, 4, 5, 6]
    assert end == {"run": 0, "result": json.loads(out), "edits": [], "events": []}
    spoken = [
        e["text"]
        for line in [begin, *passes]
        for e in line["events"]
        if e["kind"] in ("say", "token") and e["worker"] == "Ann"
    ]
    assert "".join(spoken) == end["result"]["workers"]["Ann"]["text"]
    assert "cannot write" in run_on_qwen(capsys, program, "-p", "q=七", "--trace", "/no/such/folder/t")[2]


def test_inputs_print_one_result_per_line_in_order_and_a_bad_line_fails_alone(capsys, program, tmp_path):
    inputs = tmp_path / "in.jsonl"
    inputs.write_text('{"q": "七"}\n\n{"q": 7}\n{"q": "七", "n": 1}\nnot json\n[1]\n{"z": 1}\n{"q": "七"}\n')
    code, out, err = run_on_qwen(capsys, program, "--inputs", str(inputs), "--seed", "10")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [line.get("seed") for line in lines] == [10, None, 12, None, None, None, 16]
    assert [line["line"] for line in lines if "error" in line] == [3, 5, 6, 7]
    assert list(lines[2]["workers"]) == ["Ann"]
    assert [line.split(": ")[1] for line in err.splitlines()] == [f"{inputs}:{n}" for n in (3, 5, 6, 7)]
    assert "`q` is of type str, got 7" in err
    assert "not JSON" in err


@pytest.mark.parametrize("options", [["--max-concurrency", "1"], ["--max-concurrency", "2"], ["--kv-tokens", "96"]])
def test_what_inputs_print_does_not_depend_on_how_many_run_at_once(capsys, program, tmp_path, options):
    inputs = tmp_path / "in.jsonl"
    inputs.write_text("".join(f'{{"q": "{"七" * n}", "n": {1 + n % 2}}}\n' for n in range(1, 7)))
    expected = run_on_qwen(capsys, program, "--inputs", str(inputs))
    assert expected[0] == 0
    assert len(expected[1].splitlines()) == 6
    assert run_on_qwen(capsys, program, "--inputs", str(inputs), *options) == expected


def test_a_trace_of_inputs_says_whose_each_line_is(capsys, program, tmp_path):
    inputs, trace = tmp_path / "in.jsonl", tmp_path / "trace.jsonl"
    inputs.write_text('{"q": "七"}\n{"z": 1}\n{"q": "七七"}\n')
    code, out, _ = run_on_qwen(capsys, program, "--inputs", str(inputs), "--trace", str(trace))
    assert code == 1
    head, *lines = [json.loads(line) for line in trace.read_text().splitlines()]
    results = [json.loads(line) for line in out.splitlines()]
    assert [run["seed"] for run in head["runs"]] == [0, 1, 2]
    for index in (0, 2):
        _, *passes, end = [line for line in lines if line["run"] == index]
        assert end["result"] == results[index]
        assert [line["pass"] for line in passes] == [1, 2, 3, 4, 5, 6]
    assert [line for line in lines if line["run"] == 1] == [{"run": 1, "error": results[1]["error"]}]


def test_a_file_with_several_programs_needs_a_name(capsys, tmp_path):
    path = tmp_path / "two.hw"
    path.write_text(
        'program a { worker A { sees "丈", self max 1 tokens } }\nprogram b { worker B { sees "丈", self } }\n'
    )
    code, _, err = run_on_qwen(capsys, str(path))
    assert (code, "has 2 programs: say which" in err, f"`{path}:a`, `{path}:b`" in err) == (2, True, True)
    assert "has no program `c`" in run_on_qwen(capsys, f"{path}:c")[2]
    code, out, _ = run_on_qwen(capsys, f"{path}:a", "--json")
    assert (code, json.loads(out)["program"]) == (0, "a")


def test_a_run_that_can_outgrow_the_context_says_so(capsys, program):
    _, _, err = run_on_qwen(capsys, program, "-p", f"q={'七' * 4090}", "--workers", "1")
    assert err.startswith("warning: the run can reach 40")


# --- Bad input: (program or None for the good one, arguments, exit code, what stderr must hold) ---

SEES = "program p {{ worker A {{ sees {}, self }} }}"
FILE = 'program p {{ text t = file "{}" worker A {{ sees t, self }} }}'
BAD_PROGRAMS = {
    "unknown character": ('program p { worker A { sees "x", self § } }', ["HW0", ":1:39", "`§`"]),
    "unclosed brace": ('program p {\n  worker A { sees "x", self\n', ["HW0", ":2:12", "never closed"]),
    "undefined name": ('program p {\n  worker A { sees "x", nobody, self }\n}', ["HW1", ":2:24", "`nobody`"]),
    "hole that nothing fills": (SEES.format('"{{zz}}"'), ["error[HW", "`{{zz}}`"]),
    "file outside the folder": (FILE.format("../secret.txt"), ["HW4", "../secret.txt"]),
    "absolute file": (FILE.format("/etc/passwd"), ["HW4", "/etc/passwd"]),
    "missing file": (FILE.format("nope.md"), ["HW4", "nope.md"]),
    "zero workers": ('program p { workers 0 of A, B { sees "x", self } }', ["error[HW", "0"]),
    "no worker": ("program p { }", ["error[HW", "worker"]),
    "empty": ("", ["error[HW"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PROGRAMS)
def test_a_bad_program_gets_one_diagnostic_and_exit_code_2(name, capsys, tmp_path):
    source, expected = BAD_PROGRAMS[name]
    path = tmp_path / "bad.hw"
    path.write_text(source)
    (tmp_path.parent / "secret.txt").write_text("secret")
    code, out, err = hw(capsys, "run", str(path), "--model", str(QWEN))
    assert (code, out) == (2, "")
    assert err.count("error[") == 1, err
    assert "secret" not in err.replace("secret.txt", "")
    for text in expected:
        assert text in err, err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "error[HW530]: program `count` needs `q: str`"),
        (["-p", "q=七", "-p", "n=two"], 2, "parameter `n` is of type int, got 'two'"),
        (["-p", "q=七", "-p", "m=1"], 2, "has no parameter `m`"),
        (["-p", "q"], 2, "-p takes NAME=VALUE, not `q`"),
        (["-p", "q=@/no/such/file"], 2, "cannot read `/no/such/file`"),
        (["-p", "q=七", "-p", "n=0"], 2, "cannot run with 0 workers: it names 2 (Ann, Ben)"),
        (["-p", "q=七", "--workers", "0"], 2, "cannot run with 0 workers"),
        (["-p", "q=七", "--budget", "0"], 2, "must be at least 1"),
        (["-p", "q=七", "--inputs", "/no/such.jsonl"], 2, "cannot read `/no/such.jsonl`"),
        (["-p", f"q={'七' * 5000}"], 1, "the model's context is 4096"),
        (["-p", f"q={'七' * 100}", "--kv-tokens", "64"], 1, "tokens of cache, the pool has 64: raise kv_tokens"),
        (["-p", "q=七", "--dtype", "int3"], 2, "there is no dtype `int3`"),
        (["-p", "q=七", "--device", "abacus"], 2, "there is no device `abacus`"),
        (["-p", "q=七", "--engine", "abacus"], 2, "there is no engine `abacus`"),
        (["-p", "q=七", "--tp", "2"], 2, "a model is shared out to several GPUs by the engine `sglang`"),
        (["-p", "q=七", "--engine", "sglang", "--weights", "int8"], 2, "the engine `sglang` has no --weights"),
        (["-p", "q=七", "--engine", "sglang", "--tp", "3", "--nodes", "2"], 2, "cannot be shared out evenly to 2"),
        (["-p", "q=七", "--engine", "sglang", "--tp", "2", "--nodes", "2"], 2, "need an address where they meet"),
        (["-p", "q=七", "--node-rank", "1"], 2, "there are nodes with the engine `sglang` alone"),
        (["-p", "q=七", "--opening-cache", __file__], 2, "error[HW530]: openings cannot be kept in"),
    ],
)
def test_bad_arguments(arguments, code, message, capsys, program):
    got, out, err = run_on_qwen(capsys, program, *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_chat_text_for_a_model_without_a_template_is_pointed_at(capsys, tmp_path):
    path = tmp_path / "chat.hw"
    path.write_text('program p {\n  worker A { sees "丈", user "Go.", self }\n}\n')
    code, _, err = run_on_qwen(capsys, str(path))
    assert (code, err.splitlines()[1]) == (1, f"  --> {path}:2:24")
    assert "no chat template" in err


def broken_model(folder: Path, how: str) -> str:
    model = folder / "model"
    if how == "missing folder":
        return str(model)
    shutil.copytree(QWEN, model)
    if how == "truncated safetensors":
        weights = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    if how == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            (model / name).unlink()
    if how == "no weights":
        (model / "model.safetensors").unlink()
    if how == "no config":
        (model / "config.json").unlink()
    if how == "broken config":
        (model / "config.json").write_text("{")
    return str(model)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing folder", "there is no folder"),
        ("truncated safetensors", "cannot load the weights"),
        ("no tokenizer", "has no tokenizer"),
        ("no weights", "no weights"),
        ("no config", "no config.json"),
        ("broken config", "cannot load the configuration"),
    ],
)
def test_broken_models(how, message, capsys, program, tmp_path):
    code, out, err = hw(capsys, "run", program, "-p", "q=七", "--model", broken_model(tmp_path, how))
    assert (code, out) == (1, "")
    assert err.startswith("error[HW510]")
    assert message in err
    assert "Traceback" not in err


def test_a_program_of_a_megabyte_and_one_of_random_bytes(capsys, tmp_path):
    big, noise = tmp_path / "big.hw", tmp_path / "noise.hw"
    big.write_text('program p { worker A { sees "' + "x" * 1_000_000 + '", self begin "b" max 1 tokens } }')
    assert hw(capsys, "check", str(big))[0] == 0
    assert run_on_qwen(capsys, str(big))[0] == 1  # longer than the context
    noise.write_bytes(bytes(range(256)) * 40)
    code, _, err = hw(capsys, "check", str(noise))
    assert (code, "is not UTF-8" in err) == (2, True)


# --- As a process ---


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hwlang.cli", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=env, **options)  # type: ignore[call-overload]


ENDLESS = """program endless {
  budget 100000 passes
  worker Alice { sees "1) 47+38", self step "\\n{{name}}: " until "." }
}"""


@pytest.mark.parametrize("json_wanted", [False, True])
def test_ctrl_c_ends_the_run_and_prints_what_there_is(json_wanted, tmp_path):
    endless = tmp_path / "endless.hw"
    endless.write_text(ENDLESS)
    process = start("run", str(endless), "--model", "tiny", "-v", *(["--json"] if json_wanted else []))
    assert process.stdout is not None
    assert process.stderr is not None
    if json_wanted:
        while not process.stderr.readline().startswith("hw: attention"):  # the model is loaded
            assert process.poll() is None
        time.sleep(2)
    else:
        assert "Alice | Alice: 1)" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    if json_wanted:
        data = json.loads(out)
        assert data["reason"] == "cancelled"
        assert data["workers"]["Alice"]["text"]
    else:
        assert "cancelled after " in out


@pytest.mark.parametrize("json_wanted", [False, True])
def test_what_an_encoding_cannot_hold_is_escaped(json_wanted, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    bad = tmp_path / "漢.hw"
    bad.write_text('program p { worker A { sees "🙂", 漢, self } }')
    process = start("check", *(["--json"] if json_wanted else []), os.fsdecode(b"/no/\xff.hw"), str(bad))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (2, False)
    if json_wanted:
        assert json.loads(out)[1]["file"] == str(bad)
    else:
        assert "\\u6f22.hw:1:" in err


def test_a_closed_pipe_is_no_traceback(program):
    process = start("check", "--json", program, "/no/such.hw")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)


def test_a_run_can_be_given_tokens_and_seconds(capsys, program):
    _, out, _ = run_on_qwen(capsys, program, "-p", "q=七", "--json", "--max-tokens", "3")
    result = json.loads(out)
    assert (result["reason"], result["passes"], result["usage"]["sampled_tokens"]) == ("budget", 2, 4)
    _, out, _ = run_on_qwen(capsys, program, "-p", "q=七", "--json", "--max-seconds", "1e-9")
    assert (json.loads(out)["reason"], json.loads(out)["passes"]) == ("budget", 0)
    code, _, err = run_on_qwen(capsys, program, "-p", "q=七", "--max-seconds", "-1")
    assert (code, "a budget of -1.0 seconds leaves nothing to run" in err) == (2, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_run_goes_on_where_its_trace_cannot_be_written(capsys, caplog, program):
    expected = run_on_qwen(capsys, program, "-p", "q=七", "--json")[:2]
    assert run_on_qwen(capsys, program, "-p", "q=七", "--json", "--trace", "/dev/full")[:2] == expected
    told = [record.getMessage() for record in caplog.records]
    assert told == ["the trace ends here: it cannot be written (No space left on device)"]


def test_a_trace_stays_until_another_one_begins(capsys, program, tmp_path):
    trace = tmp_path / "t.jsonl"
    trace.write_text("what was there\n" * 1000)
    assert hw(capsys, "run", program, "-p", "q=七", "--model", str(tmp_path / "none"), "--trace", str(trace))[0] == 1
    assert trace.read_text().startswith("what was there")
    assert run_on_qwen(capsys, program, "-p", "q=七", "--trace", str(trace))[0] == 0
    assert json.loads(trace.read_text().splitlines()[0])["trace"] == 1


# --- How it ends ---


LEAVING = """
import atexit, sys, threading
from hwlang.cli import leave

{before}
atexit.register(print, "at the end")
print("printed")
leave(3)
"""


def left(before: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LEAVING.format(before=before)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("before", ["", "threading.Thread(target=sys.stdin.read).start()"])
def test_a_process_ends_with_its_code_and_loses_nothing(before):
    done = left(before)
    assert (done.returncode, done.stdout, done.stderr) == (3, "printed\nat the end\n", "")


def test_what_cannot_be_written_at_the_end_is_told():
    with open("/dev/full", "w") as full:
        done = left("", full)
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_a_full_disk_is_no_traceback(tmp_path):
    path = tmp_path / "p.hw"
    path.write_text('program p { worker A { sees "a", self begin "b" max 3 tokens } }')
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hwlang.cli", "run", str(path)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: what comes out cannot be written: no space is left\n"
