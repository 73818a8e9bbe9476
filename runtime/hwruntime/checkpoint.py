"""A loaded model, before our attention takes over: configuration, weights, tokenizer, and what follows from them."""

from dataclasses import dataclass
from typing import cast

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hwruntime.devices import DTYPES, find_device, find_dtype
from hwruntime.errors import ModelError
from hwruntime.families import refuse
from hwruntime.kept import Files
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.quantized import check_weights, quantize
from hwruntime.quiet import quiet
from hwruntime.source import find_source


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, still with its own attention.

    `context`: its longest view, in tokens; `why`: a line for each choice that was made, for `-v`. `files`: those that
    it was loaded from; None for a model that was made in memory. `weights`: as `quantized.WEIGHTS` has them.
    """

    name: str
    model: PreTrainedModel
    tokenizer: ModelTokenizer
    context: int
    why: list[str]
    files: Files | None = None
    weights: str = "auto"


def open_checkpoint(
    name: str, *, device: str, dtype: str, trust_remote_code: bool, weights: str = "auto"
) -> Checkpoint:
    """Load `tiny`, a folder or a model of the Hugging Face hub. `weights`: as `quantized.WEIGHTS` has them.

    Raises `ModelError` and, for a device or dtype that is not to be had, `DeviceError`.
    """
    chosen = find_device(device)
    check_weights(weights, chosen)
    with quiet():
        source = find_source(name, trust_remote_code)
        config = source.config()
        refuse(config, own_code=trust_remote_code and hasattr(config, "auto_map"))
        text_config = config.get_text_config(decoder=True)
        context, context_why = _context(text_config)
        asked = find_dtype(dtype, chosen, _stored(text_config) or _stored(config))
        model, why = source.model(config, chosen, asked)
        tokenizer = source.tokenizer(cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings)
    used = str(model.dtype).removeprefix("torch.")
    why = [f"device: {chosen}, {'asked for' if device != 'auto' else 'the best one here'}", f"dtype: {used}", *why]
    files = source.files()
    why += quantize(model, weights, files)
    ends = _end_tokens(model.generation_config, model.config, tokenizer)
    return Checkpoint(name, model, ModelTokenizer(tokenizer, ends), context, [*why, context_why], files, weights)


@dataclass(frozen=True)
class Text:
    """A model without its weights: what it reads and writes. `size`: how many tokens it knows; `why`: of the context.
    `stored`: the dtype of its weights, where its configuration says so."""

    config: PreTrainedConfig
    tokenizer: ModelTokenizer
    size: int
    context: int
    why: str
    stored: torch.dtype | None


def open_text(name: str, trust_remote_code: bool = False) -> Text:
    """All of a model but its weights. Raises `ModelError`."""
    with quiet():
        source = find_source(name, trust_remote_code)
        config = source.config()
        text_config = config.get_text_config(decoder=True)
        context, why = _context(text_config)
        tokenizer = source.tokenizer(text_config.vocab_size)
        ends = _end_tokens(source.generation_config(), config, tokenizer)
    stored = _stored(text_config) or _stored(config)
    return Text(config, ModelTokenizer(tokenizer, ends), text_config.vocab_size, context, why, stored)


def _stored(config: PreTrainedConfig) -> torch.dtype | None:
    """The dtype that the weights are in, as far as the configuration says it."""
    told = config.dtype
    return DTYPES.get(told.removeprefix("torch.")) if isinstance(told, str) else told


def _context(config: PreTrainedConfig) -> tuple[int, str]:
    """The longest view, and why.

    Most configs count an extension of the context into max_position_embeddings. Some with YaRN (Qwen's) do not, so with
    YaRN it is what the extension comes to, where that is more. Dynamic NTK stays within max_position_embeddings, where
    it is the plain rotation.
    """
    told = getattr(config, "max_position_embeddings", None)
    if not isinstance(told, int) or told <= 0:
        raise ModelError("the model's configuration does not say how long a text it can read (max_position_embeddings)")
    parameters = getattr(config, "rope_parameters", None) or {}
    if parameters.get("rope_type") == "yarn":
        extended = int((parameters.get("original_max_position_embeddings") or told) * (parameters.get("factor") or 1.0))
        if extended > told:
            return extended, f"context: {extended} tokens, as YaRN extends it"
    return told, f"context: {told} tokens, as its configuration says"


def _end_tokens(
    settings: GenerationConfig | None, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """Of the generation settings, else of the configuration, else the tokenizer's."""
    for source in (settings, config, tokenizer):
        ends: int | list[int] | None = getattr(source, "eos_token_id", None)
        if ends is not None:
            return frozenset([ends] if isinstance(ends, int) else ends)
    return frozenset()
