"""Sampling: filters as in transformers, streams that depend on nothing but their key and counter."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from hwruntime.rows import Draw
from hwruntime.sampler import highest, sample, uniform


def draw(
    temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=0, stream=0, counter=0, banned=frozenset(), allowed=None
) -> Draw:
    return Draw(temperature, top_p, top_k, min_p, seed, stream, counter, frozenset(banned), allowed)


def sample_row(logits: Tensor, draw: Draw) -> int:
    """The sampler, as plain as it can be: one row's logits [vocabulary], one token."""
    logits = logits.float().clone()
    logits[list(draw.banned)] = float("-inf")
    if draw.allowed is not None:
        bits = np.unpackbits(np.frombuffer(draw.allowed, np.uint8), bitorder="little")[: len(logits)]
        logits[~torch.from_numpy(np.pad(bits, (0, len(logits) - len(bits))).astype(bool))] = float("-inf")
    if draw.temperature == 0:
        return int(logits.argmax())
    probabilities, tokens = torch.softmax(logits / draw.temperature, -1).sort(descending=True, stable=True)
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    if draw.top_k:
        kept[draw.top_k :] = False
    if draw.top_p < 1:
        shares = torch.where(kept, probabilities, 0.0)
        shares = shares / shares.sum()
        kept &= shares.cumsum(-1) - shares < draw.top_p
    if draw.min_p:
        kept &= probabilities >= draw.min_p * probabilities[0]
    kept[0] = True
    cumulated = torch.where(kept, probabilities, 0.0).double().cumsum(-1)
    index = int(torch.searchsorted(cumulated, uniform(draw) * cumulated[-1], right=True))
    return int(tokens[min(index, int(kept.nonzero().max()))])


SHARES = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.9, 1.0]) | st.floats(0.05, 1)  # round ones meet the limits exactly


@st.composite
def batches(build: st.DrawFn) -> tuple[Tensor, list[Draw]]:
    """Rows of logits, some with ties, and as many settings; every row has something that may be drawn."""
    size = build(st.sampled_from([3, 8, 12, 50, 131]))
    random = torch.Generator().manual_seed(build(st.integers(0, 10_000)))
    spread = build(st.sampled_from([0.0, 0.3, 1.0, 4.0]))
    draws, rows = [], []
    for _ in range(build(st.integers(1, 6))):
        row = torch.randn(size, generator=random) * spread
        rows.append(row.round() if build(st.booleans()) else row)
        free = build(st.integers(0, size - 1))
        banned = build(st.frozensets(st.integers(0, size - 1), max_size=4)) - {free}
        allowed = None
        if build(st.booleans()):  # shorter and longer than the vocabulary, too
            mask = bytearray(build(st.binary(min_size=free // 8 + 1, max_size=size // 8 + 3)))
            mask[free // 8] |= 1 << free % 8
            allowed = bytes(mask)
        draws.append(
            draw(
                build(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.2, 3)),
                build(SHARES),
                build(st.integers(0, size + 2)),
                build(st.just(0.0) | SHARES),
                seed=build(st.integers(-3, 3)),
                counter=build(st.integers(0, 1000)),
                banned=banned,
                allowed=allowed,
            )
        )
    return torch.stack(rows), draws


@settings(max_examples=150, deadline=None)
@given(batches())
def test_a_batch_draws_what_each_row_draws_alone(batch):
    logits, draws = batch
    before = logits.clone()
    expected = [sample_row(row, one) for row, one in zip(logits, draws, strict=True)]
    assert sample(logits, draws) == expected
    assert [sample(row[None], [one])[0] for row, one in zip(logits, draws, strict=True)] == expected
    assert torch.equal(logits, before), "logits can be a buffer that is used again"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_vocabulary_is_rounded_alike_alone_and_in_a_batch(threads):
    """With limits of top_p that the shares meet exactly, and numbers that draw the last token within them."""
    high = next(i for i in range(100_000) if uniform(draw(counter=i)) > 0.9999)
    logits = torch.randn(70_000, generator=torch.Generator().manual_seed(0))
    logits[:64] += 9
    shares = torch.softmax(logits, -1).sort(descending=True).values
    shares = shares / shares.double().sum().float()
    limits = (shares.cumsum(-1) - shares)[1:50:3].tolist()
    draws = [draw(top_p=limit, counter=high) for limit in limits]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = sample(logits.expand(len(draws), -1), draws)
        assert together == [sample(logits[None], [one])[0] for one in draws]
    finally:
        torch.set_num_threads(before)
    assert len(set(together)) > 12


def test_tokens_that_the_model_does_not_have_are_not_drawn_anyway():
    assert sample(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), [draw(0.0, banned={1, 2}), draw(0.0)]) == [0, 0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_nothing_may_be_drawn_there_is_still_a_token(temperature):
    assert sample(torch.zeros(1, 3), [draw(temperature, 0.9, banned={0, 1, 2})]) == [0]


@pytest.mark.gpu
@pytest.mark.xdist_group("gpu")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_host_waits_for_a_gpu_once(temperature):
    draws = [draw(temperature, 0.9, 40, 0.01, seed=i, banned={i, 7}, allowed=b"\xff" * 40) for i in range(3)]
    draws.append(draw())
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    expected, on_gpu = sample(logits, draws), logits.cuda()
    sample(on_gpu, draws)  # what is only done at first is not looked at
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert sample(on_gpu, draws) == expected
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in caught if "synchronizing" in str(w.message)]) == 1


def test_greedy_takes_the_likeliest_that_is_not_banned():
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0]] * 3)
    draws = [draw(0.0), draw(0.0, banned={1}), draw(0.0, banned={1, 2})]
    assert sample(logits, draws) == [1, 2, 3]


def test_the_likeliest_is_the_first_of_several_as_with_torch():
    logits = torch.randint(-3, 3, (50, 40), generator=torch.Generator().manual_seed(1)).float()
    logits[3] = -torch.inf
    logits[4, 7] = logits[5, :] = torch.nan
    for some in (logits, logits[:0], logits[:, ::2], logits.T):
        assert torch.equal(highest(some), some.argmax(-1))


def test_a_banned_token_is_never_drawn():
    logits = torch.zeros(200, 4)
    assert set(sample(logits, [draw(2.0, counter=i, banned={0, 3}) for i in range(200)])) == {1, 2}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.2, 3),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.9),
)
def test_the_tokens_that_can_be_drawn_are_those_that_transformers_keeps(seed, temperature, top_k, top_p, min_p):
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed)) * 2
    kept = TemperatureLogitsWarper(temperature)(None, logits)
    for warper in [TopKLogitsWarper(top_k)] if top_k else []:
        kept = warper(None, kept)
    for warper in [TopPLogitsWarper(top_p)] if top_p < 1 else []:
        kept = warper(None, kept)
    for warper in [MinPLogitsWarper(min_p)] if min_p else []:
        kept = warper(None, kept)
    allowed = set(torch.isfinite(kept[0]).nonzero().flatten().tolist())
    drawn = sample(logits.expand(80, -1), [draw(temperature, top_p, top_k, min_p, counter=i) for i in range(80)])
    assert set(drawn) <= allowed


def test_frequencies_follow_the_probabilities():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    drawn = sample(logits.expand(4000, -1), [draw(counter=i) for i in range(4000)])
    counts = torch.bincount(torch.tensor(drawn), minlength=3)
    assert torch.allclose(counts / 4000, logits.exp(), atol=0.03)


def test_streams_are_reproducible_and_independent():
    numbers = [[uniform(draw(seed=s, stream=w, counter=c)) for c in range(50)] for s in range(3) for w in range(3)]
    flat = [n for stream in numbers for n in stream]
    assert len(set(flat)) == len(flat)
    assert all(0 <= n < 1 for n in flat)
    assert uniform(draw(seed=7, stream=2, counter=9)) == uniform(draw(seed=7, stream=2, counter=9))
    assert uniform(draw(seed=-1)) != uniform(draw(seed=1))


@pytest.mark.parametrize("neighbours", [0, 1, 7])
def test_a_row_draws_the_same_whatever_is_beside_it(neighbours):
    row = torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
    others = torch.randn(neighbours, 50)
    logits = torch.cat([others, row])
    draws = [draw(seed=9, counter=i) for i in range(neighbours)] + [draw(1.3, 0.9, seed=4, counter=2)]
    assert sample(logits, draws)[-1] == sample(row.clone(), draws[-1:])[0]
