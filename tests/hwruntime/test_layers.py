"""What the probe reads off a model, and what it refuses."""

import pytest
import torch

from hwruntime.errors import ModelError
from hwruntime.rotary import Rotary
from tests.hwruntime.models_for_tests import (
    BY_NAME,
    EXPERTS,
    LOCAL_EXPERTS,
    SCALED,
    Family,
    loaded,
    random_model,
)


def layers_of(name: str) -> list[str]:
    """The layers of a family in short: rotation, window, softcap, sinks."""
    shown = []
    for layer in loaded(random_model(BY_NAME[name].config())).layers.values():
        rotation = layer.rotation
        assert rotation is None or isinstance(rotation, Rotary)
        text = "-" if rotation is None else f"{rotation.start}+{2 * len(rotation.frequencies)}"
        text += "i" if rotation is not None and rotation.interleaved else ""
        text += f" window {layer.window}" if layer.window else ""
        text += f" softcap {layer.softcap:.0f}" if layer.softcap else ""
        shown.append(text + (" sinks" if layer.sinks is not None else ""))
    return shown


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("llama", ["0+16"] * 4),
        ("phi3", ["0+12"] * 4),
        ("glm", ["0+8i"] * 4),
        ("deepseek_v3", ["16+16"] * 4),
        ("smollm3", ["0+16", "0+16", "0+16", "-"]),
        ("cohere2", ["0+16i window 8"] * 3 + ["-"]),
        ("gemma2", ["0+16 window 8 softcap 50", "0+16 softcap 50"] * 2),
        ("gpt_oss", ["0+16 window 8 sinks", "0+16 sinks"] * 2),
        ("phimoe+window", ["0+16 window 8"] * 4),
        ("olmoe+no window", ["0+16"] * 4),
        ("longcat_flash", ["16+16"] * 4),  # two attentions in each of two layers
    ],
)
def test_layers(name, layers):
    assert layers_of(name) == layers


@pytest.mark.parametrize("context", [32, 131072, 1 << 20])
@pytest.mark.parametrize("name", ["llama+llama3", "gemma2", "glm"])
def test_short_and_long_contexts(name, context):
    """Angles far out are rough in float32: not so rough that a model is refused."""
    model = loaded(random_model(BY_NAME[name].config(max_position_embeddings=context)))
    assert model.context == context


def test_rotations_are_shared_by_layers():
    """Tables are made once a pass for each rotation, so two layers must not have two of the same."""
    layers = loaded(random_model(BY_NAME["gemma3_text"].config())).layers.values()
    assert len({id(layer.rotation) for layer in layers}) == 2


LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "shared_expert_intermediate_size": 32,
}


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (Family("hunyuan_v1_dense"), "layer 0 .* does not rotate"),  # weighted norms behind the rotation
        (Family("gpt2"), "layer 0 .* does not rotate"),
        (Family("ministral3", SCALED), "layer 0 .* does not rotate"),
        (Family("qwen3_next", {**EXPERTS, **LINEAR}), "failed the self-test"),
        (Family("lfm2", {"layer_types": ["conv", "full_attention"] * 2}), "failed the self-test"),
        (Family("doge"), "changes its attention mask"),
        (Family("llama4_text", {**LOCAL_EXPERTS, "attention_chunk_size": 8, "moe_layers": []}), "another way than"),
        (Family("diffllama"), "several times in one pass"),
        (Family("mpt"), "cannot replace the attention of MptForCausalLM"),
        (Family("mamba"), "attends in a way that cannot be replaced"),
        (Family("bert"), "layer 0 .* does not rotate"),
        (Family("llama+short", {"max_position_embeddings": 16}), "context of 16 tokens"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_not_known_by_name_is_refused_by_its_behaviour(family, reason):
    """The probe and the self-test find every one of these by themselves: a new family of the kind does not get past."""
    with pytest.raises(ModelError, match=reason):
        loaded(random_model(family.config()))


def test_a_wrong_rotation_is_found(monkeypatch):
    """One that is right for nearby positions, and wrong far out."""

    def tables(self: Rotary, deltas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = (deltas[:, None] * self.frequencies) % 1.0
        return angles.cos(), angles.sin()

    monkeypatch.setattr(Rotary, "tables", tables)
    with pytest.raises(ModelError, match="does not rotate its queries and keys"):
        loaded(random_model(BY_NAME["llama"].config()))
