"""The authors' code wrote these texts on tiny random models: in fp32 we write them too, token for token."""

import json
from pathlib import Path

import pytest

import hwlang as hw
from tests.hwruntime.own_kernels import CPU

PARITY = Path(__file__).parents[1] / "parity"
PROGRAMS = sorted(PARITY.glob("*.hw"))


@pytest.fixture(scope="module", params=["torch", CPU])
def engines(request) -> dict[str, hw.Engine]:
    names = ("qwen2", "llama3")
    return {name: hw.Engine(str(PARITY / name), dtype="float32", attention=request.param) for name in names}


def test_there_are_eight_programs():
    assert len(PROGRAMS) == 8


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_texts_are_those_of_the_authors_code(path, engines):
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    result = engines[expected["model"]].run(hw.load(path))
    assert result.passes == expected["passes"]
    for worker, text in expected["workers"].items():
        assert result.workers[worker].text == text, worker
