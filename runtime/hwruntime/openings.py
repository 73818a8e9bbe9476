"""Encoded openings that are kept in a folder, for runs of other processes that begin with the same text.

An opening stands alone in its view, so its K/V follow from the model and its tokens, and from nothing else. They are
kept bit for bit. Another machine, or another number of threads, may round them differently; nothing else makes others.
"""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwruntime.attention import Layer
from hwruntime.cache import Stored
from hwruntime.errors import InputError, ModelError
from hwruntime.kept import Kept, KeptError

if TYPE_CHECKING:
    from hwruntime.models import Model

FORMAT = "1"  # of the files: another one whenever what they hold means something else than before
WORTH = 64  # tokens: fewer are encoded in a pass or so, and need no file


@dataclass(frozen=True)
class Opening:
    """An opening's tokens, of which `chunk` were encoded in one pass: the last bits of K/V depend on it."""

    tokens: tuple[int, ...]
    chunk: int

    @property
    def worth_keeping(self) -> bool:
        return len(self.tokens) >= WORTH


class Openings:
    """A folder's openings, as far as they are one model's. Files that cannot be used or made are told as warnings, each
    once: a run goes on without them."""

    def __init__(self, model: "Model", folder: Path) -> None:
        """Reads all of the model's files, to know them again. Raises `ModelError` for a model that has none."""
        if model.files is None:
            raise ModelError(f"`{model.name}` was not loaded from files, so its openings cannot be kept")
        self._model = model
        self._folder = folder
        self._same = identity(model, model.files.digest)
        self._told: set[str] = set()

    def find(self, opening: Opening) -> Stored | None:
        """The K/V of an opening; None where there are none to be had."""
        if not opening.worth_keeping:
            return None
        layers = [layer.index for layer in self._model.layers.values()]
        try:
            found = self._kept(opening).read([f"{layer}.{part}" for layer in layers for part in ("keys", "values")])
        except KeptError as error:
            self._warn(f"an opening is encoded again: {error}")
            return None
        return None if found is None else {i: (found[f"{i}.keys"], found[f"{i}.values"]) for i in layers}

    def restore(self, stored: Stored, slots: list[int]) -> None:
        """Put K/V into the model's cache, at `slots` [tokens]."""
        self._model.write(stored, slots)

    def keep(self, opening: Opening, slots: list[int]) -> None:
        """Keep the K/V of an opening that is in the model's cache, at `slots` [tokens]."""
        if not opening.worth_keeping:
            return
        stored = self._model.read(slots)
        tensors = {f"{i}.{part}": x for i, kv in stored.items() for part, x in zip(("keys", "values"), kv, strict=True)}
        try:
            self._kept(opening).write(tensors)
        except KeptError as error:
            self._warn(f"an opening is not kept: {error}")

    def _kept(self, opening: Opening) -> Kept:
        now = {
            "rotated": str(self._model.executor.rotated),  # which may be another for each run
            "chunk": str(opening.chunk),
            "tokens": " ".join(map(str, opening.tokens)),
        }
        return Kept(self._folder, {**self._same, **now})

    def _warn(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logging.getLogger(__name__).warning("%s", message)


def check_folder(folder: Path) -> None:
    """Make the folder, if need be, before a model is loaded for it. Raises `InputError` where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"openings cannot be kept in `{folder}`: {error.strerror}", help="name a folder that can be written"
        ) from error


def identity(model: "Model", checkpoint: str) -> dict[str, str]:
    """All of a model that its K/V depend on. `checkpoint`: the digest of its files."""
    return {
        "hwlang": f"opening, format {FORMAT}",
        "checkpoint": checkpoint,
        "rotations": rotations(list(model.layers.values())),
        **model.identity,
    }


def rotations(layers: Sequence[Layer]) -> str:
    """A digest of how the layers rotate their keys: of what the model does, whatever its configuration calls it."""
    digest = hashlib.sha256()
    for rotation in (layer.rotation for layer in layers):
        if rotation is None:
            digest.update(b"none;")
            continue
        frequencies = rotation.frequencies.double().cpu().tolist()
        digest.update(f"{rotation.start} {rotation.interleaved} {frequencies};".encode())
    return digest.hexdigest()
