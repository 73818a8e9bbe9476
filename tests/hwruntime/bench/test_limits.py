"""What a machine allows."""

import pytest
import torch
from torch import Tensor

from hwruntime.attention import Heads, Layer
from hwruntime.bench.limits import Copy, Linears, linears, token_bytes, weight_bytes
from hwruntime.bench.shapes import SHAPES, random_model
from tests.hwruntime.models_for_tests import Family
from tests.hwruntime.models_for_tests import random_model as random_family

CPU = torch.device("cpu")


def test_a_tied_embedding_is_read_as_the_output_layer():
    tied = random_model(SHAPES["small"].config(), CPU, torch.bfloat16)
    assert weight_bytes(tied) == 2 * sum(p.numel() for p in tied.parameters())


def test_an_embedding_of_its_own_is_not_read():
    model = random_family(Family("llama").config())
    embedding = model.get_input_embeddings().weight.numel()
    assert weight_bytes(model) == 4 * (sum(p.numel() for p in model.parameters()) - embedding)


def test_a_token_has_keys_and_values_in_every_layer():
    layers = [Layer(index, Heads(8, 2, 16, 12), 1.0, None) for index in range(3)]
    assert token_bytes(layers, 2) == 3 * 2 * (16 + 12) * 2


@pytest.mark.parametrize("copied", [2**10, 2**22])
def test_the_linear_layers_are_plain_ones_of_their_sizes_with_a_row_for_each_worker(copied, monkeypatch):
    """However large the store of weights is."""
    monkeypatch.setattr("hwruntime.bench.limits.COPIED", copied)
    model = random_model(SHAPES["small"].config(), CPU, torch.float32)
    made = []

    def linear(x: Tensor, weight: Tensor) -> None:
        made.append((tuple(x.shape), tuple(weight.shape)))

    alone = Linears(model, 3)
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    assert alone.step() > 0
    sizes = [(layer.out_features, layer.in_features) for layer in linears(model)]
    assert len(sizes) == 2 * 7 + 1
    assert made == [((3, k), (n, k)) for n, k in sizes]


def test_a_copy_reads_and_writes(monkeypatch):
    monkeypatch.setattr("hwruntime.bench.limits.COPIED", 2**22)
    copy = Copy(CPU)
    copy._target.zero_()
    assert copy.bytes == 2**23
    assert 1e8 < copy.bytes / copy.step() * 1e3 < 1e13
    assert torch.equal(copy._target, copy._source)
