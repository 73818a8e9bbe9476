"""The blocks of one run, and every worker's view of them."""

from collections.abc import Iterable, Mapping, Sequence

from hwruntime.errors import RunError
from hwruntime.program import (
    Constant,
    Entry,
    OthersEntry,
    Pad,
    PadEntry,
    Program,
    SelfEntry,
    StreamEntry,
    Value,
    WorkerEntry,
)
from hwruntime.rows import Block, Row, whole_row
from hwruntime.tokenizer import Message, Tokenizer
from hwruntime.worker import WorkerState


class Views:
    """Builds the views of `workers` (and sets them), and keeps the blocks that are not a worker's own.

    `openings` are the rows that encode the constants, to be run in this order before the first pass.
    """

    def __init__(
        self, program: Program, workers: Sequence[WorkerState], values: Mapping[str, Value], tokenizer: Tokenizer
    ) -> None:
        self.openings: list[Row] = []
        self._tokenizer = tokenizer
        self._workers = workers
        self._constants: dict[tuple[bool, tuple[int, ...]], Block] = {}
        self._private = {(w.name, pad.name): self._pad(pad, w.name, w.values) for w in workers for pad in w.spec.pads}
        self._shared = {pad.name: self._pad(pad, None, values) for pad in program.pads}
        self.streams = {name: Block(name) for name in program.streams}
        for worker in workers:
            worker.view = tuple(self._view(worker))

    @property
    def pads(self) -> dict[str, Block]:
        """Shared pads by name, private ones by `worker.name`."""
        return self._shared | {f"{worker}.{pad}": block for (worker, pad), block in self._private.items()}

    def pad_of(self, worker: WorkerState, name: str) -> Block:
        """The pad that a worker means by a name: its own, else the program's."""
        return self._private.get((worker.name, name)) or self._shared[name]

    def stream_view(self, stream: str) -> tuple[Block, ...]:
        """The view in which a stream is encoded: that of the first worker that reads it, up to the stream."""
        block = self.streams[stream]
        views = (w.view[: w.view.index(block)] for w in self._workers if block in w.view)
        return (*next(views, ()), block)

    def everything(self) -> tuple[Block, ...]:
        """All that was written: the first worker's view, then what it does not hold."""
        first = self._workers[0].view
        blocks = (*self._shared.values(), *self.streams.values(), *(w.block for w in self._workers))
        return tuple(dict.fromkeys((*first, *blocks, *self._private.values())))

    def _pad(self, pad: Pad, owner: str | None, values: Mapping[str, Value]) -> Block:
        name = f"{owner}.{pad.name}" if owner else pad.name
        return self._encoded((), Block(name), self._tokenizer.encode(pad.text.fill(values)) if pad.text else [])

    def _view(self, worker: WorkerState) -> Iterable[Block]:
        view: list[Block] = []
        for run in runs_of_constants(worker.spec.sees):
            view += self._constant(worker, view, run) if isinstance(run, tuple) else self._growing(worker, run)
        return view

    def _constant(self, worker: WorkerState, before: list[Block], run: tuple[Constant, ...]) -> list[Block]:
        """The block of a run of constants, one for all who see the same text (rule 8). It is encoded alone, or, where
        it says so, in the view of the first worker that lists it."""
        messages = [Message(constant.role, constant.text.fill(worker.values)) for constant in run]
        try:
            tokens = self._tokenizer.encode_constants(messages, opening=not before)
        except RunError as error:  # there is no chat template, say: point at the text that wants one
            chat = next((constant for constant in run if constant.role != "text"), run[0])
            raise RunError(error.message, error.help, chat.span) from None
        in_context = run[0].in_context and bool(before)
        key = (in_context, tuple(tokens))
        if tokens and key not in self._constants:
            self._constants[key] = self._encoded(before if in_context else (), Block("text", "constant"), tokens)
        return [self._constants[key]] if tokens else []

    def _growing(self, worker: WorkerState, entry: Entry) -> list[Block]:
        match entry:
            case PadEntry(name=name):
                return [self.pad_of(worker, name)]
            case StreamEntry(name=name):
                return [self.streams[name]]
            case WorkerEntry(name=name):  # one that does not take part in this run has no block
                return [w.block for w in self._workers if w.name == name]
            case OthersEntry():
                return [w.block for w in self._workers if w is not worker]
            case SelfEntry():
                return [worker.block]
        raise AssertionError(entry)

    def _encoded(self, before: Sequence[Block], block: Block, tokens: Sequence[int]) -> Block:
        if tokens:
            self.openings.append(whole_row(block.name, (*before, block), tokens))
        return block


def runs_of_constants(entries: Sequence[Entry]) -> list[Entry | tuple[Constant, ...]]:
    """The entries of a view with neighbouring constants joined, those `in context` apart from the others."""
    joined: list[Entry | tuple[Constant, ...]] = []
    for entry in entries:
        if not isinstance(entry, Constant):
            joined.append(entry)
        elif joined and isinstance(run := joined[-1], tuple) and run[0].in_context == entry.in_context:
            joined[-1] = (*run, entry)
        else:
            joined.append((entry,))
    return joined
