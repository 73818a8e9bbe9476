"""A model as the engine knows it: tokens in, logits out, K/V in our pool.

transformers owns loading, quantized checkpoints and model code, all unmodified; we own the cache and the attention
(design section 6).
"""

import hashlib
import inspect
import logging
from collections.abc import Sequence

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from hwruntime.attention import Choice, ModelShape, Static, choose
from hwruntime.cache import Pool, Storage, Stored
from hwruntime.checkpoint import Checkpoint, open_checkpoint
from hwruntime.cpu.build import library
from hwruntime.cpu.tape import TapeRecorder
from hwruntime.devices import find_kv_dtype, give_back, upload
from hwruntime.errors import ModelError
from hwruntime.graphs import CudaRecorder, Recorder, Recording
from hwruntime.intercept import Call, Tap
from hwruntime.layers import probe, sample_text
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.norms import quicken
from hwruntime.packed import pack
from hwruntime.plan import Plan
from hwruntime.quiet import quiet
from hwruntime.rotary import pin, turning
from hwruntime.selftest import LENGTH, plain_logits, self_test

CAPTURE_AFTER = 2  # passes that are padded alike: a shape that comes up less often is not worth capturing

# What code of a family that nobody has tried here may raise, on a plain pass or on one over our pool.
FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError, ImportError)


class Model:
    """One loaded model and its pool of K/V.

    `context`: positions that a view may have; `why`: one line for each choice that was made, for `-v`. `files`,
    `weights` and `kv_dtype`: what it was made of.
    """

    _begun: Plan | None  # the plan that the executor has, and what that was padded to
    _static: Static | None

    def __init__(
        self,
        checkpoint: Checkpoint,
        attention: str | Choice = "auto",
        kv_tokens: int | None = None,
        kv_dtype: str = "auto",
        recorder: Recorder | None = None,
    ) -> None:
        """`recorder`: of padded passes; None for CUDA graphs on a GPU, and nothing elsewhere.

        Raises `ModelError` where the model's attention is not one that we can run, or comes out wrong, and
        `DeviceError` where the executor or the cache that was asked for cannot be had.
        """
        self.name = checkpoint.name
        self.tokenizer: ModelTokenizer = checkpoint.tokenizer
        self.context = checkpoint.context
        self.hf: PreTrainedModel = checkpoint.model
        self.device = str(self.hf.device)
        self.dtype = str(self.hf.dtype).removeprefix("torch.")
        self.why = list(checkpoint.why)
        self.files = checkpoint.files
        self.weights = checkpoint.weights
        self.kv_dtype = kv_dtype
        stored = find_kv_dtype(kv_dtype)

        self._recorder: Recorder | None = None  # the self-test runs without
        self._keeps = "logits_to_keep" in inspect.signature(self.hf.forward).parameters
        with quiet():
            try:
                self._take_over(attention, stored)
            except FORWARD_ERRORS as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ModelError(f"`{self.name}` fails in its first forward pass ({reason})") from error
        give_back()
        self._use(Pool(kv_tokens), stored)
        self._recorder = recorder or self._find_recorder()

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        kv_tokens: int | None = None,
        kv_dtype: str = "auto",
        weights: str = "auto",
        trust_remote_code: bool = False,
    ) -> "Model":
        """Load `tiny` (the embedded model), a folder, or a model of the Hugging Face hub.

        `kv_tokens`: the size of the pool; without, it grows as needed. `kv_dtype`: of the cache, `auto` for the model's
        own or `fp8`. `weights`: `auto` for the checkpoint's, `int8` or `int4` on a CPU.

        Raises `ModelError` and `DeviceError`.
        """
        checkpoint = open_checkpoint(
            name, device=device, dtype=dtype, trust_remote_code=trust_remote_code, weights=weights
        )
        return cls(checkpoint, attention, kv_tokens, kv_dtype)

    @property
    def identity(self) -> dict[str, str]:
        """All that the model's arithmetic depends on, besides its weights."""
        return {
            "config": hashlib.sha256(self.hf.config.to_json_string().encode()).hexdigest(),
            "context": str(self.context),
            "dtype": self.dtype,
            "weights": self.weights,
            "kv dtype": self.kv_dtype,
            "attention": self.attention.name,
            "device": self.hf.device.type,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def expect(self, workers: int, tokens: int) -> None:
        """Told while the pool is empty: how many workers the coming run has, and the tokens of a typical view."""
        self.executor.expect(workers, tokens)

    @torch.no_grad()
    def prepare(self, plan: Plan, slots: list[int]) -> None:
        """Begin to take the plan of the coming pass to the device, while the present one runs. `forward` with this very
        plan need not do it again."""
        self._begun = plan
        self._static = self.executor.begin(plan, slots)

    @torch.no_grad()
    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        """Run one pass over `tokens` [T], whose K/V go to `slots` [T].

        Returns the logits of the tokens at the indices `wanted`, float32 [len(wanted), vocabulary]; without any, the
        output layer is not run.
        """
        assert len(tokens) == len(slots) == len(plan.locals), "a plan is for the tokens of one pass"
        if self._begun is not plan:
            self.prepare(plan, slots)
        padding = [0] * (self._static.tokens - len(tokens) if self._static else 0)
        inputs = self._row([*tokens, *padding]), self._row([*plan.locals, *padding])
        if not wanted:
            self.hf.base_model(input_ids=inputs[0], position_ids=inputs[1], use_cache=False)
            return torch.empty(0, self.vocab_size, device=self.hf.device)
        keep = self._row(wanted)[0]
        every = list(wanted) == list(range(len(tokens)))
        recording = self._recording(self._static, *inputs, every=every)
        if recording is None:
            return self._logits(*inputs, keep).float()
        recording.tokens.copy_(inputs[0])
        recording.positions.copy_(inputs[1])
        recording.replay()
        logits = recording.logits[: len(tokens)] if every else recording.logits[keep]
        return logits.to(torch.float32, copy=True)

    def _logits(self, tokens: Tensor, positions: Tensor, keep: Tensor | None = None) -> Tensor:
        """Logits of the tokens at the indices `keep`, or of all of them: [len(keep), vocabulary]."""
        logits: Tensor
        if keep is not None and self._keeps:
            logits = self.hf(input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=keep).logits[0]
            return logits
        logits = self.hf(input_ids=tokens, position_ids=positions, use_cache=False).logits[0]
        return logits if keep is None else logits[keep]

    def _recording(self, static: Static | None, tokens: Tensor, positions: Tensor, every: bool) -> Recording | None:
        """The captured pass for those that are padded like this one, once they have come up often enough. `every`:
        whether the logits of all tokens are wanted, in their order."""
        if static is None or self._recorder is None or (static.every and not every):
            return None
        static.passes += 1
        if static.recording is None and static.passes > CAPTURE_AFTER:
            try:
                static.recording = self._recorder.record(self._logits, tokens.clone(), positions.clone())
            except FORWARD_ERRORS as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                logging.getLogger(__name__).log(self._recorder.level, "passes are not recorded: %s", reason)
                self._recorder = None
        return static.recording

    @torch.no_grad()
    def move(self, source: list[int], target: list[int], by: int) -> None:
        """Copy the K/V of the tokens at slots `source` to `target`, keys rotated `by` positions further on."""
        deltas = torch.full((len(source),), by, device=self.hf.device)
        turn = turning(list(self.layers.values()), deltas, self.hf.dtype, self.executor.rotated)
        self._storage.move(self._row(source)[0], self._row(target)[0], turn)

    @torch.no_grad()
    def read(self, slots: list[int]) -> Stored:
        """A copy of the K/V at `slots` [T], in the host's memory."""
        return {layer: (k.cpu(), v.cpu()) for layer, (k, v) in self._storage.read(self._row(slots)[0]).items()}

    @torch.no_grad()
    def write(self, stored: Stored, slots: list[int]) -> None:
        """Put what `read` has given, here or of a model like this one, into the cache at `slots` [T]."""
        where = self._row(slots)[0]
        for layer, (keys, values) in stored.items():
            self._storage.write(layer, where, keys.to(self.hf.device), values.to(self.hf.device))

    def _take_over(self, attention: str | Choice, kv_dtype: torch.dtype | None) -> None:
        """Put our attention in the place of the model's, and see that nothing else changes."""
        self.why += pack(self.hf)
        self.why += quicken(self.hf)
        self.why += pin(self.hf, self.context)
        tap = Tap(self.hf)
        self.layers = probe(self.hf, tap, self.context)
        self._shape = ModelShape(self.hf.device, self.hf.dtype, tuple(self.layers.values()), kv_dtype)
        self.attention = choose(attention, self._shape) if isinstance(attention, str) else attention
        self.why.append(f"attention: {self.attention.name}, {self.attention.why}")
        expected = plain_logits(self.hf)
        self.vocab_size = expected.shape[-1]
        tap.divert(self._attend)
        self._use(Pool(), None)
        self_test(self, sample_text(self.hf, LENGTH), expected, self.hf.dtype)

    def _find_recorder(self) -> Recorder | None:
        if self.hf.device.type == "cuda":
            return CudaRecorder()
        if self.hf.device.type != "cpu":
            return None
        return TapeRecorder(library() if self.attention.name == "cpu" else None)

    def _use(self, pool: Pool, kv_dtype: torch.dtype | None) -> None:
        self.pool = pool
        self._storage = Storage(pool, kv_dtype)
        self.executor = self.attention.make(self._shape, pool, self._storage)
        self._begun = None
        self._static = None

    def _attend(self, call: Call) -> Tensor:
        return self.executor.attend(self.layers[call.module], call.q, call.k, call.v)

    def _row(self, numbers: Sequence[int]) -> Tensor:
        return upload(torch.tensor([list(numbers)]), self.hf.device)
