"""Files that import another one: what is declared in a role may be used there."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from hwlang.diagnostics import CompileError
from hwlang.editor.index import Index, analyse
from hwlang.editor.symbols import Use
from hwlang.parser import load

MAX_FILES = 200  # of a folder that are looked into


def elsewhere(index: Index, use: Use, folders: Iterable[Path]) -> Path | None:
    """A file below these folders that uses what is meant here, and that this file does not know of."""
    path = index.source.path
    if path is None or not any(symbol.kind == "role" or symbol.inside[:4] == "role" for symbol in use.symbols):
        return None
    path = path.resolve()
    names = {symbol.name for symbol in use.symbols}
    for file in programs_below(folders):
        if file.resolve() != path and any(uses_name(other, path, names) for other in importing(file, path.name)):
            return file
    return None


def programs_below(folders: Iterable[Path]) -> Iterator[Path]:
    found = (path for folder in folders for path in folder.rglob("*.hw"))
    return (path for _, path in zip(range(MAX_FILES), found, strict=False))


def importing(file: Path, name: str) -> Iterator[Index]:
    """The index of a file, where it may import one of this name."""
    try:
        source = load(file)
    except CompileError:
        return
    if "import" in source.text and name in source.text:
        yield analyse(source)


def uses_name(other: Index, path: Path, names: set[str]) -> bool:
    """Whether a file uses one of these names, declared in the file at this path."""
    meant = (symbol for use in other.here for symbol in use.symbols if symbol.name in names)
    return any(symbol.span.source.path == path for symbol in meant)
