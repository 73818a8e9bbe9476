"""Weights on a CPU, laid out as they are read best (`layouts.py`), in the place of a model's linear layers; and one
product for layers that read the same rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from hwruntime.cpu.linear import LANES
from hwruntime.layouts import Layout, layout_for
from hwruntime.quantized import OwnQuantized
from hwruntime.selftest import plain_logits

LARGE = 2**16  # weights: with fewer there is nothing to gain
SOME = 512  # tokens by which an embedding of a class of its own is compared


def changes(x: Tensor) -> int | None:
    """How often a tensor has been changed in place, where torch counts it."""
    return None if x.is_inference() else x._version


class Packed(nn.Module):
    """A linear layer whose weight is laid out. `out_features` x `in_features`, as `nn.Linear`."""

    def __init__(self, linear: nn.Linear, layout: Layout) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed = nn.Parameter(layout.lay_out(linear.weight), requires_grad=False)
        self.bias = linear.bias
        self.layout = layout
        self._product = layout.product(self.packed, linear.bias, self.in_features, self.out_features)

    @property
    def weight(self) -> Tensor:
        """[out, in], for code of models that makes a product of its own: a copy each time."""
        return self.layout.dense(self.packed, (self.out_features, self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        return self._product(x)


class Joint(nn.Module):
    """Layers that a model calls with the same tensor, as one: the first call makes the products of all of them, and
    each takes its own."""

    def __init__(self, layers: Sequence[nn.Linear | OwnQuantized]) -> None:
        """`layers`: of one kind, with a bias all, or none."""
        super().__init__()
        self.whole, self.sizes = _stacked(layers), [layer.out_features for layer in layers]
        self._made = Made()

    def take(self, index: int, x: Tensor) -> Tensor:
        """x [..., in] to [..., out], the product of the layer at `index`."""
        made = self._made
        if made.of is not x or made.changes != changes(x) or index not in made.left:
            made.of, made.changes = x, changes(x)
            made.left = dict(enumerate(self.whole(x).split(self.sizes, -1)))
        taken = made.left.pop(index)
        if not made.left:
            made.of = None
        return taken


@dataclass(eq=False)
class Made:
    """Products that have been made, and are not all taken: of which tensor, how often that had been changed in place,
    and what is left, by layer. Not a module's own attributes, which take long to set."""

    of: Tensor | None = None
    changes: int | None = None
    left: dict[int, Tensor] = field(default_factory=dict)


class Part(nn.Module):
    """One of the layers of a `Joint`. `out_features` x `in_features`, as `nn.Linear`."""

    def __init__(self, joint: Joint, index: int) -> None:
        super().__init__()
        self.in_features, self.out_features = joint.whole.in_features, joint.sizes[index]
        self.joint, self.index = joint, index

    @property
    def weight(self) -> Tensor:
        """As `Packed.weight`."""
        return torch.split(self.joint.whole.weight, self.joint.sizes)[self.index]

    @property
    def bias(self) -> Tensor | None:
        bias = self.joint.whole.bias
        return None if bias is None else torch.split(bias, self.joint.sizes)[self.index]

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        return self.joint.take(self.index, x)


class PackedEmbedding(nn.Module):
    """An input embedding that reads the weight of the output layer, which is stored once, laid out for products. What
    else it does (Gemma scales what it reads) is left to the model's own."""

    def __init__(self, embedding: nn.Embedding, layer: Packed, blocks: Tensor) -> None:
        """`blocks`: as `Layout.blocks` of the layer's weight."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx = embedding.padding_idx
        self.packed = layer.packed  # owns the memory that `blocks` looks at
        self._layout, self._blocks = layer.layout, blocks
        self._own = None if type(embedding) is nn.Embedding else emptied(embedding)

    @property
    def weight(self) -> Tensor:
        """[tokens, dim]: a copy each time."""
        return self._layout.dense(self.packed, (self.num_embeddings, self.embedding_dim))

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
    """Lay out a model's linear layers of `LARGE` weights and more, where that helps (`layout_for`), and join those that
    read the same rows, also of few bits: in place. Lines for `-v`. The model is run once, to see which they are."""
    layers = {name: module for name, module in model.named_modules() if _helps(module)}
    if not layers:
        return []
    linears: dict[str, nn.Linear] = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    names, why = Counter(_layout(linear).name for linear in linears.values()), []
    shared = model.get_input_embeddings().weight
    head = next((name for name, linear in linears.items() if linear.weight is shared), "")
    if head and not _pack_with_embedding(model, head, linears[head]):
        why.append(f"weights: {head} is as it was: the embedding shares it, and cannot read what is laid out")
        names[_layout(linears[head]).name] -= 1
    layers.pop(head, None)
    for group in _joined(model, layers):
        joint = Joint([layers.pop(name) for name in group])
        for index, name in enumerate(group):
            _replace(model, name, Part(joint, index))
    for name, layer in layers.items():
        if isinstance(layer, nn.Linear):
            _replace(model, name, Packed(layer, _layout(layer)))
    return [f"weights: {count} linear layers laid out for {name}" for name, count in names.items() if count] + why


def _helps(module: nn.Module) -> TypeGuard[nn.Linear | OwnQuantized]:
    if type(module) is nn.Linear:
        return module.weight.numel() >= LARGE and layout_for(module.weight) is not None
    return isinstance(module, OwnQuantized) and module.out_features % LANES == 0  # whole blocks can be joined


def _layout(linear: nn.Linear) -> Layout:
    layout = layout_for(linear.weight)
    assert layout is not None, "only what can be laid out is"
    return layout


def _joined(model: PreTrainedModel, layers: Mapping[str, nn.Linear | OwnQuantized]) -> list[list[str]]:
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
            layer = layers[name]
            kind = layer.weight.dtype if isinstance(layer, nn.Linear) else type(layer)
            key = (id(x), changed, name.rpartition(".")[0], layer.bias is None, kind)
            groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _stacked(layers: Sequence[nn.Linear | OwnQuantized]) -> Packed | OwnQuantized:
    """Layers of one kind, with a bias all or none, on top of one another."""
    whole = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), bias=False, device="meta")
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    if biases:
        whole.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    few = [layer for layer in layers if isinstance(layer, OwnQuantized)]
    if few:
        return type(few[0])(whole, {"packed": torch.cat([layer.packed for layer in few])})
    whole.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]), requires_grad=False)
    return Packed(whole, _layout(whole))


def _pack_with_embedding(model: PreTrainedModel, name: str, linear: nn.Linear) -> bool:
    """Lay out an output layer, and let the embedding that shares its weight read its rows there, if it can."""
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding) or embedding.max_norm is not None:
        return False
    layer = Packed(linear, _layout(linear))
    blocks = layer.layout.blocks(layer.packed, linear.weight)
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
