"""Weights as oneDNN reads them best, against torch's own linear layers and transformers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import hwlang as hw
from hwruntime import packed
from hwruntime.bench.limits import linears, weight_bytes
from hwruntime.packed import FEW, Joint, Packed, PackedEmbedding, Part, blocks_of, pack
from hwruntime.selftest import plain_logits
from tests.hwruntime.models_for_tests import WORKING, Family, random_model

PARITY = Path(__file__).parents[1] / "parity"
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def everything(monkeypatch) -> None:
    """Small layers are laid out, too."""
    monkeypatch.setattr(packed, "LARGE", 0)


@pytest.mark.parametrize("few", [0, FEW])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(300, 520), (128, 64), (33, 7)])
@torch.no_grad()
def test_any_number_of_rows_gives_the_product(size, bias, few, monkeypatch):
    monkeypatch.setattr(packed, "too_few", lambda: few)
    linear = nn.Linear(*size, bias=bias)
    layer = Packed(linear)
    for shape in ((), (0,), (1,), (1, 1), (2,), (1, 2), (2, 2), (0, 2), (3,), (1, 4), (2, 3), (16,), (1, 100)):
        x = torch.randn(*shape, size[0])
        torch.testing.assert_close(layer(x), linear(x), atol=1e-5, rtol=1e-5)
    across = torch.randn(size[0], 5).T
    torch.testing.assert_close(layer(across), linear(across), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("few", [0, FEW])
@pytest.mark.parametrize("size", [(300, 520), (33, 7)])
@torch.no_grad()
def test_a_product_in_bfloat16_is_as_near_as_torchs_own(size, few, monkeypatch):
    monkeypatch.setattr(packed, "too_few", lambda: few)
    linear = nn.Linear(*size)
    halved = nn.Linear(*size, dtype=torch.bfloat16)
    halved.load_state_dict(linear.state_dict())
    linear.load_state_dict(halved.state_dict())
    for rows in (0, 1, 2, 3, 4, 100):
        x = torch.randn(rows, size[0], dtype=torch.bfloat16)
        torch.testing.assert_close(Packed(halved)(x).float(), linear(x.float()), atol=0.02, rtol=0.01)


@pytest.mark.parametrize(("vendor", "rows"), [("AuthenticAMD", FEW), ("GenuineIntel", 0), (None, 0)])
def test_few_rows_are_filled_up_where_that_is_known_to_be_quicker(vendor, rows, monkeypatch):
    monkeypatch.setattr(packed, "cpu_info", lambda: {"vendor_id": vendor} if vendor else {})
    assert packed.too_few.__wrapped__() == rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_weight_is_still_to_be_had(dtype):
    linear = nn.Linear(300, 520, dtype=dtype)
    assert torch.equal(Packed(linear).weight, linear.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(127, 128), (257, 70), (1000, 33), (64, 16), (5, 3)])
@torch.no_grad()
def test_rows_are_read_where_they_are_laid_out(size, dtype):
    linear, embedding = nn.Linear(*size[::-1], dtype=dtype), nn.Embedding(*size, dtype=dtype)
    embedding.weight = linear.weight
    layer = Packed(linear)
    reads = PackedEmbedding(embedding, layer, blocks_of(layer.packed, linear.weight))
    for tokens in (torch.arange(size[0]), torch.randint(size[0], (2, 7)), torch.tensor([], dtype=torch.long)):
        assert torch.equal(reads(tokens), embedding(tokens))
    assert torch.equal(reads.weight, embedding.weight)


@torch.no_grad()
def test_a_layout_that_does_not_hold_the_rows_is_none_that_we_know():
    linear = nn.Linear(64, 300)
    packed = Packed(linear).packed
    assert blocks_of(packed, linear.weight) is not None
    assert blocks_of(packed, linear.weight.flip(0)) is None
    changed = linear.weight.clone()
    changed[-1, -1] += 1
    assert blocks_of(packed, changed) is None


def joint(bias: bool) -> tuple[list[nn.Linear], list[Part]]:
    linears = [nn.Linear(70, size, bias=bias) for size in (33, 128, 5)]
    whole = Joint(linears)
    return linears, [Part(linear, whole, index) for index, linear in enumerate(linears)]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_read_the_same_rows_are_one_product(inference, bias, monkeypatch):
    linears, parts = joint(bias)
    made = []
    monkeypatch.setattr(packed, "product", lambda x, *rest, was=packed.product: made.append(x) or was(x, *rest))
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
    monkeypatch.setattr(packed, "BLOCKS", ())
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
    monkeypatch.setattr(packed, "quick_bfloat16", lambda: quick)
    model = tied().bfloat16()
    expected = plain_logits(model)
    assert bool(pack(model)) == quick
    assert {type(layer) for layer in linears(model)} == ({Packed, Part} if quick else {nn.Linear})
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
