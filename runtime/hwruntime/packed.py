"""Weights on a CPU, laid out as oneDNN reads them best: a product of few rows takes what reading the weights takes.

torch's own product of few rows and a large matrix lays the weights out anew every time. In float32 it takes two to five
times as long for two rows as for one, and workers are to share what one takes; in bfloat16, half as long again as
memory does. Sums are of the same numbers in another order.
"""

import ctypes
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.devices import quick_bfloat16

LARGE = 2**16  # weights: with fewer there is nothing to gain
ROWS = 4  # what the layout is best for; it holds for any number
BLOCKS = (64, 48, 32, 24, 16, 8)  # outputs that lie side by side in a layout, by the width of the CPU's vectors


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


class PackedEmbedding(nn.Module):
    """An input embedding that reads the weight of the output layer, which is stored once, laid out for products."""

    def __init__(self, embedding: nn.Embedding, layer: Packed, blocks: Tensor) -> None:
        """`blocks`: as `blocks_of` the layer's weight."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.packed = layer.packed  # owns the memory that `blocks` looks at
        self._blocks = blocks

    @property
    def weight(self) -> Tensor:
        """[tokens, dim]: a copy each time."""
        return self.packed.to_dense()

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [...] to [..., dim]."""
        width = self._blocks.shape[2]
        return self._blocks[tokens // width, :, tokens % width].flatten(-2)[..., : self.embedding_dim]


@torch.no_grad()
def pack(model: PreTrainedModel) -> list[str]:
    """Lay out a model's linear layers of `LARGE` weights and more, in place; lines for `-v`. Only where it helps: on
    a CPU with oneDNN, in float32, and in bfloat16 where the CPU has instructions for it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return []
    embedding = cast(nn.Embedding, model.get_input_embeddings())
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear and _helps(module)}
    why = []
    for name, linear in layers.items():
        packed = Packed(linear)
        if linear.weight is embedding.weight:
            blocks = blocks_of(packed.packed, linear.weight)
            if blocks is None or type(embedding) is not nn.Embedding or embedding.max_norm is not None:
                why.append(f"weights: {name} is as it was: the embedding shares it, and cannot read what is laid out")
                continue
            model.set_input_embeddings(PackedEmbedding(embedding, packed, blocks))
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, packed)
    count = len(layers) - len(why)
    return [f"weights: {count} linear layers laid out for oneDNN"] * (count > 0) + why


def blocks_of(packed: Tensor, weight: Tensor) -> Tensor | None:
    """The memory of a weight [out, in] that is laid out as `packed`: [out / b, in / n, b, n], so that
    `[i // b, :, i % b]` is row i. b is one of `BLOCKS`, n the numbers that fill 4 bytes, and both sizes are padded.
    None where it is laid out in another way: all rows are looked at."""
    size, start = torch.ops.mkldnn._nbytes(packed), torch.ops.mkldnn.data_ptr(packed)
    flat = torch.frombuffer((ctypes.c_char * size).from_address(start), dtype=weight.dtype)
    rows, columns = weight.shape
    together = 4 // weight.dtype.itemsize
    for width in BLOCKS:
        count = -(-rows // width)
        if flat.numel() % (count * width * together) == 0 and flat.numel() >= count * width * columns:
            blocks = flat.view(count, -1, width, together)
            if _hold(blocks, weight):
                return blocks
    return None


def _hold(blocks: Tensor, weight: Tensor) -> bool:
    width, columns = blocks.shape[2], weight.shape[1]
    parts = zip(blocks, torch.split(weight, width), strict=True)
    return all(torch.equal(block.transpose(0, 1).flatten(1)[: len(part), :columns], part) for block, part in parts)


def _helps(linear: nn.Linear) -> bool:
    weight = linear.weight
    if weight.device.type != "cpu" or weight.numel() < LARGE:
        return False
    return weight.dtype is torch.float32 or (weight.dtype is torch.bfloat16 and quick_bfloat16())
