"""Recorded runs for tests of the commands that read traces."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwlang.cli import main

ROOT = Path(__file__).parents[3]
SUMS = ROOT / "programs" / "sums.hw"
FEW = ["-p", "problems=1) 47+38\n2) reverse tapso\n3) sort 5291\n"]


def hw(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    try:
        code = main([str(each) for each in arguments])
    except SystemExit as exit:  # argparse's way to end
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def record(capsys: pytest.CaptureFixture[str], trace: Path, *arguments: object, program: Path = SUMS) -> str:
    """Run a program with a trace; what `--json` prints."""
    code, out, err = hw(capsys, "run", program, "--json", "--trace", trace, *arguments)
    assert (code, err) == (0, "")
    return out


def few(path: Path) -> Path:
    """A trace of a short run, for tests that all read the same one."""
    assert main(["run", str(SUMS), *FEW, "--json", "--trace", str(path)]) == 0
    return path


def kill_after(trace: Path, lines: int, *arguments: object) -> int:
    """Run a command in a process that is killed when the trace has so many lines; how many it has then."""
    process = subprocess.Popen([sys.executable, "-m", "hwlang.cli", *map(str, arguments)], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and (not trace.exists() or trace.read_bytes().count(b"\n") < lines):
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    return trace.read_bytes().count(b"\n")


def cut(trace: Path, lines: int, more: bytes = b"") -> None:
    """Leave so many lines of a trace, and some bytes."""
    whole = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join(whole[:lines]) + more)
