"""Weights that are laid out in a model, and layers that are joined, against torch's own linear layers and
transformers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import hwlang as hw
from hwruntime import layouts, packed
from hwruntime.bench.limits import linears, weight_bytes
from hwruntime.packed import Joint, Packed, Part, pack
from hwruntime.quantized import OWN, quantize
from hwruntime.selftest import plain_logits
from tests.hwruntime.models_for_tests import WORKING, Family, random_model
from tests.hwruntime.own_kernels import needs_bfloat16, needs_products

PARITY = Path(__file__).parents[1] / "parity"
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def everything(monkeypatch) -> None:
    """Small layers are laid out, too."""
    monkeypatch.setattr(packed, "LARGE", 0)


def joint(bias: bool) -> tuple[list[nn.Linear], list[Part]]:
    linears = [nn.Linear(70, size, bias=bias) for size in (33, 128, 5)]
    whole = Joint(linears)
    return linears, [Part(whole, index) for index in range(len(linears))]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_read_the_same_rows_are_one_product(inference, bias):
    linears, parts = joint(bias)
    made = []
    parts[0].joint.whole.register_forward_pre_hook(lambda _, inputs: made.append(inputs[0]))
    with torch.inference_mode(inference), torch.no_grad():
        for shape in ((1, 1, 70), (1, 4, 70), (3, 70), (0, 70)):
            x = torch.randn(shape)
            for order in ([0, 1, 2], [2, 0, 1]):
                made.clear()
                for index in order:
                    torch.testing.assert_close(parts[index](x), linears[index](x), atol=1e-5, rtol=1e-5)
                assert len(made) == 1


@torch.no_grad()
def test_rows_that_have_changed_are_read_again():
    """Others, the same ones in place, and the same ones once more by the same layer."""
    linears, parts = joint(True)
    x, y = torch.randn(4, 70), torch.randn(4, 70)
    for index, rows in ((0, x), (1, y), (1, x), (1, x), (0, y), (2, y)):
        torch.testing.assert_close(parts[index](rows), linears[index](rows), atol=1e-5, rtol=1e-5)
    parts[0](x)
    x.mul_(2)
    torch.testing.assert_close(parts[1](x), linears[1](x), atol=1e-5, rtol=1e-5)
    parts[0](x).zero_()
    torch.testing.assert_close(parts[2](x), linears[2](x), atol=1e-5, rtol=1e-5)


@needs_products
@pytest.mark.parametrize("kind", OWN.values())
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_layers_of_few_bits_are_joined_as_they_are(kind, bias):
    layers = [kind(nn.Linear(96, size, bias=bias)) for size in (48, 16, 32)]
    whole = Joint(layers)
    for rows in (1, 3, 20):
        x = torch.randn(rows, 96)
        for index, layer in enumerate(layers):
            assert torch.equal(Part(whole, index)(x), layer(x))
    for index, layer in enumerate(layers):
        assert torch.equal(Part(whole, index).weight, layer.weight)


@needs_products
@pytest.mark.parametrize("weights", OWN)
def test_queries_keys_and_values_of_few_bits_are_joined(weights):
    model = random_model(Family("llama").config())
    quantize(model, weights)
    expected, size = plain_logits(model), weight_bytes(model)
    count = len(list(linears(model)))
    assert pack(model) == []
    kinds = {name.rpartition(".")[2]: type(layer) for name, layer in model.named_modules() if "_proj" in name}
    assert kinds["q_proj"] is kinds["k_proj"] is kinds["v_proj"] is kinds["gate_proj"] is kinds["up_proj"] is Part
    assert kinds["o_proj"] is kinds["down_proj"] is OWN[weights]
    assert (len(list(linears(model))), weight_bytes(model)) == (count, size)
    assert torch.equal(plain_logits(model), expected)


@torch.no_grad()
def test_the_weights_of_each_are_still_to_be_had():
    for bias in (True, False):
        for linear, part in zip(*joint(bias), strict=True):
            assert torch.equal(part.weight, linear.weight)
            assert torch.equal(part.bias, linear.bias) if bias else part.bias is None


def test_queries_keys_and_values_are_joined_and_gates_with_what_they_open(everything):
    model = random_model(Family("llama").config())
    pack(model)
    kinds = {name.rpartition(".")[2]: type(layer) for name, layer in model.named_modules() if "_proj" in name}
    assert kinds["q_proj"] is kinds["k_proj"] is kinds["v_proj"] is kinds["gate_proj"] is kinds["up_proj"] is Part
    assert kinds["o_proj"] is kinds["down_proj"] is Packed
    first = model.base_model.layers[0]
    assert first.self_attn.q_proj.joint is first.self_attn.v_proj.joint
    assert first.self_attn.q_proj.joint is not first.mlp.up_proj.joint


def tied() -> PreTrainedModel:
    return random_model(Family("llama").config(tie_word_embeddings=True))


@pytest.mark.parametrize("name", [None, "gemma3_text"])  # gemma's embedding is of a class of its own: it scales
def test_what_the_embedding_shares_is_not_stored_twice(everything, name):
    family = Family("llama") if name is None else next(family for family in WORKING if family.name == name)
    model = random_model(family.config(tie_word_embeddings=True))
    expected = plain_logits(model)
    count, size = len(list(linears(model))), weight_bytes(model)
    assert pack(model) == [f"weights: {count} linear layers laid out for oneDNN"]
    assert model.lm_head.packed is model.get_input_embeddings().packed
    assert (len(list(linears(model))), weight_bytes(model)) == (count, size)
    torch.testing.assert_close(plain_logits(model), expected, atol=1e-4, rtol=1e-4)


class Marked(nn.Embedding):
    """Does not treat all tokens alike."""

    def forward(self, tokens):
        return super().forward(tokens) * (tokens[..., None] < 100)


def test_an_embedding_that_looks_at_more_than_its_rows_stays_as_it_was(everything):
    model = tied()
    marked = Marked(*model.get_input_embeddings().weight.shape)
    marked.weight = model.lm_head.weight
    model.set_input_embeddings(marked)
    expected = plain_logits(model)
    assert "lm_head is as it was" in pack(model)[1]
    assert model.get_input_embeddings() is marked
    torch.testing.assert_close(plain_logits(model), expected, atol=1e-4, rtol=1e-4)


def test_an_unknown_layout_leaves_the_embedding_as_it_was(everything, monkeypatch):
    monkeypatch.setattr(layouts, "BLOCKS", ())
    model = tied()
    assert "lm_head is as it was" in pack(model)[1]
    assert type(model.lm_head) is nn.Linear
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_small_layers_and_other_dtypes_are_left_alone(monkeypatch):
    model = random_model(Family("llama").config())
    assert pack(model) == []
    monkeypatch.setattr(packed, "LARGE", 0)
    assert pack(model.half()) == []
    assert {type(layer) for layer in linears(model)} == {nn.Linear}


@pytest.mark.parametrize("quick", [True, False])
def test_bfloat16_is_laid_out_where_the_cpu_has_instructions_for_it(quick, everything, monkeypatch):
    monkeypatch.setattr(layouts, "quick_bfloat16", lambda: quick)
    model = tied().bfloat16()
    expected = plain_logits(model)
    assert bool(pack(model)) == quick
    assert {type(layer) for layer in linears(model)} == ({Packed, Part} if quick else {nn.Linear})
    torch.testing.assert_close(plain_logits(model), expected, atol=0.05, rtol=0.05)


@needs_bfloat16
def test_bfloat16_is_laid_out_for_our_kernels_where_they_run(everything):
    model = tied().bfloat16()
    expected = plain_logits(model)
    count, size = len(list(linears(model))), weight_bytes(model)
    assert pack(model) == [f"weights: {count} linear layers laid out for our kernels"]
    assert model.lm_head.packed is model.get_input_embeddings().packed
    assert (len(list(linears(model))), weight_bytes(model)) == (count, size)
    torch.testing.assert_close(plain_logits(model), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", [f.name for f in WORKING])
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
