"""`hw check` and `hw explain` as commands: what is printed where, in which form, and that nothing is a traceback."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hwlang.cli.check import MOST_SHOWN
from hwlang.parser import MAX_SIZE
from tests.hwlang.cli.test_run import hw

SLIPS = 'program p {\n  wroker Ann { sees user "Go." board, self }\n  text rules = "x"\n}\n'


@pytest.fixture
def slips(tmp_path: Path) -> str:
    path = tmp_path / "slips.hw"
    path.write_text(SLIPS)
    return str(path)


def test_all_slips_of_all_files_and_a_summary(capsys: pytest.CaptureFixture[str], slips: str, tmp_path: Path) -> None:
    other = tmp_path / "other.hw"
    other.write_text('program p { text t = "x" worker A { sees "a", self } }')
    code, out, err = hw(capsys, "check", slips, str(other))
    assert (code, out) == (2, "")
    assert [line for line in err.split("\n") if line.startswith("  -->")] == [
        f"  --> {slips}:2:3",
        f"  --> {slips}:2:32",
        f"  --> {slips}:2:32",
        f"  --> {other}:1:18",
    ]
    assert err.endswith("\n3 errors, 1 warning in 2 files\n")


def test_warnings_alone_are_no_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.hw"
    path.write_text('program p { text t = "x" worker A { sees "a", self } }')
    code, out, err = hw(capsys, "check", str(path))
    assert (code, out) == (0, "1 file checked, no errors\n")
    assert err.endswith("1 warning in 1 file\n")


def test_sarif(capsys: pytest.CaptureFixture[str], slips: str) -> None:
    code, out, err = hw(capsys, "check", "--sarif", slips)
    assert (code, err) == (2, "")
    assert [result["ruleId"] for result in json.loads(out)["runs"][0]["results"]] == ["HW001", "HW001", "HW101"]
    assert hw(capsys, "check", "--sarif", "--json", slips)[0] == 2


def test_very_many_diagnostics_are_cut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "many.hw"
    path.write_text('program p { worker A { sees "a", ' + ", ".join(f"x{i}" for i in range(1000)) + ", self } }")
    _, _, err = hw(capsys, "check", str(path))
    assert err.count("error[HW101]") == MOST_SHOWN
    assert f"... and {1000 - MOST_SHOWN} more" in err
    assert err.endswith("1,000 errors in 1 file\n")
    assert len(json.loads(hw(capsys, "check", "--json", str(path))[1])) == 1000


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = hw(capsys, "explain", "HW201")
    assert (code, err) == (0, "")
    assert out.startswith("HW201: The last entry of a view is `self`")
    assert hw(capsys, "explain", "hw201")[1] == out


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("HW210", "there is no code HW210: did you mean HW"),
        ("HW999", "there is no code HW999"),
    ],
)
def test_explain_of_what_is_no_code(capsys: pytest.CaptureFixture[str], what: str, message: str) -> None:
    code, out, err = hw(capsys, "explain", what)
    assert (code, out) == (2, "")
    assert message in err


NOISE = {
    "empty": (b"", 0),
    "nothing but nulls": (b"\0" * 5000, 2),
    "every byte": (bytes(range(256)) * 20, 2),
    "half a surrogate pair": ('role r { begin "\ud800" }'.encode(errors="surrogatepass"), 2),
    "one long line": (b"program p { " + b"worker A is r " * 9_000 + b"}", 2),
    "too large": (b"#" * (MAX_SIZE + 1), 2),
    "UTF-16": ('program p { worker A { sees "a", self } }'.encode("utf-16"), 2),
    "huge numbers": (b'program p { worker A { sees "a", self max ' + b"9" * 5000 + b" tokens } }", 2),
}


@pytest.mark.parametrize("name", NOISE)
def test_whatever_is_in_a_file(capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path) -> None:
    data, code = NOISE[name]
    path = tmp_path / "a.hw"
    path.write_bytes(data)
    got, _, err = hw(capsys, "check", str(path))
    assert got == code, err
    assert "Traceback" not in err
    assert hw(capsys, "check", "--sarif", str(path))[0] == code


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_file_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = hw(capsys, "check", "/dev/zero")
    assert (code, "error[HW011]" in err) == (2, True)


def on_a_terminal(path: str, **env: str) -> str:
    """What a check prints on a terminal."""
    ours, theirs = pty.openpty()
    environment = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **env}
    command = [sys.executable, "-m", "hwlang.cli", "check", path]
    subprocess.run(command, stderr=theirs, env=environment, timeout=60, check=False)
    os.close(theirs)
    with os.fdopen(ours, "rb", closefd=True) as terminal:
        return terminal.read1(20_000).decode()


def test_colours_on_a_terminal_unless_they_are_not_wanted(slips: str) -> None:
    assert "\x1b[1;31merror[HW001]" in on_a_terminal(slips)
    assert "\x1b" not in on_a_terminal(slips, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(slips, TERM="dumb")


def test_a_check_imports_nothing_slow(slips: str) -> None:
    code = f"import sys; from hwlang.cli import main; main(['check', {slips!r}]); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(done.stdout.strip().split("\n")[-1].replace("'", '"')))
    assert not loaded & {"torch", "transformers", "rich", "numpy", "hwlang.diagnostics.explanations", "difflib"}
