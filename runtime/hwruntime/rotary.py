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

    def spread(self, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What `turn` takes, of tables [n, pairs]: for each rotated dimension of a head cos, and sin with the sign with
        which the other one of its pair counts, [n, 1, 2 * pairs]."""
        cos, sin = tables
        if self.interleaved:
            return cos.repeat_interleave(2, -1)[:, None], torch.stack([-sin, sin], -1).flatten(-2)[:, None]
        return torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]

    def turn(self, x: Tensor, spread: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate `x` [.., n, heads, head dim] on by the positions of what is `spread`. In float32, then rounded."""
        cos, sin = spread
        end = self.start + 2 * len(self.frequencies)
        whole = self.start == 0 and end == x.shape[-1]
        part = x if whole else x[..., self.start : end]
        if self.interleaved:
            others = part.reshape(*part.shape[:-1], len(self.frequencies), 2).flip(-1).flatten(-2)
        else:
            others = part.roll(len(self.frequencies), -1)
        turned = (part * cos).addcmul_(others, sin).to(x.dtype)
        return turned if whole else torch.cat([x[..., : self.start], turned, x[..., end:]], -1)

    def apply(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate `x` [n, heads, head dim] on by the tables' positions."""
        return self.turn(x, self.spread(tables))


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
