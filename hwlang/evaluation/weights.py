"""Which weights an evaluation ran on: so that records of one model are never taken for another's."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

WHOLE = 2**30  # bytes: larger files are known by their length, start and end
PART = 2**20


def identity(model: str) -> str:
    """A digest of a folder's files, or of the embedded model's; of a model of the hub its commit, where it is known."""
    folder = Path(str(files("hwruntime.tiny"))) if model == "tiny" else Path(model)
    if not folder.is_dir():
        return commit(model)
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(path.name.encode())
        digest.update(content(path))
    return digest.hexdigest()[:16]


def content(path: Path) -> bytes:
    with path.open("rb") as file:
        if (size := path.stat().st_size) <= WHOLE:
            return hashlib.file_digest(file, "sha256").digest()
        start = file.read(PART)
        file.seek(size - PART)
        return size.to_bytes(8) + start + file.read()


def commit(model: str) -> str:
    """Of a model of the hub as it will be loaded: the newest, or the copy that is here if the hub is not reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(model, "config.json")).parent.name
    except (HFValidationError, HfHubHTTPError, EntryNotFoundError):  # loading it will say so
        return "unknown"
