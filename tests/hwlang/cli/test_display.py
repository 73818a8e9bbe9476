"""What `hw run` shows: panes on a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from hwlang.cli.display import BatchPanes, Lines, Panes, Tally, colour_of, print_result, tally_line
from hwruntime.result import Event, Progress, Result, Usage, WorkerResult

PROGRESS = Progress(passes=12, budget=1024, sampled=24, cache_used=320, cache_capacity=4096)


def console(terminal: bool, width: int = 80, height: int = 24) -> Console:
    colours = "standard" if terminal else None
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=height, color_system=colours)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def said(worker: str, *texts: str) -> list[Event]:
    return [Event("token", 0, worker, text) for text in texts]


def test_lines_come_out_whole_behind_the_workers_name():
    out = console(terminal=False)
    with Lines(out) as lines:
        lines.show([*said("Alice", "one ", "li"), *said("Bob", "x\n\ny")], PROGRESS)
        assert printed(out) == "     Bob | x\n"
        lines.show(said("Alice", "ne\nrest"), PROGRESS)
    assert printed(out) == "     Bob | x\n   Alice | one line\n   Alice | rest\n     Bob | y\n"


def test_lines_do_not_take_brackets_for_markup():
    out = console(terminal=False)
    with Lines(out) as lines:
        lines.show(said("Alice", "**[1]** [/red] :smile:\n"), PROGRESS)
    assert printed(out) == "   Alice | **[1]** [/red] :smile:\n"


def test_panes_show_each_worker_and_the_progress(monkeypatch):
    monkeypatch.setattr("hwlang.cli.display.FRAME", 0)
    out = console(terminal=True)
    with Panes(out) as panes:
        panes.show([*said("Alice", "hello [b]"), *said("Bob", "world\n" * 50)], PROGRESS)
    text = printed(out)
    for piece in ("Alice", "hello [b]", "Bob", "world", "pass 12 of 1,024", "tokens/s", "cache 320 of 4,096 tokens"):
        assert piece in text
    assert text.count("world") <= 2 * 12  # the end of it, in two pictures: the last one is drawn again at the end


@pytest.mark.parametrize("height", [3, 8, 40])
def test_panes_fit_the_terminal(height, monkeypatch):
    monkeypatch.setattr("hwlang.cli.display.FRAME", 0)
    out = console(terminal=True, height=height)
    with Panes(out) as panes:
        panes.show([event for name in "ABCD" for event in said(name, "line\n" * 30)], PROGRESS)
    assert "line" in printed(out)


def test_every_worker_has_a_colour_of_its_own():
    names: dict[str, str] = {}
    assert len({colour_of(names, worker) for worker in "ABCDEF"}) == 6
    assert colour_of(names, "A") == "cyan"


def result(reason: str = "done", answer: str | None = "42 [b]") -> Result:
    workers = {"Ann": WorkerResult("\ntext [i]", 2, 1), "Ben": WorkerResult("", 0, 0)}
    return Result("p", "tiny", 7, answer, reason, 9, workers, {}, Usage(sampled_tokens=30))  # type: ignore[arg-type]


def test_the_end_of_a_run_in_a_file():
    out = console(terminal=False, width=200)
    print_result(out, result(), 2.0)
    figures = "all workers ended after 9 passes: 2 workers, 30 tokens sampled, 15 tokens/s, seed 7"
    assert printed(out) == f"answer\n42 [b]\n{figures}\n"


def test_the_end_of_a_run_on_a_terminal_has_the_texts_once_more():
    out = console(terminal=True)
    print_result(out, result(answer=None), 2.0)
    text = printed(out)
    assert "text [i]" in text
    assert "(nothing)" in text
    assert "answer" not in text


@pytest.mark.parametrize("reason", Result.__annotations__["reason"].__args__)
def test_every_reason_has_words(reason):
    out = console(terminal=False, width=200)
    print_result(out, result(reason), 1.0)
    assert " after 9 passes" in printed(out)


# --- A batch ---


def test_a_batch_shows_its_oldest_run_and_how_far_all_are(monkeypatch):
    monkeypatch.setattr("hwlang.cli.display.FRAME", 0.0)
    out = console(terminal=True, width=120)
    with BatchPanes(out) as view:
        view.take(3, [Event("say", 0, "Ann", "third "), Event("token", 1, "Ann", "run")])
        view.take(5, [Event("token", 1, "Ben", "fifth run")])
        view.show(Tally(total=9, ended=4, failed=1, going=2, sampled=50), "user> hel")
        shown = printed(out)
        assert view.shown == 3
        assert "run 3 of 9" in shown
        assert "third run" in shown
        assert "fifth run" not in shown
        for piece in ("4 of 9 ended", "1 failed", "2 under way", "user> hel"):
            assert piece in shown
        view.drop(3)
        view.show(Tally(total=9, ended=5, failed=1, going=1), "")
        assert view.shown == 5
        assert "fifth run" in printed(out)
        view.drop(5)
        view.drop(5)
        assert view.shown is None


def test_a_batch_shows_nothing_where_there_is_no_terminal():
    out = console(terminal=False)
    with BatchPanes(out) as view:
        view.take(0, [Event("token", 1, "Ann", "x")])
        view.show(Tally(total=1), "")
    assert printed(out) == ""


@pytest.mark.parametrize("width", [20, 60, 100, 200])
@pytest.mark.parametrize(("ended", "total"), [(0, 0), (0, 7), (3, 7), (7, 7), (999, 1000)])
def test_the_bar_of_a_batch_is_as_long_as_there_is_room(width, ended, total):
    line = tally_line(Tally(total, ended), 10.0, width).plain
    bar = line.split(" ")[1]
    assert set(bar) == {"━"}
    assert len(bar) == max(10, min(40, width - 70))
    assert f"{ended:,} of {total:,} ended" in line
    assert "failed" not in line
