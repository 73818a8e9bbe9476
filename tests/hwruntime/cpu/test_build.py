"""Building the kernels: once, for this CPU, or a reason why not."""

import ctypes
import stat
from pathlib import Path

import pytest

from hwruntime.cpu import build
from hwruntime.cpu.build import FLAGS, CannotBuild, built, find_compiler, identity, library
from tests.hwruntime.own_kernels import needs_kernels


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch) -> Path:
    """Where libraries are kept: not among the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "caches" / "hwlang" / "kernels"


@needs_kernels
def test_they_are_built_once_and_kept(kept):
    first = built()
    (path,) = kept.iterdir()
    assert first.how == f"kernels built once, kept in {path}"
    made = path.stat().st_mtime_ns
    assert built().how == f"kernels from {path}"
    assert path.stat().st_mtime_ns == made
    assert isinstance(first.functions, ctypes.CDLL)
    assert first.functions.multiplies_bits() in (0, 1)


@needs_kernels
def test_another_source_compiler_or_cpu_makes_another_library(monkeypatch, tmp_path):
    compiler = find_compiler()
    names = {identity(compiler), identity([*compiler, "-g"])}
    monkeypatch.setattr("hwruntime.cpu.build.cpu_info", lambda: {"model name": "another", "flags": "sse"})
    names.add(identity(compiler))
    for name in (*build.SOURCES, *build.HEADERS):
        (tmp_path / name).write_text("int other;")
    monkeypatch.setattr("hwruntime.cpu.build.__file__", str(tmp_path / "build.py"))
    names.add(identity(compiler))
    assert len(names) == 4


@needs_kernels
def test_a_folder_that_cannot_be_written_is_told(kept):
    kept.parent.parent.mkdir()
    kept.parent.touch()  # a file
    made = built()
    assert made.how.startswith("kernels built, and not kept: ")
    assert made.functions.multiplies_bits() in (0, 1)


@needs_kernels
def test_a_kept_library_that_is_broken_is_built_again(kept):
    kept.mkdir(parents=True)
    path = kept / f"{identity(find_compiler())}.so"
    path.write_bytes(b"nothing of the kind")
    assert built().how.startswith(f"kernels built once, kept in {path}; what was there could not be loaded: ")
    assert built().how == f"kernels from {path}"


@needs_kernels
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is loaded")
def test_they_share_the_threads_of_torch():
    library()
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    assert len([name for name in loaded if "libgomp" in name]) <= 1


def test_a_compiler_that_fails_is_asked_once(monkeypatch, tmp_path):
    told = tmp_path / "told"
    monkeypatch.setenv("CXX", compiler(tmp_path / "failing", f'[ "$1" = --version ] || {{ echo >> {told}; exit 1; }}'))
    build.once.cache_clear()
    try:
        for _ in range(3):
            with pytest.raises(CannotBuild, match="no reason given"):
                library()
    finally:
        build.once.cache_clear()
    assert told.read_text() == "\n"


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotBuild, match="there is no C\\+\\+ compiler") as failure:
        built()
    assert failure.value.help == "install one (g++ or clang++)"


def test_a_compiler_that_was_asked_for_and_is_not_there(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O0")
    with pytest.raises(CannotBuild, match="CXX is `no-such-compiler`, which is not there"):
        built()


def compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_compiler_that_fails_is_quoted_and_nothing_is_kept(monkeypatch, tmp_path, kept):
    script = 'echo "in file x.cpp:" >&2; echo "x.cpp:1: error: no OpenMP" >&2; [ "$1" = --version ]'
    monkeypatch.setenv("CXX", compiler(tmp_path / "failing", script))
    with pytest.raises(CannotBuild, match=r"its kernels cannot be built: x\.cpp:1: error: no OpenMP") as failure:
        built()
    assert failure.value.help == "set CXX to another compiler"
    assert not list(kept.iterdir())


def test_a_compiler_with_options_of_its_own(monkeypatch, tmp_path):
    told = tmp_path / "told"
    name = compiler(tmp_path / "mine", f'[ "$1" = --version ] || {{ echo "$@" > {told}; echo no error >&2; exit 3; }}')
    monkeypatch.setenv("CXX", f"{name} -mtune=native")
    with pytest.raises(CannotBuild, match="no error"):
        built()
    assert told.read_text().startswith(f"-mtune=native {' '.join(FLAGS)} ")
