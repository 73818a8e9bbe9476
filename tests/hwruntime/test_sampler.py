"""Sampling: filters as in transformers, streams that depend on nothing but their key and counter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from hwruntime.rows import Draw
from hwruntime.sampler import draw_token, sample, uniform


def draw(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=0, stream=0, counter=0, banned=frozenset()) -> Draw:
    return Draw(temperature, top_p, top_k, min_p, seed, stream, counter, frozenset(banned))


def test_greedy_takes_the_likeliest_that_is_not_banned():
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0]] * 3)
    draws = [draw(0.0), draw(0.0, banned={1}), draw(0.0, banned={1, 2})]
    assert sample(logits, draws) == [1, 2, 3]


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
    drawn = {draw_token(logits[0], draw(temperature, top_p, top_k, min_p, counter=i)) for i in range(80)}
    assert drawn <= allowed


def test_frequencies_follow_the_probabilities():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    counts = torch.bincount(torch.tensor([draw_token(logits, draw(counter=i)) for i in range(4000)]), minlength=3)
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
