"""Executors of the plan: one seam, `Executor`, and the registry that picks one.

An executor stores a layer's new K/V and computes cascade attention over the pass's plan. Which one runs is decided in
`choose`; heavy imports stay inside the factories.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor, bfloat16, cuda, float16
from torch import device as Device
from torch import dtype as DType

from hwruntime.cache import Pool, Storage
from hwruntime.errors import DeviceError
from hwruntime.plan import Plan

if TYPE_CHECKING:
    from hwruntime.graphs import Recording

RECORDED = 16  # tokens of a pass on a CPU: with more, what is computed takes longer than the calls for it
ATTENTION = ("auto", "torch", "cpu", "flashinfer")


class Rotation(Protocol):
    """A model's rotary embedding, to rotate what is already rotated further on.

    `frequencies` [pairs]: radians per position; `start`: the first rotated dimension of a head; pair i is dimensions
    (start + i, start + pairs + i), or (start + 2i, start + 2i + 1) where `interleaved`.
    """

    @property
    def frequencies(self) -> Tensor: ...

    @property
    def start(self) -> int: ...

    @property
    def interleaved(self) -> bool: ...

    def tables(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin for positions `deltas` [n], to be kept for a pass."""

    def spread(self, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The tables as `turn` takes them."""

    def turn(self, x: Tensor, spread: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate `x` [.., n, heads, head dim] on by the positions of what is `spread`."""

    def apply(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate `x` [n, heads, head dim] on by the tables' positions."""


class Heads(NamedTuple):
    """How many query heads and K/V heads a layer has, and their dimensions."""

    queries: int
    keys: int
    dim: int
    value_dim: int


@dataclass(frozen=True)
class Layer:
    """What one layer's attention is, as its model defines it.

    `window`: a key is seen where query position - key position < window (positions in the view); `softcap`: scores s
    become softcap * tanh(s / softcap); `sinks` [heads]: a logit per head that takes its share of the softmax and has no
    value; `rotation` is None for layers without rotary positions.
    """

    index: int
    heads: Heads
    scale: float
    rotation: Rotation | None
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


@dataclass(eq=False)
class Static:
    """A pass that was padded to `tokens` tokens. All that are padded alike are one object and run the same kernels on
    the same memory, so that one of them can be captured (`recording`) and replayed for the others. `passes`: how many
    there have been. `every`: only those may be captured in which the logits of every token are wanted, since the
    output layer takes as long as there are rows."""

    tokens: int
    passes: int = 0
    every: bool = False
    recording: "Recording | None" = None


class Executor(Protocol):
    @property
    def rotated(self) -> bool:
        """Whether keys are stored rotated for their block-local positions, as the model gives them, or unrotated."""

    def expect(self, workers: int, tokens: int) -> None:
        """Told while the pool is empty: how many workers the coming run has, and the tokens of a typical view."""

    def begin(self, plan: Plan, slots: list[int]) -> Static | None:
        """Start a pass: take the plan to the device. `slots` [T] is where the storage keeps the pass's tokens.

        A `Static` asks for q, k and v of so many tokens, the pass's first. None: the pass is run as it is.
        """

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store a layer's new K/V, then attend. q [T, heads, D], k [T, kv heads, D], v [T, kv heads, Dv], all rotated
        for block-local positions; returns [T, heads, Dv]. K/V of all rows are stored before any is read (section 2)."""


@dataclass(frozen=True)
class ModelShape:
    """What an executor must know about the model whose attention it is. `kv_dtype`: of the cache, None for `dtype`."""

    device: Device
    dtype: DType
    layers: Sequence[Layer]
    kv_dtype: DType | None = None


@dataclass(frozen=True)
class Choice:
    """The executor that was chosen, and why: shown with `-v`."""

    name: str
    why: str
    make: Callable[[ModelShape, Pool, Storage], Executor]


def choose(name: str, model: ModelShape) -> Choice:
    """Pick an executor by name (`ATTENTION`) for a model. Raises `DeviceError` where it cannot run."""
    if name not in ATTENTION:
        raise DeviceError(f"there is no attention executor `{name}`", help=f"one of {', '.join(ATTENTION)}")
    if name == "torch":
        return Choice("torch", "asked for", _torch)
    if name == "cpu" or (name == "auto" and model.device.type == "cpu"):
        return _choose_on_cpu(name, model)
    against = _against_flashinfer(model)
    if against is None:
        gpu = cuda.get_device_name(model.device)
        return Choice("flashinfer", "asked for" if name == "flashinfer" else f"the model is on {gpu}", _flashinfer)
    if name == "flashinfer":
        raise DeviceError(f"attention `flashinfer` cannot run here: {against.reason}", help=against.help)
    return Choice("torch", f"flashinfer cannot run here: {against.reason}", _torch)


def _choose_on_cpu(name: str, model: ModelShape) -> Choice:
    """`cpu` where it was asked for, or is worth it: in bfloat16. In float32 products take so long that it gains little,
    and `torch` needs nothing to be built."""
    if name == "auto" and model.dtype != bfloat16:
        return Choice("torch", f"the model is on a CPU, in {str(model.dtype).removeprefix('torch.')}", _torch)
    from hwruntime.cpu.build import CannotBuild, library

    try:
        against = _against_cpu(model)
        if against is None:
            why = "asked for" if name == "cpu" else "the model is on a CPU, in bfloat16"
            return Choice("cpu", f"{why}; {library().how}", _cpu)
    except CannotBuild as error:
        against = Against(str(error), f"{error.help}, or use --attention torch")
    if name == "cpu":
        raise DeviceError(f"attention `cpu` cannot run here: {against.reason}", help=against.help)
    return Choice("torch", f"cpu cannot run here: {against.reason}", _torch)


class Against(NamedTuple):
    """Why an executor cannot run, and the way out."""

    reason: str
    help: str


def _against_cpu(model: ModelShape) -> Against | None:
    from hwruntime.cpu.attention import why_not

    help = "use --attention torch"
    if model.device.type != "cpu":
        return Against(f"the model is on {model.device.type}", help)
    if model.kv_dtype not in (None, model.dtype):
        return Against(f"the cache is in {str(model.kv_dtype).removeprefix('torch.')}", help)
    reasons = (why_not(layer.heads, model.dtype) for layer in model.layers)
    reason = next(filter(None, reasons), None)
    return None if reason is None else Against(reason, help)


def _against_flashinfer(model: ModelShape) -> Against | None:
    from hwruntime.attention.flashinfer import HEAD_DIMS, padded_dim

    if model.device.type != "cuda":
        return Against(f"it needs an NVIDIA GPU, the model is on {model.device.type}", "use --attention torch")
    capability = cuda.get_device_capability(model.device)
    if capability < (8, 0):
        return Against(
            f"it needs a GPU of compute capability 8.0 or more, this one has {capability[0]}.{capability[1]}",
            "use --attention torch",
        )
    if model.dtype not in (float16, bfloat16):
        name = str(model.dtype).removeprefix("torch.")
        return Against(f"it computes in bfloat16 and float16, the model is in {name}", "use --dtype bfloat16")
    too_large = {max(layer.heads.dim, layer.heads.value_dim) for layer in model.layers}
    too_large = {dim for dim in too_large if padded_dim(dim) is None}
    if too_large:
        most = max(HEAD_DIMS)
        return Against(f"it has kernels for heads of up to {most} dimensions, the model's have {max(too_large)}",
                       "use --attention torch")  # fmt: skip
    missing = [package for package in ("flashinfer", "triton") if find_spec(package) is None]
    if missing:
        return Against(f"the package `{missing[0]}` is not installed", "pip install 'hwlang[flashinfer]'")
    return None


def _flashinfer(model: ModelShape, pool: Pool, storage: Storage) -> Executor:
    from hwruntime.attention.flashinfer import FlashInferExecutor
    from hwruntime.attention.kernels import Kernels, TorchKernels
    from hwruntime.attention.prefill import FlashInferPrefills
    from hwruntime.attention.triton import TritonKernels

    # Triton makes 8-bit floats from compute capability 8.9 on.
    kernels: Kernels = TritonKernels()
    if storage.dtype is not None and cuda.get_device_capability(model.device) < (8, 9):
        kernels = TorchKernels()
    return FlashInferExecutor(model, pool, storage, FlashInferPrefills(model.device), kernels)


def _cpu(model: ModelShape, pool: Pool, storage: Storage) -> Executor:
    from hwruntime.attention.cpu import FEW, CpuExecutor
    from hwruntime.cpu.attention import AttentionKernel
    from hwruntime.cpu.build import library
    from hwruntime.devices import has_amx

    return CpuExecutor(pool, storage, AttentionKernel(library()), FEW if has_amx() else None)


def _torch(model: ModelShape, pool: Pool, storage: Storage) -> Executor:
    from hwruntime.attention.torch import TorchExecutor

    return TorchExecutor(pool, storage, recorded=RECORDED if model.device.type == "cpu" else 0)
