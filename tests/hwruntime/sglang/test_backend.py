"""Our backend under SGLang's names: what it hands on, what it refuses, and how SGLang gets to know it."""

from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
import torch

from hwruntime.errors import ModelError
from tests.hwruntime.sglang.marks import needs_sglang

pytestmark = needs_sglang

HEADS, KV_HEADS, DIM, SLOTS = 4, 2, 8, 10


class FakePool:
    def __init__(self) -> None:
        self.keys = torch.randn(SLOTS, KV_HEADS, DIM)
        self.values = torch.randn(SLOTS, KV_HEADS, DIM)

    def get_kv_buffer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.keys, self.values


@pytest.fixture
def backend():
    from hwruntime.sglang.backend import HogwildBackend

    made = HogwildBackend(SimpleNamespace(token_to_kv_pool=FakePool(), req_to_token_pool=None))
    made.seen = []

    def target(call):
        made.seen.append(call)
        return call.v.repeat_interleave(HEADS // KV_HEADS, 1)

    made.target = target
    return made


def layer(**options):
    from sglang.srt.layers.radix_attention import RadixAttention

    return RadixAttention(HEADS, DIM, 0.5, KV_HEADS, 0, **options)


def attend(backend, radix, save=True, **options):
    q, k, v = (torch.randn(3, heads * DIM) for heads in (HEADS, KV_HEADS, KV_HEADS))
    batch = SimpleNamespace(out_cache_loc=torch.tensor([7, 2, 5]))
    return backend.forward(q, k, v, radix, batch, save, **options)


def test_a_call_is_told_in_our_words(backend):
    sinks = torch.zeros(HEADS)
    out = attend(backend, layer(logit_cap=30.0, sliding_window_size=15), sinks=sinks)
    (call,) = backend.seen
    assert call.q.shape == (3, HEADS, DIM)
    assert call.k.shape == call.v.shape == (3, KV_HEADS, DIM)
    assert call.options == {"s_aux": sinks, "scaling": 0.5, "softcap": 30.0, "sliding_window": 16}
    assert out.shape == (3, HEADS * DIM)


def test_what_a_kernel_has_stored_is_taken_from_there(backend):
    """It has rotated the keys on their way; those that are handed over may not be."""
    attend(backend, layer(), save=False)
    (call,) = backend.seen
    assert torch.equal(call.k, backend.token_to_kv_pool.keys[[7, 2, 5]])
    assert torch.equal(call.v, backend.token_to_kv_pool.values[[7, 2, 5]])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"is_cross_attention": True}, "reads its prompt with an encoder"),
        ({"use_irope": True}, "cut at fixed positions"),
        ({"pos_encoding_mode": "ALIBI"}, "puts positions into its attention itself"),
        ({"logit_cap": 5.0, "logit_capping_method": "hard"}, "in a way of its own"),
    ],
)
def test_layers_that_are_refused(backend, options, reason):
    with pytest.raises(ModelError, match=f"layer 0 of the model cannot run here: .*{reason}"):
        attend(backend, layer(**options))


def test_grok_is_refused(backend):
    radix = layer()
    radix.xai_temperature_len = 1024
    with pytest.raises(ModelError, match="scales queries by their position"):
        attend(backend, radix)


def test_shared_keys_are_refused(backend):
    q = torch.randn(3, HEADS * DIM)
    with pytest.raises(ModelError, match="keys and values of another layer"):
        backend.forward(q, None, None, layer(), SimpleNamespace(out_cache_loc=None))


def test_a_server_of_sglang_cannot_use_it(backend):
    backend.target = None
    with pytest.raises(ModelError, match="is driven by hwlang"):
        attend(backend, layer())


def test_sglang_finds_the_plugin():
    from sglang.srt.arg_groups.choices import ATTENTION_BACKEND_CHOICES
    from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS
    from sglang.srt.plugins import GENERAL_PLUGINS_GROUP, load_plugins

    assert "hogwild" in {each.name for each in entry_points(group=GENERAL_PLUGINS_GROUP)}
    load_plugins()
    load_plugins()
    assert ATTENTION_BACKEND_CHOICES.count("hogwild") == 1
    assert "hogwild" in ATTENTION_BACKENDS


@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_angles_at_the_end_of_a_table_follow_from_the_frequencies_that_are_read_off_it(factor):
    """Row 1 alone would be off by up to 5e-4 there."""
    from hwruntime.sglang.shard import frequencies

    inverse = 1.0 / (500000.0 ** (torch.arange(0, 64, 2, dtype=torch.float) / 64))
    angles = torch.outer(torch.arange(8192, dtype=torch.float), inverse)
    table = torch.cat([angles.cos(), angles.sin()], -1) * factor
    got = frequencies(SimpleNamespace(_compute_cos_sin_cache=lambda: table))
    torch.testing.assert_close(got.double() * 8191, inverse.double() * 8191, atol=1e-6, rtol=0)
