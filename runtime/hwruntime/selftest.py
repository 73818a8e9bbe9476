"""The test that every model passes on load: a plain forward against a view of two blocks.

It covers reading in the pass of writing, decoding, a move, and several tokens at once, all through our pool: silent
wrong output is the worst bug there is.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hwruntime.attention import Layer
from hwruntime.cache import Block, Pool
from hwruntime.errors import ModelError
from hwruntime.layers import sample_text
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Plan, Row, build_plan

Key = TypeVar("Key")

FIRST, SECOND, LAST = 10, 8, 2  # tokens of the first block, of the second, and behind the move
LENGTH = FIRST + SECOND + 1 + LAST  # one is decoded before the move


class Tested(Protocol[Key]):
    """What the test runs: a model over its pool, as `engine.LanguageModel` has it. `layers` can be exchanged."""

    pool: Pool
    layers: dict[Key, Layer]

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor: ...

    def move(self, source: list[int], target: list[int], by: int) -> None: ...


@torch.no_grad()
def plain_logits(model: PreTrainedModel) -> Tensor:
    """Logits [LENGTH, vocabulary] of the test's text by the model's own attention: call it before that is replaced."""
    tokens = torch.tensor([sample_text(model, LENGTH)], device=model.device)
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits[0]
    return logits.float()


def self_test(model: Tested[Key], tokens: Sequence[int], expected: Tensor, dtype: torch.dtype) -> None:
    """Raises `ModelError` where the logits of `tokens` [LENGTH] through `model`, which computes in `dtype`, are not
    `expected` [LENGTH, vocabulary]."""
    run = _Run(model, tokens)
    exact = dtype == torch.float32
    allowed = _allowed(model, run, expected, dtype)
    start = 0
    for part, logits in run.all_parts():
        error = _error(logits, expected[start : start + len(logits)], exact)
        start += len(logits)
        if not error <= allowed:  # a nan is not allowed either
            raise ModelError(
                f"the model failed the self-test: {part}, read through the shared cache, came out different from a "
                f"plain run (logits off by {error:.1e} of their spread, allowed {allowed:.1e})",
                help="the model does something with attention or positions that hwlang does not know",
            )


def _allowed(model: Tested[Key], run: "_Run[Key]", expected: Tensor, dtype: torch.dtype) -> float:
    """Rounding is allowed and, above it, a quarter of the error that leaving all rotations out would make: so a wrong
    rotation shows in models that hardly look at positions, too."""
    exact = dtype == torch.float32
    rounding = torch.finfo(dtype).eps * (64 if exact else 16)
    rotated = model.layers
    model.layers = {key: replace(layer, rotation=None) for key, layer in rotated.items()}
    try:
        unrotated = _error(run.two_blocks()[FIRST:], expected[FIRST : FIRST + SECOND], exact)
    finally:
        model.layers = rotated
        run.clear()
    most = max(1e-2, 2 * rounding)
    has_rotation = any(layer.rotation is not None for layer in rotated.values())
    return max(rounding, min(most, unrotated / 4)) if has_rotation else most


def _error(got: Tensor, expected: Tensor, exact: bool) -> float:
    """Difference of tokens' logits relative to their spread, both as root mean squares over the vocabulary.

    Of the worst token in float32, of the middle one else: there, rounding can send a token to other experts.
    """
    spread = (expected - expected.mean(-1, keepdim=True)).norm(dim=-1).clamp_min(1e-20)
    errors = (got - expected).norm(dim=-1) / spread
    return float(errors.max() if exact else errors.median())


class _Run(Generic[Key]):
    """The text, written to two blocks of the model's pool."""

    def __init__(self, model: Tested[Key], text: Sequence[int]) -> None:
        self._model = model
        self._text = list(text)
        self._blocks = (Block(), Block())
        self.clear()

    def clear(self) -> None:
        self._tokens = self._text
        for block in self._blocks:
            self._model.pool.clear(block)

    def all_parts(self) -> list[tuple[str, Tensor]]:
        """Names and logits of the text's parts, in its order."""
        both = self.two_blocks()
        decoded = self._pass({1: 1})
        self._move()
        behind = self._pass({1: LAST})
        parts = [("a block", both[:FIRST]), ("a block behind another", both[FIRST:])]
        return [*parts, ("text decoded before and after a move", torch.cat([decoded, behind]))]

    def two_blocks(self) -> Tensor:
        """Write both blocks in one pass, in which the second reads the first."""
        return self._pass({0: FIRST, 1: SECOND})

    def _pass(self, counts: dict[int, int]) -> Tensor:
        """Run the text's next tokens, `counts` of them for each block."""
        pool = self._model.pool
        slots = [s for i, n in counts.items() for s in pool.slots(self._blocks[i], pool.extend(self._blocks[i], n))]
        views = {i: tuple(Piece(j, self._blocks[j].length) for j in range(i + 1)) for i in counts}
        blocks = {i: PlanBlock(block.length, block.pages) for i, block in enumerate(self._blocks)}
        plan = build_plan([Row(views[i], n) for i, n in counts.items()], blocks, pool.page_size)
        total = sum(counts.values())
        tokens, self._tokens = self._tokens[:total], self._tokens[total:]
        return self._model.forward(tokens, plan, slots, range(total))

    def _move(self) -> None:
        """Append the second block to the first, and empty it."""
        pool, (first, second) = self._model.pool, self._blocks
        by = first.length
        source = pool.slots(second, range(second.length))
        self._model.move(source, pool.slots(first, pool.extend(first, second.length)), by)
        pool.clear(second)
