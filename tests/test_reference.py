"""The language reference: every example in it does what it says, and its table has every code."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from hwlang.checker import check_text
from hwlang.diagnostics.codes import MESSAGES
from hwlang.lowering import lower
from hwlang.parsing.grammar import tables
from hwruntime.program import Program

REFERENCE = files("hwgrammar").joinpath("README.md").read_text()
BLOCK = re.compile(r"^```(?P<kind>hw|hw-fails (?P<code>HW\d{3}))\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[object]:
    for found in BLOCK.finditer(REFERENCE):
        line = REFERENCE.count("\n", 0, found.start()) + 1
        yield pytest.param(found["source"], found["code"], id=f"line {line}")


@pytest.mark.parametrize(("source", "code"), list(blocks()))
def test_examples(source: str, code: str | None) -> None:
    checked = check_text(source, "reference.hw")
    if code is None:
        assert checked.diagnostics == ()
        for program in checked.programs:
            data = lower(program)
            assert Program.from_json(data).to_json() == data
    else:
        assert code in {d.code for d in checked.diagnostics}


def test_the_examples_use_every_word_of_the_language() -> None:
    sources = " ".join(found["source"] for found in BLOCK.finditer(REFERENCE))
    words = {terminal.strip("_").lower() for terminal in tables()["words"].values()}
    classes = {"chat_role", "layout_kind", "option", "type", "bool"}
    missing = {word for word in words - classes if not re.search(rf"\b{word}\b", sources)}
    assert missing <= {"import", "json"}  # these need a second file


def test_the_table_has_every_code() -> None:
    rows = dict(re.findall(r"^\| `(HW\d{3})` \| (.+) \|$", REFERENCE, re.MULTILINE))
    assert rows == {code: message.title for code, message in MESSAGES.items()}
