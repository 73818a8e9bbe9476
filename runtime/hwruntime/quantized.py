"""Weights of 8 or 4 bits on a CPU: a pass is as quick as memory gives it the weights, and these are two to eight times
fewer bytes. Arithmetic stays in the model's dtype, by torch's own kernels.

Linear layers are converted, the output layer among them; embeddings and norms stay as they are. What has been converted
is kept in the user's cache folder: converting takes some seconds for each 100M weights, reading them hardly any.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import __version__ as transformers_version

from hwruntime.errors import DeviceError
from hwruntime.kept import Files, Kept, KeptError

FORMAT = "1"  # of the buffers: another one whenever a conversion gives others than before

GROUP = 32  # weights of one row that share a scale and a zero, where there are 4 bits for each
MANY = 64  # rows: from here on 8 bits are unpacked for a matrix product, which the kernel for few rows does not do well


class Quantized(nn.Module):
    """A linear layer whose weights, buffers here, have few bits. `out_features` x `in_features`, as `nn.Linear`."""

    PARTS: ClassVar[tuple[str, ...]]  # names of the buffers that a conversion makes
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, parts: Mapping[str, Tensor] | None = None) -> None:
        """`parts`: what a conversion of this layer has made before; without, it is converted now."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("bias", linear.bias)
        for name, part in (self.converted(linear) if parts is None else parts).items():
            self.register_buffer(name, part)

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        """The buffers for a layer's weights: `PARTS`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out], in the dtype of x."""
        out = self.product(x.reshape(-1, self.in_features))
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], -1)

    def product(self, rows: Tensor) -> Tensor:
        """rows [n, in] by the weights: [n, out]."""
        raise NotImplementedError


class Int8(Quantized):
    """8 bits a weight, one scale for each output."""

    PARTS = ("weight", "scales")
    weight: Tensor  # int8 [out, in]
    scales: Tensor  # [out]

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp_min(1e-12) / 127
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        return {"weight": rounded, "scales": scales.to(linear.weight.dtype)}

    def product(self, rows: Tensor) -> Tensor:
        scales = self.scales.to(rows.dtype)
        if len(rows) > MANY:
            return nn.functional.linear(rows, self.weight.to(rows.dtype)) * scales
        return torch._weight_int8pack_mm(rows, self.weight, scales)


class Int4(Quantized):
    """4 bits a weight; each group of `GROUP` in a row has a scale and a zero."""

    PARTS = ("packed", "scales")
    packed: Tensor  # uint8 [out, in / 2], as torch's kernel wants them
    scales: Tensor  # [in / GROUP, out, 2]: scale and middle

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        groups = linear.weight.detach().float().view(linear.out_features, -1, GROUP)
        low, high = groups.amin(-1), groups.amax(-1)
        scale = ((high - low) / 15).clamp_min(1e-12)
        levels = ((groups - low[..., None]) / scale[..., None]).round().clamp(0, 15).int()
        packed = torch._convert_weight_to_int4pack_for_cpu(levels.flatten(1), 2)
        scales = torch.stack([scale, low + 8 * scale], -1).transpose(0, 1).contiguous()
        return {"packed": packed, "scales": scales.to(linear.weight.dtype)}

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
def quantize(model: PreTrainedModel, weights: str, files: Files | None = None) -> list[str]:
    """Convert a model's linear layers in place; lines for `-v`.

    `files`: those that the model's weights were loaded from; without, what is converted is not kept. Raises
    `ModelError` where they cannot be read any more.
    """
    if weights == "auto":
        return []
    kind, fits = KINDS[weights]
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    fitting = {name: linear for name, linear in layers.items() if fits(linear)}
    left = len(layers) - len(fitting)
    why = [f"weights: {weights}, {len(fitting)} linear layers" + (f"; {left} are as they were" if left else "")]
    if files is None or not fitting:
        made = {name: kind(linear) for name, linear in fitting.items()}
    else:
        made, how = kept_or_converted(Kept(cache_folder(), identity(fitting, files, weights)), kind, fitting)
        why += how
    for name, layer in made.items():
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer)
    return why


# --- What is kept of conversions ---


def kept_or_converted(
    kept: Kept, kind: type[Quantized], linears: Mapping[str, nn.Linear]
) -> tuple[dict[str, Quantized], list[str]]:
    """The layers for these linear ones, by name: of what is kept, else converted and kept. Lines for `-v`, how."""
    how: list[str] = []
    try:
        if found := kept.read([f"{name}.{part}" for name in linears for part in kind.PARTS]):
            return from_kept(kind, linears, found), [f"weights: from {kept.path}"]
    except KeptError as error:
        how.append(f"weights: {error}")
    layers = {name: kind(linear) for name, linear in linears.items()}
    try:
        kept.write({f"{name}.{part}": layer.get_buffer(part) for name, layer in layers.items() for part in kind.PARTS})
    except KeptError as error:
        return layers, [*how, f"weights: converted, and not kept: {error}"]
    return layers, [*how, f"weights: converted once, kept in {kept.path}"]


def from_kept(
    kind: type[Quantized], linears: Mapping[str, nn.Linear], found: Mapping[str, Tensor]
) -> dict[str, Quantized]:
    """The layers of what a file holds, in memory of their own: the file may be deleted at any time."""
    return {
        name: kind(linear, {part: found[f"{name}.{part}"].clone() for part in kind.PARTS})
        for name, linear in linears.items()
    }


def identity(linears: Mapping[str, nn.Linear], files: Files, weights: str) -> dict[str, str]:
    """All that the buffers depend on. Raises `ModelError`."""
    shapes = [f"{name} {linear.out_features} x {linear.in_features}" for name, linear in linears.items()]
    dtypes = dict.fromkeys(str(linear.weight.dtype).removeprefix("torch.") for linear in linears.values())
    return {
        "hwlang": f"converted weights, format {FORMAT}",
        "checkpoint": files.digest,
        "layers": hashlib.sha256("\n".join(shapes).encode()).hexdigest(),
        "weights": weights,
        "dtype": ", ".join(dtypes),
        "torch": torch.__version__,  # 4 bits are packed as its kernels want them, for vectors of the CPU's width
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "transformers": transformers_version,  # which makes layers of what is in the files
    }


def cache_folder() -> Path:
    """The folder for converted weights, among the user's caches. A relative `XDG_CACHE_HOME` does not count, as XDG
    has it."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    caches = told if Path(told).is_absolute() else os.path.expanduser("~/.cache")
    return Path(caches) / "hwlang" / "weights"
