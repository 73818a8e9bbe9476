"""Calls of our kernels, each of which takes two structures; and many of them in a row as one (`calls.cpp`)."""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hwruntime.cpu.build import Kernel, library


class KernelCall:
    """A kernel and what it takes. `before`: what makes that ready, in each pass anew: any time before the call."""

    def __init__(
        self,
        kernel: Kernel,
        first: ctypes.Structure,
        second: ctypes.Structure,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.kernel, self.taken, self.before = kernel, (first, second), before
        self._pointers = ctypes.byref(first), ctypes.byref(second)

    def __call__(self) -> None:
        if self.before is not None:
            self.before()
        self.kernel(*self._pointers)


class _Call(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("kernel", "first", "second")]


class Calls:
    """Calls of kernels in a row, as one. What is to be done before them has been done by somebody else."""

    def __init__(self, calls: Sequence[KernelCall]) -> None:
        self._held = [call.taken for call in calls]
        addresses = [map(address, (call.kernel, *map(ctypes.byref, call.taken))) for call in calls]
        self._calls = (_Call * len(calls))(*(_Call(*each) for each in addresses))
        self._count = ctypes.byref(ctypes.c_int64(len(calls)))
        self._run = library().kernel("run_calls")

    def __call__(self) -> None:
        self._run(self._calls, self._count)


def address(of: Any) -> int | None:
    return ctypes.cast(of, ctypes.c_void_p).value


def in_a_row(calls: Iterable[Callable[[], object]]) -> Iterator[Callable[[], object]]:
    """The same calls, those of kernels that follow each other as one."""
    kernels: list[KernelCall] = []
    for call in calls:
        if isinstance(call, KernelCall):
            kernels.append(call)
            continue
        if kernels:
            yield Calls(kernels)
        kernels = []
        yield call
    if kernels:
        yield Calls(kernels)
