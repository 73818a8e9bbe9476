"""Which weights an evaluation ran on."""

import pytest
from huggingface_hub import constants

from hwlang.evaluation.weights import PART, content, identity

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_is_known_by_its_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    first = identity(str(tmp_path))
    assert identity(str(tmp_path)) == first
    (tmp_path / "README.md").write_text("changes nothing")
    assert identity(str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    assert identity(str(tmp_path)) != first


def test_a_large_file_is_known_by_its_length_start_and_end(tmp_path, monkeypatch):
    monkeypatch.setattr("hwlang.evaluation.weights.WHOLE", 3 * PART)
    path = tmp_path / "model.safetensors"
    seen = set()
    for size, at in ((4 * PART, 0), (4 * PART, 4 * PART - 1), (4 * PART + 1, 0)):
        data = bytearray(size)
        data[at] = 1
        path.write_bytes(data)
        seen.add(content(path))
    assert len(seen) == 3


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """What is on this machine of the hub; the hub itself is out of reach."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_model_of_the_hub_is_known_by_its_commit(hub):
    folder = hub / "models--ann--small"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "config.json").write_text("{}")
    assert identity("ann/small") == COMMIT


@pytest.mark.parametrize("name", ["ann/small", "/no/such/folder", "a b"])
def test_what_cannot_be_had_is_unknown_and_loading_says_why(hub, name):
    assert identity(name) == "unknown"
