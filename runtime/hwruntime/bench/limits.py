"""What a machine allows: a pass reads all weights and all K/V that are stored, and cannot be quicker than that."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.attention import Layer
from hwruntime.packed import Joint, Packed, Part
from hwruntime.quantized import Quantized

COPIED = 2**28  # bytes of the copy that measures bandwidth: more than any cache of a processor holds


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def elapsed_ms(call: Callable[[], object], device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    call()
    wait(device)
    return (time.perf_counter() - started) * 1e3


class Copy:
    """A large copy. `bytes`: that it reads and writes."""

    def __init__(self, device: torch.device) -> None:
        self.bytes = 2 * COPIED
        self._device = device
        self._source = torch.empty(COPIED, dtype=torch.uint8, device=device).random_()
        self._target = self._source.clone()

    def step(self) -> float:
        """ms of one."""
        return elapsed_ms(lambda: self._target.copy_(self._source), self._device)


def linears(model: PreTrainedModel) -> Iterator[nn.Linear | Quantized | Packed | Part]:
    """A model's linear layers, as it calls them."""
    whole = {id(module.whole) for module in model.modules() if isinstance(module, Joint)}
    kinds = nn.Linear | Quantized | Packed | Part
    return (module for module in model.modules() if isinstance(module, kinds) and id(module) not in whole)


class Linears:
    """What the linear layers of a model take by themselves in plain torch: one `F.linear` for each, of a weight of its
    size in the model's dtype, however the model's own are stored.

    The weights are taken one after another from a store of random numbers that no processor's caches hold.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self._device = model.device
        sizes = [(layer.out_features, layer.in_features) for layer in linears(model)]
        store = torch.randn(max(COPIED // model.dtype.itemsize, *(n * k for n, k in sizes)), device=model.device)
        self._store = store.to(model.dtype)
        inputs = {k: torch.randn(rows, k, device=model.device, dtype=model.dtype) for _, k in sizes}
        self._products = [(inputs[k], weight) for (_, k), weight in zip(sizes, self._weights(sizes), strict=True)]

    @torch.no_grad()
    def step(self) -> float:
        """ms of a pass: as many rows as a pass has workers by each weight."""
        return elapsed_ms(self._run, self._device)

    def _run(self) -> None:
        for x, weight in self._products:
            nn.functional.linear(x, weight)

    def _weights(self, sizes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        start = 0
        for n, k in sizes:
            if start + n * k > len(self._store):
                start = 0
            yield self._store[start : start + n * k].view(n, k)
            start += n * k


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights that a pass reads: all but the input embedding, unless that is the output layer, too."""
    embedding = model.get_input_embeddings()
    layers = list(linears(model))
    unread = {id(p) for p in embedding.parameters()} - {id(p) for layer in layers for p in layer.parameters()}
    tensors: list[Tensor] = [p for p in model.parameters() if id(p) not in unread]
    quantized = (module for module in model.modules() if isinstance(module, Quantized))
    tensors += [few for module in quantized for few in module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def token_bytes(layers: list[Layer], itemsize: int) -> int:
    """Bytes of a token's K/V in all layers."""
    return sum(layer.heads.keys * (layer.heads.dim + layer.heads.value_dim) for layer in layers) * itemsize
