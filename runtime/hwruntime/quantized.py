"""Weights of 8 or 4 bits on a CPU: a pass is as quick as memory gives it the weights, and these are two to eight times
fewer bytes. Arithmetic stays in the model's dtype, by torch's own kernels.

Linear layers are converted, the output layer among them; embeddings and norms stay as they are.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.errors import DeviceError

GROUP = 32  # weights of one row that share a scale and a zero, where there are 4 bits for each
MANY = 64  # rows: from here on 8 bits are unpacked for a matrix product, which the kernel for few rows does not do well


class Quantized(nn.Module):
    """A linear layer whose weights, buffers here, have few bits. `out_features` x `in_features`, as `nn.Linear`."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("bias", linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out], in the dtype of x."""
        rows = x.reshape(-1, self.in_features)
        out = self.product(rows)
        return (out if self.bias is None else out + self.bias).view(*x.shape[:-1], -1)

    def product(self, rows: Tensor) -> Tensor:
        """rows [n, in] by the weights: [n, out]."""
        raise NotImplementedError


class Int8(Quantized):
    """8 bits a weight, one scale for each output."""

    weight: Tensor  # int8 [out, in]
    scales: Tensor  # [out]

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp_min(1e-12) / 127
        self.register_buffer("weight", (weight / scales[:, None]).round().to(torch.int8))
        self.register_buffer("scales", scales.to(linear.weight.dtype))

    def product(self, rows: Tensor) -> Tensor:
        scales = self.scales.to(rows.dtype)
        if len(rows) > MANY:
            return nn.functional.linear(rows, self.weight.to(rows.dtype)) * scales
        return torch._weight_int8pack_mm(rows, self.weight, scales)


class Int4(Quantized):
    """4 bits a weight; each group of `GROUP` in a row has a scale and a zero."""

    packed: Tensor  # uint8 [out, in / 2], as torch's kernel wants them
    scales: Tensor  # [in / GROUP, out, 2]: scale and middle

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        groups = linear.weight.detach().float().view(self.out_features, -1, GROUP)
        low, high = groups.amin(-1), groups.amax(-1)
        scale = ((high - low) / 15).clamp_min(1e-12)
        levels = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15).int()
        self.register_buffer("packed", torch._convert_weight_to_int4pack_for_cpu(levels.flatten(1), 2))
        middle = low + 8 * scale
        self.register_buffer(
            "scales", torch.stack([scale, middle], -1).transpose(0, 1).contiguous().to(linear.weight.dtype)
        )

    def product(self, rows: Tensor) -> Tensor:
        scales = self.scales.to(rows.dtype)
        made: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, scales)
        return made


def fits_int8(linear: nn.Linear) -> bool:
    return linear.in_features % 16 == 0


def fits_int4(linear: nn.Linear) -> bool:
    return linear.in_features % GROUP == 0 and linear.out_features % 16 == 0


KINDS: Mapping[str, tuple[type[Quantized], Callable[[nn.Linear], bool]]] = {
    "int8": (Int8, fits_int8),
    "int4": (Int4, fits_int4),
}
WEIGHTS = ("auto", *KINDS)  # `auto`: as the checkpoint has them


def check_weights(weights: str, device: torch.device) -> None:
    """Raises `DeviceError` for unknown weights, and for a device that is no CPU: before anything is loaded."""
    if weights not in WEIGHTS:
        raise DeviceError(f"there are no weights `{weights}`", help=f"one of {', '.join(WEIGHTS)}")
    if weights != "auto" and device.type != "cpu":
        help = "use --device cpu, or a quantized checkpoint"
        raise DeviceError(f"weights `{weights}` are for a CPU, the model is on {device.type}", help=help)


@torch.no_grad()
def quantize(model: PreTrainedModel, weights: str) -> list[str]:
    """Convert a model's linear layers in place; lines for `-v`."""
    if weights == "auto":
        return []
    kind, fits = KINDS[weights]
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    converted = {name: linear for name, linear in layers.items() if fits(linear)}
    for name, linear in converted.items():
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, kind(linear))
    kept = len(layers) - len(converted)
    return [f"weights: {weights}, {len(converted)} linear layers" + (f"; {kept} are as they were" if kept else "")]
