"""Rotary position embeddings: turn what is already rotated further on, as `attention.Rotation` asks.

Only the frequencies are taken from a model. A key at its block-local position and a query that is read in another
view differ by a rotation of unit length: whatever factor a family puts on cos and sin (YaRN's and longrope's attention
scaling) is in the model's own q and k already and must not be applied again (design section 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.attention import Layer


@dataclass(frozen=True, eq=False)
class Rotary:
    """Rotates pairs of dimensions; the rest of a head passes.

    `frequencies` [pairs]: radians per position; `start`: the first rotated dimension of a head. Pair i is dimensions
    (start + i, start + pairs + i), or (start + 2i, start + 2i + 1) where `interleaved`.
    """

    frequencies: Tensor
    start: int = 0
    interleaved: bool = False

    def tables(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [n, pairs], float32, for `deltas` [n] positions.

        Angles are made in float64 where the device has it: a delta can be as long as the context, and float32 would be
        off by some thousandths of a radian at 100k positions.
        """
        exact = torch.float32 if deltas.device.type == "mps" else torch.float64
        angles = deltas.to(exact)[:, None] * self.frequencies.to(deltas.device, exact)
        return angles.cos().float(), angles.sin().float()

    def apply(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate `x` [n, heads, head dim] on by the tables' positions."""
        cos, sin = (table[:, None] for table in tables)
        end = self.start + 2 * len(self.frequencies)
        first, second = self._pairs(x[..., self.start : end].float())
        turned = (first * cos - second * sin, second * cos + first * sin)
        middle = torch.stack(turned, -1).flatten(-2) if self.interleaved else torch.cat(turned, -1)
        return torch.cat([x[..., : self.start], middle.to(x.dtype), x[..., end:]], -1)

    def _pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.interleaved:
            return x[..., 0::2], x[..., 1::2]
        half = len(self.frequencies)
        return x[..., :half], x[..., half:]


def turning(
    layers: Sequence[Layer], deltas: Tensor, dtype: torch.dtype, rotated: bool
) -> Callable[[int, Tensor], Tensor]:
    """What turns stored keys [kv heads, tokens, D] of a layer on by `deltas` [tokens] positions, in `dtype`; where keys
    are not stored `rotated`, they stay as they are."""
    rotations = {layer.index: layer.rotation if rotated else None for layer in layers}
    tables = {rotation: rotation.tables(deltas) for rotation in rotations.values() if rotation is not None}

    def turn(layer: int, keys: Tensor) -> Tensor:
        rotation, keys = rotations[layer], keys.to(dtype)
        return keys if rotation is None else rotation.apply(keys.transpose(0, 1), tables[rotation]).transpose(0, 1)

    return turn


def pin(model: PreTrainedModel, context: int) -> list[str]:
    """Hold frequencies that a model would choose anew in each pass to the ones for views of `context` tokens.

    longrope has one set for short and one for long texts, dynamic NTK a set for each length, chosen from the positions
    of the pass: stored keys would not fit the queries of a later pass. So short texts are read with the frequencies of
    long ones, as serving engines do. Returns a line for `-v` for each kind of rotation that was pinned.
    """
    lines = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if isinstance(kinds, str):
            kinds = {None: kinds}
        for layer_type, kind in (kinds or {}).items():
            if kind == "longrope" or "dynamic" in kind:
                _pin(module, layer_type, context, model.device)
                lines.append(f"rotation: {kind}, with the frequencies for {context} tokens throughout")
    return sorted(set(lines))


def _pin(module: nn.Module, layer_type: str | None, context: int, device: torch.device) -> None:
    """Let a rotary module choose for the last position of the context, then make it one that does not choose."""
    last = torch.tensor([[context - 1]], device=device)
    arguments = {} if layer_type is None else {"layer_type": layer_type}
    with torch.no_grad():
        module(torch.zeros(1, device=device), last, **arguments)
    kinds = cast("str | dict[str, str]", module.rope_type)
    cast(Any, module).rope_type = "default" if isinstance(kinds, str) else {**kinds, str(layer_type): "default"}
