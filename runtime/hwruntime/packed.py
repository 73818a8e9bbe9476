"""Weights on a CPU, laid out as oneDNN reads them best: a product of few rows takes what reading the weights takes.

torch's own product of few rows and a large matrix lays the weights out anew every time. In float32 it takes two to five
times as long for two rows as for one, and workers are to share what one takes; in bfloat16, half as long again as
memory does. Sums are of the same numbers in another order.
"""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.devices import quick_bfloat16

LARGE = 2**16  # weights: with fewer there is nothing to gain
ROWS = 4  # what the layout is best for; it holds for any number
FEW = 16  # rows up to which a weight that cannot be laid out anew is better on the left of the product


class Packed(nn.Module):
    """A linear layer whose weight is laid out for oneDNN. `out_features` x `in_features`, as `nn.Linear`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.packed = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """[out, in], for code of models that makes a product of its own: a copy each time."""
        return self.packed.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return made


class Turned(nn.Module):
    """A linear layer whose weight others use, too (the input embedding): x W^T is made as (W x^T)^T."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) > FEW:
            return nn.functional.linear(x, self.weight, self.bias)
        out = (self.weight @ rows.T).T.contiguous()
        return (out if self.bias is None else out + self.bias).view(*x.shape[:-1], self.out_features)


@torch.no_grad()
def pack(model: PreTrainedModel) -> list[str]:
    """Lay out a model's linear layers of `LARGE` weights and more, in place; lines for `-v`. Only where it helps: on
    a CPU with oneDNN, in float32, and in bfloat16 where the CPU has instructions for it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return []
    embedding = cast(nn.Embedding, model.get_input_embeddings()).weight
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    kinds = {name: kind for name, linear in layers.items() if (kind := _kind(linear, embedding))}
    for name, kind in kinds.items():
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, kind(layers[name]))
    return [f"weights: {len(kinds)} linear layers laid out for oneDNN"] if kinds else []


def _kind(linear: nn.Linear, embedding: Tensor) -> type[Packed | Turned] | None:
    """What a layer becomes; None where it is best as it is."""
    weight = linear.weight
    if weight.device.type != "cpu" or weight.numel() < LARGE:
        return None
    if weight.dtype is torch.float32:
        return Turned if weight is embedding else Packed
    quick = weight.dtype is torch.bfloat16 and quick_bfloat16()
    return Packed if quick and weight is not embedding else None
