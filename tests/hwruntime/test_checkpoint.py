"""A loaded model: what follows from its settings, and what it tells of the choices that were made."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedConfig

from hwruntime import checkpoint
from hwruntime.checkpoint import open_checkpoint
from hwruntime.errors import ModelError
from hwruntime.models import Model
from tests.hwruntime.models_for_tests import QWEN, configure


def test_a_model_tells_what_was_chosen():
    model = Model.load(str(QWEN))
    assert (model.name, model.context, model.vocab_size) == (str(QWEN), 4096, 320)
    assert model.dtype == "float32" or model.device != "cpu"
    assert model.tokenizer.decode(model.tokenizer.encode("丁七")) == "丁七"
    for word in ("device", "dtype", "context", "attention"):
        assert any(line.startswith(f"{word}: ") for line in model.why)


def test_the_embedded_model():
    model = Model.load("tiny", kv_tokens=1000)
    assert model.name == "tiny"
    assert model.pool.capacity == 1008
    assert model.pool.used == 0


def test_a_configuration_that_does_not_say_how_long():
    with pytest.raises(ModelError, match="max_position_embeddings"):
        checkpoint._context(PreTrainedConfig())


def ends(folder: Path, generation: dict[str, object] | None, config: object) -> frozenset[int]:
    path = folder / "generation_config.json"
    path.unlink(missing_ok=True)
    if generation is not None:
        path.write_text(json.dumps(generation))
    configure(folder, eos_token_id=config)
    loaded = open_checkpoint(str(folder), device="cpu", dtype="auto", trust_remote_code=False)
    return loaded.tokenizer.end_tokens


def test_end_tokens(folder):
    """Of the generation settings, else of the configuration, else the tokenizer's."""
    assert ends(folder, {"eos_token_id": [5, 7]}, 9) == {5, 7}
    assert ends(folder, {"eos_token_id": 5}, 9) == {5}
    assert ends(folder, None, [9, 8]) == {8, 9}
    assert ends(folder, None, None) == {1}


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_type": "default"}, 4096),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384),  # as Qwen's
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),  # as DeepSeek's
        ({"rope_type": "linear", "factor": 2.0}, 4096),
        ({"rope_type": "dynamic", "factor": 2.0}, 4096),
    ],
)
def test_contexts(folder, rope, context):
    configure(folder, rope_parameters={"rope_theta": 10000.0, **rope})
    assert Model.load(str(folder)).context == context
