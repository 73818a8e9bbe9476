"""One rank's share of a model: its weights and heads in SGLang's ModelRunner, its K/V in SGLang's cache.

All ranks make the same calls, so they know the same slots and plans; only their heads differ. What a layer's attention
is, is found out by `layers.identify`, and the self-test is that of every model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwruntime.attention import Choice, Layer, ModelShape, choose
from hwruntime.attention.flashinfer import padded_dim
from hwruntime.cache import PAGE_SIZE, Pool, Storage, Stored
from hwruntime.devices import DTYPES
from hwruntime.errors import DeviceError, ModelError
from hwruntime.intercept import Call
from hwruntime.layers import TOKENS, Watch, identify, positions, sample_tokens
from hwruntime.plan import Plan
from hwruntime.rotary import turning
from hwruntime.selftest import LENGTH, self_test
from hwruntime.sglang.runner import Settings, make_batch, make_runner, plain_logits, run_batch, take_slots

LEAST_SLOTS = LENGTH * (LENGTH + 1) // 2  # what the self-test's plain pass writes


class Shard:
    """`layers` by attention module, in the order in which the model calls them; `pool` is as large as the session's."""

    def __init__(self, settings: Settings, attention: str) -> None:
        """Load, find out what the layers are, and test.

        Raises `ModelError` where the model's attention is not one that we can run, or comes out wrong, and
        `DeviceError` where the cache or the executor cannot be had.
        """
        self._runner = make_runner(settings)
        self._slots = take_slots(self._runner, settings.slots)
        pages = len(self._slots) // PAGE_SIZE - 1  # and one page that belongs to no block
        if pages * PAGE_SIZE < LEAST_SLOTS:
            raise DeviceError(
                f"a cache of {pages * PAGE_SIZE} tokens is too small: the self-test needs {LEAST_SLOTS}",
                help="raise --kv-tokens",
            )
        self.pool = Pool(pages * PAGE_SIZE)
        self._dtype = DTYPES[settings.dtype]
        self._device = torch.device(self._runner.device)
        self._kept: dict[int, Stored] = {}
        self.vocabulary: int = self._runner.model_config.vocab_size
        with torch.no_grad():
            self.layers = self._identify(settings.context)
            self._refuse_left_out_window(settings.context)
            self._refuse_untestable()
            expected = plain_logits(self._runner, sample_tokens(self.vocabulary, LENGTH), self._slots)
        self._storage = Storage(self.pool, None, self._buffers())
        shape = ModelShape(self._device, self._dtype, tuple(self.layers.values()))
        self.attention = self._choose(attention, shape)
        self.executor = self.attention.make(shape, self.pool, self._storage)
        self._runner.attn_backend.target = self._attend
        self_test(self, sample_tokens(self.vocabulary, LENGTH), expected, self._dtype)

    @torch.no_grad()
    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        """As `engine.LanguageModel.forward`. SGLang makes logits behind the last token of each sequence, and attention
        does not look at sequences: so one ends at each token that is wanted."""
        static = self.executor.begin(plan, slots)
        padding = (static.tokens if static else len(tokens)) - len(tokens)
        ends = sorted({index + 1 for index in wanted})
        total = len(tokens) + padding
        cuts = [*ends, total] if not ends or ends[-1] < total else ends
        batch = make_batch(
            self._runner,
            [*tokens, *[0] * padding],
            [*plan.locals, *[0] * padding],
            [self._slots[slot] for slot in slots] + [self._slots[self.pool.capacity]] * padding,
            [end - start for start, end in zip([0, *cuts], cuts, strict=False)],
        )
        logits = run_batch(self._runner, batch)
        return logits[[ends.index(index + 1) for index in wanted]]

    @torch.no_grad()
    def move(self, source: list[int], target: list[int], by: int) -> None:
        """As `engine.LanguageModel.move`."""
        deltas = torch.full((len(source),), by, device=self._device)
        turn = turning(list(self.layers.values()), deltas, self._dtype, self.executor.rotated)
        self._storage.move(self._at(source), self._at(target), turn)

    def keep(self, number: int, slots: list[int]) -> None:
        """Copy the K/V at slots into the host's memory, under a number."""
        self._kept[number] = {
            layer: (k.cpu(), v.cpu()) for layer, (k, v) in self._storage.read(self._at(slots)).items()
        }

    def restore(self, number: int, slots: list[int]) -> None:
        """Put what was kept under a number into the cache."""
        for layer, (keys, values) in self._kept[number].items():
            self._storage.write(layer, self._at(slots), keys.to(self._device), values.to(self._device))

    def forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self._kept[number]

    def _at(self, slots: list[int]) -> Tensor:
        return torch.tensor(slots, device=self._device)

    def _attend(self, call: Call) -> Tensor:
        return self.executor.attend(self.layers[call.module], call.q, call.k, call.v)

    # --- On load ---

    def _identify(self, context: int) -> dict[nn.Module, Layer]:
        near, far = positions(context, self._device)
        first, second = self._watch(near), self._watch(far)
        sets = [frequencies(module) for module in self._runner.model.modules() if hasattr(module, "cos_sin_cache")]
        layers = identify(first, second, far - near, distinct(sets), context)
        for index, module in enumerate(layers):
            assert module.layer_id == index, "layers are called in the order of their numbers"
        return layers

    def _watch(self, at: Tensor) -> dict[nn.Module, Call]:
        """What the model's attention is asked for tokens at these positions [TOKENS]."""
        watch = Watch()
        self._runner.attn_backend.target = watch
        tokens = sample_tokens(self.vocabulary, TOKENS)
        run_batch(self._runner, make_batch(self._runner, tokens, at.tolist(), self._slots[:TOKENS], [TOKENS]))
        return watch.calls

    def _refuse_left_out_window(self, context: int) -> None:
        """SGLang's Mistral, for one, reads all of its text, whatever its configuration says."""
        config = self._runner.model_config.hf_text_config
        window = getattr(config, "sliding_window", None)
        used = window and window < context and getattr(config, "use_sliding_window", True)
        if used and all(layer.window is None for layer in self.layers.values()):
            raise ModelError(
                f"the model has a sliding window of {window} tokens, which SGLang's own code for it leaves out",
                help="leave --engine out: our own engine has it",
            )

    def _refuse_untestable(self) -> None:
        capped = any(layer.softcap is not None for layer in self.layers.values())
        sinks = any(layer.sinks is not None for layer in self.layers.values())
        if self._device.type == "cpu" and (capped or sinks):
            raise ModelError(
                f"the model has {'attention sinks' if sinks else 'capped attention scores'}, which SGLang's own "
                "attention for CPUs leaves out: there is nothing to test ours against",
                help="leave --engine out, or use a GPU",
            )

    def _buffers(self) -> dict[int, tuple[Tensor, Tensor]]:
        """SGLang's tensors [slots, kv heads, dim] as ours, [kv heads, slots, dim], from our first slot on."""
        ours = slice(self._slots.start, self._slots.stop)
        pairs = (self._runner.token_to_kv_pool.get_kv_buffer(index) for index in range(len(self.layers)))
        return {index: (k[ours].transpose(0, 1), v[ours].transpose(0, 1)) for index, (k, v) in enumerate(pairs)}

    def _choose(self, attention: str, shape: ModelShape) -> Choice:
        """The executor behind the backend. FlashInfer wants K/V padded to its head dimensions; SGLang's are not."""
        choice = choose(attention, shape)
        dims = {dim for layer in shape.layers for dim in (layer.heads.dim, layer.heads.value_dim)}
        if choice.name != "flashinfer" or (len(dims) == 1 and all(padded_dim(dim) == dim for dim in dims)):
            return choice
        reason = f"FlashInfer has no kernels for heads of {min(dims)} to {max(dims)} dimensions that are not padded"
        if attention == "flashinfer":
            raise DeviceError(f"attention `flashinfer` cannot run here: {reason}", help="use --attention torch")
        torch_choice = choose("torch", shape)
        return Choice("torch", reason, torch_choice.make)


def frequencies(rotary: nn.Module) -> Tensor:
    """The frequencies [pairs] of one of SGLang's rotary modules, read off its table of cos and sin.

    The table is [positions, 2 pairs]; there may be a factor on all of it (YaRN's). Row 2^k has exactly 2^k times the
    angles, but for whole turns: so the last of them gives frequencies whose angles fit up to there.
    """
    table: Tensor = rotary._compute_cos_sin_cache()  # type: ignore[operator]  # float32; that in use may be rounded
    cos, sin = table.double().chunk(2, -1)
    angles = torch.atan2(sin, cos)
    found, row = angles[1], 2
    while row < len(table):
        turns = torch.round((found * row - angles[row]) / (2 * torch.pi))
        found = (angles[row] + turns * 2 * torch.pi) / row
        row *= 2
    return found.float()


def distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    found: list[Tensor] = []
    for tensor in tensors:
        if not any(torch.equal(tensor, other) for other in found):
            found.append(tensor)
    return found
