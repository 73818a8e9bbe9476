"""The stub's model: our `tiny`, greedy, on our own executor."""

from collections.abc import Sequence
from importlib.resources import files
from itertools import takewhile
from math import inf

import torch
from torch import Tensor

from hwruntime.cache import Block
from hwruntime.models import Model
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.remote.fake import FakeServer

TINY = str(files("hwruntime") / "tiny")


class Reader:
    """Reads one text after another, and of each only what comes behind the beginning that it has of the last one."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._block = Block()
        self._text: tuple[int, ...] = ()

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Logits of what follows a text [vocabulary]."""
        block, pool = self._block, self._model.pool
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._text, tokens[:-1], strict=False)))
        pool.shrink(block, block.length - same)
        positions, new = pool.extend(block, len(tokens) - same), tokens[same:]
        self._text = tuple(tokens)
        shapes = {0: PlanBlock(block.length, block.pages)}
        plan = build_plan([Row((Piece(0, len(tokens)),), len(new))], shapes, pool.page_size)
        return self._model.forward(new, plan, pool.slots(block, positions), [len(new) - 1])[0].float()


def served(model: Model) -> FakeServer:
    """A server of a model that is loaded here."""
    reader = Reader(model)

    def following(tokens: Sequence[int], banned: frozenset[int]) -> int:
        logits = reader.read(tokens)
        logits[list(banned)] = -inf
        return int(logits.argmax())

    def score(tokens: Sequence[int], choice: int) -> float:
        return float(torch.log_softmax(reader.read(tokens), -1)[choice])

    return FakeServer(following, model.tokenizer.decode, model.tokenizer.end_tokens, score, model=TINY)
