"""The tables that are kept are those of the grammar, and without them nothing changes."""

import json

import pytest

from hwlang.parsing import grammar
from hwlang.parsing.grammar import fingerprint, made, tables


def test_the_tables_are_up_to_date() -> None:
    """If not: python -c "from hwlang import grammar; grammar.write()" """
    kept = json.loads(grammar.files("hwgrammar").joinpath(grammar.NAME).read_text())
    fresh = made()
    assert kept["made_of"] == fingerprint()
    for key in ("patterns", "words", "symbols"):
        assert kept[key] == fresh[key]  # type: ignore[literal-required]
    assert len(kept["states"]) == len(fresh["states"])
    by_name = [sorted(map(json.dumps, each["rules"])) for each in (kept, fresh)]
    assert by_name[0] == by_name[1]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"made_of": 7}', '{"made_of": "another grammar"}', "\0"])
def test_a_broken_file_does_not_matter(text: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    class Folder:
        def joinpath(self, name: str) -> "Folder":
            self.name = name
            return self

        def read_text(self, encoding: str) -> str:
            return text

        def read_bytes(self) -> bytes:
            return grammar_text

    grammar_text = grammar.files("hwgrammar").joinpath("hw.lark").read_bytes()
    monkeypatch.setattr(grammar, "files", lambda package: Folder())
    tables.cache_clear()
    try:
        assert tables()["words"]["worker"] == "_WORKER"
    finally:
        tables.cache_clear()
