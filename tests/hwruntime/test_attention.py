"""The torch executor on random plans against flat, masked attention in float64."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwruntime.attention import Heads, Layer, ModelShape, choose
from hwruntime.attention.torch import TorchExecutor, merge
from hwruntime.cache import Pool, Storage
from hwruntime.errors import DeviceError
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.rotary import Rotary
from tests.hwruntime.passes import DIM, HEADS, ROTARY, VALUE_DIM, flat, random_pass, run

ON_CPU = ModelShape(torch.device("cpu"), torch.bfloat16, [Layer(0, HEADS, 1.0, None)])


@settings(max_examples=200, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
    st.sampled_from([None, None, 1, 3, 17]),
    st.sampled_from([None, None, 2.0]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(DIM, False), (DIM, True), (VALUE_DIM, True)]),
    st.sampled_from([(32, 128, 512), (8,), ()]),
    st.sampled_from([32, 2]),
)
def test_any_views_give_flat_attention(rng, heads, window, softcap, sinks, rotated, path, lengths, wide):
    """With torch's flash attention and without it, which values of another dimension never have; short keys together,
    and each alone."""
    value_dim, fused = path
    made = random_pass(random.Random(rng.randrange(2**31)), *heads, rotated, value_dim=value_dim)
    rotation = ROTARY if rotated else None
    layer = Layer(
        0,
        Heads(*heads, DIM, value_dim),
        DIM**-0.5,
        rotation,
        window,
        softcap,
        torch.linspace(-1, 2, heads[0]) if sinks else None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwruntime.attention.torch.LENGTHS", lengths)
        patch.setattr("hwruntime.attention.torch.WIDE", wide)
        got = run(made, layer, TorchExecutor(made.pool, made.storage, fused))
    torch.testing.assert_close(got.double(), flat(made, layer), atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_tables_are_made_once_a_pass(rng):
    made = random_pass(random.Random(rng.randrange(2**31)), 4, 2)

    class Counted(Rotary):
        calls = 0

        def tables(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
            Counted.calls += 1
            return super().tables(deltas)

    rotary = Counted(ROTARY.frequencies)
    layers = [Layer(index, HEADS, 1.0, rotary) for index in range(3)]
    for layer in layers:
        made.storage.write(layer.index, torch.tensor([0]), torch.zeros(2, 1, DIM), torch.zeros(2, 1, VALUE_DIM))
    executor = TorchExecutor(made.pool, made.storage)
    executor.begin(made.plan, made.slots)
    tokens = len(made.slots)
    for layer in layers:
        executor.attend(layer, made.q, torch.randn(tokens, 2, DIM), torch.randn(tokens, 2, VALUE_DIM))
    assert Counted.calls == (1 if any(made.plan.deltas) else 0)


def test_merge_is_one_softmax_over_all_parts():
    scores, values = torch.randn(2, 3, 2, 10), torch.randn(2, 10, 5)  # [kv heads, tokens, shares, keys], [.., keys, D]
    parts = [slice(0, 4), slice(4, 5), slice(5, 10)]
    attended = "htsk,hkd->htsd"
    outs = torch.cat([torch.einsum(attended, scores[..., p].softmax(-1), values[:, p]) for p in parts], 1)
    lses = torch.cat([scores[..., p].logsumexp(-1) for p in parts], 1)
    partials = torch.arange(9).view(3, 3)
    expected = torch.einsum(attended, scores.softmax(-1), values)
    torch.testing.assert_close(merge(outs, lses, None, 3), expected)
    torch.testing.assert_close(merge(outs, lses, partials, 3), expected)
    torch.testing.assert_close(merge(outs, lses, partials.flip(0), 3), expected)
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0])
    every = sinks.view(2, 1, 2, 1).expand(2, 3, 2, 1)
    with_sinks = torch.cat([scores, every], -1).softmax(-1)[..., :-1]
    for way in (partials, None):
        torch.testing.assert_close(merge(outs, lses, way, 3, sinks), torch.einsum(attended, with_sinks, values))


def test_merge_takes_parts_that_see_nothing():
    outs, lses = torch.tensor([[[[0.0]], [[3.0]]]]), torch.tensor([[[-torch.inf], [1.0]]])
    assert merge(outs, lses, torch.tensor([[0], [1]]), 1).item() == 3.0


@pytest.mark.parametrize("pages", [[3, 4, 5], [3, 9, 5], [5, 4, 3]])
def test_pages_in_any_order(pages):
    pool = Pool(page_size=1)
    executor = TorchExecutor(pool, Storage(pool))
    k, v = torch.randn(3, 1, DIM), torch.randn(3, 1, VALUE_DIM)
    whole = build_plan([Row((Piece(0, 3),), 3)], {0: PlanBlock(3, pages)}, 1)
    executor.begin(whole, pages)
    prefilled = executor.attend(Layer(0, HEADS, 1.0, None), k, k, v)
    last = (k[2] @ k[:, 0].T).softmax(-1) @ v[:, 0]
    torch.testing.assert_close(prefilled[2], last)


def test_tokens_of_unlike_many_parts(monkeypatch):
    """Each block by itself. The first one sees what the second one writes."""
    monkeypatch.setattr("hwruntime.attention.torch.LENGTHS", ())
    pool = Pool(page_size=4)
    storage = Storage(pool)
    blocks = {0: PlanBlock(3, [0]), 1: PlanBlock(1, [1]), 2: PlanBlock(1, [2])}
    rows = [Row((Piece(0, 3), Piece(2, 1)), 1), Row((Piece(0, 3),), 1), Row((Piece(1, 1),), 1)]
    plan = build_plan(rows, blocks, 4)
    assert plan.rows == [0, 1, 2, 0]
    slots = torch.tensor([0, 1, 8, 2, 4])  # of the keys: two that were there, and those of the three tokens
    keys, values, q = torch.randn(5, 1, DIM), torch.randn(5, 1, VALUE_DIM), torch.randn(3, 1, DIM)
    storage.write(0, slots[:2], keys[:2].transpose(0, 1), values[:2].transpose(0, 1))
    executor = TorchExecutor(pool, storage)
    executor.begin(plan, slots[2:].tolist())
    got = executor.attend(Layer(0, Heads(1, 1, DIM, VALUE_DIM), 1.0, None), q, keys[2:], values[2:])
    for token, seen in enumerate(([0, 1, 2, 3], [0, 1, 3], [4])):
        weights = (q[token, 0] @ keys[seen, 0].T).softmax(-1)
        torch.testing.assert_close(got[token, 0], weights @ values[seen, 0])


def test_torch_runs_anywhere():
    choice = choose("torch", ON_CPU)
    assert choice.name == "torch"
    assert choice.why
    assert isinstance(choice.make(ON_CPU, Pool(), Storage(Pool())), TorchExecutor)


def test_an_executor_that_does_not_exist():
    with pytest.raises(DeviceError, match="there is no attention executor `magic`") as failure:
        choose("magic", ON_CPU)
    assert "flashinfer" in str(failure.value.help)
