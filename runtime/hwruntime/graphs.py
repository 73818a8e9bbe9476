"""Captured passes: a model's forward call recorded once and replayed for all passes that are padded alike.

Launching a model's kernels one by one takes the CPU longer than the GPU needs to run them, where passes are small.
Real: `CudaRecorder`, and `cpu.tape.TapeRecorder` on a CPU; `TorchRecorder` runs the call again, for tests of padded
passes without a GPU.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Recording:
    """A captured forward call: `tokens` and `positions` [1, T] are its inputs, to be written before `replay`, `logits`
    [T, vocabulary] what it gives; the next replay overwrites them."""

    tokens: Tensor
    positions: Tensor
    logits: Tensor
    replay: Callable[[], None]


class Recorder(Protocol):
    """`level`: of the message that a model cannot be captured."""

    level: int = logging.WARNING

    def record(self, forward: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, positions: Tensor) -> Recording:
        """Record `forward(tokens, positions)`; the recording keeps its inputs, and may have changed them. Raises
        `RuntimeError` for a model that cannot be captured: one that waits for the GPU, or whose shapes depend on what
        it computes."""


class CudaRecorder(Recorder):
    """CUDA graphs; all of them share their memory, since only one runs at a time."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()

    def record(self, forward: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, positions: Tensor) -> Recording:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up in their first call, which cannot be captured
            forward(tokens, positions)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            logits = forward(tokens, positions)
        return Recording(tokens, positions, logits, graph.replay)


class TorchRecorder(Recorder):
    """Runs the call again, into the same memory."""

    def record(self, forward: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, positions: Tensor) -> Recording:
        logits = forward(tokens, positions).clone()

        def replay() -> None:
            logits.copy_(forward(tokens, positions))

        return Recording(tokens, positions, logits, replay)
