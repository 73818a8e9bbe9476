"""Time passes on this machine with `hw bench`, and write what it prints into docs/performance.md.

    python benchmarks/performance.py [--page FILE] [options of hw bench]

The table is printed as it grows, and takes the place of the one between the page's two marks when it is whole.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

from hwruntime.devices import cpu_info

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- hw bench: begin -->", "<!-- hw bench: end -->"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides how quick a CPU is at this


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE)
    options, rest = parser.parse_known_args()
    text = options.page.read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in (BEGIN, END)):
        parser.error(f"{options.page} has no place for the table: it must hold `{BEGIN}` and `{END}` once")
    printed, code = measured(rest)
    if code:
        return code
    part = options.page.with_name(f".{options.page.name}.part")
    part.write_text(inserted(text, section(rest, printed)), encoding="utf-8")
    part.replace(options.page)
    return 0


def measured(options: list[str]) -> tuple[str, int]:
    """What `hw bench` prints, shown as it comes, and its exit status."""
    command = [sys.executable, "-m", "hwlang.cli", "bench", *options]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        for line in bench.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines), bench.returncode


def section(options: list[str], printed: str) -> str:
    """What stands between the marks."""
    shown = " ".join(["hw bench", *options])
    return f"`{shown}`, on {machine()}:\n\n{printed.strip()}\n"


def inserted(text: str, found: str) -> str:
    """The page with a new section between its marks."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{found}{END}{tail}"


def machine() -> str:
    """The CPU, as far as Linux says what it is."""
    told = cpu_info()
    has = [flag for flag in FLAGS if flag in told.get("flags", "").split()]
    name = told.get("model name", platform.machine())
    return f"{os.cpu_count()} cores of {name}" + (f" ({', '.join(has)})" if has else "")


if __name__ == "__main__":
    sys.exit(main())
