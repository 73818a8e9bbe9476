"""RMSNorm on a CPU in one call, where a model makes some eight of it: as many for every layer take as long as attention
does, where rows are few."""

import ctypes
import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hwruntime.cpu.build import CannotBuild, Kernel, library
from hwruntime.cpu.calls import KernelCall
from hwruntime.cpu.tape import launch

EPSILONS = ("variance_epsilon", "eps")  # names that families have for it
ROWS = 8  # by which a norm is compared
ROUNDED = 2**-7  # of a number: the last bit of bfloat16


class Facts(ctypes.Structure):
    """A norm, as the kernel takes it."""

    _fields_ = [("weight", ctypes.c_void_p), ("size", ctypes.c_int64), ("epsilon", ctypes.c_float)]


class Rows(ctypes.Structure):
    """Rows, and where they go."""

    _fields_ = [("x", ctypes.c_void_p), ("out", ctypes.c_void_p), ("count", ctypes.c_int64)]


class Norm:
    """What a module does that is x / sqrt(mean(x^2) + epsilon), rounded, times its weight, in bfloat16."""

    def __init__(self, kernel: Kernel, module: nn.Module, weight: Tensor, epsilon: float) -> None:
        self._kernel, self._weight = kernel, weight
        self._facts = Facts(weight.data_ptr(), len(weight), epsilon)
        self.size = len(weight)
        self._module = type(module).forward.__get__(module)

    def __call__(self, hidden_states: Tensor) -> Tensor:
        """hidden_states [..., size], and the same again."""
        x = hidden_states.contiguous()
        if x.dtype is not torch.bfloat16:
            made: Tensor = self._module(x)
            return made
        out = torch.empty_like(x)
        launch(self._bound, x, out)
        return out

    def _bound(self, x: Tensor, out: Tensor) -> KernelCall:
        return KernelCall(self._kernel, self._facts, Rows(x.data_ptr(), out.data_ptr(), x.numel() // self.size))


@torch.no_grad()
def quicken(model: PreTrainedModel) -> list[str]:
    """Let a model's RMSNorms run in our kernel, in place; lines for `-v`. Those in bfloat16 on a CPU, if some rows come
    out as before: families differ in how they round, and in what they do with the weight."""
    if model.device.type != "cpu" or model.dtype is not torch.bfloat16:
        return []
    try:
        kernel = library().kernel("norm_bfloat16")
    except CannotBuild:  # which the choice of attention tells
        return []
    count = 0
    for module in model.modules():
        norm = _norm(kernel, module)
        if norm is not None and _same(norm, module):
            module.forward = norm
            count += 1
    return [f"norms: {count} in our kernel"] if count else []


def _norm(kernel: Kernel, module: nn.Module) -> Norm | None:
    """What may stand for a module, by its looks."""
    weight = getattr(module, "weight", None)
    epsilon = next((getattr(module, name) for name in EPSILONS if hasattr(module, name)), None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor) or weight.ndim != 1:
        return None
    if weight.dtype is not torch.bfloat16 or not isinstance(epsilon, float) or not weight.is_contiguous():
        return None
    if len(inspect.signature(module.forward).parameters) != 1:
        return None
    return Norm(kernel, module, weight.detach(), epsilon)


def _same(norm: Norm, module: nn.Module) -> bool:
    """Whether some rows come out as the module has them, but for the last bit of a few numbers."""
    rows = torch.randn(ROWS, norm.size, generator=torch.Generator().manual_seed(7)) * 3
    rows[0] *= 1e-3  # so that epsilon shows
    expected, got = module(rows.bfloat16()).float(), norm(rows.bfloat16()).float()
    other = got != expected
    return bool(((got - expected).abs() <= ROUNDED * expected.abs()).all()) and float(other.float().mean()) < 0.01
