"""What was measured, as a table in Markdown and as a plot."""

import io
from collections.abc import Sequence
from pathlib import Path

from hwruntime.bench.measure import AUTHORS, BATCH, ONE, Bench, Cell
from hwruntime.errors import InputError

NONE = "–"
PLOTTED = (".png", ".svg")
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito's


def heading(bench: Bench) -> str:
    """What a table's rows have in common."""
    lines = [
        f"### {bench.name}, {numbers_of(bench.dtype, bench.bits)}",
        "",
        f"A pass reads {bench.weights / 1e9:.2f} GB of weights, and {bench.token / 1024:.1f} kB for every token in the "
        f"cache. {bench.threads} threads, attention {bench.attention}, torch {bench.torch}, transformers "
        f"{bench.transformers}.",
        "",
    ]
    return "\n".join(lines)


def columns(others: Sequence[str], several: bool = False) -> list[str]:
    """`others`: the baselines that are measured; `several`: whether models of several kinds of numbers are."""
    compared = [head for name in others for head in (f"{name} ms", "times its tokens/s")]
    own = ["ms", "tokens/s", "of 1 worker's ms", "linear ms", "of linear", "copy GB/s", "limit ms", "of limit"]
    kind, first = (["numbers"], ["times the first's tokens/s"]) if several else ([], [])
    return [*kind, "context", "workers", *own, *first, *compared]


def head(others: Sequence[str], several: bool = False) -> str:
    names = columns(others, several)
    return f"{line(names)}\n{line(['---:'] * len(names))}"


def row(cell: Cell, cells: Sequence[Cell], others: Sequence[str], several: bool = False) -> str:
    """A cell beside those that it is compared with, which are among `cells` if they were measured."""
    first = next(each for each in [*cells, cell] if (each.context, each.workers) == (cell.context, cell.workers))
    one = next((each for each in [*cells, cell] if beside(each, cell) and each.workers == 1), None)
    values = [
        *([numbers_of(cell.dtype, cell.weights)] if several else []),
        f"{cell.context:,}",
        f"{cell.workers}",
        number(cell.hw.ms),
        f"{cell.tokens_per_second:.1f}",
        NONE if one is None else f"{cell.hw.ms / one.hw.ms:.2f}",
        number(cell.linears.ms),
        f"{cell.hw.ms / cell.linears.ms:.2f}",
        f"{cell.bandwidth / 1e9:.1f}",
        number(cell.limit_ms),
        f"{cell.hw.ms / cell.limit_ms:.2f}",
        *([f"{first.hw.ms / cell.hw.ms:.2f}"] if several else []),
    ]
    for name in others:
        timing = cell.others.get(name)
        same = 1 if name == ONE else cell.workers  # tokens of a pass of theirs
        values += [NONE, NONE] if timing is None else [
            number(timing.ms), f"{cell.workers / cell.hw.ms / (same / timing.ms):.2f}"
        ]  # fmt: skip
    return line(values)


def beside(one: Cell, other: Cell) -> bool:
    return (one.dtype, one.weights, one.context) == (other.dtype, other.weights, other.context)


def numbers_of(dtype: str, weights: str) -> str:
    return dtype if weights == "auto" else f"{dtype}, {weights} weights"


def baselines(transformers: bool, authors: bool) -> list[str]:
    return [*([ONE, BATCH] if transformers else []), *([AUTHORS] if authors else [])]


def number(ms: float) -> str:
    return f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def require_matplotlib(path: Path) -> None:
    """Raises `InputError` where a plot cannot be drawn: before anything is measured, not after."""
    if path.suffix not in PLOTTED:
        raise InputError(f"a plot is written as {' or '.join(PLOTTED)}, not `{path.name}`")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        message = "plots are made with matplotlib, which is not installed"
        raise InputError(message, help="pip install 'hwlang[eval]'") from None


def plot(cells: Sequence[Cell], form: str) -> bytes:
    """Pass time against stored tokens: a line for each number of workers, dotted for the authors' code."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.2))
    axes = figure.add_subplot()
    for index, key in enumerate(dict.fromkeys((cell.dtype, cell.weights, cell.workers) for cell in cells)):
        mine = [cell for cell in cells if (cell.dtype, cell.weights, cell.workers) == key]
        colour = COLOURS[index % len(COLOURS)]
        label = f"{key[2]} worker{'s' * (key[2] > 1)}, {numbers_of(*key[:2])}"
        axes.plot([cell.stored for cell in mine], [cell.hw.ms for cell in mine], "o-", color=colour, label=label)
        theirs = [cell for cell in mine if AUTHORS in cell.others]
        if theirs:
            times = [cell.others[AUTHORS].ms for cell in theirs]
            axes.plot([cell.stored for cell in theirs], times, "o:", color=colour, label=f"{label}, {AUTHORS}")
    axes.set_xlabel("stored tokens")
    axes.set_ylabel("ms of a pass")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=160, bbox_inches="tight", metadata={"Date": None} if form == "svg" else {})
    return content.getvalue()
