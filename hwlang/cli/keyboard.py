"""Lines that are typed while a run is shown: they go to the program's streams."""

from __future__ import annotations

import os
import select
import sys
from codecs import getincrementaldecoder
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TextIO

with suppress(ImportError):  # on Windows there is neither: nothing is typed there
    import termios
    import tty

DELETE = ("\x7f", "\b")
CLEAR_LINE = "\x15"  # Ctrl-U
ESCAPE = "\x1b"  # what begins with it is a key that is no letter


class Keyboard:
    """The keys of a terminal, one by one, while it is open. `streams`: where a line can go; Tab takes the next one.

    Nothing is read where the program has no stream, or where `file` is no terminal.
    """

    def __init__(self, streams: Sequence[str], file: TextIO | None = None) -> None:
        self._file = file or sys.stdin
        self._streams = list(streams)
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")
        self._typed = ""
        self.open = False

    def __enter__(self) -> Keyboard:
        if self._streams and "termios" in globals() and self._file.isatty():
            self._before = termios.tcgetattr(self._file.fileno())
            tty.setcbreak(self._file.fileno())  # keys come at once and are not shown; Ctrl-C stays what it is
            self.open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.open:
            termios.tcsetattr(self._file.fileno(), termios.TCSADRAIN, self._before)
            self.open = False

    @property
    def line(self) -> str:
        """What is being typed, behind the stream's name; nothing where nothing can be."""
        return f"{self._streams[0]}> {self._typed}" if self.open else ""

    def take(self) -> list[tuple[str, str]]:
        """The lines that were finished since the last call: (stream, text)."""
        keys = ""
        while self.open and select.select([self._file], [], [], 0)[0]:
            read = os.read(self._file.fileno(), 1024)
            if not read:  # the terminal has gone
                break
            keys += self._decoder.decode(read)
        return [] if keys.startswith(ESCAPE) else [line for key in keys for line in self._press(key)]

    def _press(self, key: str) -> list[tuple[str, str]]:
        if key in "\r\n":
            text, self._typed = self._typed, ""
            return [(self._streams[0], text)] if text else []
        if key == "\t":
            self._streams.append(self._streams.pop(0))
        elif key in DELETE:
            self._typed = self._typed[:-1]
        elif key == CLEAR_LINE:
            self._typed = ""
        elif key.isprintable():
            self._typed += key
        return []
