"""Tokens: every text has them, with their places, and they are the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwlang.parsing import lexer
from hwlang.parsing.lexer import TooManyTokens, lexicon, tokens


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", [lexer.END]),
        ("worker Ann {", ["NAME", "NAME", "LBRACE", lexer.END]),
        ('"a" """b""" /c/ -1.5e3', ["STRING", "TEXT_BLOCK", "REGEX", "NUMBER", lexer.END]),
        ("# all of it", [lexer.END]),
        ('"a', [lexer.UNCLOSED_STRING, lexer.END]),
        ('"""a', [lexer.UNCLOSED_BLOCK, lexer.END]),
        ("/a", [lexer.UNCLOSED_REGEX, lexer.END]),
        ("/*\na */", [lexer.FOREIGN_COMMENT, lexer.END]),
        ("'a' “b” `c`", [lexer.FOREIGN_STRING] * 3 + [lexer.END]),
        ("é漢", [lexer.FOREIGN_WORD, lexer.END]),
        ("§§ ;", [lexer.STRAY, lexer.STRAY, lexer.END]),
    ],
)
def test_kinds(text: str, want: list[str]) -> None:
    assert [token.type for token in tokens(text)] == want


@given(st.text(alphabet="ab1 \n\"'/{}#§é\0\t\\*-`", max_size=60))
def test_tokens_are_the_text_at_their_places(text: str) -> None:
    lines = text.split("\n")
    end = 0
    for token in tokens(text):
        assert token.start_pos is not None
        assert token.line is not None
        assert token.column is not None
        between = text[end : token.start_pos]
        assert not between.strip() or "#" in between
        assert text[token.start_pos : token.end_pos] == token
        assert lines[token.line - 1][token.column - 1 :].startswith(token.split("\n")[0])
        end = token.end_pos or 0


def test_a_word_is_a_keyword_where_one_can_be() -> None:
    (step, _) = tokens("step")
    assert lexicon().kind(step, {"_STEP": 1, "NAME": 1}) == "_STEP"
    assert lexicon().kind(step, {"NAME": 1}) == "NAME"
    assert lexicon().kind(step, {"LBRACE": 1}) == "_STEP"


@pytest.mark.parametrize(
    "text", ["a " * 31_000, '"' + "{{a}}" * 31_000 + '"', '"' + "\\n" * 31_000 + '"', "/a{9}/ " * 16_000]
)
def test_too_many_tokens(text: str) -> None:
    with pytest.raises(TooManyTokens):
        tokens(text)
