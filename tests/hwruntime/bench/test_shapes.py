"""Models of published sizes."""

import pytest
import torch

from hwruntime.bench.shapes import SHAPES, byte_tokenizer, open_shape, random_model
from hwruntime.errors import ModelError


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen3-0.6b", 596_049_920),
        ("llama-3.2-1b", 1_235_814_400),
        ("qwen3-8b", 8_190_735_360),
    ],
)
def test_shapes_have_the_parameters_that_are_published(name, parameters):
    model = random_model(SHAPES[name].config(), torch.device("meta"), torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_shape_is_a_model_in_the_dtype_that_is_asked_for():
    checkpoint = open_shape("small", device="cpu", dtype="bfloat16")
    assert checkpoint.model.dtype == torch.bfloat16
    assert checkpoint.tokenizer.end_tokens == frozenset()
    assert "dtype: bfloat16" in checkpoint.why


def test_an_unknown_shape_says_which_there_are():
    with pytest.raises(ModelError, match="there is no shape `gpt5`") as failure:
        open_shape("gpt5")
    assert "qwen2.5-0.5b" in str(failure.value.help)


def test_a_byte_is_a_token():
    tokenizer = byte_tokenizer(512)
    assert len(tokenizer) == 512
    assert len(tokenizer.encode("a" * 70, add_special_tokens=False)) == 70
    text = "Ünï\ncode 7"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.decode([300]) == "<300>"
