"""The table of codes: every code that the language gives is in it, with an example that fails with it."""

import re
from pathlib import Path

import pytest

import hwlang as hw
from hwlang.checker import check_file
from hwlang.diagnostics.codes import MESSAGES, Message

PACKAGE = Path(str(hw.__file__)).parent


def write(folder: Path, message: Message) -> Path:
    """The example's files; returns the program."""
    for name, data in message.files.items():
        (folder / name).write_bytes(data)
    path = folder / "example.hw"
    path.write_bytes(message.example.encode(message.encoding))
    return path


def fails_with(path: Path, call: str) -> tuple[hw.Diagnostic, ...]:
    """What a call finds wrong with a program."""
    if call == "check_file":
        return check_file(path).diagnostics
    with pytest.raises(hw.CompileError) as caught:
        hw.load(path)
    return caught.value.diagnostics


@pytest.mark.parametrize("code", MESSAGES)
def test_every_code_has_an_example_that_fails_with_it_alone(tmp_path: Path, code: str) -> None:
    message = MESSAGES[code]
    path = write(tmp_path, message)
    found = fails_with(path, message.call)
    assert [d.code for d in found] == [code]
    (severity,) = {d.severity for d in found}
    assert message.title.endswith("(warning)") == (severity == "warning")
    if message.call == "check_file":
        assert all("^" in d.render() for d in found)
    else:
        assert check_file(path).diagnostics == ()


def test_every_code_in_the_language_is_in_the_table() -> None:
    sources = {
        path: path.read_text() for path in PACKAGE.rglob("*.py") if path.name not in ("codes.py", "explanations.py")
    }
    used = {code for source in sources.values() for code in re.findall(r'"(HW\d{3})"', source)}
    assert {code for code in used if not code.startswith("HW5")} == set(MESSAGES)
    assert list(MESSAGES) == sorted(MESSAGES)


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ('role r { sees "a", self }', None, "has no program"),
        (MESSAGES["HW109"].example, None, "has 2 programs: say which"),
        (MESSAGES["HW109"].example, "three", "has no program `three`"),
    ],
)
def test_a_program_has_to_be_named(tmp_path: Path, source: str, name: str | None, message: str) -> None:
    (tmp_path / "p.hw").write_text(source)
    with pytest.raises(hw.CompileError, match=message) as caught:
        hw.load(tmp_path / "p.hw", name)
    assert [d.code for d in caught.value.diagnostics] == ["HW109"]
