"""A small editor: starts `hw lsp`, speaks JSON-RPC with it on its stdin and stdout, and keeps what it is told."""

import json
import subprocess
import sys
from collections import deque
from pathlib import Path
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Any, Self

SECONDS = 60


class Refused(Exception):
    """An error as the answer to a request."""


class Client:
    """One server process and one folder of files."""

    def __init__(self, folder: Path, encodings: list[str] | None = None) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "hwlang.cli", "lsp", "--stdio"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.received: Queue[dict[str, Any] | None] = Queue()
        self.notes: deque[dict[str, Any]] = deque()
        self.number = 0
        Thread(target=self._read, daemon=True).start()
        general = {"positionEncodings": encodings} if encodings else {}
        params = {"processId": None, "rootUri": folder.as_uri(), "capabilities": {"general": general}}
        self.capabilities = self.ask("initialize", params)["capabilities"]
        self.tell("initialized", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.ask("shutdown", None)
            self.tell("exit", None)
            assert self.process.wait(SECONDS) == 0
        self.process.kill()

    # Messages

    def _read(self) -> None:
        out = self.process.stdout
        assert out
        while line := out.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
                while out.readline().strip():
                    pass
                self.received.put(json.loads(out.read(length)))
        self.received.put(None)

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self.process.stdin.flush()

    def tell(self, method: str, params: object) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: object) -> Any:
        """The answer to a request. Raises `Refused`."""
        self.number += 1
        self._send({"id": self.number, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self.number and "method" not in message:
                if "error" in message:
                    raise Refused(message["error"]["message"])
                return message["result"]
            self.notes.append(message)

    def _receive(self) -> dict[str, Any]:
        message = self.received.get(timeout=SECONDS)
        assert message is not None, "the server has ended"
        return message

    # Documents

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def open(self, name: str, text: str) -> list[dict[str, Any]]:
        """Open a document, which need not be saved; its diagnostics."""
        document = {"uri": self.uri(name), "languageId": "hw", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return self.diagnostics(name, 1)

    def change(self, name: str, version: int, text: str) -> None:
        document = {"uri": self.uri(name), "version": version}
        self.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})

    def save(self, name: str) -> None:
        self.tell("textDocument/didSave", {"textDocument": {"uri": self.uri(name)}})

    def diagnostics(self, name: str, version: int | None) -> list[dict[str, Any]]:
        """What is wrong with a version of a document, once it is told."""
        while True:
            note = self.notes.popleft() if self.notes else self._receive()
            told = note.get("params") or {}
            about = note.get("method") == "textDocument/publishDiagnostics" and told["uri"] == self.uri(name)
            if about and told.get("version") == version:
                return list(told["diagnostics"])

    def at(self, name: str, line: int, character: int, **more: object) -> dict[str, Any]:
        """The parameters of a request about a place."""
        return {"textDocument": {"uri": self.uri(name)}, "position": place(line, character), **more}


def place(line: int, character: int) -> dict[str, int]:
    return {"line": line, "character": character}


def span(line: int, first: int, last: int) -> dict[str, dict[str, int]]:
    """A range on one line."""
    return {"start": place(line, first), "end": place(line, last)}
