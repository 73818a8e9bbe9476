"""Weights of 8 or 4 bits on a CPU: a pass is as quick as memory gives it the weights, and these are two to eight times
fewer bytes. Products are made by kernels of our own, of weights as they are and rows that are rounded to 15 bits; where
these do not run, by torch's, in the model's dtype.

Linear layers are converted, the output layer among them; embeddings and norms stay as they are. What has been converted
is kept in the user's cache folder: converting takes some seconds for each 100M weights, reading them hardly any.
"""

import hashlib
import platform
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import __version__ as transformers_version

from hwruntime.cpu.build import CannotBuild, library
from hwruntime.cpu.linear import GROUP, LinearKernel, pack4, pack8
from hwruntime.errors import DeviceError
from hwruntime.kept import Files, Kept, KeptError, cache_folder

FORMAT = "2"  # of the buffers: another one whenever a conversion gives others than before

MANY = 64  # rows: from here on 8 bits are unpacked for a matrix product, which the kernel for few rows does not do well


class Quantized(nn.Module):
    """A linear layer whose weights, buffers here, have few bits. `out_features` x `in_features`, as `nn.Linear`."""

    PARTS: ClassVar[tuple[str, ...]]  # names of the buffers that a conversion makes
    LAYOUT: ClassVar[str]  # of these buffers
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, parts: Mapping[str, Tensor] | None = None) -> None:
        """`parts`: what a conversion of this layer has made before; without, it is converted now."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("bias", linear.bias)
        for name, part in (self.converted(linear) if parts is None else parts).items():
            self.register_buffer(name, part)

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        """Whether the layer can be converted."""
        raise NotImplementedError

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        """The buffers for a layer's weights: `PARTS`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out], in the dtype of x."""
        return self.product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], -1)

    def product(self, rows: Tensor) -> Tensor:
        """rows [n, in] by the weights, with the bias: [n, out]."""
        raise NotImplementedError


def levels8(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """8 bits a weight, -127 to 127 [out, in], and one scale for each output, float32 [out]."""
    weight = linear.weight.detach().float()
    scales = weight.abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def levels4(linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """4 bits a weight, 0 to 15 [out, groups, GROUP], and for each group a scale and what 0 stands for, of `dtype`
    [out, groups]."""
    groups = linear.weight.detach().float().view(linear.out_features, -1, GROUP)
    lowest, highest = groups.amin(-1), groups.amax(-1)
    scale, lowest = ((highest - lowest) / 15).clamp_min(1e-12).to(dtype), lowest.to(dtype)
    levels = (groups - lowest[..., None]) / scale[..., None]
    return levels.round().clamp(0, 15).int(), scale, lowest


class TorchInt8(Quantized):
    """8 bits a weight, by torch's kernel."""

    PARTS = ("weight", "scales")
    LAYOUT = "torch"
    weight: Tensor  # int8 [out, in]
    scales: Tensor  # [out]

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        return linear.in_features % 16 == 0

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        levels, scales = levels8(linear)
        return {"weight": levels, "scales": scales.to(linear.weight.dtype)}

    def product(self, rows: Tensor) -> Tensor:
        scales = self.scales.to(rows.dtype)
        if len(rows) > MANY:
            return biased(nn.functional.linear(rows, self.weight.to(rows.dtype)) * scales, self.bias)
        return biased(torch._weight_int8pack_mm(rows, self.weight, scales), self.bias)


class TorchInt4(Quantized):
    """4 bits a weight, by torch's kernel."""

    PARTS = ("packed", "scales")
    LAYOUT = "torch"
    packed: Tensor  # uint8 [out, in / 2], as torch's kernel wants them
    scales: Tensor  # [in / GROUP, out, 2]: scale and middle

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        return linear.in_features % GROUP == 0 and linear.out_features % 16 == 0

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        levels, scale, lowest = levels4(linear, linear.weight.dtype)
        packed = torch._convert_weight_to_int4pack_for_cpu(levels.flatten(1), 2)
        scales = torch.stack([scale, lowest + 8 * scale], -1).transpose(0, 1).contiguous()
        return {"packed": packed, "scales": scales}

    def product(self, rows: Tensor) -> Tensor:
        scales = self.scales.to(rows.dtype)
        return biased(torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, scales), self.bias)


class OwnQuantized(Quantized):
    """By a kernel of our own: in memory as that reads it."""

    PARTS = ("packed",)
    LAYOUT = "1"
    KERNEL: ClassVar[str]
    packed: Tensor  # uint8 [blocks of 16 outputs, bytes]

    def __init__(self, linear: nn.Linear, parts: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(linear, parts)
        self._kernel = LinearKernel(self.KERNEL, library())
        self._product = self._kernel.product(self.packed, self.bias, self.in_features, self.out_features)

    @property
    def weight(self) -> Tensor:
        """What the weights stand for, float32 [out, in]: made anew each time."""
        return self._kernel.product(self.packed, None, self.in_features, self.out_features)(
            torch.eye(self.in_features)
        ).T

    def product(self, rows: Tensor) -> Tensor:
        return self._product(rows)


class OwnInt8(OwnQuantized):
    """8 bits a weight."""

    KERNEL = "int8"

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        return True

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        return {"packed": pack8(*levels8(linear))}


class OwnInt4(OwnQuantized):
    """4 bits a weight."""

    KERNEL = "int4"

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        return linear.in_features % GROUP == 0

    @staticmethod
    def converted(linear: nn.Linear) -> dict[str, Tensor]:
        return {"packed": pack4(*levels4(linear, torch.bfloat16))}


def biased(out: Tensor, bias: Tensor | None) -> Tensor:
    return out if bias is None else out.add_(bias)


TORCH: Mapping[str, type[Quantized]] = {"int8": TorchInt8, "int4": TorchInt4}
OWN: Mapping[str, type[Quantized]] = {"int8": OwnInt8, "int4": OwnInt4}
WEIGHTS = ("auto", *TORCH)  # `auto`: as the checkpoint has them


def choose_kind(weights: str) -> tuple[type[Quantized], str]:
    """The layers for weights of some bits, and why these: of our own kernels where they run, else of torch's."""
    try:
        kernels = library()
        LinearKernel(weights, kernels)
    except CannotBuild as error:
        return TORCH[weights], f"torch's kernels: {error}"
    return OWN[weights], kernels.how


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
    kind, how = choose_kind(weights)
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    fitting = {name: linear for name, linear in layers.items() if kind.fits(linear)}
    left = len(layers) - len(fitting)
    told = f"weights: {weights}, {len(fitting)} linear layers" + (f"; {left} are as they were" if left else "")
    why = [told, f"weights: {how}"] if fitting else [told]
    if files is None or not fitting:
        made = {name: kind(linear) for name, linear in fitting.items()}
    else:
        kept = Kept(cache_folder("weights"), identity(fitting, files, weights, kind.LAYOUT))
        made, conversion = kept_or_converted(kept, kind, fitting)
        why += conversion
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


def identity(linears: Mapping[str, nn.Linear], files: Files, weights: str, layout: str) -> dict[str, str]:
    """All that the buffers depend on. Raises `ModelError`."""
    shapes = [f"{name} {linear.out_features} x {linear.in_features}" for name, linear in linears.items()]
    dtypes = dict.fromkeys(str(linear.weight.dtype).removeprefix("torch.") for linear in linears.values())
    return {
        "hwlang": f"converted weights, format {FORMAT}",
        "checkpoint": files.digest,
        "layers": hashlib.sha256("\n".join(shapes).encode()).hexdigest(),
        "weights": weights,
        "layout": layout,
        "dtype": ", ".join(dtypes),
        "torch": torch.__version__,  # 4 bits are packed as its kernels want them, for vectors of the CPU's width
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "transformers": transformers_version,  # which makes layers of what is in the files
    }
