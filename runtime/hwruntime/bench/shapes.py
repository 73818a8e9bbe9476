"""Models of published sizes with random weights: how long a pass takes does not depend on what they say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from hwruntime.checkpoint import Checkpoint
from hwruntime.devices import find_device, find_dtype
from hwruntime.errors import ModelError
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.quantized import check_weights, quantize

CONTEXT = 131_072  # tokens that the models are told they can read


@dataclass(frozen=True)
class Shape:
    """A model's published sizes; `family` is transformers' name for its code, `tied`: whether the input embedding is
    the output layer, too."""

    family: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool

    def config(self) -> PreTrainedConfig:
        make: Any = AutoConfig  # untyped
        config: PreTrainedConfig = make.for_model(
            self.family,
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            tie_word_embeddings=self.tied,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            eos_token_id=None,
            bos_token_id=None,
        )
        return config


SHAPES: Mapping[str, Shape] = {
    "qwen2.5-0.5b": Shape("qwen2", 151_936, 896, 4864, 24, 14, 2, 64, True),
    "qwen3-0.6b": Shape("qwen3", 151_936, 1024, 3072, 28, 16, 8, 128, True),
    "llama-3.2-1b": Shape("llama", 128_256, 2048, 8192, 16, 32, 8, 64, True),
    "qwen3-8b": Shape("qwen3", 151_936, 4096, 12_288, 36, 32, 8, 128, False),
    "small": Shape("qwen3", 512, 128, 256, 2, 4, 2, 32, True),  # to try `hw bench` itself
}


def open_shape(name: str, *, device: str = "auto", dtype: str = "auto", weights: str = "auto") -> Checkpoint:
    """A model of these sizes; it never ends a text. Raises `ModelError` for an unknown name, and `DeviceError`."""
    if name not in SHAPES:
        raise ModelError(f"there is no shape `{name}`", help=f"one of {', '.join(SHAPES)}")
    where = find_device(device)
    check_weights(weights, where)
    numbers = find_dtype(dtype, where, torch.bfloat16) or torch.bfloat16  # in which such models are published
    model = random_model(SHAPES[name].config(), where, numbers)
    used = str(numbers).removeprefix("torch.")
    why = [f"device: {where}", f"dtype: {used}", f"weights: random, of the shape of {name}", *quantize(model, weights)]
    return Checkpoint(name, model, ModelTokenizer(byte_tokenizer(SHAPES[name].vocabulary), frozenset()), CONTEXT, why)


def random_model(config: PreTrainedConfig, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A model whose weights are made on the device, in their dtype: they are nowhere else, and never in another one."""
    torch.manual_seed(0)
    make: Any = AutoModelForCausalLM  # untyped
    with torch.device(device):
        model: PreTrainedModel = make.from_config(config, dtype=dtype, attn_implementation="eager").eval()
    return model


def byte_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` tokens: one for each byte, and names for the others."""
    alphabet: list[str] = list(bytes_to_unicode().values())  # type: ignore[no-untyped-call]
    names = [*alphabet, *(f"<{index}>" for index in range(len(alphabet), size))]
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]
