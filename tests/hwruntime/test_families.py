"""Refusals before any weights are loaded, by name and by configuration."""

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hwruntime.errors import ModelError
from hwruntime.families import REFUSED, refuse
from tests.hwruntime.models_for_tests import (
    WORKING,
)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_refused_by_name(kind):
    config = AutoConfig.for_model("llama")
    config.model_type = kind
    with pytest.raises(ModelError) as failure:
        refuse(config)
    assert str(failure.value) == f"models of type `{kind}` cannot run here: {REFUSED[kind]}"
    assert failure.value.help


def test_refused_families_exist():
    assert set(REFUSED) - set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) <= {"mistral4", "mistral_large4"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "recurrent state"),
        ({"layer_types": ["full_attention", "conv"]}, "convolution"),
        ({"layer_types": ["chunked_attention"]}, "cut at fixed positions"),
        ({"layer_types": ["indexed_attention"]}, "index of its own"),
        ({"layer_types": ["window_attention"]}, "layers of a type that hwlang does not know (window_attention)"),
        ({"num_kv_shared_layers": 2}, "another layer"),
        ({"is_encoder_decoder": True}, "encoder"),
        ({"alibi": True}, "ALiBi"),
        ({"index_topk": 2048}, "index of its own"),
        ({"model_type": "vit"}, "transformers knows no text generator of this type"),
    ],
)
def test_refused_by_configuration(settings, reason):
    """Whatever the family is called."""
    config = AutoConfig.for_model("qwen3")
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(ModelError, match="cannot run here") as failure:
        refuse(config)
    assert reason in str(failure.value)


def test_working_families_are_not_refused():
    for family in WORKING:
        refuse(family.config())
