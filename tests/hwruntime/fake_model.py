"""A language model without weights, for tests of the engine."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hwruntime.cache import Pool
from hwruntime.plan import Plan
from hwruntime.scripted import END, WordTokenizer

VOCABULARY = 1024
LETTERS = "abc .\n"


@dataclass(frozen=True)
class Forward:
    """A pass: what it was asked, and how full the pool was."""

    tokens: list[int]
    plan: Plan
    slots: list[int]
    wanted: list[int]
    used: int
    capacity: int
    foreseen: bool = field(compare=False)  # prepared before it came


@dataclass
class FakeModel:
    """Says `LETTERS` at random, and the end with probability `ends`; what it says follows from all that it is asked.
    `calls` is what was asked of it."""

    pool: Pool = field(default_factory=lambda: Pool(page_size=4))
    ends: float = 0.02
    context: int = 100_000
    name: str = "fake"
    why: Sequence[str] = ()
    tokenizer: WordTokenizer = field(default_factory=WordTokenizer)
    calls: list[object] = field(default_factory=list)
    prepared: Plan | None = None

    @property
    def foreseen(self) -> int:
        """How many passes were prepared before they came."""
        return sum(call.foreseen for call in self.calls if isinstance(call, Forward))

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        foreseen = plan is self.prepared
        call = Forward(list(tokens), plan, list(slots), list(wanted), self.pool.used, self.pool.capacity, foreseen)
        self.calls.append(call)
        asked = (call.tokens, call.plan, call.slots, call.wanted)
        random = torch.Generator().manual_seed(zlib.crc32(repr(asked).encode()))
        logits = torch.rand(len(wanted), VOCABULARY, generator=random)
        logits[:, [self.tokenizer.encode(letter)[0] for letter in LETTERS]] += 1
        logits[:, END] += torch.where(torch.rand(len(wanted), generator=random) < self.ends, 2, -1)
        return logits

    def move(self, source: list[int], target: list[int], by: int) -> None:
        self.calls.append((source, target, by))

    def expect(self, workers: int, tokens: int) -> None:
        pass

    def prepare(self, plan: Plan, slots: list[int]) -> None:
        self.prepared = plan
