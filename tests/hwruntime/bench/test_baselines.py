"""The same work by others."""

import sys

import pytest
import torch

from hwruntime.bench.baselines import Reference, Sequences, plain
from hwruntime.bench.scene import Filled
from hwruntime.bench.shapes import open_shape
from hwruntime.errors import ModelError

# As much of the authors' interface as is used, with views that count: it is theirs that is timed, not this.
CLONE = """
class CacheBlock:
    def __init__(self, config):
        self.layers = set()
        self.length = 0

    def append(self, keys, values, layer, positions):
        assert keys.shape == values.shape and keys.shape[2] == len(positions["cache_position"])
        self.layers.add(layer)
        self.length = keys.shape[2]


class SharedCacheManager:
    def __init__(self, cache_structure, write_to):
        prompts = {view[0] for view in cache_structure}
        assert len(prompts) == 1 and len(prompts.pop().layers) == 2
        assert [view[-1] for view in cache_structure] == write_to
        assert all(len(set(view)) == 1 + len(write_to) for view in cache_structure)

    def get_input_kwargs(self, input_ids):
        return {"input_ids": input_ids, "use_cache": False}
"""


def test_the_plain_model_shares_its_weights_and_keeps_its_attention():
    checkpoint = open_shape("small", device="cpu", dtype="float32")
    tokens = torch.tensor([[5, 9, 7]])
    with torch.no_grad():
        expected = checkpoint.model(input_ids=tokens).logits
        other = plain(checkpoint.model)
        mine, theirs = (model.get_input_embeddings().weight for model in (checkpoint.model, other))
        assert mine.data_ptr() == theirs.data_ptr()
        Filled(checkpoint, "torch")  # our attention takes the model over
        torch.testing.assert_close(other(input_ids=tokens).logits, expected)


def test_sequences_have_caches_of_their_own():
    sequences = Sequences(plain(open_shape("small", device="cpu", dtype="float32").model), 50, 3)
    assert sequences.step() > 0
    assert sequences.step() > 0
    assert sequences._cache.get_seq_length() == 52
    assert sequences._cache.layers[0].keys.shape[0] == 3


def test_the_authors_code_is_timed_in_a_process_of_its_own(tmp_path):
    (tmp_path / "shared_cache").mkdir()
    (tmp_path / "shared_cache" / "__init__.py").write_text(CLONE)
    config = open_shape("small", device="cpu", dtype="float32").model.config
    reference = Reference(tmp_path, sys.executable, config, torch.float32, threads=1)
    steps = [reference.open(20, workers) for workers in (1, 3)]
    assert all(step() > 0 for step in (*steps, *steps))
    reference.close()


def test_authors_code_that_does_not_start_is_told(tmp_path, capfd):
    config = open_shape("small", device="cpu", dtype="float32").model.config
    reference = Reference(tmp_path, sys.executable, config, torch.float32, threads=1)
    with pytest.raises(ModelError, match="the authors' code has stopped"):
        reference.open(20, 1)
    assert "shared_cache" in capfd.readouterr().err
    reference.close()
