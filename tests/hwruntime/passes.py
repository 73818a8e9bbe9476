"""Random passes over a pool, and what they should come to: flat, masked attention in float64."""

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hwruntime.attention import Executor, Heads, Layer
from hwruntime.cache import Block, Pool, Storage
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Plan, Row, build_plan
from hwruntime.rotary import Rotary

DIM, VALUE_DIM = 8, 6
ROTARY = Rotary(10000.0 ** (-torch.arange(0, DIM, 2) / DIM))
HEADS = Heads(2, 2, DIM, VALUE_DIM)


@dataclass
class Pass:
    """A random pass: rows over blocks whose unrotated K/V are known, and that are in a pool on scattered pages."""

    rows: list[Row]
    plan: Plan
    slots: list[int]
    raw: dict[int, tuple[Tensor, Tensor]]  # by block: unrotated k [kv heads, length, D], v
    written: list[tuple[int, range]]  # by row: the block, and the new tokens' positions in it
    q: Tensor  # unrotated [T, heads, D]
    rotary: Rotary
    pool: Pool
    storage: Storage


def turn(x: Tensor, positions: list[int], rotary: Rotary) -> Tensor:
    """Rotate x [heads, n, D] to `positions`, in its own dtype: pairs (i, i + D/2), by the textbook."""
    angles = torch.tensor(positions, dtype=torch.float64)[:, None] * rotary.frequencies.double()
    pairs = torch.view_as_complex(torch.stack(x.double().chunk(2, -1), -1).contiguous())
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles))
    return torch.cat(turned.unbind(-1), -1).to(x.dtype)


def random_pass(
    rng: random.Random,
    heads: int,
    kv_heads: int,
    rotated: bool = True,
    rotary: Rotary = ROTARY,
    value_dim: int = VALUE_DIM,
    padded: int | None = None,
) -> Pass:
    """`rotated`: whether the pool holds keys rotated for their block-local positions; `padded`: the head dimension that
    it holds, where that is larger than the model's."""
    dim = 2 * len(rotary.frequencies)
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
    storage.sized(0, kv_heads, padded or dim, padded or value_dim, torch.float32, torch.device("cpu"))
    blocks = scattered(rng, pool, lengths)
    raw = {
        i: (
            torch.randn(kv_heads, n, dim, generator=generator),
            torch.randn(kv_heads, n, value_dim, generator=generator),
        )
        for i, n in enumerate(lengths)
    }
    for i, block in enumerate(blocks):  # what earlier passes wrote
        positions = range(old[i])
        if positions:
            keys, values = (x[:, : old[i]] for x in raw[i])
            keys = turn(keys, list(positions), rotary) if rotated else keys
            storage.write(0, torch.tensor(pool.slots(block, positions)), keys, values)
    plan = build_plan(rows, {i: PlanBlock(b.length, b.pages) for i, b in enumerate(blocks)}, pool.page_size)
    slots = [slot for block, new in written for slot in pool.slots(blocks[block], new)]
    q = torch.randn(len(slots), heads, dim, generator=generator) * 2
    return Pass(rows, plan, slots, raw, written, q, rotary, pool, storage)


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


def run(
    made: Pass,
    layer: Layer,
    executor: Executor,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The pass as an executor runs it, which may ask for more tokens than there are; on the CPU, in float32."""
    locals_ = [p for _, new in made.written for p in new]
    rotated = layer.rotation is not None
    new_k = torch.cat([made.raw[block][0][:, new.start : new.stop] for block, new in made.written], 1)
    new_v = torch.cat([made.raw[block][1][:, new.start : new.stop] for block, new in made.written], 1)
    q = made.q.transpose(0, 1)
    if rotated:
        q, new_k = (turn(x, locals_, made.rotary) for x in (q, new_k))
    static = executor.begin(made.plan, made.slots)
    padding = static.tokens - len(made.slots) if static else 0
    padded = (torch.cat([x, torch.randn(len(x), padding, x.shape[-1])], 1) for x in (q, new_k, new_v))
    out = executor.attend(layer, *(x.transpose(0, 1).to(device, dtype) for x in padded))
    return out[: len(made.slots)].float().cpu()


def moved(made: Pass, device: torch.device, dtype: torch.dtype, kv_dtype: torch.dtype | None = None) -> Pass:
    """The same pass with its storage on another device, in another dtype."""
    storage = Storage(made.pool, kv_dtype)
    keys, values = made.storage.layer(0)
    sizes = (len(keys), keys.shape[-1], values.shape[-1])
    for new, old in zip(storage.sized(0, *sizes, dtype, device), (keys, values), strict=True):
        new.copy_(old)
    return replace(made, storage=storage)


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
            q, k = turn(q, positions, made.rotary), turn(k, list(range(length)), made.rotary)
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
