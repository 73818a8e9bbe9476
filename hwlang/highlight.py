"""Colours: a Pygments lexer for `.hw` programs (`hw`, in documents and notebooks), and source lines for terminals.

Pygments takes a moment to import: import this module only where colours are wanted.
"""

from functools import cache
from typing import ClassVar

from pygments import highlight
from pygments.formatters.terminal import TerminalFormatter
from pygments.lexer import RegexLexer, bygroups, include, words
from pygments.token import Comment, Keyword, Name, Number, Punctuation, String, Whitespace

from hwlang.keywords import WORDS

ACTIONS = ("say", "ask", "post", "move", "clear", "pause", "resume", "stop")
OWN = ("self", "others")
CONSTANTS = ("contiguous", "interleaved", "combined", "true", "false")
TYPES = ("str", "int", "float", "bool")
OPTIONS = ("temperature", "top_p", "top_k", "min_p", "seed")
ROLES = ("system", "user", "assistant")
OTHER = tuple(sorted(set(WORDS) - {*ACTIONS, *OWN, *CONSTANTS, *TYPES, *OPTIONS, *ROLES}))
NAME = r"[A-Za-z_]\w*"


class HwLexer(RegexLexer):
    """Words of the language are taken for keywords wherever they stand, but where they are declared as names."""

    name = "hw"
    aliases: ClassVar = ["hw", "hogwild"]
    filenames: ClassVar = ["*.hw"]
    mimetypes: ClassVar = ["text/x-hw"]

    tokens: ClassVar = {
        "root": [
            (r"\s+", Whitespace),
            (r"#.*", Comment.Single),
            (r'"""', String.Double, "block"),
            (r'"', String.Double, "string"),
            (r"/(?:[^/\\\n]|\\.)*/", String.Regex),
            (r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", Number),
            (rf"(program|role)(\s+)({NAME})", bygroups(Keyword, Whitespace, Name.Function)),
            (rf"(text|scratchpad|stream)(\s+)({NAME})", bygroups(Keyword, Whitespace, Name.Variable)),
            (rf"{NAME}(?=\s*:\s*(?:str|int|float|bool)\b)", Name.Variable),
            (words(OWN, r"\b", r"\b"), Name.Builtin.Pseudo),
            (words(ACTIONS, r"\b", r"\b"), Name.Builtin),
            (words(TYPES, r"\b", r"\b"), Keyword.Type),
            (words(CONSTANTS, r"\b", r"\b"), Keyword.Constant),
            (words(OPTIONS, r"\b", r"\b"), Name.Attribute),
            (words(ROLES, r"\b", r"\b"), Name.Tag),
            (words(OTHER, r"\b", r"\b"), Keyword),
            (NAME, Name),
            (r"[{}(),=:]", Punctuation),
        ],
        "holes": [
            (r"\{\{\{\{", String.Escape),
            (rf"(\{{\{{)(\s*)({NAME}|\d+)(\s*)(\}}\}})",
             bygroups(String.Interpol, Whitespace, Name.Variable, Whitespace, String.Interpol)),
            (r"\{", String.Double),
        ],
        "string": [
            (r'"', String.Double, "#pop"),
            (r"\n", Whitespace, "#pop"),
            (r"\\.", String.Escape),
            (r'[^"\\{\n]+|\\', String.Double),
            include("holes"),
        ],
        "block": [
            (r'"""', String.Double, "#pop"),
            (r'[^"{]+|"', String.Double),
            include("holes"),
        ],
    }  # fmt: skip


def coloured(line: str) -> str:
    """A line of a program with the escape codes of a terminal's colours."""
    return highlight(line, _lexer(), TerminalFormatter()).removesuffix("\n")


@cache
def _lexer() -> HwLexer:
    return HwLexer(stripnl=False)
