"""Recorded passes on a CPU, against the passes as they are."""

import ctypes
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hwruntime.cpu.build import library
from hwruntime.cpu.tape import ALIGNED, Span, TapeRecorder, arranged, launch
from hwruntime.graphs import Recorder
from hwruntime.models import CAPTURE_AFTER
from tests.hwruntime.models_for_tests import DENSE, WORKING, Blocks, loaded, random_model, random_tokens
from tests.hwruntime.own_kernels import needs_kernels

VOCABULARY, DIM, TOKENS = 20, 6, 3
TABLE = torch.randn(VOCABULARY, DIM, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(2))


def some(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (1, TOKENS), generator=generator), torch.randint(90, (1, TOKENS))


def views(x: Tensor, at: Tensor) -> Tensor:
    first, second = x.view(TOKENS, 2, 3).transpose(0, 1).unbind()
    return torch.cat([first.T, -second.T[:, :TOKENS]], 0).reshape(2, -1).contiguous() + at.sum()


def in_place(x: Tensor, at: Tensor) -> Tensor:
    made = torch.zeros(TOKENS, DIM)
    made[1:] += x[0, 1:]
    made.index_copy_(0, torch.tensor([0]), x[0, :1] * at[0, 0])
    return made.mul_(2).masked_fill_(made < 0, 1.5)


def rounded(x: Tensor, at: Tensor) -> Tensor:
    half = (x.bfloat16() * torch.arange(DIM)).to(torch.float32)
    return half.clone() + torch.full((DIM,), 0.25) + at.float()[..., None].cos()


def many_results(x: Tensor, at: Tensor) -> Tensor:
    values, where = x.sort(-1, descending=True)
    top, _ = x.topk(2, -1)
    return torch.cat([values, where.float(), top, x.split(4, -1)[1] ** 2], -1)


def by_index(x: Tensor, at: Tensor) -> Tensor:
    return TABLE[at % VOCABULARY][:, :, torch.tensor([3, 0])] + x.gather(-1, at[..., None] % DIM)


def products(x: Tensor, at: Tensor) -> Tensor:
    return nn.functional.layer_norm(nn.functional.silu(x @ WEIGHT.T), (DIM,), WEIGHT[0], WEIGHT[1]).softmax(-1)


def own_kernel(x: Tensor, at: Tensor) -> Tensor:
    """A kernel that torch does not know, called as ours are: by where tensors are."""
    x = (x * 2).contiguous()
    out = torch.empty_like(x)

    def bind(read: Tensor, written: Tensor) -> Callable[[], object]:
        return partial(ctypes.memmove, written.data_ptr(), read.data_ptr(), 4 * read.numel())

    launch(bind, x, out)
    return out * 3


@pytest.mark.parametrize("compute", [views, in_place, rounded, many_results, by_index, products, own_kernel])
@torch.no_grad()
def test_a_replay_computes_again(compute):
    def forward(tokens: Tensor, positions: Tensor) -> Tensor:
        return compute(TABLE[tokens], positions)

    recording = TapeRecorder().record(forward, *some(0))
    for seed in range(1, 6):
        tokens, positions = some(seed)
        recording.tokens.copy_(tokens)
        recording.positions.copy_(positions)
        recording.replay()
        assert torch.equal(recording.logits, forward(tokens, positions))


@torch.no_grad()
def test_memory_is_used_again_within_a_pass():
    def forward(tokens: Tensor, positions: Tensor) -> Tensor:
        x = torch.nn.functional.embedding(tokens, TABLE)
        for _ in range(100):
            x = (x + positions[..., None]) / 90
        return x

    recording = TapeRecorder().record(forward, *some(0))
    size = TOKENS * DIM * 4
    assert recording.logits.untyped_storage().nbytes() <= 3 * (size + ALIGNED)


STATE = torch.zeros(DIM)


def reads_a_number(x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x


def reads_numbers(x: Tensor) -> Tensor:
    return x * len(x.flatten().tolist())


def reads_through_numpy(x: Tensor) -> Tensor:
    return x * float(x.numpy().sum())


def shape_that_depends(x: Tensor) -> Tensor:
    return x[x > 0]


def chance(x: Tensor) -> Tensor:
    return x + torch.rand(DIM)


def state(x: Tensor) -> Tensor:
    return STATE.add_(x.sum())


def in_the_dark(x: Tensor) -> Tensor:
    """Reads memory past torch."""
    return x * ctypes.c_float.from_address(x.data_ptr()).value


@pytest.mark.parametrize(
    ("compute", "why"),
    [
        (reads_a_number, "gives a number to Python"),
        (reads_numbers, "tolist gives numbers to Python"),
        (reads_through_numpy, "numpy gives numbers to Python"),
        (shape_that_depends, "has a shape that depends on what is computed"),
        (chance, "is random"),
        (state, "changes what was there before the pass"),
        (in_the_dark, "a replay comes out different"),
    ],
)
@torch.no_grad()
def test_what_no_replay_can_do_again_is_not_recorded(compute, why):
    with pytest.raises(RuntimeError, match=why):
        TapeRecorder().record(lambda tokens, positions: compute(TABLE[tokens]), *some(0))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.integers(0, 8)), max_size=30))
def test_what_is_in_use_at_once_lies_apart(made):
    spans = [Span(size, first, first + more) for size, first, more in made]
    offsets, size = arranged(spans)
    places = list(zip(spans, offsets, strict=True))
    assert all(begin % ALIGNED == 0 and begin + span.size <= size for span, begin in places)
    for i, (one, begin) in enumerate(places):
        for other, start in places[:i]:
            apart = begin + one.size <= start or start + other.size <= begin
            assert apart or one.last < other.first or other.last < one.first


class Watching(Recorder):
    """Counts replays."""

    def __init__(self) -> None:
        self.replays = 0

    def record(self, forward, tokens, positions):
        recording = TapeRecorder().record(forward, tokens, positions)
        replay = recording.replay

        def counted() -> None:
            self.replays += 1
            replay()

        return replace(recording, replay=counted)


class Never(Recorder):
    """Records nothing."""

    why = "asked for"

    def record(self, *arguments):
        raise RuntimeError(self.why)


DEPENDING = {"longcat_flash"}  # its experts are looked for in Python
CASES = [(family, torch.float32) for family in WORKING] + [(family, torch.bfloat16) for family in DENSE]


@needs_kernels
@pytest.mark.parametrize(("family", "dtype"), CASES, ids=lambda each: getattr(each, "name", str(each)))
def test_families_come_out_the_same_to_the_last_bit(family, dtype, caplog):
    caplog.set_level(logging.INFO)
    recorder = Watching()
    logits = []
    for each in (recorder, Never()):
        blocks = Blocks(loaded(random_model(family.config()).to(dtype), "cpu", each))
        blocks.write_all([([0], random_tokens(20)), ([1], random_tokens(9, 1))])
        pairs = zip(random_tokens(9, 2), random_tokens(9, 3), strict=True)
        logits.append([blocks.write_all([([0, 2], [a]), ([1, 0, 3], [b])]) for a, b in pairs])
    told = [record.getMessage() for record in caplog.records if "passes are not recorded" in record.getMessage()]
    told.remove(f"passes are not recorded: {Never.why}")
    assert bool(told) == (family.name in DEPENDING)
    assert recorder.replays == (0 if told else 9 - CAPTURE_AFTER)
    for got, expected in zip(*logits, strict=True):
        assert torch.equal(got, expected)


@needs_kernels
@torch.no_grad()
def test_kernels_keep_what_they_point_at():
    """A constant that only the pass knew of."""

    def forward(tokens: Tensor, positions: Tensor) -> Tensor:
        return TABLE[tokens] * torch.tensor([2.0] * DIM)

    recording = TapeRecorder(library()).record(forward, *some(0))
    junk = [torch.full((DIM,), -1.0) for _ in range(1000)]
    recording.replay()
    assert torch.equal(recording.logits, 2 * TABLE[recording.tokens]), len(junk)
