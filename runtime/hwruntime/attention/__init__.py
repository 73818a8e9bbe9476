"""Executors of the plan: one seam, `Executor`, and the registry that picks one.

An executor stores a layer's new K/V and computes cascade attention over the pass's plan. Which one runs is decided in
`choose`; heavy imports stay inside the factories.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hwruntime.cache import Pool, Storage
from hwruntime.errors import DeviceError
from hwruntime.plan import Plan

ATTENTION = ("auto", "torch", "flashinfer", "sglang")


class Rotation(Protocol):
    """A model's rotary embedding, to rotate what is already rotated further on."""

    def tables(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin for positions `deltas` [n], to be kept for a pass."""

    def apply(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate `x` [n, heads, head dim] on by the tables' positions."""


@dataclass(frozen=True)
class Layer:
    """What one layer's attention is, as its model defines it.

    `window`: a key is seen where query position - key position < window (positions in the view); `softcap`: scores s
    become softcap * tanh(s / softcap); `sinks` [heads]: a logit per head that takes its share of the softmax and has no
    value; `rotation` is None for layers without rotary positions.
    """

    index: int
    scale: float
    rotation: Rotation | None
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


class Executor(Protocol):
    def begin(self, plan: Plan, slots: list[int]) -> None:
        """Start a pass: take the plan to the device. `slots` [T] is where the storage keeps the pass's tokens."""

    def attend(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store a layer's new K/V, then attend. q [T, heads, D], k [T, kv heads, D], v [T, kv heads, Dv], all rotated
        for block-local positions; returns [T, heads, Dv]. K/V of all rows are stored before any is read (section 2)."""


@dataclass(frozen=True)
class Choice:
    """The executor that was chosen, and why: shown with `-v`."""

    name: str
    why: str
    make: Callable[[Pool, Storage], Executor]


def choose(name: str, device: str) -> Choice:
    """Pick an executor by name (`ATTENTION`) for a device. Raises `DeviceError` where it cannot run."""
    if name not in ATTENTION:
        raise DeviceError(f"there is no attention executor `{name}`", help=f"one of {', '.join(ATTENTION)}")
    if name in ("flashinfer", "sglang"):
        raise DeviceError(f"attention `{name}` is not built yet", help="use --attention torch")
    why = "asked for" if name == "torch" else f"it runs on any device ({device} here)"
    return Choice("torch", why, _torch)


def _torch(pool: Pool, storage: Storage) -> Executor:
    from hwruntime.attention.torch import TorchExecutor

    return TorchExecutor(pool, storage)
