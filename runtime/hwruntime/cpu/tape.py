"""Passes on a CPU, recorded: which kernels a model's forward call comes to, and the memory that they work on.

A pass of a few tokens is thousands of calls in Python, of which some hundred compute something; the others look for
modules, make views and ask for memory. A replay makes those that compute, on the same memory each time.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from hwruntime.cpu.build import Library
from hwruntime.cpu.calls import KernelCall, in_a_row
from hwruntime.cpu.elementwise import calls_for
from hwruntime.graphs import Recorder, Recording

ALIGNED = 64  # bytes: memory begins at multiples of them
DEPENDING = {  # what no replay can stand for
    torch.Tag.data_dependent_output: "gives a number to Python",
    torch.Tag.dynamic_output_shape: "has a shape that depends on what is computed",
    torch.Tag.nondeterministic_seeded: "is random",
}
BY_INDEX = (torch.ops.aten.index.Tensor,)  # whose shape depends on what is computed only where it is by a mask
MASKS = (torch.bool, torch.uint8)
READERS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)  # what torch does not tell a mode of its functions
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.clone.default)

Call = Callable[[], object]
Bind = Callable[..., Call]  # makes a call of a kernel, of the tensors that it reads and writes
Place = Callable[[Tensor], Tensor]  # the tensor that stands for one, in other memory


@dataclass(frozen=True, eq=False)
class Step:
    """What computes something: `made` gives the calls of it, on the tensors that stand for those that it was recorded
    with (`tensors`)."""

    tensors: Sequence[Tensor]
    made: Callable[[Place], Sequence[Call]]


@dataclass(eq=False)
class Span:
    """Memory that a pass asked for: `size` in bytes, and the steps that it is in use for, from `first` to `last`."""

    size: int
    first: int
    last: int


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In this thread, while it is `on`: what computes something is written down, and so is the memory that is made.
    `library`: as `TapeRecorder` has it."""

    def __init__(self, library: Library | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on = True
        self._library = library
        self.steps: list[Step] = []
        self.spans: dict[int, Span] = {}  # by where the memory is; it is in use until the tape goes
        self._held: list[Tensor] = []

    def __torch_dispatch__(
        self, function: Any, types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Raises `RuntimeError` for what no replay can do again."""
        kwargs = kwargs or {}
        if not self.on:
            return function(*args, **kwargs)
        read = list(tensors((args, list(kwargs.values()))))
        for tag, why in DEPENDING.items():
            if tag in function.tags and (function not in BY_INDEX or any(x.dtype in MASKS for x in read[1:])):
                raise RuntimeError(f"{function} {why}")
        result = function(*args, **kwargs)
        made = list(tensors(result))
        known = {0, *map(where, read)}
        if function._schema.is_mutable:
            self._check(function, args, kwargs)
            self._add(Step([*read, *made], partial(changed, function, args, kwargs)))
        elif any(where(x) not in known for x in made):
            self._make(made)
            if not function.overloadpacket.__name__.startswith(("empty", "new_empty")):
                self._add(Step([*read, *made], partial(again, self._library, function, args, kwargs, made)))
        return result

    def write(self, bind: Bind, tensors: Sequence[Tensor]) -> None:
        """Write down a kernel's call."""
        self._add(Step(tensors, lambda place: [bind(*map(place, tensors))]))

    def use_to_the_end(self, x: Tensor) -> None:
        self.spans[where(x)].last = len(self.steps)

    def outside(self) -> list[Tensor]:
        """The tensors from before the pass that it works on."""
        return [x for step in self.steps for x in step.tensors if where(x) not in self.spans]

    def _make(self, made: Sequence[Tensor]) -> None:
        self._held += made
        for x in filter(where, made):
            self.spans.setdefault(where(x), Span(x.untyped_storage().nbytes(), len(self.steps), len(self.steps)))

    def _add(self, step: Step) -> None:
        for x in step.tensors:
            if where(x) in self.spans:
                self.spans[where(x)].last = len(self.steps)
        self.steps.append(step)

    def _check(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Raises `RuntimeError` where something is changed that was there before."""
        for i, argument in enumerate(function._schema.arguments):
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            if argument.is_write and any(where(x) not in self.spans for x in tensors(given)):
                raise RuntimeError(f"{function} changes what was there before the pass")


class Closed(TorchFunctionMode):
    """In this thread, while a tape is on, tensors are not read but by torch, whose functions say what they do."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(
        self, function: Any, types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Raises `RuntimeError`."""
        if self._tape.on and function in READERS:
            raise RuntimeError(f"{function.__name__} gives numbers to Python")
        return function(*args, **(kwargs or {}))


def launch(bind: Bind, *tensors: Tensor) -> None:
    """Make a call, on these tensors, that is to be made again as it is, whatever it comes to: a tape writes it down."""
    mode = _get_current_dispatch_mode()
    if not isinstance(mode, Tape):
        bind(*tensors)()
        return
    mode.write(bind, tensors)
    mode.on = False
    bind(*tensors)()
    mode.on = True


@dataclass(frozen=True, eq=False)
class Replay:
    """Calls, to be made again. `held`: tensors from before the pass, at which kernels' calls point."""

    calls: Sequence[Call]
    held: Sequence[Tensor]

    def __call__(self) -> None:
        for call in self.calls:
            call()


class TapeRecorder(Recorder):
    """Records passes as tapes. `library`: of our kernels, to be used for what models do between products, too."""

    level = logging.INFO  # all goes on as well, and a little slower

    def __init__(self, library: Library | None = None) -> None:
        self._library = library

    def record(self, forward: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, positions: Tensor) -> Recording:
        """Raises `RuntimeError` for a model whose calls depend on what it computes, and for one that comes out
        different when its calls are made again. For that, the recording's inputs are changed, and what else a pass
        leaves."""
        tape = Tape(self._library)
        with tape, Closed(tape):
            logits = forward(tokens, positions)
        tape.use_to_the_end(logits)
        memory, place = laid_out(tape.spans)
        each = [call for step in tape.steps for call in step.made(place)]
        before = [call.before for call in each if isinstance(call, KernelCall) and call.before is not None]
        replay = Replay([*before, *in_a_row(each)], tape.outside())
        recording = Recording(tokens, positions, place(logits), replay)
        tokens.copy_(tokens != 1)  # other ones, which any vocabulary has
        memory.fill_(0xFF)  # no number: what is not computed again shows
        replay()
        if not torch.equal(recording.logits, forward(tokens, positions)):
            raise RuntimeError("a replay comes out different")
        return recording


def changed(function: Any, args: Sequence[Any], kwargs: dict[str, Any], place: Place) -> Sequence[Call]:
    """What does again what a function of torch's has done that changes its arguments."""
    return [partial(function, *moved(args, place), **moved(kwargs, place))]


def again(
    library: Library | None,
    function: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    made: Sequence[Tensor],
    place: Place,
) -> Sequence[Call]:
    """What does again what one has done that does not, into the memory that stands for that of its results, `made`."""
    arguments, named, results = moved(args, place), moved(kwargs, place), [place(x) for x in made]
    if library is not None and (ours := calls_for(library, function, arguments, named, results[0])):
        return ours
    if function in COPIES:
        return [partial(results[0].copy_, arguments[0])]
    if found := into(function):
        return [partial(found.function, *arguments, **named, **dict(zip(found.results, results, strict=True)))]

    def copied() -> None:
        for result, new in zip(results, tensors(function(*arguments, **named)), strict=True):
            result.copy_(new)

    return [copied]


class Into(NamedTuple):
    """A function of torch's that puts its results into tensors that it is given, and what these are called."""

    function: Any
    results: Sequence[str]


def into(function: Any) -> Into | None:
    """The form of a function that puts its results somewhere; None where there is none."""
    packet, wanted = function.overloadpacket, signature(function)
    for name in packet.overloads():
        other = getattr(packet, name)
        results = [argument.name for argument in other._schema.arguments if argument.is_out]
        if results and signature(other) == wanted:
            return Into(other, results)
    return None


def signature(function: Any) -> list[tuple[str, str]]:
    return [(argument.name, str(argument.type)) for argument in function._schema.arguments if not argument.is_out]


def laid_out(spans: dict[int, Span]) -> tuple[Tensor, Place]:
    """Memory for all spans, and what finds the tensors there that stand for those in theirs."""
    offsets, size = arranged(list(spans.values()))
    memory = torch.empty(size, dtype=torch.uint8)
    storage, begins = memory.untyped_storage(), dict(zip(spans, offsets, strict=True))

    def place(x: Tensor) -> Tensor:
        begin = begins.get(where(x))
        if begin is None:  # was there before the pass
            return x
        first = begin // x.element_size() + x.storage_offset()
        return torch.empty(0, dtype=x.dtype).set_(storage, first, x.size(), x.stride())

    return memory, place


def arranged(spans: Sequence[Span]) -> tuple[list[int], int]:
    """Where each span begins in one piece of memory, and how large that is: the lowest place at which nothing is that
    is in use at the same time."""
    offsets = [0] * len(spans)
    placed: list[int] = []
    for i in sorted(range(len(spans)), key=lambda i: -spans[i].size):
        size = spans[i].size
        others = [j for j in placed if spans[j].first <= spans[i].last and spans[i].first <= spans[j].last]
        for j in sorted(others, key=lambda j: offsets[j]):
            if offsets[i] + size <= offsets[j]:
                break
            offsets[i] = max(offsets[i], offsets[j] + aligned(spans[j].size))
        placed.append(i)
    return offsets, max((offset + span.size for offset, span in zip(offsets, spans, strict=True)), default=0)


def aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def where(x: Tensor) -> int:
    """Where a tensor's memory is; 0 for one without, as oneDNN's are."""
    return x.untyped_storage().data_ptr() if x.layout is torch.strided else 0


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among nested values."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def moved(values: Any, place: Place) -> Any:
    """Nested values with other tensors in the place of theirs."""
    if isinstance(values, Tensor):
        return place(values)
    if isinstance(values, list | tuple):
        return [moved(value, place) for value in values]
    return {name: moved(value, place) for name, value in values.items()} if isinstance(values, dict) else values
