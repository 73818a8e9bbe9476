"""The stub's model: our `tiny`, greedy, each text read anew by our own executor."""

from collections.abc import Sequence
from importlib.resources import files
from math import inf

import torch
from torch import Tensor

from hwruntime.cache import Block
from hwruntime.models import Model
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.remote.fake import FakeServer

TINY = str(files("hwruntime") / "tiny")


def served(model: Model) -> FakeServer:
    """A server of a model that is loaded here."""

    def following(tokens: Sequence[int], banned: frozenset[int]) -> int:
        logits = read(model, tokens)
        logits[list(banned)] = -inf
        return int(logits.argmax())

    def score(tokens: Sequence[int], choice: int) -> float:
        return float(torch.log_softmax(read(model, tokens), -1)[choice])

    return FakeServer(following, model.tokenizer.decode, model.tokenizer.end_tokens, score, model=TINY)


def read(model: Model, tokens: Sequence[int]) -> Tensor:
    """Logits of what follows a text [vocabulary]."""
    block, pool = Block(), model.pool
    positions = pool.extend(block, len(tokens))
    try:
        rows = [Row((Piece(0, len(tokens)),), len(tokens))]
        plan = build_plan(rows, {0: PlanBlock(block.length, block.pages)}, pool.page_size)
        return model.forward(tokens, plan, pool.slots(block, positions), [len(tokens) - 1])[0].float()
    finally:
        pool.clear(block)
