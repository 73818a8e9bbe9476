"""Builds the kernels for this CPU with the machine's C++ compiler, once: the library is kept in the user's caches."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hwruntime.devices import cpu_info
from hwruntime.kept import cache_folder

COMPILERS = ("g++", "c++", "clang++")  # what is looked for where CXX does not say
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
SOURCES = ("attention.cpp", "calls.cpp", "linear.cpp", "norm.cpp")
HEADERS = ("vectors.h",)


Kernel = Callable[..., None]


class CannotBuild(Exception):
    """There are no kernels on this machine; the message says why, `help` what can be done."""

    def __init__(self, reason: str, help: str) -> None:
        super().__init__(reason)
        self.help = help


class Library(NamedTuple):
    """The kernels, loaded; `how`: where they come from, for `-v`."""

    functions: ctypes.CDLL
    how: str

    def kernel(self, name: str) -> Kernel:
        """One that takes pointers to two structures."""
        kernel = self.functions[name]
        kernel.restype = None
        return kernel


def library() -> Library:
    """The kernels of this machine. Raises `CannotBuild`."""
    found = once()
    if isinstance(found, CannotBuild):
        raise found
    return found


@cache
def once() -> Library | CannotBuild:
    """What there is, or why there is nothing: a compiler that fails is not asked again."""
    try:
        return built()
    except CannotBuild as error:
        return error


def built() -> Library:
    """The kernels, built now where that has not been done before. Raises `CannotBuild`.

    They share the threads of torch, whose OpenMP is g++'s and in the process already. What clang++ makes brings one of
    its own: its threads and torch's wait busily for one another, and a pass takes half as long again.
    """
    compiler = find_compiler()
    path = cache_folder("kernels") / f"{identity(compiler)}.so"
    again = ""
    if path.exists():
        try:
            return Library(ctypes.CDLL(str(path)), f"kernels from {path}")
        except OSError as error:
            again = f"; what was there could not be loaded: {error}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            compiled(Path(folder), compiler).replace(path)
    except OSError as error:
        with tempfile.TemporaryDirectory() as folder:
            functions = ctypes.CDLL(str(compiled(Path(folder), compiler)))
            return Library(functions, f"kernels built, and not kept: {error}")
    return Library(ctypes.CDLL(str(path)), f"kernels built once, kept in {path}{again}")


def find_compiler() -> list[str]:
    """The command of the C++ compiler: what CXX says, or the first of `COMPILERS`. Raises `CannotBuild`."""
    told = shlex.split(os.environ.get("CXX", ""))
    found = next(filter(None, map(shutil.which, told[:1] or COMPILERS)), None)
    if found is None:
        missing = f"CXX is `{told[0]}`, which is not there" if told else "there is no C++ compiler"
        help = "set CXX to another compiler" if told else "install one (g++ or clang++)"
        raise CannotBuild(f"its kernels cannot be built: {missing}", help)
    return [found, *told[1:]]


def compiled(folder: Path, compiler: list[str]) -> Path:
    """The library, made in a folder. Raises `CannotBuild`."""
    path = folder / "kernels.so"
    sources = [str(Path(__file__).parent / name) for name in SOURCES]
    try:
        done = subprocess.run([*compiler, *FLAGS, *sources, "-o", str(path)], capture_output=True, text=True)
    except OSError as error:
        raise CannotBuild(f"its kernels cannot be built: {error}", "set CXX to another compiler") from error
    if done.returncode:
        lines = done.stderr.splitlines() or ["no reason given"]
        why = next((line for line in lines if "error" in line), lines[0])
        raise CannotBuild(f"its kernels cannot be built: {why}", "set CXX to another compiler")
    return path


def identity(compiler: list[str]) -> str:
    """Of all that the library depends on: the sources, the compiler and the CPU."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in (*SOURCES, *HEADERS):
        digest.update(hashlib.sha256((here / name).read_bytes()).digest())
    info = cpu_info()
    told = [*compiler, version(compiler), *FLAGS, platform.machine(), info.get("model name", ""), info.get("flags", "")]
    digest.update("\0".join(told).encode())
    return digest.hexdigest()


def version(compiler: list[str]) -> str:
    """What the compiler says that it is. Raises `CannotBuild`."""
    try:
        return subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    except OSError as error:
        raise CannotBuild(f"its kernels cannot be built: {error}", "set CXX to another compiler") from error
