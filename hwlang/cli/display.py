"""What `hw run` shows while programs run: panes on a terminal, lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from hwruntime.result import Event, Progress, Remote, Result

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
FRAME = 0.08  # seconds between two pictures
PANE_LINES = 12  # of a worker's text that are shown at most


class Display(Protocol):
    """Takes a run's events after every pass. One for terminals, one for files and pipes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, events: Sequence[Event], progress: Progress, typing: str = "") -> None:
        """`typing`: a line that is being typed."""


def colour_of(names: dict[str, str], worker: str) -> str:
    """The colour of a worker: each has its own, in the order in which they first speak."""
    return names.setdefault(worker, COLOURS[len(names) % len(COLOURS)])


class Voices:
    """What the workers of a run have written, in panes, each in its own colour."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._texts: dict[str, str] = {}
        self._colours: dict[str, str] = {}

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind in ("token", "say"):
                self._texts[event.worker] = self._texts.get(event.worker, "") + event.text

    def panes(self, below: int) -> list[RenderableType]:
        """One for each worker. `below`: lines of the terminal that are left free."""
        height = (self._console.height - 1 - below) // max(1, len(self._texts)) - 2
        return [self._pane(each, text, max(1, min(PANE_LINES, height))) for each, text in self._texts.items()]

    def _pane(self, worker: str, text: str, height: int) -> Panel:
        """The end of a worker's text, as much as fits."""
        width = max(20, self._console.width - 4)
        lines = Text(text[-height * width :].strip("\n")).wrap(self._console, width)[-height:]
        return Panel(Text("\n").join(lines), title=worker, title_align="left", style=colour_of(self._colours, worker))


class Panes:
    """Each worker's text as it grows, and a progress line under them."""

    def __init__(self, console: Console) -> None:
        self._voices = Voices(console)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, events: Sequence[Event], progress: Progress, typing: str = "") -> None:
        self._voices.take(events)
        now = time.monotonic()
        if now - self._drawn >= FRAME:
            self._drawn = now
            below = [progress_line(progress, now - self._started), *typing_line(typing)]
            self._live.update(Group(*self._voices.panes(len(below)), *below), refresh=True)


@dataclass
class Tally:
    """How far a batch is: runs that have ended, failed ones among them, and tokens sampled by all."""

    total: int
    ended: int = 0
    failed: int = 0
    going: int = 0
    sampled: int = 0


class BatchPanes:
    """A batch on a terminal: the workers of one run in panes, and how far all are. Nothing where it is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty())
        self._voices: dict[int, Voices] = {}
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.__exit__(kind, error, trace)

    def take(self, run: int, events: Sequence[Event]) -> None:
        """What happened in a run."""
        if self._console.is_terminal:
            self._voices.setdefault(run, Voices(self._console)).take(events)

    def drop(self, run: int) -> None:
        """A run has ended."""
        self._voices.pop(run, None)

    @property
    def shown(self) -> int | None:
        """The run that is in the panes: the oldest one under way."""
        return min(self._voices, default=None)

    def show(self, tally: Tally, typing: str) -> None:
        now = time.monotonic()
        if not self._console.is_terminal or now - self._drawn < FRAME:
            return
        self._drawn = now
        below: list[RenderableType] = [tally_line(tally, now - self._started, self._console.width)]
        below += typing_line(typing)
        panes: list[RenderableType] = []
        if self.shown is not None:
            title = Text(f" run {self.shown} of {tally.total}", style="bold")
            panes = [title, *self._voices[self.shown].panes(len(below) + 1)]
        self._live.update(Group(*panes, *below), refresh=True)


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

    def show(self, events: Sequence[Event], progress: Progress, typing: str = "") -> None:
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

    def show(self, events: Sequence[Event], progress: Progress, typing: str = "") -> None:
        return None


def make_display(console: Console, quiet: bool) -> Display:
    """What suits the console."""
    return Quiet() if quiet else Panes(console) if console.is_terminal else Lines(console)


def progress_line(progress: Progress, seconds: float) -> Text:
    rate = progress.sampled / seconds if seconds > 0 else 0.0
    line = Text(f" pass {progress.passes:,} of {progress.budget:,}", style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"   {rate:,.0f} tokens/s", style="not bold")
    of = f" of {progress.cache_capacity:,}" if progress.cache_capacity else ""
    if progress.cache_used:  # what a server has in its cache, it does not say
        line.append(f"   cache {progress.cache_used:,}{of} tokens", style="dim not bold")
    return line


def tally_line(tally: Tally, seconds: float, width: int) -> Text:
    """A bar, and the figures."""
    cells = max(10, min(40, width - 70))
    full = round(cells * tally.ended / tally.total) if tally.total else cells
    line = Text(" " + "━" * full, style="green", no_wrap=True, overflow="ellipsis")
    line.append("━" * (cells - full), style="bright_black")
    line.append(f" {tally.ended:,} of {tally.total:,} ended", style="bold default")
    if tally.failed:
        line.append(f"   {tally.failed:,} failed", style="bold red")
    rate = tally.sampled / seconds if seconds > 0 else 0.0
    line.append(f"   {tally.going:,} under way   {rate:,.0f} tokens/s", style="not bold default")
    if tally.ended:
        left = seconds / tally.ended * (tally.total - tally.ended)
        line.append(f"   about {timedelta(seconds=round(left))} left", style="dim default")
    return line


def typing_line(typing: str) -> list[RenderableType]:
    return [Text(f" {typing}▏", style="bold", no_wrap=True, overflow="ellipsis")] if typing else []


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
    if result.remote:
        console.print(remote_line(result.remote), style="dim", highlight=False)


def remote_line(remote: Remote) -> str:
    """What makes a run on a server approximate, and what it has cost."""
    share = f" ({remote.cached_tokens / remote.prompt_tokens:.0%})" if remote.prompt_tokens else ""
    return (
        f"approximate: workers see each other's text every {remote.sync_interval:,} tokens; {remote.server}: "
        f"{remote.requests:,} requests, {remote.prompt_tokens:,} prompt tokens, {remote.cached_tokens:,} of them "
        f"cached{share}; {remote.generated_tokens:,} tokens generated, {remote.unused_tokens:,} of them unused"
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
