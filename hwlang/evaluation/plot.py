"""The plot of an evaluation: solved fraction against passes, a line for each configuration."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang.evaluation.answers import INSTALL
from hwlang.evaluation.metrics import Curve
from hwlang.evaluation.records import write_whole
from hwruntime.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
SIZE = (7.6, 4.2)  # inches
# Okabe and Ito's colours, which colour-blind readers can tell apart; a layout keeps its own
COLOURS = {
    "1 worker": "#000000",
    "combined": "#0072B2",
    "interleaved": "#D55E00",
    "contiguous": "#009E73",
    "blind": "#CC79A7",
}
OTHERS = ("#E69F00", "#56B4E9", "#B0A000", "#777777")
LINES = ((0, ()), (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
PALE = 0.45
WIDTH, WIDTHS = 1.6, {"1 worker": 1.1, "blind": 2.4}  # points


def require_matplotlib() -> None:
    """Raises `InputError` where the library is missing: before anything is run, not after."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise InputError("plots are made with matplotlib, which is not installed", help=INSTALL) from None


def write_plots(curves: Sequence[Curve], title: str, folder: Path) -> list[Path]:
    """Draw the plot into `solved.png` and `solved.svg`. Raises `InputError` where they cannot be written."""
    figure = draw(curves, title)
    paths = [folder / f"solved.{form}" for form in FORMATS]
    for path, form in zip(paths, FORMATS, strict=True):
        content = io.BytesIO()
        figure.savefig(
            content, format=form, dpi=160, bbox_inches="tight", metadata={"Date": None} if form == "svg" else {}
        )
        write_whole(path, content.getvalue())
    return paths


def draw(curves: Sequence[Curve], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot()
    end = 1.03 * max(1, *(each.passes[-1] for each in curves))
    for curve, look in zip(curves, looks([curve.name for curve in curves]), strict=True):
        if curve.steps:  # what is solved stays so until the next point, and to the end
            [line] = axes.step([*curve.passes, end], [*curve.solved, curve.solved[-1]], where="post")
        else:
            [line] = axes.plot(curve.passes, curve.solved, marker="o")
        line.set(color=look.colour, linestyle=look.line, alpha=look.opacity, linewidth=look.width, label=curve.name)
        line.set_zorder(4 - look.width)  # a thin line over a thick one that it runs along: both can be seen
    axes.set(xlabel="passes", ylabel="solved fraction", title=title, xlim=(0, end), ylim=(-0.02, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9, handlelength=3)
    return figure


@dataclass(frozen=True)
class Look:
    """How a curve is drawn. `line`: dashes on and off, in points from an offset."""

    colour: str
    line: tuple[int, tuple[float, ...]]
    opacity: float
    width: float  # points


def looks(names: Sequence[str]) -> list[Look]:
    """A layout has its colour, a number of workers its line; what is neither (`no sync prompt`, `vote`) is paler."""
    parts = [parts_of(name) for name in names]
    layouts = [layout for layout in dict.fromkeys(layout for _, layout, _ in parts) if layout not in COLOURS]
    colours = {**COLOURS, **{layout: OTHERS[index % len(OTHERS)] for index, layout in enumerate(layouts)}}
    people = list(dict.fromkeys(workers for workers, layout, _ in parts if layout != "1 worker"))
    lines = {workers: LINES[index % len(LINES)] for index, workers in enumerate(people)}
    return [
        Look(colours[layout], lines.get(workers, LINES[0]), PALE if rest else 1.0, WIDTHS.get(layout, WIDTH))
        for workers, layout, rest in parts
    ]


def parts_of(name: str) -> tuple[str, str, str]:
    """`2 workers`, `combined` and `no sync prompt` of a configuration's name; `: union` is the usual way to count."""
    named, _, counted = name.partition(": ")
    first, *rest = named.split(", ")
    workers, layout = (first, rest.pop(0)) if first.endswith("workers") and rest else ("", first)
    return workers, layout, ", ".join([*rest, *([counted] if counted == "vote" else [])])
