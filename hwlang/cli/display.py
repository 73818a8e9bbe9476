"""What `hw run` shows while a program runs: panes on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from hwruntime.result import Event, Progress, Result

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
FRAME = 0.08  # seconds between two pictures
PANE_LINES = 12  # of a worker's text that are shown at most


class Display(Protocol):
    """Takes a run's events after every pass. One for terminals, one for files and pipes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, events: Sequence[Event], progress: Progress) -> None: ...


def colour_of(names: dict[str, str], worker: str) -> str:
    """The colour of a worker: each has its own, in the order in which they first speak."""
    return names.setdefault(worker, COLOURS[len(names) % len(COLOURS)])


class Panes:
    """Each worker's text in its own colour as it grows, and a progress line under them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._texts: dict[str, str] = {}
        self._colours: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, events: Sequence[Event], progress: Progress) -> None:
        for event in events:
            if event.kind in ("token", "say"):
                self._texts[event.worker] = self._texts.get(event.worker, "") + event.text
        now = time.monotonic()
        if now - self._drawn >= FRAME:
            self._drawn = now
            self._live.update(self._picture(progress, now - self._started), refresh=True)

    def _picture(self, progress: Progress, seconds: float) -> RenderableType:
        height = max(1, min(PANE_LINES, (self._console.height - 2) // max(1, len(self._texts)) - 2))
        panes = [self._pane(worker, text, height) for worker, text in self._texts.items()]
        return Group(*panes, progress_line(progress, seconds))

    def _pane(self, worker: str, text: str, height: int) -> Panel:
        """The end of a worker's text, as much as fits."""
        width = max(20, self._console.width - 4)
        lines = Text(text[-height * width :].strip("\n")).wrap(self._console, width)[-height:]
        return Panel(Text("\n").join(lines), title=worker, title_align="left", style=colour_of(self._colours, worker))


class Lines:
    """Every line of a worker's as soon as it is whole, behind its name."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker, text in self._open.items():
            self._print(worker, text)

    def show(self, events: Sequence[Event], progress: Progress) -> None:
        for event in events:
            if event.kind in ("token", "say"):
                *lines, rest = (self._open.get(event.worker, "") + event.text).split("\n")
                self._open[event.worker] = rest
                for line in lines:
                    self._print(event.worker, line)

    def _print(self, worker: str, line: str) -> None:
        if line.strip():
            print(f"{worker:>8} | {line}", file=self._console.file, flush=True)


class Quiet:
    """Shows nothing: for `--json`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, events: Sequence[Event], progress: Progress) -> None:
        return None


def make_display(console: Console, quiet: bool) -> Display:
    """What suits the console."""
    return Quiet() if quiet else Panes(console) if console.is_terminal else Lines(console)


def progress_line(progress: Progress, seconds: float) -> Text:
    rate = progress.sampled / seconds if seconds > 0 else 0.0
    line = Text(f" pass {progress.passes:,} of {progress.budget:,}", style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"   {rate:,.0f} tokens/s", style="not bold")
    line.append(f"   cache {progress.cache_used:,} of {progress.cache_capacity:,} tokens", style="dim not bold")
    return line


def print_result(console: Console, result: Result, seconds: float) -> None:
    """The end of a run: on a terminal the texts once more, whole; then the answer, and one line of figures."""
    colours: dict[str, str] = {}
    if console.is_terminal:
        for name, worker in result.workers.items():
            text = Text(worker.text.strip("\n") or "(nothing)")
            console.print(Panel(text, title=name, title_align="left", style=colour_of(colours, name)))
    if result.answer is not None:
        console.print(Text("answer", style="bold"), Text(result.answer.strip("\n")), sep="\n")
    sampled = result.usage.sampled_tokens
    rate = sampled / seconds if seconds > 0 else 0.0
    workers = f"{len(result.workers)} worker{'s' if len(result.workers) > 1 else ''}"
    line = f"{ENDINGS[result.reason]} after {result.passes:,} passes: {workers}"
    console.print(
        f"{line}, {sampled:,} tokens sampled, {rate:,.0f} tokens/s, seed {result.seed}", style="dim", highlight=False
    )


ENDINGS = {
    "answer": "answered",
    "stopped": "stopped by the program",
    "done": "all workers ended",
    "budget": "the budget ended",
    "stalled": "stalled (every worker is paused)",
    "context": "the model's context is full",
    "cache": "the cache is full (raise --kv-tokens)",
    "cancelled": "cancelled",
}
