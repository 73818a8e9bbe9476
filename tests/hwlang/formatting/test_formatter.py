"""The formatter: one style, idempotent, and never another program, a lost comment or a touched string; and `hw fmt`."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given

from hwlang.cli import main
from hwlang.diagnostics import CompileError, Source
from hwlang.formatting import files as fmt
from hwlang.formatting import formatter
from hwlang.formatting.columns import WIDTH
from hwlang.formatting.formatter import Unfaithful, formatted, moved
from hwlang.formatting.trivia import pieces_of
from hwlang.parser import parse
from hwlang.parsing.lexer import tokens
from tests.hwlang import trees
from tests.hwlang.programs import DESIGN
from tests.properties import examples

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parents[1] / "golden_fmt"
PAIRS = sorted(path for path in GOLDEN.glob("*.hw") if not path.name.endswith(".expected.hw"))
STABLE = [*sorted((ROOT / "programs").glob("*.hw")), DESIGN]
PAGES = [ROOT / "grammar" / "README.md", ROOT / "README.md"]


def fmt_text(text: str) -> str:
    return formatted(Source("a.hw", text))


def comments(text: str) -> list[str]:
    """The comments in order, each with the token that it stands by."""
    pieces = pieces_of(text)
    own = [f"{comment.text} before {piece.text[:3]}" for piece in pieces for comment in piece.own]
    return own + [f"{piece.trailing.text} behind {piece.text[-3:]}" for piece in pieces if piece.trailing]


# --- What the style is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_golden_pairs(path: Path) -> None:
    expected = path.with_suffix(".expected.hw").read_text()
    assert fmt_text(path.read_text()) == expected
    assert fmt_text(expected) == expected


@pytest.mark.parametrize("path", STABLE, ids=lambda path: path.stem)
def test_programs_are_in_the_style(path: Path) -> None:
    assert fmt_text(path.read_text()) == path.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_programs_on_a_page_are_in_the_style(page: Path) -> None:
    for text in re.findall(r"^```hw(?:-fails HW[1-9]\d\d)?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        assert fmt_text(text) == text


@pytest.mark.parametrize("text", ["", "\n", " \n\t\r\n", "\f"])
def test_a_text_with_nothing_in_it(text: str) -> None:
    assert fmt_text(text) == ""


def test_line_ends_of_windows_go_and_values_stay() -> None:
    text = 'role r { # one\r\n  begin """\r\n    a\r\n\r\n    b\r\n    """\r\n}\r\n'
    new = fmt_text(text)
    assert new == 'role r {  # one\n  begin """\n    a\n\n    b\n    """\n}\n'
    assert parse(new) == parse(text)


def test_a_carriage_return_in_a_string_stays() -> None:
    text = 'role r {\n  begin "a\rb"\n  forbid """c\rd"""\n}\n'
    assert fmt_text(text.replace("\n", "\r\n")) == text


@pytest.mark.parametrize(
    ("block", "by", "want"),
    [
        ('"""\n  a\n    b\n  """', 2, '"""\n    a\n      b\n    """'),
        ('"""\n    a\n\n    b"""', -2, '"""\n  a\n\n  b"""'),
        ('"""\n  a\n  """', -4, '"""\na\n"""'),  # not beyond the left edge
        ('"""\n\ta\n\t\tb\n"""', 2, '"""\n      a\n      \tb\n  """'),
        ('"""  \n  a\n   \n  """', 1, '"""  \n   a\n\n   """'),
        ('"""\n  a\n  """', 0, '"""\n  a\n  """'),
        ('"""a\n  b"""', 2, '"""a\n  b"""'),  # text behind the quotes: the spaces are part of the value
        ('"""\n   \n  """', 2, '"""\n   \n  """'),
    ],
)
def test_moving_a_text_block(block: str, by: int, want: str) -> None:
    assert moved(block, by) == want
    assert parse(f"role r {{ begin {want} }}") == parse(f"role r {{ begin {block} }}")


# --- Whatever comes --------------------------------------------------------------------------------------------------


@given(trees.sources)
@examples(100)
def test_any_program(text: str) -> None:
    new = fmt_text(text)
    assert repr(parse(new)) == repr(parse(text))
    assert comments(new) == comments(text)
    assert fmt_text(new) == new
    assert new == "" or (new.endswith("\n") and not new.endswith("\n\n"))
    ends = [0, *(token.end_pos for token in tokens(new))]
    assert all("\n\n\n" not in new[end : token.start_pos] for end, token in zip(ends, tokens(new), strict=False))


@given(trees.sources)
@examples(50)
def test_lines_that_could_be_shorter_are(text: str) -> None:
    """A line that is too long holds no body: that would have been broken."""
    tokens = re.compile(r'"""[\s\S]*?"""|"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])*/|#[^\n]*')
    plain = tokens.sub(lambda found: "" if found[0][0] == "#" else re.sub(".", "_", found[0]), fmt_text(text))
    assert not [line for line in plain.split("\n") if len(line.rstrip()) > WIDTH and re.search(r"\{.+\}", line)]


@pytest.mark.parametrize("wild", [0.0, 0.3])
def test_the_design_page_spaced_at_random(wild: float) -> None:
    design = DESIGN.read_text()
    for seed in range(20):
        text = trees.respaced(design, trees.Random(seed), wild)
        new = fmt_text(text)
        assert parse(new) == parse(design)
        assert comments(new) == comments(text)
        assert fmt_text(new) == new


def test_a_formatter_that_would_change_a_program_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in ['role r { begin "b" }', 'role r { begin "a"', 'role r { begin "a" # c\n}']:
        monkeypatch.setattr(formatter, "rendered", lambda lines, broken=broken: [broken])
        with pytest.raises(Unfaithful):
            fmt_text('role r { begin "a" }')


@pytest.mark.parametrize(
    "text",
    [
        'role r { begin """\n' + "  a line # {x}\n" * 60_000 + '""" }',
        "# a comment\n" * 80_000,
        "program p {\n" + "  stream a # b\n" * 7_000 + "}",
        "program p {" + "worker A is r { paused } " * 3_000 + "}",
        "role r { sees " + ", ".join(['"a"'] * 10_000) + "}",
        "program p(" + ", ".join(['a: str = """\n' + "  text\n" * 30 + '  """'] * 3_500) + ") {}",
        "role r { on start { " + 'ask "q" { "a" { ' * 15 + "stop" + " } }" * 15 + " } }" + " " * 900_000,
    ],
    ids=["block", "comments", "lines", "bodies", "list", "blocks", "spaces"],
)
def test_large_programs_take_seconds(text: str) -> None:
    start = time.process_time()
    assert fmt_text(text)
    assert time.process_time() - start < 10


def test_a_program_that_would_be_too_large_to_be_read_again() -> None:
    text = "role r{" + "# é\n" + "paused #\n" * 20 + "}" + "# " + "x" * (1024 * 1024 - 210)
    parse(text)
    with pytest.raises(CompileError) as caught:
        fmt_text(text)
    assert caught.value.diagnostics[0].code == "HW011"


# --- hw fmt ----------------------------------------------------------------------------------------------------------

UGLY = "role r{paused}# why\n"
FINE = "role r { paused }  # why\n"


def hw_fmt(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `hw fmt`."""
    try:
        code = main(["fmt", *map(str, arguments)])
    except SystemExit as exit:  # argparse's way to end
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A file to format, one in the style and one with a slip."""
    paths = tmp_path / "ugly.hw", tmp_path / "fine.hw", tmp_path / "wrong.hw"
    for path, text in zip(paths, (UGLY, FINE, "role r{ begin }\n"), strict=True):
        path.write_text(text)
        os.utime(path, (1, 1))
    return paths


def test_files_are_formatted_in_place(capsys, files):
    ugly, fine, _ = files
    assert hw_fmt(capsys, ugly, fine) == (0, "1 file reformatted, 1 left unchanged\n", "")
    assert (ugly.read_text(), fine.read_text()) == (FINE, FINE)
    assert (ugly.stat().st_mtime > 1, fine.stat().st_mtime) == (True, 1)
    assert hw_fmt(capsys, ugly, fine) == (0, "0 files reformatted, 2 left unchanged\n", "")


def test_check_lists_what_would_change_and_writes_nothing(capsys, files):
    ugly, fine, _ = files
    out = f"would reformat {ugly}\n1 file would be reformatted, 1 left unchanged\n"
    assert hw_fmt(capsys, "--check", ugly, fine) == (1, out, "")
    assert ugly.read_text() == UGLY
    assert hw_fmt(capsys, "--check", fine) == (0, "0 files would be reformatted, 1 left unchanged\n", "")


def test_diff_prints_what_would_change_and_writes_nothing(capsys, files):
    ugly, fine, _ = files
    diff = f"--- {ugly}\n+++ {ugly}\n@@ -1 +1 @@\n-role r{{paused}}# why\n+role r {{ paused }}  # why\n"
    assert hw_fmt(capsys, "--diff", ugly, fine) == (1, diff, "")
    assert hw_fmt(capsys, "--diff", "--check", ugly) == (1, diff, "")
    assert hw_fmt(capsys, "--diff", fine) == (0, "", "")
    assert ugly.read_text() == UGLY


def test_a_diff_can_be_applied(capsys, tmp_path):
    path = tmp_path / "a.hw"
    text = DESIGN.read_text().replace("  ", "    ").removesuffix("\n")
    path.write_text(text)
    _, diff, _ = hw_fmt(capsys, "--diff", path)
    assert "\\ No newline at end of file\n" in diff
    subprocess.run(["patch", "--silent", path], input=diff, text=True, check=True)
    assert path.read_text() == fmt_text(text)


def test_a_diff_has_colours_on_a_terminal(capsys, files, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code, out, _ = hw_fmt(capsys, "--diff", files[0])
    assert code == 1
    assert "\x1b[31m-role r{paused}# why" in out
    assert "\x1b[32m+role r { paused }  # why" in out


def test_a_file_with_a_slip_is_left_alone_and_the_others_are_formatted(capsys, files):
    ugly, fine, wrong = files
    code, out, err = hw_fmt(capsys, wrong, ugly, fine)
    assert (code, out) == (2, "1 file reformatted, 1 left unchanged, 1 with errors\n")
    assert err.startswith("error[HW001]: ")
    assert f"--> {wrong}:1:15" in err
    assert (wrong.read_text(), wrong.stat().st_mtime, ugly.read_text()) == ("role r{ begin }\n", 1, FINE)
    assert hw_fmt(capsys, "--check", wrong, ugly)[0] == 2


def test_standard_input_is_printed(capsys, monkeypatch):
    stdin(monkeypatch, ("\ufeff" + UGLY.replace("\n", "\r\n")).encode())
    assert hw_fmt(capsys, "-") == (0, FINE, "")
    stdin(monkeypatch, FINE.encode())
    assert hw_fmt(capsys, "-") == (0, FINE, "")


def test_standard_input_can_be_checked(capsys, monkeypatch):
    stdin(monkeypatch, UGLY.encode())
    out = "would reformat <stdin>\n1 file would be reformatted, 0 left unchanged\n"
    assert hw_fmt(capsys, "--check", "-") == (1, out, "")
    stdin(monkeypatch, UGLY.encode())
    assert hw_fmt(capsys, "--diff", "-")[1].startswith("--- <stdin>\n+++ <stdin>\n")


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [(b"role r {", "HW004", "1:8"), (b"\xef\xbb\xbf# \xe9", "HW009", "1:3"), (b"# \xc3\xa9\n\n  \xff", "HW009", "3:3")],
)
def test_standard_input_with_a_slip(capsys, monkeypatch, data, code, place):
    stdin(monkeypatch, data)
    exit_code, out, err = hw_fmt(capsys, "-")
    assert (exit_code, out) == (2, "")
    assert f"error[{code}]" in err
    assert f"--> <stdin>:{place}" in err


def test_standard_input_stands_alone(capsys, files):
    code, out, err = hw_fmt(capsys, "-", files[0])
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_program_is_printed_as_utf8_whatever_the_terminal_says():
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "hwlang.cli", "fmt", "-"]
    done = subprocess.run(argv, input='role r{begin"é中"}'.encode(), capture_output=True, env=env, cwd=ROOT)
    assert (done.returncode, done.stdout.decode()) == (0, 'role r { begin "é中" }\n')


@pytest.mark.parametrize("name", ["missing.hw", "folder"])
def test_what_is_no_file(capsys, tmp_path, name):
    (tmp_path / "folder").mkdir()
    code, out, err = hw_fmt(capsys, tmp_path / name)
    assert (code, out) == (2, "0 files reformatted, 0 left unchanged, 1 with errors\n")
    assert err.startswith("error[HW401]")


def test_permissions_and_links_stay(capsys, files):
    ugly, _, _ = files
    ugly.chmod(0o640)
    link = ugly.with_name("link.hw")
    link.symlink_to(ugly)
    assert hw_fmt(capsys, link)[0] == 0
    assert link.is_symlink()
    assert (ugly.read_text(), ugly.stat().st_mode & 0o777) == (FINE, 0o640)


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_file_that_cannot_be_replaced_is_as_it_was(capsys, files, monkeypatch, step):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ugly, fine, wrong = files
    monkeypatch.setattr(fmt.os, step, full)
    code, out, err = hw_fmt(capsys, ugly)
    assert (code, err) == (2, f"error: cannot write `{ugly}`: no space left on device\n")
    assert out == "0 files reformatted, 0 left unchanged, 1 with errors\n"
    assert ugly.read_text() == UGLY
    assert sorted(ugly.parent.iterdir()) == sorted([ugly, fine, wrong])


def test_a_file_that_may_not_be_written_is_left_alone(capsys, files, monkeypatch):
    monkeypatch.setattr(fmt.os, "access", lambda *_: False)  # whoever runs the tests may be allowed to write all
    code, _, err = hw_fmt(capsys, files[0])
    assert (code, err) == (2, f"error: cannot write `{files[0]}`: it is not a file that may be written\n")
    assert files[0].read_text() == UGLY


def test_a_bug_of_the_formatter_is_told_and_changes_nothing(capsys, files, monkeypatch):
    monkeypatch.setattr(formatter, "rendered", lambda lines: ["role s {}"])
    code, _, err = hw_fmt(capsys, files[0])
    assert code == 2
    assert err.startswith(f"error: `{files[0]}` is left as it is, for a bug in `hw fmt`: ")
    assert files[0].read_text() == UGLY


def test_a_slip_in_a_string_is_a_slip():
    with pytest.raises(CompileError):
        fmt_text(r'role r { begin "\q" }')


def test_fmt_needs_neither_torch_nor_rich():
    code = "import sys; from hwlang.cli import main; main(['fmt', '--check', *sys.argv[1:]]); "
    code += "print([name for name in ('torch', 'rich', 'hwruntime') if name in sys.modules])"
    argv = [sys.executable, "-c", code, str(DESIGN)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.endswith("\n[]\n")
