"""What each layer's attention is, found out by watching the model: `probe` gives every attention module its
`attention.Layer`.

Families differ in where, how and whether they rotate, in windows, scales and sinks. Rather than by a table of families,
this is found by running the model twice on the same tokens, at different positions, while every token attends to itself
alone. Hidden states are the same in both passes then, so each layer's queries and keys may differ by their rotation and
nothing else: which rotation it is, and that it is one, is read off. A family that does more with positions (scales
queries by them, or normalises after rotating) fits no rotation and is refused. Windows are read off the masks that the
model makes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.attention import Heads, Layer
from hwruntime.errors import ModelError
from hwruntime.intercept import Call, Tap, Visible
from hwruntime.rotary import Rotary

TOKENS = 8  # of a probe's pass
KNOWN_TENSORS = {"s_aux", "position_ids", "cache_position"}  # what an attention may be handed beside q, k, v and a mask


@dataclass(frozen=True)
class Seen:
    """An attention call of the first pass (k, q at `near` positions) and its q and k in the second (`far` ones)."""

    call: Call
    q: Tensor
    k: Tensor


@torch.no_grad()
def probe(model: PreTrainedModel, tap: Tap, context: int) -> dict[nn.Module, Layer]:
    """Layers by attention module, in the order in which the model calls them.

    Raises `ModelError` for attention that is not one of `attention.Layer`.
    """
    near, far = positions(context, model.device)
    first, second = _pass(model, tap, near), _pass(model, tap, far)
    return identify(first, second, far - near, frequencies_of(model), context)


def identify(
    first: Mapping[nn.Module, Call],
    second: Mapping[nn.Module, Call],
    deltas: Tensor,
    frequencies: Sequence[Tensor],
    context: int,
) -> dict[nn.Module, Layer]:
    """Layers by attention module, of the calls that a model made of the same tokens in two passes, `deltas` [TOKENS]
    positions apart, while each token attended to itself. `frequencies`: sets of them that the model may rotate by.

    Raises `ModelError` for attention that is not one of `attention.Layer`.
    """
    watched = _paired(first, second)
    allowed = _allowed(next(iter(first.values())).q.dtype, deltas + TOKENS)
    windows = _Windows(context, deltas.device)
    layers: dict[nn.Module, Layer] = {}
    candidates = list(_candidates(frequencies, {seen.q.shape[-1] for seen in watched.values()}))
    for index, (module, seen) in enumerate(watched.items()):
        rotation = _rotation(seen, deltas, candidates, allowed, index)
        layers[module] = _layer(seen.call, rotation, windows.of(seen.call, index), index)
    return layers


def sample_text(model: PreTrainedModel, length: int) -> list[int]:
    """Arbitrary tokens of the model, always the same."""
    return sample_tokens(cast(nn.Embedding, model.get_input_embeddings()).num_embeddings, length)


def sample_tokens(vocabulary: int, length: int) -> list[int]:
    """Arbitrary tokens of a vocabulary, always the same."""
    tokens: list[int] = torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(7)).tolist()
    return tokens


def positions(context: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of the two passes, [TOKENS] each: a sequence's, as masks are made for it, and some far from it."""
    if context < 4 * TOKENS:
        raise ModelError(f"the model has a context of {context} tokens: too short to run anything in it")
    near = torch.arange(TOKENS, device=device)
    last = context - 1 - TOKENS
    steps = [1, 3, 1 + last // 100, 2 + last // 30, last // 8, last // 3, last // 2, last]
    return near, near + torch.tensor(steps, device=device)


def _paired(first: Mapping[nn.Module, Call], second: Mapping[nn.Module, Call]) -> dict[nn.Module, Seen]:
    if not first:
        raise ModelError("the model attends in a way that cannot be replaced")
    if first.keys() != second.keys():
        raise ModelError("the model does not run the same layers at all positions")
    return {module: Seen(first[module], second[module].q, second[module].k) for module in first}


def _pass(model: PreTrainedModel, tap: Tap, positions: Tensor) -> dict[nn.Module, Call]:
    watch = Watch()
    tokens = torch.tensor(sample_text(model, TOKENS), device=positions.device)
    with tap.to(watch, probe=True):
        model.base_model(input_ids=tokens[None], position_ids=positions[None], use_cache=False)
    return watch.calls


class Watch:
    """Attention in which every token attends to itself alone, and which remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: dict[nn.Module, Call] = {}

    def __call__(self, call: Call) -> Tensor:
        if call.module in self.calls:
            raise ModelError(f"the model runs a layer ({type(call.module).__name__}) several times in one pass")
        self.calls[call.module] = call
        return call.v.repeat_interleave(call.q.shape[1] // call.v.shape[1], 1)


def _candidates(sets: Sequence[Tensor], head_dims: set[int]) -> Iterator[Rotary | None]:
    """Every rotation that the model may mean, and none: its rotary modules hold frequencies [pairs], one set or one for
    each type of layer, and their pairs are at the start or the end of a head, halves of it or neighbours."""
    yield None
    for frequencies in sets:
        room = {head_dim - 2 * len(frequencies) for head_dim in head_dims}
        for start in sorted({0} | {n for n in room if n > 0}):
            for interleaved in (False, True):
                yield Rotary(frequencies, start, interleaved)
                yield Rotary(-frequencies, start, interleaved)  # some families turn the other way


def frequencies_of(model: PreTrainedModel) -> list[Tensor]:
    """The sets of frequencies [pairs] that a model's rotary modules hold."""
    found: list[Tensor] = []
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            known = any(torch.equal(buffer, other) for other in found)  # some families have a module in each layer
            if name.endswith("inv_freq") and "original" not in name and buffer.ndim == 1 and not known:
                found.append(buffer.detach().clone())
    return found


def _fits(rotary: Rotary | None, head_dim: int) -> bool:
    return rotary is None or rotary.start in (0, head_dim - 2 * len(rotary.frequencies))


def _rotation(
    seen: Seen, deltas: Tensor, candidates: list[Rotary | None], allowed: Tensor, index: int
) -> Rotary | None:
    """The rotation that takes a layer's q and k from the first pass's positions to the second's."""
    fitting = [rotary for rotary in candidates if _fits(rotary, seen.q.shape[-1])]
    misfits = {rotary: _misfit(rotary, seen, deltas, allowed) for rotary in fitting}
    best = min(misfits, key=lambda rotary: misfits[rotary])
    if not misfits[best] <= 1:  # a nan is not, either
        raise ModelError(
            f"layer {index} of the model does not rotate its queries and keys in a way that can be undone: "
            f"the nearest rotation is off by {misfits[best]:.0f} times what rounding explains"
        )
    return best


def _misfit(rotary: Rotary | None, seen: Seen, deltas: Tensor, allowed: Tensor) -> float:
    """How far q and k are from their rotation relative to their length, in units of what is `allowed` [TOKENS]: the
    largest of all tokens and heads."""
    worst = 0.0
    for near, far in ((seen.call.q, seen.q), (seen.call.k, seen.k)):
        turned = near if rotary is None else rotary.apply(near, rotary.tables(deltas))
        difference = (turned.float() - far.float()).norm(dim=-1) / far.float().norm(dim=-1).clamp_min(1e-20)
        worst = max(worst, float((difference / allowed[:, None]).nan_to_num(torch.inf).max()))
    return worst


def _allowed(dtype: torch.dtype, positions: Tensor) -> Tensor:
    """What rounding explains, [TOKENS]: models make angles in float32 (off by up to position * 6e-8 in each pass), and
    round cos, sin and both products to their dtype."""
    return 1e-4 + 8 * torch.finfo(dtype).eps + 2.5e-7 * positions.float()


def _layer(call: Call, rotation: Rotary | None, window: int | None, index: int) -> Layer:
    unknown = sorted(n for n, value in call.options.items() if isinstance(value, Tensor) and n not in KNOWN_TENSORS)
    if unknown:
        raise ModelError(f"layer {index} of the model attends by something that hwlang does not know: {unknown[0]}")
    scale = cast("float | None", call.options.get("scaling"))
    sinks = cast("Tensor | None", call.options.get("s_aux"))
    return Layer(
        index=index,
        heads=Heads(call.q.shape[1], call.k.shape[1], call.q.shape[2], call.v.shape[2]),
        scale=call.q.shape[-1] ** -0.5 if scale is None else float(scale),
        rotation=rotation,
        window=window,
        softcap=cast("float | None", call.options.get("softcap")),
        sinks=None if sinks is None else sinks.detach().flatten(),
    )


class _Windows:
    """Sliding windows of calls: what their masks say and, for models that make no masks, what they are called with."""

    def __init__(self, context: int, device: torch.device) -> None:
        self._keys = torch.arange(context, device=device)
        self._known: dict[Visible, int | None] = {}

    def of(self, call: Call, index: int) -> int | None:
        """Raises `ModelError` for a mask that is neither causal nor a causal window."""
        if call.visible is None and call.masked:
            raise ModelError(f"layer {index} of the model changes its attention mask in a way of its own")
        if call.visible is None:
            told = cast("int | None", call.options.get("sliding_window"))
            return told if told is not None and told < len(self._keys) else None
        if call.visible not in self._known:
            self._known[call.visible] = self._read(call.visible, index)
        return self._known[call.visible]

    def _read(self, visible: Visible, index: int) -> int | None:
        last = len(self._keys) - 2  # leaves a key of the future to look at
        window = self._seen(visible, last)
        queries = (last, last - 1, 2 * last // 3, last // 2, last // 3)
        if any(not self._is_window(visible, query, window) for query in queries):
            raise ModelError(f"layer {index} of the model sees its text in another way than causally or in a window")
        return window if window <= last else None

    def _seen(self, visible: Visible, query: int) -> int:
        return int(self._row(visible, query).sum())

    def _is_window(self, visible: Visible, query: int, window: int) -> bool:
        expected = (self._keys <= query) & (self._keys > query - window)
        return torch.equal(self._row(visible, query), expected)

    def _row(self, visible: Visible, query: int) -> Tensor:
        """Which keys a query sees, [context]."""
        return visible(0, 0, torch.tensor(query, device=self._keys.device), self._keys).expand(len(self._keys))
