"""The benchmarks, on tiny models: all of them but the clock. Their times say nothing here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import cpu, gpu, performance

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[str, dict]:
    """What a run prints, and its JSON: the larger context has no room for copies."""
    path = tmp_path_factory.mktemp("gpu") / "results.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--device", "cpu", "--passes", "3"]
    command += ["--workers", "1,2", "--contexts", "64,256", "--cache-gb", "0.002", "--json", str(path)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


def rows_of(text: str, title: str) -> list[list[str]]:
    """Cells of the table below a title, its headings first."""
    lines = text.split(f"### {title}\n\n")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if not set(row[0]) <= {"-"}]


def test_decode_passes(run):
    text, found = run
    headings, *rows = rows_of(text, "Decode passes")
    assert headings == [*gpu.CELL_HEADINGS, "torch ms"]
    assert [row[:3] for row in rows] == [["tiny", c, w] for c in ("64", "256") for w in ("1", "2")]
    assert all(len(row) == len(headings) for row in rows)
    assert [row[headings.index("copies ms")] == "–" for row in rows] == [False, False, False, True]
    assert [cell["speed_up"] for cell in found["rows"]][::2] == [1.0, 1.0]
    for cell in found["rows"]:
        assert cell["stored"] == cell["context"] + 16 * cell["workers"]
        ways = ["hw", "no graphs", "page tables", "copies", "torch"]
        assert list(cell["timings"]) == [
            w for w in ways if w != "copies" or (cell["context"], cell["workers"]) != (256, 2)
        ]
        for way, timing in cell["timings"].items():
            assert 0 < timing["low"] <= timing["ms"] <= timing["high"]
            assert timing["passes"] == gpu.ROUNDS * gpu.FEWEST
            assert timing["captured"] == (way in ("hw", "page tables", "copies"))
        assert cell["over_limit"] == pytest.approx(cell["timings"]["hw"]["ms"] / cell["limit_ms"])


def test_rows_are_printed_as_they_come(run):
    text, _ = run
    progress, tables = text.split("### Decode passes")
    for row in rows_of(text, "Decode passes")[1:]:
        assert all(f"| {' | '.join(row)} |" in part for part in (progress, tables))


def test_what_does_not_fit_is_said(run):
    text, found = run
    assert len(found["skipped"]) == 1
    assert found["skipped"][0].startswith("tiny, 256 tokens, 2 workers, copies: needs 0.002 GB of cache")
    assert f"skipped: {found['skipped'][0]}" in text
    assert f"Not measured: {found['skipped'][0]}" in text


def test_executors_agree(run):
    text, found = run
    errors = found["shapes"]["tiny"]["check"]
    assert list(errors) == ["blocks", "eager", "tables"]
    assert all(error < 1e-4 for error in errors.values())
    assert "WRONG" not in text
    assert gpu.check_line("x", {"blocks": float("nan")}).endswith(": WRONG, its times mean nothing")


def test_merging_and_attention_alone(run):
    text, found = run
    assert [row[0] for row in rows_of(text, "Merging partial results, captured")[1:]] == list(gpu.MERGES)
    assert all(merge["difference"] < 1e-5 for merge in found["merge"])
    _, *rows = rows_of(text, "Attention alone, all layers")
    assert [row[1:3] for row in rows] == [[s, w] for s in ("64", "256") for w in ("1", "2")]
    assert all(set(one["ms"]) == {"hw", "page tables"} for one in found["attention"])


def test_the_file_is_whole(run):
    text, found = run
    names = "done machine options shapes rows attention merge break_even skipped"
    assert list(found) == names.split()
    assert found["done"] is True
    assert f"a large copy reads and writes {found['machine']['copy_bytes_per_s'] / 1e9:,.0f} GB/s" in text
    assert f"torch {torch.__version__}" in text
    assert list(found["break_even"]) == ["tiny, whole passes"]
    assert "Break-even, tiny, whole passes: blocks from" in text


@pytest.mark.parametrize(("name", "billions"), [("0.6B", 0.596), ("8B", 8.19), ("32B", 32.76)])
def test_shapes_have_the_published_sizes(name, billions):
    shape = gpu.SHAPES[name]
    sizes = shape.sizes(torch.bfloat16)
    assert sizes.weights / 2e9 == pytest.approx(billions, rel=1e-3)
    embedding = 0 if name == "0.6B" else 2 * 151_936 * shape.hidden
    assert sizes.read == sizes.weights - embedding
    assert sizes.token == {"0.6B": 112, "8B": 144, "32B": 256}[name] * 1024


def cell(workers: int, stored: int, blocks: float, tables: float) -> gpu.Cell:
    timings = {name: gpu.Timing(ms, ms, ms, 2 * ms, 3, True) for name, ms in (("hw", blocks), ("page tables", tables))}
    return gpu.Cell("8B", stored - 256 * workers, workers, stored, 1.0, 2.0, timings)


def test_the_break_even_is_where_the_rule_loses_least(monkeypatch):
    monkeypatch.setattr(gpu, "BREAK_EVEN", 10_000)
    cells = [
        cell(1, 50_000, 3, 2),
        cell(2, 4000, 3, 2),
        cell(2, 8000, 2.2, 2),
        cell(2, 16_000, 2, 3),
        cell(4, 8000, 2, 9),
    ]
    found = gpu.break_evens(cells)
    assert found["8B, whole passes"] == found["8B, GPU time"]
    best = found["8B, whole passes"]
    assert (best.above, best.until, best.loses, best.now_loses) == (8000, 16_000, 0, 0)
    always = gpu.break_evens([cell(1, 4000, 1, 2), cell(2, 4000, 1, 2)])["8B, whole passes"]
    assert (always.above, always.until, always.loses, always.now_loses) == (-1, 0, 0, 1)
    never = gpu.break_evens([cell(1, 4000, 2, 1), cell(2, 4000, 2, 1)])["8B, whole passes"]
    assert (never.above, never.until) == (4000, None)


def test_a_gpus_time_has_a_table_of_its_own():
    report = gpu.Report(gpu.Machine("a GPU", "1.0", {}, 4e12), {}, None, rows=[cell(2, 4000, 2, 3)])
    assert rows_of(gpu.tables(report), "The same passes' forward calls, on the GPU")[1:] == [
        ["8B", "3,488", "2", "4.00", "–", "6.00", "–"]
    ]


def test_what_fails_is_left_out_and_said(capsys):
    shape, cpu = gpu.SHAPES["tiny"], torch.device("cpu")
    sizes = shape.sizes(torch.float32)
    bench = gpu.open_bench(shape, sizes, cpu, torch.float32, 512)
    executor = bench.switch._executors["tables"]

    def fail(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    executor.begin = fail
    report = gpu.Report(gpu.Machine("cpu", "none", {}, 1e9), {}, None)
    gpu.measure_cell(bench, gpu.Grid((1,), None, 3), 64, 1, report)
    assert list(report.rows[0].timings) == ["hw", "no graphs", "copies", "torch"]
    assert report.skipped == [
        "tiny, 64 tokens, 1 workers, page tables: OutOfMemoryError: CUDA out of memory. Tried to allocate"
    ]
    assert bench.model.pool.used == 0
    assert capsys.readouterr().out.startswith("skipped: tiny, 64 tokens, 1 workers, page tables")


def test_a_pass_that_cannot_be_captured_fails_aloud():
    class Failing:
        def record(self, *arguments: object) -> gpu.Recording:
            raise RuntimeError("operation not permitted\nwhen capturing")

    tokens = torch.zeros(1, 1)
    with pytest.raises(gpu.CaptureError, match=r"^capture failed: RuntimeError: operation not permitted$"):
        gpu.Strict(Failing()).record(lambda x, y: x, tokens, tokens)


# --- benchmarks/performance.py ---


def perform(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "performance.py"), "--page", str(page), *options]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


def test_the_table_of_a_page_is_made_anew(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{performance.BEGIN}\nold\n{performance.END}\n\nmore\n")
    options = ["--shape", "small", "--workers", "1,2", "--contexts", "64", "--rounds", "1", "--passes", "1"]
    done = perform(page, *options, "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    head, found, tail = re.split(f"{performance.BEGIN}|{performance.END}", page.read_text())
    assert (head, tail) == ("# Page\n\n", "\n\nmore\n")
    assert found.startswith("\n`hw bench --shape small --workers 1,2 ")
    assert f"cores of {performance.machine().split(' of ')[1]}:\n\n### small, float32\n" in found
    rows = [line for line in found.splitlines() if line.startswith("| 64 |")]
    assert len(rows) == 2
    assert all(row in done.stdout for row in rows)
    assert not list(tmp_path.glob(".*"))


def test_a_page_stays_as_it_is_where_nothing_was_measured(tmp_path):
    page = tmp_path / "page.md"
    text = f"{performance.BEGIN}\nold\n{performance.END}\n"
    page.write_text(text)
    assert perform(page, "--shape", "nope").returncode == 1
    assert page.read_text() == text
    page.write_text("no marks")
    done = perform(page, "--shape", "small")
    assert (done.returncode, "has no place for the table" in done.stderr) == (2, True)


def test_the_page_in_docs_has_a_place_for_the_table():
    text = performance.PAGE.read_text()
    assert [text.count(mark) for mark in (performance.BEGIN, performance.END)] == [1, 1]


def test_batches():
    command = [sys.executable, str(ROOT / "benchmarks" / "batch.py"), "--runs", "3", "--rounds", "1"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"3 runs: [\d.]+ s one after another, [\d.]+ s side by side, [\d.]+ times faster\n", done.stdout
    )


# --- benchmarks/cpu.py ---


def measured(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "cpu.py"), "--shape", "small", "--rounds", "1", *options]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


def test_each_part_of_what_is_measured_on_a_cpu():
    done = measured("--text", "300", "--contexts", "64,128,256")
    assert done.returncode == 0, done.stderr
    number = r"-?[\d.,]+"
    line = f"({number}, )+{number} ms, {number} ms and {number} ms for every 1,000 tokens, off by {number}% at most"
    expected = [
        f"prefill: 300 tokens in chunks of 256: {number} ms .{number} tokens/s., "
        f"plain transformers {number} ms: {number} times as long",
        f"growth: 1 worker {line}; 4 workers {line}",
        f"memory: {number} MB at the end: .* {number} more; {number} when loaded, {number} at most",
        f"outside: 4 workers: {number} ms of a pass of {number} ms",
        f"start: {number} s from the shell to the first tokens .{number}., {number} s to the end of the process",
    ]
    for wanted, printed in zip(expected, done.stdout.splitlines(), strict=True):
        assert re.fullmatch(wanted, printed), printed


def test_growth_that_is_a_line_is_off_by_nothing():
    told = cpu.fitted(4, [1000, 2000, 4000], [12.0, 13.0, 15.0])
    assert told == "4 workers 12, 13, 15 ms, 11.0 ms and 1.00 ms for every 1,000 tokens, off by 0.0% at most"
    assert cpu.fitted(1, [1000, 2000, 3000], [10.0, 13.0, 10.0]).endswith("off by 15.4% at most")


def test_a_part_that_does_not_exist():
    done = measured("speed")
    assert (done.returncode, "there is no part `speed`" in done.stderr) == (2, True)
