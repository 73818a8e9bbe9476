"""Weights on a CPU, laid out as oneDNN reads them best: a product of few rows takes what reading the weights takes.

torch's own product of few rows and a large matrix lays the weights out anew every time. In float32 it takes two to five
times as long for two rows as for one, and workers are to share what one takes; in bfloat16, half as long again as
memory does. Sums are of the same numbers in another order.
"""

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from hwruntime.devices import cpu_info, quick_bfloat16
from hwruntime.selftest import plain_logits

LARGE = 2**16  # weights: with fewer there is nothing to gain
ROWS = 4  # what the layout is best for; it holds for any number
FEW = 3  # rows: fewer are made `ROWS`, where that is quicker
SOME = 512  # tokens by which an embedding of a class of its own is compared
BLOCKS = (64, 48, 32, 24, 16, 8)  # outputs that lie side by side in a layout, by the width of the CPU's vectors


def laid_out(weight: Tensor) -> nn.Parameter:
    """A weight [out, in] as oneDNN reads it best."""
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS), requires_grad=False)


def product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in] by a weight that is laid out, to [..., out]. Too few rows are filled up to the number that the layout
    is best for, and what comes of the others is left."""
    rows = x.shape[-2] if x.ndim > 1 else 0
    few = 0 < rows < too_few() and x.numel() == rows * x.shape[-1]
    made: Tensor = torch.ops.mkldnn._linear_pointwise(
        nn.functional.pad(x, (0, 0, 0, ROWS - rows)) if few else x, packed, bias, "none", [], ""
    )
    return made[..., :rows, :] if few else made


@cache
def too_few() -> int:
    """Rows: fewer than so many are filled up. On AMD's CPUs (an EPYC with AVX512-BF16) oneDNN takes a sixth longer for
    two than for `ROWS`; on Intel's (a Xeon with as much) a sixth less for one. Nothing is known of others."""
    return FEW if cpu_info().get("vendor_id") == "AuthenticAMD" else 0


def changes(x: Tensor) -> int | None:
    """How often a tensor has been changed in place, where torch counts it."""
    return None if x.is_inference() else x._version


class Packed(nn.Module):
    """A linear layer whose weight is laid out for oneDNN. `out_features` x `in_features`, as `nn.Linear`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed, self.bias = laid_out(linear.weight), linear.bias

    @property
    def weight(self) -> Tensor:
        """[out, in], for code of models that makes a product of its own: a copy each time."""
        return self.packed.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        return product(x, self.packed, self.bias)


class Joint(nn.Module):
    """The weights of layers that a model calls with the same tensor, as one: the first call makes the products of all
    of them, and each takes its own."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        """`linears`: with a bias all, or none."""
        super().__init__()
        self.sizes = [linear.out_features for linear in linears]
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self.packed = laid_out(torch.cat([linear.weight.detach() for linear in linears]))
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        self._of: Tensor | None = None
        self._changes: int | None = None  # how often that had been changed in place
        self._left: dict[int, Tensor] = {}  # what has not been taken of its products

    def take(self, index: int, x: Tensor) -> Tensor:
        """x [..., in] to [..., out], the product of the layer at `index`."""
        if self._of is not x or self._changes != changes(x) or index not in self._left:
            self._of, self._changes = x, changes(x)
            self._left = dict(enumerate(torch.split(product(x, self.packed, self.bias), self.sizes, -1)))
        taken = self._left.pop(index)
        if not self._left:
            self._of = None
        return taken


class Part(nn.Module):
    """One of the layers of a `Joint`. `out_features` x `in_features`, as `nn.Linear`."""

    def __init__(self, linear: nn.Linear, joint: Joint, index: int) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.joint, self.index = joint, index

    @property
    def weight(self) -> Tensor:
        """As `Packed.weight`."""
        return torch.split(self.joint.packed.to_dense(), self.joint.sizes)[self.index]

    @property
    def bias(self) -> Tensor | None:
        bias = self.joint.bias
        return None if bias is None else torch.split(bias, self.joint.sizes)[self.index]

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        return self.joint.take(self.index, x)


class PackedEmbedding(nn.Module):
    """An input embedding that reads the weight of the output layer, which is stored once, laid out for products. What
    else it does (Gemma scales what it reads) is left to the model's own."""

    def __init__(self, embedding: nn.Embedding, layer: Packed, blocks: Tensor) -> None:
        """`blocks`: as `blocks_of` the layer's weight."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx = embedding.padding_idx
        self.packed = layer.packed  # owns the memory that `blocks` looks at
        self._blocks = blocks
        self._own = None if type(embedding) is nn.Embedding else emptied(embedding)

    @property
    def weight(self) -> Tensor:
        """[tokens, dim]: a copy each time."""
        return self.packed.to_dense()

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [...] to [..., dim]."""
        width = self._blocks.shape[2]
        rows = self._blocks[tokens // width, :, tokens % width].flatten(-2)[..., : self.embedding_dim]
        if self._own is None:
            return rows
        places = torch.arange(tokens.numel()).view_as(tokens)
        made: Tensor = functional_call(self._own, {"weight": rows.reshape(-1, self.embedding_dim)}, (places,))
        return made


def emptied(embedding: nn.Embedding) -> nn.Embedding:
    """A copy without weights, to be called with some."""
    other = copy(embedding)
    other._parameters = {
        **embedding._parameters,
        "weight": nn.Parameter(embedding.weight.new_empty(0, 0), requires_grad=False),
    }
    other.padding_idx = None  # is of no use without gradients, and may lie behind the rows that it is called with
    return other


@torch.no_grad()
def pack(model: PreTrainedModel) -> list[str]:
    """Lay out a model's linear layers of `LARGE` weights and more, in place; lines for `-v`. Only where it helps: on
    a CPU with oneDNN, in float32, and in bfloat16 where the CPU has instructions for it. The model is then run once, to
    see which layers read the same rows."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return []
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear and _helps(module)}
    if not layers:
        return []
    head = next((name for name, layer in layers.items() if layer.weight is model.get_input_embeddings().weight), None)
    why = []
    if head and not _pack_with_embedding(model, head, layers.pop(head)):
        why.append(f"weights: {head} is as it was: the embedding shares it, and cannot read what is laid out")
        head = None
    joined = _joined(model, layers)
    for names in joined:
        linears = [layers.pop(name) for name in names]
        joint = Joint(linears)
        for index, (name, linear) in enumerate(zip(names, linears, strict=True)):
            _replace(model, name, Part(linear, joint, index))
    for name, linear in layers.items():
        _replace(model, name, Packed(linear))
    count = len(layers) + sum(map(len, joined)) + bool(head)
    return [f"weights: {count} linear layers laid out for oneDNN"] * bool(count) + why


def _joined(model: PreTrainedModel, layers: Mapping[str, nn.Linear]) -> list[list[str]]:
    """Which of the layers a pass calls with the same tensor, once and side by side in one module."""
    calls: list[tuple[str, Tensor, int | None]] = []  # what is called with stays here: an id is not given away again

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: calls.append((name, inputs[0], changes(inputs[0])))

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        plain_logits(model)
    finally:
        for hook in hooks:
            hook.remove()
    often = Counter(name for name, _, _ in calls)
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, x, changed in calls:
        if often[name] == 1:
            key = (id(x), changed, name.rpartition(".")[0], layers[name].bias is None, layers[name].weight.dtype)
            groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _pack_with_embedding(model: PreTrainedModel, name: str, linear: nn.Linear) -> bool:
    """Lay out an output layer, and let the embedding that shares its weight read its rows there, if it can."""
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding) or embedding.max_norm is not None:
        return False
    layer = Packed(linear)
    blocks = blocks_of(layer.packed, linear.weight)
    if blocks is None:
        return False
    reads = PackedEmbedding(embedding, layer, blocks)
    some = torch.linspace(0, embedding.num_embeddings - 1, SOME).long()
    if not torch.equal(reads(some), embedding(some)):  # one that does not treat all tokens alike
        return False
    model.set_input_embeddings(reads)
    _replace(model, name, layer)
    return True


def _replace(model: PreTrainedModel, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


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
