"""The files that a program may read: those below its own folder, and no others."""

from pathlib import Path

from hwlang.diagnostics import Source, quoted
from hwlang.syntax import String

MAX_FILE = 16 * 1024 * 1024  # bytes of an included file


class Unreadable(Exception):
    """A file that cannot be had, with the code and the reason."""

    def __init__(self, code: str, reason: str, help: str | None = None) -> None:
        super().__init__(code, reason, help)
        self.code, self.reason, self.help = code, reason, help


class Files:
    """Files below the folder of the main program, each read once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.main = source.path.resolve() if source.path else None
        self.root = self.main.parent if self.main else None
        self._texts: dict[Path, str] = {}

    def resolve(self, path: String) -> Path:
        """The file that a string names, which may not be above the root, however the path is written."""
        name = path.literal
        folder = path.span.source.folder or self.source.folder
        if self.root is None or folder is None:
            raise Unreadable("HW402", "this program has no folder to read files from", "save it as a .hw file")
        if not name or Path(name).is_absolute():
            raise Unreadable("HW402", f"{quoted(name)} is not a path below the program's folder")
        try:
            target = (folder / name).resolve()
        except (OSError, RuntimeError, ValueError):
            raise Unreadable("HW401", f"{quoted(name)} is not a path that can be read") from None
        if not target.is_relative_to(self.root):
            raise Unreadable("HW402", f"{quoted(name)} lies outside of the program's folder")
        return target

    def text(self, path: String) -> str:
        """A file's contents, as they are."""
        target = self.resolve(path)
        if target not in self._texts:
            self._texts[target] = self._read(target, quoted(path.literal))
        return self._texts[target]

    def _read(self, target: Path, name: str) -> str:
        try:
            if not target.exists():
                raise Unreadable("HW401", f"there is no file {name}")
            if not target.is_file():
                raise Unreadable("HW401", f"{name} is not a file")
            if target.stat().st_size > MAX_FILE:
                raise Unreadable("HW403", f"{name} is larger than {MAX_FILE // 2**20} MiB")
            return target.read_bytes().decode().removeprefix("\ufeff")
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise Unreadable("HW403", f"{name} is not UTF-8 (byte {error.start})") from None
            raise Unreadable("HW401", f"cannot read {name}") from None

    def shown(self, target: Path) -> str:
        """How an imported file is called in messages: next to the main program's name."""
        assert self.root is not None
        return str(Path(self.source.file).parent / target.relative_to(self.root))
