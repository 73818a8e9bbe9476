"""What a notebook shows of a run: a column for each worker, diagnostics, the state at the end. HTML, and plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from hwlang.diagnostics import Diagnostic

if TYPE_CHECKING:
    from hwlang.python.runs import State
    from hwruntime.result import Event

COLOURS = ("#0e7490", "#a21caf", "#15803d", "#a16207", "#1d4ed8", "#b91c1c")
SHOWN = 4000  # characters of a worker's text while it runs
MONO = "font-family:ui-monospace,monospace;font-size:12px;white-space:pre-wrap;overflow-wrap:anywhere;margin:0"


@dataclass(frozen=True)
class Shown:
    """Something to show, as HTML and as plain text. IPython asks for the one that it can show."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@dataclass
class Panes:
    """The workers' texts by now: what was handed to a worker is told apart from what it sampled."""

    pieces: dict[str, list[tuple[bool, str]]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    passes: int = 0
    sampled: int = 0

    def add(self, event: Event) -> None:
        self.passes = max(self.passes, event.at)
        if event.kind == "token":
            self.sampled += 1
        if event.kind == "end":
            self.ended.add(event.worker)
        if event.kind in ("token", "say"):
            pieces = self.pieces.setdefault(event.worker, [])
            said = event.kind == "say"
            if pieces and pieces[-1][0] == said:
                pieces[-1] = said, pieces[-1][1] + event.text
            else:
                pieces.append((said, event.text))

    def shown(self, live: bool) -> Shown:
        """The picture; while a run is `live`, the end of long texts."""
        columns = [column(self, name, COLOURS[i % len(COLOURS)], live) for i, name in enumerate(self.pieces)]
        figures = f"pass {self.passes:,}, {self.sampled:,} tokens sampled"
        html = f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(columns)}</div>{small(figures)}'
        texts = [f"--- {name}\n{''.join(text for _, text in pieces)}" for name, pieces in self.pieces.items()]
        return Shown(html, "\n".join([*texts, f"({figures})"]))


def column(panes: Panes, name: str, colour: str, live: bool) -> str:
    """A worker's column. Its lines grow upwards, so that its end is what is seen."""
    pieces = panes.pieces[name]
    text = "".join(piece(said, each) for said, each in (last(pieces) if live else pieces))
    state = " ✓" if name in panes.ended else ""
    title = f'<div style="color:{colour};font-weight:600;margin-bottom:4px">{escape(name)}{state}</div>'
    box = "display:flex;flex-direction:column-reverse;max-height:24em;overflow:auto"
    style = f"flex:1 1 220px;min-width:0;border:1px solid {colour};border-radius:4px;padding:6px 8px;text-align:left"
    return f'<div style="{style}">{title}<div style="{box}"><pre style="{MONO}">{text}</pre></div></div>'


def last(pieces: Sequence[tuple[bool, str]]) -> list[tuple[bool, str]]:
    """The end of a text, of `SHOWN` characters at most."""
    kept: list[tuple[bool, str]] = []
    left = SHOWN
    for said, text in reversed(pieces):
        if left <= 0:
            return [(True, "…"), *reversed(kept)]
        kept.append((said, text[-left:]))
        left -= len(text)
    return kept[::-1]


def piece(said: bool, text: str) -> str:
    return f'<span style="opacity:.6">{escape(text)}</span>' if said else escape(text)


def small(text: str) -> str:
    return f'<div style="opacity:.7;font-size:12px;margin-top:4px">{escape(text)}</div>'


# --- Diagnostics and states ------------------------------------------------------------------------------------------


def problems(found: Iterable[Diagnostic]) -> Shown:
    """Diagnostics, as a command line prints them."""
    texts = [(each.severity, each.render()) for each in found]
    colour = {"error": "#b91c1c", "warning": "#a16207"}
    boxes = (
        f'<pre style="{MONO};border-left:3px solid {colour[severity]};padding:4px 8px;margin:4px 0;text-align:left">'
        f"{escape(text)}</pre>"
        for severity, text in texts
    )
    return Shown("".join(boxes), "\n\n".join(text for _, text in texts))


def summary(state: State) -> str:
    """How a run ended, and its answer, for the end of a cell."""
    figures = f"{state.program}: {state.reason} after {state.passes:,} passes, seed {state.seed}"
    return figures if state.answer is None else f"{figures}\nanswer: {state.answer.strip()}"


def summary_html(state: State) -> str:
    figures, _, answer = summary(state).partition("\nanswer: ")
    return small(figures) + (
        f'<pre style="{MONO};text-align:left"><b>answer</b>\n{escape(answer)}</pre>' if answer else ""
    )
