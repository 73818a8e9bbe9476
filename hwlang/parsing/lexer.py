"""Text -> tokens, in one pass and without errors: what is no token of the language is a token of its own kind.

The patterns are those of the grammar. A word is a keyword where the grammar has a place for one, so every word is a
`NAME` here and the parser, which knows the place, says what it is (`Lexicon.kind`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from lark import Token

from hwlang.parsing.grammar import tables

MAX_TOKENS = 30_000  # of a file; its holes, its escapes and what is in its regexes count too

# What is no token of the language, in the order in which it is looked for (after the language's own tokens).
UNCLOSED_BLOCK, UNCLOSED_STRING, UNCLOSED_REGEX = "UNCLOSED_BLOCK", "UNCLOSED_STRING", "UNCLOSED_REGEX"
FOREIGN_COMMENT, FOREIGN_STRING, FOREIGN_WORD, STRAY = "FOREIGN_COMMENT", "FOREIGN_STRING", "FOREIGN_WORD", "STRAY"
END = "$END"
STRAYS = {
    UNCLOSED_BLOCK: r'"""[\s\S]*',
    UNCLOSED_STRING: r'"[^\n]*',
    FOREIGN_COMMENT: r"/\*[\s\S]*?\*/",
    UNCLOSED_REGEX: r"/[^\n]*",
    FOREIGN_STRING: r"'(?:[^'\\\n]|\\.)*'|`[^`\n]*`|[“”„«][^“”»\"\n]*[“”»\"]|‘[^’\n]*’",
    FOREIGN_WORD: r"[^\W\d_]\w*",
    STRAY: r"[^\s\w\"#/{}(),:='`“”„«‘]+|[\s\S]",
}


class TooManyTokens(Exception):
    """The text has more tokens than a program may have; where that many are reached."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(frozen=True)
class Lexicon:
    """The tokens of the language. `words` are the keywords, each with its terminal."""

    pattern: re.Pattern[str]
    words: Mapping[str, str]
    symbols: Mapping[str, str]

    def kind(self, token: Token, accepted: Mapping[str, object]) -> str:
        """What a token is where these terminals could come: a word is a keyword if that is one of them."""
        if token.type != "NAME":
            return token.type
        keyword = self.words.get(token)
        return keyword if keyword is not None and (keyword in accepted or "NAME" not in accepted) else "NAME"

    def spellings(self, terminal: str) -> list[str]:
        """The words of a keyword terminal."""
        return [word for word, kind in self.words.items() if kind == terminal]


@cache
def lexicon() -> Lexicon:
    made = tables()
    words, symbols, patterns = made["words"], made["symbols"], made["patterns"]
    order = ["NAME", "TEXT_BLOCK", "STRING", "NUMBER", "REGEX"]
    assert {*order, "SPACE", "COMMENT"} == set(patterns), patterns
    kinds = [("SPACE", f"{patterns['SPACE']}|{patterns['COMMENT']}"), *((name, patterns[name]) for name in order)]
    kinds += [(name, re.escape(symbol)) for symbol, name in symbols.items()] + list(STRAYS.items())
    return Lexicon(re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in kinds)), words, symbols)


def tokens(text: str, most: int = MAX_TOKENS) -> list[Token]:
    """The tokens of a text, with an end token last. Raises `TooManyTokens`."""
    found: list[Token] = []
    line, line_start, weight = 1, 0, 0
    for match in lexicon().pattern.finditer(text):
        kind, value, start = match.lastgroup or "", match[0], match.start()
        if kind == "SPACE":
            if "\n" in value:
                line += value.count("\n")
                line_start = start + value.rindex("\n") + 1
            continue
        first, column, end = line, start - line_start + 1, match.end()
        if "\n" in value:
            line += value.count("\n")
            line_start = start + value.rindex("\n") + 1
        found.append(Token(kind, value, start, first, column, line, end - line_start + 1, end))
        weight += 1 if kind in LIGHT else weight_of(kind, value)
        if weight > most:
            raise TooManyTokens(start)
    last = found[-1] if found else Token(END, "", 0, 1, 1, 1, 1, 0)
    at, end_line, end_column = last.end_pos, last.end_line, last.end_column
    return [*found, Token(END, "", at, end_line, end_column, end_line, end_column, at)]


WIDE = 200  # a range of characters beyond ASCII takes `re` as long as so many tokens
WIDE_RANGE = re.compile(r"-(?:[^\x00-\x7f]|\\[xuUN0-7])")
LIGHT = frozenset({"NAME", "NUMBER", "LBRACE", "RBRACE", "COMMA"})


def weight_of(kind: str, value: str) -> int:
    """How many tokens a token counts as: by what it takes to read it."""
    if kind == "REGEX":
        return 1 + len(value) // 4 + WIDE * len(WIDE_RANGE.findall(value))
    return 1 + value.count("{{") + (value.count("\\") if kind == "STRING" else 0)
