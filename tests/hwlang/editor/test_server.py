"""`hw lsp` over stdio: a client goes through what an editor asks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls")

from tests.hwlang.lsp_client import Client, Refused, span

MAIN = """\
import "roles.hw"
program p(topic: str, n: int = 2) {
  text rules = file "rules.md"
  scratchpad board
  worker Ann is solver { begin "😀 {{topic}} 漢 {{rules}}" on step { post "{{topic}}" to board } }
  worker Ben { sees "Go {{n}}.", board, Ann, self on start { pause Ann resume Ann } }
  answer board
}
"""
ROLES = 'role solver { sees "Work.", board, self step until "." }\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("editor")
    (made / "roles.hw").write_text(ROLES)
    (made / "rules.md").write_text("Be brief.")
    return made


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with Client(folder) as made:
        assert made.capabilities["positionEncoding"] == "utf-16"
        assert made.open("main.hw", MAIN) == []
        yield made


def at_text(client: Client, text: str, after: str = "", **more: object) -> dict[str, Any]:
    """A place in the main document: in this text, behind the other."""
    offset = MAIN.index(text, MAIN.index(after)) + 1
    line = MAIN.count("\n", 0, offset)
    before = MAIN[MAIN.rfind("\n", 0, offset) + 1 : offset]
    return client.at("main.hw", line, len(before.encode("utf-16-le")) // 2, **more)


# --- Diagnostics and fixes -------------------------------------------------------------------------------------------


def test_diagnostics_are_told_as_a_program_is_typed_and_can_be_fixed(client: Client) -> None:
    assert client.open("typed.hw", "program p {\n") != []
    text = 'program p {\n  scratchpad 漢\n  worker Ann { sees "😀", bord, self\n  on "x" { post "x" to board } }\n'
    client.change("typed.hw", 2, text + "  worker Ann {}\n  scratchpad board\n}\n")
    found = client.diagnostics("typed.hw", 2)
    (typo,) = [each for each in found if each["code"] == "HW101"]
    assert typo["range"] == span(2, 26, 30)
    assert typo["severity"] == 1
    assert typo["source"] == "hw"
    assert "did you mean `board`" in typo["message"]
    assert "static-checks" in typo["codeDescription"]["href"]
    (twice,) = [each for each in found if each["code"] == "HW202"]
    (label,) = twice["relatedInformation"]
    assert label["location"] == {"uri": client.uri("typed.hw"), "range": span(2, 9, 12)}
    context = {"diagnostics": [typo]}
    params = {"textDocument": {"uri": client.uri("typed.hw")}, "range": typo["range"], "context": context}
    (action,) = client.ask("textDocument/codeAction", params)
    assert action["title"] == "did you mean `board`"
    assert action["edit"]["changes"][client.uri("typed.hw")] == [{"range": span(2, 26, 30), "newText": "board"}]
    assert action["diagnostics"][0]["code"] == "HW101"


def test_warnings_and_closing(client: Client) -> None:
    (unused,) = client.open("unused.hw", 'program p(n: int = 1) {\n  worker Ann { sees "Go.", self }\n}\n')
    assert (unused["code"], unused["severity"], unused["tags"]) == ("HW105", 2, [1])
    client.tell("textDocument/didClose", {"textDocument": {"uri": client.uri("unused.hw")}})
    assert client.diagnostics("unused.hw", None) == []


def test_a_saved_file_changes_what_imports_it(client: Client, folder: Path) -> None:
    text = 'import "late.hw"\nprogram p { worker Ann is late }\n'
    assert [each["code"] for each in client.open("early.hw", text)] == ["HW401"]
    (folder / "late.hw").write_text('role late { sees "Go.", sefl }')
    client.save("late.hw")
    found = client.diagnostics("early.hw", 1)
    assert {each["range"]["start"]["line"] for each in found} == {0}
    assert found[0]["relatedInformation"][0]["location"]["uri"] == client.uri("late.hw")
    (folder / "late.hw").write_text('role late { sees "Go.", self }')
    client.save("late.hw")
    assert client.diagnostics("early.hw", 1) == []


# --- Names -----------------------------------------------------------------------------------------------------------


def test_hover_says_what_a_name_a_word_and_a_code_are(client: Client) -> None:
    said = client.ask("textDocument/hover", at_text(client, "board", "to "))
    assert "scratchpad board" in said["contents"]["value"]
    assert "of program p" in said["contents"]["value"]
    said = client.ask("textDocument/hover", at_text(client, "topic", "begin"))
    assert "topic: str" in said["contents"]["value"]
    assert said["range"] == span(4, 37, 42)
    said = client.ask("textDocument/hover", at_text(client, "resume"))
    assert "A paused worker goes on." in said["contents"]["value"]
    client.open("code.hw", "program p {\n}\n")
    said = client.ask("textDocument/hover", client.at("code.hw", 0, 8))
    assert "hw explain HW208" in said["contents"]["value"]
    assert client.ask("textDocument/hover", client.at("code.hw", 2, 0)) is None


def test_definitions_are_in_this_file_and_in_those_that_it_names(client: Client) -> None:
    (place,) = client.ask("textDocument/definition", at_text(client, "topic", "begin"))
    assert place == {"uri": client.uri("main.hw"), "range": span(1, 10, 15)}
    (place,) = client.ask("textDocument/definition", at_text(client, "solver"))
    assert place == {"uri": client.uri("roles.hw"), "range": span(0, 5, 11)}
    for name in ("roles.hw", "rules.md"):
        (place,) = client.ask("textDocument/definition", at_text(client, name))
        assert place["uri"] == client.uri(name)
    assert client.ask("textDocument/definition", at_text(client, "start")) in ([], None)


def test_references_and_highlights(client: Client) -> None:
    params = at_text(client, "Ann", context={"includeDeclaration": True})
    lines = [each["range"]["start"]["line"] for each in client.ask("textDocument/references", params)]
    assert lines == [4, 5, 5, 5]
    params = at_text(client, "board", context={"includeDeclaration": False})
    found = client.ask("textDocument/references", params)
    assert [each["uri"].rpartition("/")[2] for each in found] == ["main.hw"] * 3 + ["roles.hw"]
    found = client.ask("textDocument/documentHighlight", at_text(client, "topic"))
    assert [each["range"] for each in found] == [span(1, 10, 15), span(4, 37, 42), span(4, 76, 81)]


def test_rename_changes_every_use_also_in_holes(client: Client) -> None:
    assert client.ask("textDocument/prepareRename", at_text(client, "topic")) == span(1, 10, 15)
    edit = client.ask("textDocument/rename", at_text(client, "topic", "begin", newName="theme"))
    edits = edit["changes"][client.uri("main.hw")]
    assert [each["range"] for each in edits] == [span(1, 10, 15), span(4, 37, 42), span(4, 76, 81)]
    assert {each["newText"] for each in edits} == {"theme"}


@pytest.mark.parametrize(
    ("text", "new", "reason"),
    [
        ("topic", "board", "`board` is the name of"),
        ("topic", "self", "meaning of its own"),
        ("topic", "two words", "is not a name"),
        ("Ann", "Ben", "two workers `Ben`"),
        ("board", "wall", "is written in"),
        ("solver", "other", "is written in"),
        ("start", "begin", "no name here"),
    ],
)
def test_rename_is_refused_where_it_would_clash_or_reach_another_file(
    client: Client, text: str, new: str, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        client.ask("textDocument/rename", at_text(client, text, newName=new))


def test_a_role_that_another_file_uses_keeps_its_name(client: Client) -> None:
    client.open("roles.hw", ROLES)
    (client.folder / "main.hw").write_text(MAIN)
    with pytest.raises(Refused, match=r"is used in `.*main\.hw`, too"):
        client.ask("textDocument/rename", client.at("roles.hw", 0, 6, newName="helper"))
    (client.folder / "main.hw").unlink()
    assert client.ask("textDocument/rename", client.at("roles.hw", 0, 6, newName="helper"))


# --- Completion ------------------------------------------------------------------------------------------------------


def labels(client: Client, name: str, text: str) -> list[str]:
    """What is offered at `|`."""
    before, _, after = text.partition("|")
    line, character = before.count("\n"), len(before[before.rfind("\n") + 1 :].encode("utf-16-le")) // 2
    client.open(name, before + after)
    return [each["label"] for each in client.ask("textDocument/completion", client.at(name, line, character))]


def test_completion_offers_names_of_the_right_kind_and_words_that_fit(client: Client) -> None:
    start = "program p(topic: str) {\n  scratchpad board\n  stream news\n"
    start += '  worker Ann { sees "😀", self }\n  worker Ben {\n    '
    assert labels(client, "c1.hw", start + "on start { pause |") == ["Ann", "Ben", "self"]
    assert labels(client, "c2.hw", start + 'on start { post "x" to |') == ["board"]
    assert labels(client, "c3.hw", start + "on |")[0] == "news"
    assert labels(client, "c4.hw", start + 'sees "{{|')[:1] == ["topic"]
    assert {"board", "Ann", "others", "user"} <= set(labels(client, "c5.hw", start + "sees |"))
    assert "resume" in labels(client, "c6.hw", start + "on start { re| } }\n}\n")
    assert labels(client, "c7.hw", start + 'sees "a|') == []
    assert "rules.md" in labels(client, "c8.hw", start[: start.index("worker")] + 'text a = file "|')


# --- Documents -------------------------------------------------------------------------------------------------------


def test_outline(client: Client) -> None:
    (program,) = client.ask("textDocument/documentSymbol", {"textDocument": {"uri": client.uri("main.hw")}})
    assert program["name"] == "p"
    assert [each["name"] for each in program["children"]] == ["topic", "n", "rules", "board", "Ann", "Ben"]


def test_formatting(client: Client) -> None:
    client.open("f.hw", 'program p { worker Ann {\nsees "😀",self } }')
    options = {"tabSize": 2, "insertSpaces": True}
    params = {"textDocument": {"uri": client.uri("f.hw")}, "options": options}
    (edit,) = client.ask("textDocument/formatting", params)
    assert edit["newText"] == 'program p {\n  worker Ann {\n    sees "😀", self\n  }\n}\n'
    assert edit["range"] == {"start": {"line": 0, "character": 0}, "end": {"line": 1, "character": 18}}
    client.open("g.hw", "program p {")
    assert not client.ask("textDocument/formatting", params | {"textDocument": {"uri": client.uri("g.hw")}})


def test_links_and_semantic_tokens(client: Client) -> None:
    document = {"textDocument": {"uri": client.uri("main.hw")}}
    links = client.ask("textDocument/documentLink", document)
    assert [each["target"].rpartition("/")[2] for each in links] == ["roles.hw", "rules.md"]
    data = client.ask("textDocument/semanticTokens/full", document)["data"]
    assert data[:5] == [0, 0, 6, 7, 0]  # `import`, a keyword
    assert data[10:20] == [1, 0, 7, 7, 0, 0, 8, 1, 0, True]  # `program p`
    assert len(data) % 5 == 0


def test_other_encodings_and_a_text_that_is_no_file(folder: Path) -> None:
    with Client(folder, ["utf-8"]) as client:
        assert client.capabilities["positionEncoding"] == "utf-8"
        (typo,) = client.open("x.hw", 'program p { worker Ann { sees "漢😀", slf } }')
        assert typo["range"] == span(0, 41, 44)
        uri = "untitled:Untitled-1"
        document = {"uri": uri, "languageId": "hw", "version": 1, "text": 'import "roles.hw"\n'}
        client.tell("textDocument/didOpen", {"textDocument": document})
        params = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 1}}
        assert "Brings in" in client.ask("textDocument/hover", params)["contents"]["value"]
