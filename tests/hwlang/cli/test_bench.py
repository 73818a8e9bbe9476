"""`hw bench` as it is used."""

import json

import pytest
import torch

from hwlang.cli import main
from tests.hwruntime.bench.test_baselines import CLONE
from tests.hwruntime.models_for_tests import QWEN

FEW = ["--rounds", "1", "--passes", "2", "--dtype", "float32"]


@pytest.fixture(autouse=True)
def small_copy(monkeypatch):
    monkeypatch.setattr("hwruntime.bench.limits.COPIED", 2**20)


def hw_bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    try:
        code = main(["bench", *map(str, arguments)])
    except SystemExit as exit:
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_shape_with_baselines(capsys, tmp_path):
    found, drawn = tmp_path / "bench.json", tmp_path / "bench.svg"
    options = ["--shape", "small", "--workers", "1,2", "--contexts", "64,1k", "--baseline", "transformers"]
    code, out, err = hw_bench(capsys, *options, *FEW, "--json", found, "--plot", drawn)
    assert (code, err) == (0, "")
    assert "### small, float32" in out
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row[:2] for row in rows[1:]] == [["64", "1"], ["64", "2"], ["1,024", "1"], ["1,024", "2"]]
    assert len({len(row) for row in rows}) == 1
    data = json.loads(found.read_text())
    assert [(cell["context"], cell["workers"]) for cell in data["cells"]] == [(64, 1), (64, 2), (1024, 1), (1024, 2)]
    for cell in data["cells"]:
        assert cell["context"] < cell["stored"] < cell["context"] + 20
        assert 0 < cell["hw"]["low"] <= cell["hw"]["ms"] <= cell["hw"]["high"]
        assert cell["hw"]["passes"] == 2
    assert data["models"][0]["threads"] == torch.get_num_threads()
    assert drawn.read_text().startswith("<?xml")


def test_the_authors_code_beside_it(capsys, tmp_path):
    (tmp_path / "shared_cache").mkdir()
    (tmp_path / "shared_cache" / "__init__.py").write_text(CLONE)
    found = tmp_path / "bench.json"
    options = ["--shape", "small", "--workers", "1,2", "--contexts", "32,64", "--reference", tmp_path, "--json", found]
    code, out, _ = hw_bench(capsys, *options, *FEW)
    assert code == 0
    assert "authors' code ms" in out
    assert all(list(cell["others"]) == ["authors' code"] for cell in json.loads(found.read_text())["cells"])


def test_weights_of_few_bits_take_turns_with_the_others(capsys, tmp_path):
    options = ["--shape", "small", "--workers", "1,2", "--contexts", "32", "--weights", "auto,int8,int4"]
    found = tmp_path / "bench.json"
    code, out, _ = hw_bench(capsys, *options, *FEW, "--baseline", "transformers", "--json", found)
    assert code == 0
    kinds = ["float32", "float32, int8 weights", "float32, int4 weights"]
    for kind in kinds:
        assert f"### small, {kind}\n" in out
    names, _, *rows = ([*line.strip("| ").split(" | ")] for line in out.splitlines() if line.startswith("| "))
    assert [row[:3] for row in rows] == [[kind, "32", n] for kind in kinds for n in "12"]
    told = json.loads(found.read_text())
    assert [model["weights_are"] for model in told["models"]] == ["auto", "int8", "int4"]
    ms = {(cell["weights"], cell["workers"]): cell["hw"]["ms"] for cell in told["cells"]}
    for row, (_, n), took in zip(rows, ms, ms.values(), strict=True):
        assert float(row[names.index("times the first's tokens/s")]) == pytest.approx(ms["auto", n] / took, abs=0.006)


def test_a_model_of_a_folder_in_two_dtypes(capsys):
    few = ["--rounds", "1", "--passes", "1", "--dtype", "float32,bfloat16", "--workers", "2", "--contexts", "32"]
    code, out, _ = hw_bench(capsys, "--model", QWEN, *few)
    assert code == 0
    assert f"### {QWEN}, float32" in out
    assert f"### {QWEN}, bfloat16" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "gpt5"], "there is no shape `gpt5`"),
        (["--shape", "small", "--model", "tiny"], "give one of --model and --shape"),
        (["--workers", "17"], "16 at most"),
        (["--contexts", "many"], "--contexts"),
        (["--shape", "small", "--contexts", "200k"], "context"),
        (["--shape", "small", "--plot", "a.gif"], "a plot is written as"),
        (["--shape", "small", "--attention", "flashinfer"], "cannot run here"),
        (["--shape", "small", "--dtype", "int3"], "there is no dtype `int3`"),
        (["--shape", "small", "--opening-cache", "a"], "--opening-cache"),
    ],
)
def test_what_cannot_be_done_is_told(capsys, options, message):
    code, _, err = hw_bench(capsys, *options)
    assert code != 0
    assert message in err
