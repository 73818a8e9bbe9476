"""Tensors kept on disk: what is read is what was written, and nothing else is ever read."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hwruntime.errors import ModelError
from hwruntime.kept import Files, Kept, KeptError

TENSORS = {
    "whole": torch.arange(12.0).view(3, 4),
    "turned": torch.arange(6, dtype=torch.int8).view(2, 3).T,  # not contiguous
    "half": torch.randn(5, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "eight": torch.tensor([1.5, -448.0]).to(torch.float8_e4m3fn),
}
IDENTITY = {"model": "a", "dtype": "float32"}


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """In a folder that is not there yet."""
    return Kept(tmp_path / "deep" / "kept", IDENTITY)


def same(found: dict[str, torch.Tensor] | None) -> bool:
    """Bit by bit."""
    return found is not None and all(
        found[name].dtype == x.dtype and found[name].shape == x.shape
        and torch.equal(found[name].contiguous().view(torch.uint8), x.contiguous().view(torch.uint8))
        for name, x in TENSORS.items()
    )  # fmt: skip


def test_what_is_written_is_read(kept):
    assert kept.read(list(TENSORS)) is None
    kept.write(TENSORS)
    assert same(kept.read(list(TENSORS)))
    assert same(Kept(kept.folder, dict(reversed(IDENTITY.items()))).read(list(TENSORS)))
    assert list(kept.folder.iterdir()) == [kept.path]
    (kept.folder / "made").touch()
    assert stat.S_IMODE(kept.path.stat().st_mode) == stat.S_IMODE((kept.folder / "made").stat().st_mode)


@pytest.mark.parametrize("other", [{"dtype": "bfloat16"}, {"more": "1"}])
def test_what_depends_on_something_else_is_another_file(kept, other):
    kept.write(TENSORS)
    assert Kept(kept.folder, {**IDENTITY, **other}).read(list(TENSORS)) is None


@pytest.mark.parametrize(
    ("other", "told"), [({"dtype": "bfloat16"}, "another dtype"), ({"model": "b", "more": "1"}, "another model, more")]
)
def test_a_file_under_anothers_name_is_refused(kept, other, told):
    theirs = Kept(kept.folder, {**IDENTITY, **other})
    theirs.write(TENSORS)
    theirs.path.rename(kept.path)
    with pytest.raises(KeptError, match=f"is of something else: it has {told}$"):
        kept.read(list(TENSORS))


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_file_that_is_cut_off_is_refused_and_replaced(kept, size):
    kept.write(TENSORS)
    kept.path.write_bytes(kept.path.read_bytes()[:size])
    with pytest.raises(KeptError, match="cannot be read: "):
        kept.read(list(TENSORS))
    kept.write(TENSORS)
    assert same(kept.read(list(TENSORS)))


def test_a_file_without_metadata_or_with_too_little_in_it_is_refused(kept):
    kept.folder.mkdir(parents=True)
    save_file({"whole": TENSORS["whole"]}, kept.path)
    with pytest.raises(KeptError, match="is of something else"):
        kept.read(["whole"])
    kept.write({"whole": TENSORS["whole"]})
    with pytest.raises(KeptError, match="is not complete: it has no eight"):
        kept.read(list(TENSORS))


def test_a_file_that_is_replaced_stays_what_it_was_for_its_readers(kept):
    kept.write(TENSORS)
    found = kept.read(list(TENSORS))
    kept.write({name: torch.zeros_like(x) for name, x in TENSORS.items()})
    assert same(found)


def test_many_write_one_file_at_once(kept):
    """Whoever reads meanwhile finds it whole, or not yet there."""

    def work(number: int) -> bool:
        for _ in range(20):
            if number % 2:
                kept.write(TENSORS)
            elif (found := kept.read(list(TENSORS))) is not None and not same(found):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert list(kept.folder.iterdir()) == [kept.path]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeptError, match=r"file/below/\w+\.safetensors` cannot be written: "):
        Kept(tmp_path / "file" / "below", IDENTITY).write(TENSORS)
    folder = Kept(tmp_path, IDENTITY)
    folder.path.mkdir()
    for use in (lambda: folder.read(list(TENSORS)), lambda: folder.write(TENSORS)):
        with pytest.raises(KeptError, match="cannot be"):
            use()
    assert {path.name for path in tmp_path.iterdir()} == {"file", folder.path.name}


# --- A checkpoint's files ---


def test_a_checkpoint_is_known_by_all_that_decides_what_it_is(folder):
    first = Files(folder).digest
    assert Files(folder).digest == first
    (folder / "README.md").write_text("changes nothing")
    (folder / "code.py").mkdir()
    assert Files(folder).digest == first
    seen = {first}
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1  # one bit in the middle
    (folder / "model.safetensors").write_bytes(weights)
    seen.add(Files(folder).digest)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    seen.add(Files(folder).digest)
    (folder / "model.py").write_text("print()")
    seen.add(Files(folder).digest)
    (folder / "model.py").rename(folder / "other.py")
    seen.add(Files(folder).digest)
    assert len(seen) == 5


def test_files_are_read_once_and_only_when_they_are_asked_for(folder):
    files = Files(folder)
    first = files.digest
    (folder / "config.json").unlink()
    assert files.digest == first


def test_a_file_that_cannot_be_read_is_told(folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "config.json")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ModelError, match=r"`config\.json` of the model cannot be read: Permission denied"):
        _ = Files(folder).digest
