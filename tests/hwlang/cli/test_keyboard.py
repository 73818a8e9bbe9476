"""Lines that are typed while a run is shown."""

import io
import os
import sys
from collections.abc import Iterator

import pytest

from hwlang.cli.keyboard import Keyboard

pty = pytest.importorskip("pty")


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """The end that a user types at, and the file that a program reads."""
    user, program = pty.openpty()
    with os.fdopen(program, encoding="utf-8", closefd=True) as file:
        yield user, file
    os.close(user)


def test_a_line_is_shown_while_it_is_typed_and_taken_when_it_is_finished(terminal):
    user, file = terminal
    with Keyboard(["chat"], file) as keyboard:
        assert (keyboard.line, keyboard.take()) == ("chat> ", [])
        os.write(user, "grüß".encode())
        assert (keyboard.take(), keyboard.line) == ([], "chat> grüß")
        os.write(user, b" Got\x7f\x7ftt\n\nmore\n")
        assert (keyboard.take(), keyboard.line) == ([("chat", "grüß Gtt"), ("chat", "more")], "chat> ")
        os.write(user, b"wrong\x15right")
        assert (keyboard.take(), keyboard.line) == ([], "chat> right")
        os.write(user, b"\x1b[A")  # an arrow is no letter
        assert (keyboard.take(), keyboard.line) == ([], "chat> right")


def test_a_character_can_come_in_two_pieces(terminal):
    user, file = terminal
    with Keyboard(["chat"], file) as keyboard:
        first, last = "é".encode()[:1], "é".encode()[1:]
        os.write(user, first)
        assert (keyboard.take(), keyboard.line) == ([], "chat> ")
        os.write(user, last)
        assert (keyboard.take(), keyboard.line) == ([], "chat> é")


def test_tab_takes_the_next_stream(terminal):
    user, file = terminal
    with Keyboard(["chat", "news"], file) as keyboard:
        os.write(user, b"a\tb\n\tc\n")
        assert keyboard.take() == [("news", "ab"), ("chat", "c")]


def test_the_terminal_is_left_as_it_was(terminal):
    termios = pytest.importorskip("termios")
    _, file = terminal
    before = termios.tcgetattr(file.fileno())
    with Keyboard(["chat"], file):
        assert termios.tcgetattr(file.fileno()) != before
    assert termios.tcgetattr(file.fileno()) == before


@pytest.mark.parametrize("streams", [[], ["chat"]])
def test_nothing_is_read_from_what_is_no_terminal_or_for_no_stream(streams, terminal, tmp_path):
    user, file = terminal
    (tmp_path / "in").write_text("a line\n")
    with (tmp_path / "in").open() as plain, Keyboard(streams, plain if streams else file) as keyboard:
        os.write(user, b"typed\n")
        assert (keyboard.line, keyboard.take(), keyboard.open) == ("", [], False)
        assert plain.read() == "a line\n"
    assert not sys.stdin.closed
