"""The torch executor on random plans against flat, masked attention in float64."""

import random
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwruntime.attention import Layer, choose
from hwruntime.attention.torch import TorchExecutor, merge
from hwruntime.cache import Block, Pool, Storage
from hwruntime.errors import DeviceError
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Plan, Row, build_plan
from hwruntime.rotary import Rotary

DIM, VALUE_DIM = 8, 6
ROTARY = Rotary(10000.0 ** (-torch.arange(0, DIM, 2) / DIM))


@dataclass
class Pass:
    """A random pass: rows over blocks whose unrotated K/V are known, and that are in a pool on scattered pages."""

    rows: list[Row]
    plan: Plan
    slots: list[int]
    raw: dict[int, tuple[Tensor, Tensor]]  # by block: unrotated k [kv heads, length, D], v
    written: list[tuple[int, range]]  # by row: the block, and the new tokens' positions in it
    q: Tensor  # unrotated [T, heads, D]
    executor: TorchExecutor = field(repr=False)


def turn(x: Tensor, positions: list[int]) -> Tensor:
    """Rotate x [heads, n, D] to `positions`, in its own dtype: pairs (i, i + D/2), by the textbook."""
    angles = torch.tensor(positions, dtype=torch.float64)[:, None] * ROTARY.frequencies.double()
    pairs = torch.view_as_complex(torch.stack(x.double().chunk(2, -1), -1).contiguous())
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles))
    return torch.cat(turned.unbind(-1), -1).to(x.dtype)


def random_pass(rng: random.Random, heads: int, kv_heads: int, rotated: bool = True) -> Pass:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    count = rng.randint(1, 12)
    lengths = [rng.choice((0, rng.randint(0, 40))) for _ in range(count)]  # before the pass
    old = list(lengths)
    written = []
    for _ in range(rng.randint(1, 8)):
        block, tokens = rng.randrange(count), rng.choice((1, 1, rng.randint(2, 5)))
        written.append((block, range(lengths[block], lengths[block] + tokens)))
        lengths[block] += tokens
    rows = [Row(random_view(rng, lengths, block, new), len(new)) for block, new in written]

    pool = Pool(page_size=rng.choice((1, 4, 16)))
    storage = Storage(pool)
    blocks = scattered(rng, pool, lengths)
    raw = {
        i: (
            torch.randn(kv_heads, n, DIM, generator=generator),
            torch.randn(kv_heads, n, VALUE_DIM, generator=generator),
        )
        for i, n in enumerate(lengths)
    }
    for i, block in enumerate(blocks):  # what earlier passes wrote
        positions = range(old[i])
        if positions:
            keys, values = (x[:, : old[i]] for x in raw[i])
            keys = turn(keys, list(positions)) if rotated else keys
            storage.write(0, torch.tensor(pool.slots(block, positions)), keys, values)
    plan = build_plan(rows, {i: PlanBlock(b.length, b.pages) for i, b in enumerate(blocks)}, pool.page_size)
    slots = [slot for block, new in written for slot in pool.slots(blocks[block], new)]
    q = torch.randn(len(slots), heads, DIM, generator=generator) * 2
    return Pass(rows, plan, slots, raw, written, q, TorchExecutor(pool, storage))


def random_view(rng: random.Random, lengths: list[int], own: int, new: range) -> tuple[Piece, ...]:
    """Some blocks in any order, perhaps one twice or the own one too, perhaps only in part; then the own one."""
    seen = rng.sample(range(len(lengths)), rng.randint(0, len(lengths)))
    seen = [block for block in seen if block != own or rng.random() < 0.2]
    if seen and rng.random() < 0.3:
        seen.append(rng.choice(seen))
    cut = [rng.randint(0, lengths[block]) if rng.random() < 0.15 else lengths[block] for block in seen]
    return (*map(Piece, seen, cut), Piece(own, new.stop))


def scattered(rng: random.Random, pool: Pool, lengths: list[int]) -> list[Block]:
    """Blocks of these lengths, grown by turns between others that are gone afterwards."""
    blocks, others = [Block() for _ in lengths], []
    for _ in range(rng.randint(0, 6)):
        others.append(Block())
        pool.extend(others[-1], rng.randint(1, 20))
        grown = rng.randrange(len(blocks))
        pool.extend(blocks[grown], rng.randint(0, lengths[grown] - blocks[grown].length))
    for other in others:
        if rng.random() < 0.7:
            pool.clear(other)
    for block, length in zip(blocks, lengths, strict=True):
        pool.extend(block, length - block.length)
    return blocks


def run(made: Pass, layer: Layer) -> Tensor:
    locals_ = [p for _, new in made.written for p in new]
    rotated = layer.rotation is not None
    new_k = torch.cat([made.raw[block][0][:, new.start : new.stop] for block, new in made.written], 1)
    new_v = torch.cat([made.raw[block][1][:, new.start : new.stop] for block, new in made.written], 1)
    q = made.q.transpose(0, 1)
    if rotated:
        q, new_k = turn(q, locals_), turn(new_k, locals_)
    made.executor.begin(made.plan, made.slots)
    return made.executor.attend(layer, *(x.transpose(0, 1) for x in (q, new_k, new_v)))


def flat(made: Pass, layer: Layer) -> Tensor:
    """The same, row by row over the view's text laid out flat: [T, heads, Dv] in float64."""
    outs, first = [], 0
    for row in made.rows:
        k = torch.cat([made.raw[piece.block][0][:, : piece.length] for piece in row.view], 1).double()
        v = torch.cat([made.raw[piece.block][1][:, : piece.length] for piece in row.view], 1).double()
        length = k.shape[1]
        positions = list(range(length - row.tokens, length))
        q = made.q[first : first + row.tokens].transpose(0, 1).double()
        first += row.tokens
        group = q.shape[0] // k.shape[0]
        if layer.rotation is not None:
            q, k = turn(q, positions), turn(k, list(range(length)))
        scores = q @ k.repeat_interleave(group, 0).transpose(1, 2) * layer.scale
        if layer.softcap:
            scores = layer.softcap * torch.tanh(scores / layer.softcap)
        distance = torch.tensor(positions)[:, None] - torch.arange(length)
        hidden = (distance < 0) | (distance >= (layer.window or length + 1))
        scores = scores.masked_fill(hidden, -torch.inf)
        if layer.sinks is not None:
            scores = torch.cat([scores, layer.sinks.double()[:, None, None].expand(-1, row.tokens, 1)], -1)
        weights = scores.softmax(-1)[..., :length]
        outs.append((weights @ v.repeat_interleave(group, 0)).transpose(0, 1))
    return torch.cat(outs)


@settings(max_examples=200, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
    st.sampled_from([None, None, 1, 3, 17]),
    st.sampled_from([None, None, 2.0]),
    st.booleans(),
    st.booleans(),
)
def test_any_views_give_flat_attention(rng, heads, window, softcap, sinks, rotated):
    made = random_pass(random.Random(rng.randrange(2**31)), *heads, rotated)
    rotation = ROTARY if rotated else None
    layer = Layer(0, DIM**-0.5, rotation, window, softcap, torch.linspace(-1, 2, heads[0]) if sinks else None)
    torch.testing.assert_close(run(made, layer).double(), flat(made, layer), atol=1e-5, rtol=1e-5)


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
    layers = [Layer(index, 1.0, rotary) for index in range(3)]
    for layer in layers:
        made.executor._storage.write(
            layer.index, torch.tensor([0]), torch.zeros(2, 1, DIM), torch.zeros(2, 1, VALUE_DIM)
        )
    made.executor.begin(made.plan, made.slots)
    tokens = len(made.slots)
    for layer in layers:
        made.executor.attend(layer, made.q, torch.randn(tokens, 2, DIM), torch.randn(tokens, 2, VALUE_DIM))
    assert Counted.calls == (1 if any(made.plan.deltas) else 0)


def test_merge_is_one_softmax_over_all_parts():
    scores, values = torch.randn(3, 2, 10), torch.randn(10, 2, 5)  # [tokens, heads, keys], [keys, heads, D]
    parts = [slice(0, 4), slice(4, 5), slice(5, 10)]
    outs = torch.cat([torch.einsum("thk,khd->thd", scores[..., p].softmax(-1), values[p]) for p in parts])
    lses = torch.cat([scores[..., p].logsumexp(-1) for p in parts])
    merged, lse = merge(outs, lses, torch.arange(3).repeat(3), 3)
    torch.testing.assert_close(merged, torch.einsum("thk,khd->thd", scores.softmax(-1), values))
    torch.testing.assert_close(lse, scores.logsumexp(-1))


def test_merge_takes_parts_that_see_nothing():
    outs, lses = torch.tensor([[[0.0]], [[3.0]]]), torch.tensor([[-torch.inf], [1.0]])
    merged, lse = merge(outs, lses, torch.tensor([0, 0]), 1)
    assert merged.item() == 3.0
    assert lse.item() == 1.0


@pytest.mark.parametrize("pages", [[3, 4, 5], [3, 9, 5], [5, 4, 3]])
def test_pages_in_any_order(pages):
    pool = Pool(page_size=1)
    executor = TorchExecutor(pool, Storage(pool))
    k, v = torch.randn(3, 1, DIM), torch.randn(3, 1, VALUE_DIM)
    whole = build_plan([Row((Piece(0, 3),), 3)], {0: PlanBlock(3, pages)}, 1)
    executor.begin(whole, pages)
    prefilled = executor.attend(Layer(0, 1.0, None), k, k, v)
    last = (k[2] @ k[:, 0].T).softmax(-1) @ v[:, 0]
    torch.testing.assert_close(prefilled[2], last)


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_torch_runs_anywhere(name):
    choice = choose(name, "cpu")
    assert choice.name == "torch"
    assert choice.why
    assert isinstance(choice.make(Pool(), Storage(Pool())), TorchExecutor)


def test_an_executor_that_does_not_exist():
    with pytest.raises(DeviceError, match="there is no attention executor `magic`") as failure:
        choose("magic", "cpu")
    assert "flashinfer" in str(failure.value.help)
