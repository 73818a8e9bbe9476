"""Files: what a program may read, where it looks for it, and what is said of files that cannot be had."""

import os
from pathlib import Path

import pytest

from hwlang.checker import LEAST, MAX_IMPORTS, check_file
from hwlang.parsing.lexer import MAX_TOKENS
from tests.hwlang.programs import in_program, in_worker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program's folder, with a file above it."""
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "secret.hw").write_text('role r { sees "a", self }')
    (tmp_path / "p").mkdir()
    return tmp_path / "p"


def check_in(folder: Path, source: str) -> list[str]:
    (folder / "main.hw").write_text(source)
    return [d.code for d in check_file(folder / "main.hw").diagnostics]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("ok.md", None),
        ("sub/../ok.md", None),
        ("missing.md", "HW401"),
        ("sub", "HW401"),
        (".", "HW401"),
        ("ok.md/x", "HW401"),
        ("long" * 999, "HW401"),
        ("nul\\u0000", "HW401"),
        ("loop", "HW401"),
        ("", "HW402"),
        ("../secret.md", "HW402"),
        ("sub/../../secret.md", "HW402"),
        ("link.md", "HW402"),
        ("linked/secret.md", "HW402"),
        ("/etc/hostname", "HW402"),
        ("latin.md", "HW403"),
    ],
)
def test_included_files(folder: Path, path: str, code: str | None) -> None:
    (folder / "sub").mkdir()
    (folder / "ok.md").write_text("fine")
    (folder / "latin.md").write_bytes(b"caf\xe9")
    os.symlink(folder.parent / "secret.md", folder / "link.md")
    os.symlink(folder.parent, folder / "linked")
    os.symlink("loop", folder / "loop")
    assert check_in(folder, in_program(f'text a = file "{path}"', "topic, a, self")) == ([code] if code else [])


@pytest.mark.parametrize(
    ("schema", "code"),
    [('{"type": "object"}', None), ("true", None), ("[1]", "HW404"), ("{", "HW404"), ("[" * 100_000, "HW404")],
)
def test_schemas(folder: Path, schema: str, code: str | None) -> None:
    (folder / "s.json").write_text(schema)
    assert check_in(folder, in_worker('    json "s.json"')) == ([code] if code else [])


def test_imports(folder: Path) -> None:
    worker = "program p { worker A is r }"
    (folder / "roles.hw").write_text('role r { sees "a", self }')
    (folder / "twice.hw").write_text('import "roles.hw"')
    assert check_in(folder, f'import "roles.hw"\n{worker}') == []
    assert check_in(folder, f'import "twice.hw"\nimport "roles.hw"\n{worker}') == ["HW105"]
    assert check_in(folder, f'import "missing.hw"\n{worker}') == ["HW401"]
    assert check_in(folder, f'import "../secret.hw"\n{worker}') == ["HW402"]
    assert check_in(folder, f'import "main.hw"\n{worker}') == ["HW405"]
    assert check_in(folder, f'import "roles.hw"\nrole r {{ sees "b", self }}\n{worker}') == ["HW102"]


def test_problems_of_an_imported_file_are_shown_in_that_file(folder: Path) -> None:
    (folder / "roles.hw").write_text('role r {\n  sees "{{nope}}", self max 0 tokens }')
    (folder / "main.hw").write_text('import "roles.hw"\nprogram p { worker A is r }')
    found = check_file(folder / "main.hw").diagnostics
    assert {(d.code, Path(d.file).name, d.span.line) for d in found} == {
        ("HW406", "roles.hw", 2),
        ("HW107", "roles.hw", 2),
    }
    assert all('sees "{{nope}}"' in d.render() for d in found)


def test_a_syntax_error_in_an_imported_file_is_the_only_problem(folder: Path) -> None:
    (folder / "roles.hw").write_text("role r {")
    assert check_in(folder, 'import "roles.hw"\nprogram p { worker A is r }') == ["HW004"]


def test_imports_in_a_circle_and_in_a_long_row(folder: Path) -> None:
    (folder / "a.hw").write_text('import "b.hw"')
    (folder / "b.hw").write_text('import "a.hw"')
    assert check_in(folder, 'import "a.hw"') == ["HW405"]
    for i in range(MAX_IMPORTS + 9):
        (folder / f"i{i}.hw").write_text(f'import "i{i + 1}.hw"')
    assert check_in(folder, 'import "i0.hw"') == ["HW405"]


def test_very_many_imports_are_too_many(folder: Path) -> None:
    count = MAX_TOKENS // LEAST + 9
    for number in range(count):
        (folder / f"r{number}.hw").write_text(f'role r{number} {{ sees "a", self }}')
    imports = "\n".join(f'import "r{number}.hw"' for number in range(count))
    assert check_in(folder, f"{imports}\nprogram p {{ worker A is r0 }}") == ["HW011"]


def test_a_file_that_is_not_there() -> None:
    (found,) = check_file("no/such/file.hw").diagnostics
    assert found.code == "HW401"
    assert (
        found.render()
        == "error[HW401]: cannot read `no/such/file.hw`: no such file or directory\n  --> no/such/file.hw"
    )
