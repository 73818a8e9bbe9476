"""From logits to tokens. Every worker of every run has a counter-based random stream of its own, so that its tokens do
not depend on what else is in the batch (design section 2, rule 10)."""

import numpy as np
import torch
from torch import Tensor

from hwruntime.rows import Draw


def sample(logits: Tensor, draws: list[Draw]) -> list[int]:
    """One token for each row: logits [rows, vocabulary], as `draws` say."""
    logits = logits.float()
    for index, draw in enumerate(draws):
        if draw.banned:
            logits[index, list(draw.banned)] = float("-inf")
        if draw.allowed is not None:
            logits[index, ~unpacked(draw.allowed, logits.shape[1]).to(logits.device)] = float("-inf")
    greedy = logits.argmax(-1).tolist()
    return [
        token if draw.temperature == 0 else draw_token(logits[index], draw)
        for index, (token, draw) in enumerate(zip(greedy, draws, strict=True))
    ]


def unpacked(mask: bytes, size: int) -> Tensor:
    """A bit mask as bools [size]; tokens beyond the mask are not in it."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little", count=min(size, 8 * len(mask)))
    return torch.from_numpy(np.pad(bits, (0, size - len(bits))).astype(bool))


def draw_token(logits: Tensor, draw: Draw) -> int:
    """Draw from one row's logits [vocabulary]: temperature, then top_k, top_p and min_p, as transformers does."""
    probabilities, tokens = torch.softmax(logits / draw.temperature, -1).sort(descending=True, stable=True)
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    if draw.top_k:
        kept[draw.top_k :] = False
    if draw.top_p < 1:
        shares = torch.where(kept, probabilities, 0.0)
        shares = shares / shares.sum()
        kept &= shares.cumsum(-1) - shares < draw.top_p  # the token that crosses the limit is in
    if draw.min_p:
        kept &= probabilities >= draw.min_p * probabilities[0]
    kept[0] = True
    cumulated = torch.where(kept, probabilities, 0.0).double().cumsum(-1)
    point = uniform(draw) * cumulated[-1]
    index = int(torch.searchsorted(cumulated, point, right=True))
    return int(tokens[min(index, int(kept.nonzero().max()))])


def uniform(draw: Draw) -> float:
    """The `counter`-th number in [0, 1) of the stream (seed, stream): Philox, so that it is the same everywhere."""
    key = np.array([draw.seed % 2**64, draw.stream % 2**64], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=draw.counter).random_raw()
    return int(bits >> 11) * 2.0**-53
