"""Workers behind a long opening: what is timed is a step of the engine, with all that a run needs."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from hwruntime.attention import Choice, Executor, ModelShape, choose
from hwruntime.cache import Pool, Storage, Stored
from hwruntime.checkpoint import Checkpoint
from hwruntime.engine import Engine
from hwruntime.errors import InputError
from hwruntime.models import Model
from hwruntime.plan import Plan
from hwruntime.program import Program
from hwruntime.tokenizer import Tokenizer


class Filled:
    """A model that does not read openings: their K/V are random numbers, on which times do not depend. All else is the
    model's own."""

    def __init__(self, checkpoint: Checkpoint, attention: str) -> None:
        self._attention = attention
        self.model = Model(checkpoint, Choice(attention, "asked for", self._make))

    def _make(self, shape: ModelShape, pool: Pool, storage: Storage) -> Executor:
        self._shape, self._storage = shape, storage
        self.chosen = choose(self._attention, shape)
        return self.chosen.make(shape, pool, storage)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def context(self) -> int:
        return self.model.context

    @property
    def pool(self) -> Pool:
        return self.model.pool

    @property
    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer

    @property
    def why(self) -> Sequence[str]:
        return self.model.why

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        if wanted:
            return self.model.forward(tokens, plan, slots, wanted)
        device, where = self._shape.device, torch.tensor(slots, device=self._shape.device)
        for layer in self._shape.layers:
            sizes = ((layer.heads.keys, len(slots), dim) for dim in (layer.heads.dim, layer.heads.value_dim))
            keys, values = (torch.randn(size, device=device, dtype=self._shape.dtype) for size in sizes)
            self._storage.write(layer.index, where, keys, values)
        return torch.empty(0, self.model.vocab_size, device=device)

    def move(self, source: list[int], target: list[int], by: int) -> None:
        self.model.move(source, target, by)

    def read(self, slots: list[int]) -> Stored:
        return self.model.read(slots)

    def write(self, stored: Stored, slots: list[int]) -> None:
        self.model.write(stored, slots)

    def expect(self, workers: int, tokens: int) -> None:
        self.model.expect(workers, tokens)

    def prepare(self, plan: Plan, slots: list[int]) -> None:
        self.model.prepare(plan, slots)


class Scene:
    """A run of `program(opening, n)`: n workers that all see the opening, the others and themselves."""

    def __init__(self, engine: Engine, program: Program, context: int, workers: int, passes: int) -> None:
        """`passes`: how many it may take. Raises `InputError` where they do not fit into the model's context."""
        if context + workers * passes >= engine.model.context:
            most = engine.model.context - workers * passes - 1
            raise InputError(
                f"{passes} passes of {workers} workers behind {context} tokens do not fit into the model's context",
                help=f"{most} tokens at most",
            )
        self._engine = engine
        self._run = engine.start(program, {"opening": "a" * context, "n": workers}, budget=passes)

    @property
    def stored(self) -> int:
        """Tokens in the cache."""
        return sum(block.length for block in self._run.blocks.values())

    def step(self) -> float:
        """ms of a pass: from its rows to the tokens that the session has taken in."""
        started = time.perf_counter()
        went_on = self._engine.step([self._run])
        assert went_on, "a scene is asked for no more passes than its run may take"
        return (time.perf_counter() - started) * 1e3

    def close(self) -> None:
        self._engine.finish(self._run)
        self._engine.forget()
