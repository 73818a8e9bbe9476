"""The table and the plot."""

import pytest

from hwruntime.bench.measure import AUTHORS, ONE, Cell, Timing
from hwruntime.bench.report import baselines, columns, head, plot, require_matplotlib, row
from hwruntime.errors import InputError


def at(ms: float) -> Timing:
    return Timing(ms, ms, ms, 8)


CELLS = [
    Cell("float32", "auto", 512, 1, 520, at(20.0), at(16.0), 4e10, 8.0, {ONE: at(30.0)}),
    Cell("float32", "auto", 512, 4, 540, at(25.0), at(17.0), 4.25e10, 8.5, {ONE: at(30.0), AUTHORS: at(300.0)}),
]


def test_a_row_has_every_column():
    others = baselines(transformers=True, authors=True)
    cells = row(CELLS[1], CELLS, others).strip("| ").split(" | ")
    assert dict(zip(columns(others), cells, strict=True)) == {
        "context": "512",
        "workers": "4",
        "ms": "25.0",
        "tokens/s": "160.0",
        "of 1 worker's ms": "1.25",
        "linear ms": "17.0",
        "of linear": "1.47",
        "copy GB/s": "42.5",
        "limit ms": "8.50",
        "of limit": "2.94",
        f"{ONE} ms": "30.0",
        "times its tokens/s": "4.80",
        "transformers, batch ms": "–",
        f"{AUTHORS} ms": "300.0",
    } | {"times its tokens/s": "12.00"}  # a column for each of the baselines is called so: the last one's


def test_without_baselines_there_are_no_columns_for_them():
    assert head([]).splitlines()[0].count("|") == 11


def test_what_one_worker_takes_is_unknown_where_it_was_not_measured():
    assert "| – |" in row(CELLS[1], [], [])


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_plot(form, start):
    assert plot(CELLS, form).startswith(start)


def test_a_plot_has_a_form_that_is_known(tmp_path):
    with pytest.raises(InputError, match="a plot is written as"):
        require_matplotlib(tmp_path / "plot.gif")
