"""Weights as oneDNN reads them best, against torch's own linear layers and transformers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import hwlang as hw
from hwruntime import packed
from hwruntime.bench.limits import linears, weight_bytes
from hwruntime.packed import FEW, Packed, Turned, pack
from hwruntime.selftest import plain_logits
from tests.hwruntime.models_for_tests import WORKING, Family, random_model

PARITY = Path(__file__).parents[1] / "parity"
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def everything(monkeypatch) -> None:
    """Small layers are laid out, too."""
    monkeypatch.setattr(packed, "LARGE", 0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [Packed, Turned])
@pytest.mark.parametrize("size", [(300, 520), (128, 64), (33, 7)])
@torch.no_grad()
def test_any_number_of_rows_gives_the_product(kind, size, bias):
    linear = nn.Linear(*size, bias=bias)
    layer = kind(linear)
    for shape in ((0,), (1,), (1, 1), (2,), (1, 4), (2, 3), (FEW,), (FEW + 1,), (1, 100)):
        x = torch.randn(*shape, size[0])
        torch.testing.assert_close(layer(x), linear(x), atol=1e-5, rtol=1e-5)
    across = torch.randn(size[0], 5).T
    torch.testing.assert_close(layer(across), linear(across), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(300, 520), (33, 7)])
@torch.no_grad()
def test_a_product_in_bfloat16_is_as_near_as_torchs_own(size):
    linear = nn.Linear(*size)
    halved = nn.Linear(*size, dtype=torch.bfloat16)
    halved.load_state_dict(linear.state_dict())
    linear.load_state_dict(halved.state_dict())
    for rows in (0, 1, 2, 4, 100):
        x = torch.randn(rows, size[0], dtype=torch.bfloat16)
        torch.testing.assert_close(Packed(halved)(x).float(), linear(x.float()), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_weight_is_still_to_be_had(dtype):
    linear = nn.Linear(300, 520, dtype=dtype)
    assert torch.equal(Packed(linear).weight, linear.weight)


def test_what_the_embedding_shares_is_not_stored_twice(everything):
    model = random_model(Family("llama").config(tie_word_embeddings=True))
    count, size = len(list(linears(model))), weight_bytes(model)
    assert pack(model) == [f"weights: {count} linear layers laid out for oneDNN"]
    assert type(model.lm_head) is Turned
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert {type(layer) for layer in linears(model)} == {Packed, Turned}
    assert (len(list(linears(model))), weight_bytes(model)) == (count, size)


def test_small_layers_and_other_dtypes_are_left_alone(monkeypatch):
    model = random_model(Family("llama").config())
    assert pack(model) == []
    monkeypatch.setattr(packed, "LARGE", 0)
    assert pack(model.half()) == []
    assert {type(layer) for layer in linears(model)} == {nn.Linear}


@pytest.mark.parametrize("quick", [True, False])
def test_bfloat16_is_laid_out_where_the_cpu_has_instructions_for_it(quick, everything, monkeypatch):
    """All but what the embedding shares, which torch's own product reads as quickly as one from the left."""
    monkeypatch.setattr(packed, "quick_bfloat16", lambda: quick)
    model = random_model(Family("llama").config(tie_word_embeddings=True)).bfloat16()
    expected = plain_logits(model)
    assert bool(pack(model)) == quick
    assert {type(layer) for layer in linears(model)} == ({nn.Linear, Packed} if quick else {nn.Linear})
    assert type(model.lm_head) is nn.Linear
    torch.testing.assert_close(plain_logits(model), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["qwen3", "gemma3_text", "longcat_flash"])
@torch.no_grad()
def test_a_model_says_the_same(name, everything):
    """longcat's router makes a product of its own with its weight."""
    model = random_model(next(family for family in WORKING if family.name == name).config())
    expected = plain_logits(model)
    assert pack(model)
    torch.testing.assert_close(plain_logits(model), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", sorted(PARITY.glob("*.hw")), ids=lambda path: path.stem)
def test_texts_are_those_of_the_authors_code(path, everything):
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    engine = hw.Engine(str(PARITY / expected["model"]), dtype="float32")
    assert any("laid out for oneDNN" in line for line in engine.runtime.model.why)
    result = engine.run(hw.load(path))
    assert {name: result.workers[name].text for name in expected["workers"]} == expected["workers"]
