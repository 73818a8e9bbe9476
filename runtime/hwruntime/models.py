"""A model as the engine knows it: tokens in, logits out, K/V in our pool.

transformers owns loading, quantized checkpoints and model code, all unmodified; we own the cache and the attention
(design section 6).
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hwruntime.attention import Choice, choose
from hwruntime.cache import Pool, Storage
from hwruntime.checkpoint import Checkpoint, open_checkpoint
from hwruntime.errors import ModelError
from hwruntime.intercept import Call, Tap
from hwruntime.layers import probe
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.plan import Plan
from hwruntime.quiet import quiet
from hwruntime.rotary import pin
from hwruntime.selftest import plain_logits, self_test

# What code of a family that nobody has tried here may raise, on a plain pass or on one over our pool.
FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError, ImportError)


class Model:
    """One loaded model and its pool of K/V.

    `context`: positions that a view may have; `why`: one line for each choice that was made, for `-v`.
    """

    def __init__(self, checkpoint: Checkpoint, attention: str = "auto", kv_tokens: int | None = None) -> None:
        """Raises `ModelError` where the model's attention is not one that we can run, or comes out wrong."""
        self.name = checkpoint.name
        self.tokenizer: ModelTokenizer = checkpoint.tokenizer
        self.context = checkpoint.context
        self.hf: PreTrainedModel = checkpoint.model
        self.device = str(self.hf.device)
        self.dtype = str(self.hf.dtype).removeprefix("torch.")
        self.attention: Choice = choose(attention, self.hf.device.type)
        self.why = [*checkpoint.why, f"attention: {self.attention.name}, {self.attention.why}"]

        self._keeps = "logits_to_keep" in inspect.signature(self.hf.forward).parameters
        with quiet():
            try:
                self._take_over()
            except FORWARD_ERRORS as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ModelError(f"`{self.name}` fails in its first forward pass ({reason})") from error
        self._use(Pool(kv_tokens))

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        kv_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> "Model":
        """Load `tiny` (the embedded model), a folder, or a model of the Hugging Face hub.

        `kv_tokens`: the size of the pool; without, it grows as needed. Raises `ModelError` and `DeviceError`.
        """
        checkpoint = open_checkpoint(name, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        return cls(checkpoint, attention, kv_tokens)

    @torch.no_grad()
    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        """Run one pass over `tokens` [T], whose K/V go to `slots` [T].

        Returns the logits of the tokens at the indices `wanted`, float32 [len(wanted), vocabulary]; without any, the
        output layer is not run.
        """
        assert len(tokens) == len(slots) == len(plan.locals), "a plan is for the tokens of one pass"
        self._executor.begin(plan, slots)
        arguments = {"input_ids": self._row(tokens), "position_ids": self._row(plan.locals), "use_cache": False}
        if not wanted:
            self.hf.base_model(**arguments)
            return torch.empty(0, self.vocab_size, device=self.hf.device)
        keep = self._row(wanted)[0]
        logits: Tensor
        if self._keeps:
            logits = self.hf(**arguments, logits_to_keep=keep).logits[0]
        else:
            logits = self.hf(**arguments).logits[0, keep]
        return logits.float()

    @torch.no_grad()
    def move(self, source: list[int], target: list[int], by: int) -> None:
        """Copy the K/V of the tokens at slots `source` to `target`, keys rotated `by` positions further on."""
        deltas = torch.full((len(source),), by, device=self.hf.device)
        rotations = [layer.rotation for layer in self.layers.values()]
        tables = {rotation: rotation.tables(deltas) for rotation in rotations if rotation is not None}

        def rotate(layer: int, keys: Tensor) -> Tensor:
            rotation = rotations[layer]
            return keys if rotation is None else rotation.apply(keys.transpose(0, 1), tables[rotation]).transpose(0, 1)

        self._storage.move(self._row(source)[0], self._row(target)[0], rotate)

    def _take_over(self) -> None:
        """Put our attention in the place of the model's, and see that nothing else changes."""
        self.why += pin(self.hf, self.context)
        tap = Tap(self.hf)
        self.layers = probe(self.hf, tap, self.context)
        expected = plain_logits(self.hf)
        self.vocab_size = expected.shape[-1]
        tap.divert(self._attend)
        self._use(Pool())
        self_test(self, expected)

    def _use(self, pool: Pool) -> None:
        self.pool = pool
        self._storage = Storage(pool)
        self._executor = self.attention.make(pool, self._storage)

    def _attend(self, call: Call) -> Tensor:
        return self._executor.attend(self.layers[call.module], call.q, call.k, call.v)

    def _row(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor([list(numbers)], device=self.hf.device)
