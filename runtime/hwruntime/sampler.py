"""From logits to tokens. Every worker of every run has a counter-based random stream of its own, so that its tokens do
not depend on what else is in the batch (design section 2, rule 10)."""

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor

from hwruntime.devices import upload
from hwruntime.rows import Draw


def sample(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """One token for each row: logits [rows, vocabulary], as `draws` say.

    The host waits for the device once, for the tokens. `logits` are not written to: they may be a buffer of the model.
    """
    logits = masked(logits.float(), draws)
    tokens = highest(logits)
    random = [row for row, draw in enumerate(draws) if draw.temperature]
    if random:
        rows = upload(torch.tensor(random), logits.device)
        chances = logits.index_select(0, rows)
        if logits.device.type == "mps":  # which has no float64
            chances = chances.cpu()
        tokens = tokens.index_copy(0, rows, drawn(chances, [draws[row] for row in random]).to(tokens.device))
    chosen: list[int] = tokens.tolist()
    return chosen


def highest(logits: Tensor) -> Tensor:
    """The likeliest token of each row, the first of several; a nan counts as highest. numpy's search takes a seventh of
    torch's on a CPU."""
    return torch.from_numpy(logits.numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


def masked(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """The logits, -inf for tokens that may not be drawn."""
    size = logits.shape[1]
    if any(draw.allowed is not None for draw in draws):
        bits = upload(packed([draw.allowed for draw in draws], -(-size // 8)), logits.device)
        logits = logits.masked_fill(~unpacked(bits)[:, :size], -inf)
    banned = [row * size + token for row, draw in enumerate(draws) for token in draw.banned if token < size]
    if banned:
        logits = logits.flatten().index_fill(0, upload(torch.tensor(banned), logits.device), -inf).view_as(logits)
    return logits


def packed(masks: Sequence[bytes | None], width: int) -> Tensor:
    """Bit masks as bytes [rows, width]: tokens beyond a mask are not in it, all are where there is none."""
    rows = [b"\xff" * width if mask is None else mask[:width].ljust(width, b"\0") for mask in masks]
    return torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8).view(len(rows), width)


def unpacked(masks: Tensor) -> Tensor:
    """The bits of bytes [rows, width], the lowest first, as bools [rows, 8 * width]."""
    bits = masks[..., None] >> torch.arange(8, dtype=torch.uint8, device=masks.device) & 1
    return bits.flatten(1).bool()


def drawn(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Tokens [rows] drawn from logits [rows, vocabulary]: temperature, then top_k, top_p and min_p, as transformers
    does."""
    settings = [(d.temperature, d.top_k or inf, d.top_p if d.top_p < 1 else inf, d.min_p, uniform(d)) for d in draws]
    numbers = upload(torch.tensor(settings, dtype=torch.float64), logits.device).T[..., None]
    temperature, top_k, top_p, min_p = numbers[:4].float()
    probabilities, tokens = torch.softmax(logits / temperature, -1).sort(descending=True, stable=True)
    kept = torch.arange(logits.shape[1], device=logits.device) < top_k
    if any(draw.top_p < 1 for draw in draws):
        shares = torch.where(kept, probabilities, 0.0)
        # Summed twice: one sum alone is split over the threads, and a row by itself would be rounded in another way.
        shares = shares / shares.expand(2, -1, -1).sum(-1, keepdim=True)[0]
        kept &= shares.cumsum(-1) - shares < top_p  # the token that crosses the limit is in
    kept &= probabilities >= min_p * probabilities[:, :1]
    kept[:, 0] = True
    cumulated = torch.where(kept, probabilities, 0.0).double().cumsum(-1)
    total = cumulated[:, -1:].contiguous()
    places = torch.searchsorted(cumulated, numbers[4] * total, right=True)
    last = torch.searchsorted(cumulated, total)  # for a point that rounding puts on the very end
    size = logits.shape[1]  # where nothing may be drawn all is nan, and has no place: token 0, as argmax says
    return tokens.gather(-1, places.minimum(last) % size)[:, 0]


def uniform(draw: Draw) -> float:
    """The `counter`-th number in [0, 1) of the stream (seed, stream): Philox, so that it is the same everywhere."""
    key = np.array([draw.seed % 2**64, draw.stream % 2**64], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=draw.counter).random_raw()
    return int(bits >> 11) * 2.0**-53
