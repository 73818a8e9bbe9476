"""The self-test finds every mistake that could give wrong text."""

import dataclasses

import pytest
import torch

from hwruntime.attention.torch import TorchExecutor
from hwruntime.cache import Storage
from hwruntime.errors import ModelError
from hwruntime.layers import probe
from tests.hwruntime.models_for_tests import (
    BY_NAME,
    loaded,
    random_model,
)


def test_the_test_leaves_an_empty_pool():
    assert loaded(random_model(BY_NAME["llama"].config())).pool.used == 0


@pytest.mark.parametrize("std", [0.02, 0.15])
@pytest.mark.parametrize("family", ["llama", "deepseek_v3", "cohere2"])
def test_an_executor_that_does_not_rotate_is_found(family, std, monkeypatch):
    """Even in a model that hardly looks at positions."""
    hf = random_model(BY_NAME[family].config(), std)
    loaded(hf)
    monkeypatch.setattr(TorchExecutor, "_rotate", lambda self, laid, rotation, q: q)
    with pytest.raises(
        ModelError, match=r"failed the self-test: a block behind another, .* \(logits off by .* allowed"
    ):
        loaded(random_model(BY_NAME[family].config(), std))


def test_a_move_that_does_not_rotate_is_found(monkeypatch):
    move = Storage.move
    monkeypatch.setattr(
        Storage, "move", lambda self, source, target, rotate: move(self, source, target, lambda i, k: k)
    )
    with pytest.raises(ModelError, match="text decoded before and after a move"):
        loaded(random_model(BY_NAME["llama"].config()))


def test_a_wrong_window_is_found(monkeypatch):
    def wider(*arguments):
        layers = probe(*arguments)
        return {module: dataclasses.replace(layer, window=layer.window + 1) for module, layer in layers.items()}

    monkeypatch.setattr("hwruntime.models.probe", wider)
    with pytest.raises(ModelError, match="failed the self-test: a block, "):
        loaded(random_model(BY_NAME["mistral+window"].config()))


def test_weights_that_are_not_numbers_are_refused():
    hf = random_model(BY_NAME["llama"].config())
    with torch.no_grad():
        hf.model.layers[3].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="failed the self-test"):
        loaded(hf)
