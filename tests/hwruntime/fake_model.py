"""A language model without weights, for tests of the engine."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hwruntime.cache import Pool, Stored
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

    def read(self, slots: list[int]) -> Stored:
        self.calls.append(("read", slots))
        return {}

    def write(self, stored: Stored, slots: list[int]) -> None:
        self.calls.append(("write", slots))

    def expect(self, workers: int, tokens: int) -> None:
        pass

    def prepare(self, plan: Plan, slots: list[int]) -> None:
        self.prepared = plan


class Remembering(FakeModel):
    """What it says follows from the texts of the views alone, wherever the pool has them: it remembers at every slot
    what a token is and what that token saw."""

    def __init__(self, pool: Pool, ends: float = 0.02) -> None:
        super().__init__(pool, ends)
        self.plans: list[Plan] = []
        self._memory: dict[int, int] = {}

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        self.plans.append(plan)
        texts = [self.tokenizer.decode([token]) for token in tokens]  # ids depend on what was met before
        self._memory.update((slot, zlib.crc32(text.encode())) for slot, text in zip(slots, texts, strict=True))
        saw = [self._seen(plan, query) for query in range(len(tokens))]
        self._memory.update((slot, zlib.crc32(repr(view).encode())) for slot, view in zip(slots, saw, strict=True))
        logits = torch.empty(len(wanted), VOCABULARY)
        letters = [self.tokenizer.encode(letter)[0] for letter in LETTERS]
        for row, query in enumerate(wanted):
            random = torch.Generator().manual_seed(zlib.crc32(repr((saw[query], "says")).encode()))
            logits[row] = torch.rand(VOCABULARY, generator=random)
            logits[row, letters] += 1
            logits[row, END] += 2 if torch.rand(1, generator=random) < self.ends else -1
        return logits

    def move(self, source: list[int], target: list[int], by: int) -> None:
        self._memory.update({to: self._memory[at] for at, to in zip(source, target, strict=True)})

    def read(self, slots: list[int]) -> Stored:
        taken = torch.tensor([self._memory.pop(slot) for slot in slots])  # nobody may read them there again
        return {0: (taken, taken)}

    def write(self, stored: Stored, slots: list[int]) -> None:
        self._memory.update(zip(slots, stored[0][0].tolist(), strict=True))

    def _seen(self, plan: Plan, query: int) -> list[list[int]]:
        """What is remembered of the blocks that a query token sees, in the order of its view."""
        blocks = []
        for request in range(plan.requests):
            gathered = range(plan.qo_indptr[request], plan.qo_indptr[request + 1])
            for place, g in enumerate(gathered):
                if plan.rows[g] == query:
                    length = plan.kv_length(request) - (len(gathered) - 1 - place) * plan.causal[request]
                    blocks.append((plan.positions[g], self._block(plan, request, length)))
        return [block for _, block in sorted(blocks, key=lambda block: -block[0])]

    def _block(self, plan: Plan, request: int, length: int) -> list[int]:
        pages = plan.kv_indices[plan.kv_indptr[request] : plan.kv_indptr[request + 1]]
        slots = [page * plan.page_size + place for page in pages for place in range(plan.page_size)]
        return [self._memory[slot] for slot in slots[:length]]


class Flat(Remembering):
    """What it says follows from the text that it sees, however that came into blocks, and in how many passes."""

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        logits = super().forward(tokens, plan, slots, wanted)
        texts = [self.tokenizer.decode([token]) for token in tokens]
        self._memory.update((slot, zlib.crc32(text.encode())) for slot, text in zip(slots, texts, strict=True))
        return logits

    def _seen(self, plan: Plan, query: int) -> list[list[int]]:
        return [[token for block in super()._seen(plan, query) for token in block]]
