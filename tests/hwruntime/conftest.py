"""What the tests of the runtime share."""

import shutil
from pathlib import Path

import pytest

from tests.hwruntime.models_for_tests import QWEN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, to be broken."""
    return Path(shutil.copytree(QWEN, tmp_path / "model"))
