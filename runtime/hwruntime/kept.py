"""Tensors kept on disk, of what took long to make: each file under a name that follows from all that it depends on.

A file repeats in its metadata what it depends on, and is read only where that is the same: one of another model or
dtype, a renamed one, one that is cut off are refused. What is in use is never changed: a file is replaced in one go.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hwruntime.errors import ModelError

DECIDES = ("*.safetensors", "*.json", "*.py")  # files that decide what a model is: weights, settings, code of its own


class KeptError(Exception):
    """A file that cannot be read, written or used; the message says which, and why."""


@dataclass(frozen=True)
class Files:
    """A checkpoint's own files, in a folder of this machine."""

    folder: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is in them, about a second for each 1.5 GB. Raises `ModelError`.

        Nothing is left out of large ones: a model that differs in a single layer must not be taken for this one.
        """
        digest = hashlib.sha256()
        try:
            for path in sorted(path for kind in DECIDES for path in self.folder.glob(kind) if path.is_file()):
                with path.open("rb") as file:
                    digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"`{error.filename}` of the model cannot be read: {error.strerror}") from error
        return digest.hexdigest()


@dataclass(frozen=True)
class Kept:
    """A file of tensors. `identity`: all that they depend on, by name."""

    folder: Path
    identity: Mapping[str, str]

    @cached_property
    def path(self) -> Path:
        told = json.dumps(dict(self.identity), sort_keys=True)
        return self.folder / f"{hashlib.sha256(told.encode()).hexdigest()}.safetensors"

    def read(self, names: Collection[str]) -> dict[str, Tensor] | None:
        """The tensors of these names, on the CPU, read from the file as they are used; None where there is no file.

        Raises `KeptError` for a file that is broken, another's, or not to be read.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                self._check(file.metadata() or {}, file.keys(), names)
                return {name: file.get_tensor(name) for name in names}
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            raise KeptError(f"`{self.path}` cannot be read: {error}") from error

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, in the place of what may be there. Raises `KeptError`.

        Several may write one file at once: each writes its own, and the last one is put in the place of the others.
        """
        part = self.folder / f".{self.path.stem[:16]}-{secrets.token_hex(8)}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.touch(exist_ok=False)
            mode = part.stat().st_mode
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, dict(self.identity))
            part.chmod(mode)  # safetensors writes for the owner alone; a folder may be shared
            part.replace(self.path)
        except (OSError, SafetensorError) as error:
            raise KeptError(f"`{self.path}` cannot be written: {error}") from error
        finally:
            _remove(part)

    def _check(self, told: Mapping[str, str], there: Collection[str], names: Collection[str]) -> None:
        every = {**told, **self.identity}
        other = sorted(name for name in every if told.get(name) != self.identity.get(name))
        if other:
            raise KeptError(f"`{self.path}` is of something else: it has another {', '.join(other)}")
        if missing := sorted(set(names) - set(there)):
            raise KeptError(f"`{self.path}` is not complete: it has no {missing[0]}")


def cache_folder(name: str) -> Path:
    """A folder among the user's caches. A relative `XDG_CACHE_HOME` does not count, as XDG has it."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    caches = told if Path(told).is_absolute() else os.path.expanduser("~/.cache")
    return Path(caches) / "hwlang" / name


def _remove(part: Path) -> None:
    """What is left of a file that could not be written. Where that cannot be removed, it is in nobody's way."""
    with suppress(OSError):
        part.unlink(missing_ok=True)
