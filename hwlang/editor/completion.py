"""What may be written at a place: the keywords that the grammar takes there, and names of the kind that is needed.

The text before the place is read as far as it goes, past its slips; what the parser would take next is what is offered.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lark import Token

from hwlang.editor.index import Index
from hwlang.editor.symbols import Symbol
from hwlang.keywords import HOLES, about
from hwlang.parsing import lexer
from hwlang.parsing.lalr import Stack
from hwlang.parsing.lexer import END, lexicon
from hwlang.parsing.recovery import MAX_REPAIRS, Recovery

STRINGS = frozenset({"STRING", "TEXT_BLOCK", lexer.UNCLOSED_STRING, lexer.UNCLOSED_BLOCK})
REGEXES = frozenset({"REGEX", lexer.UNCLOSED_REGEX, lexer.FOREIGN_STRING, lexer.FOREIGN_COMMENT})
OPEN_HOLE = re.compile(r"(?<!\{)(?:\{\{\{\{)*\{\{\s*(\w*)$")
PATHS = frozenset({"_IMPORT", "_FILE", "_JSON"})
MAX_PATHS = 200
INT = re.compile(r":\s*int\b")

# Which names are wanted after a keyword, up to the next one.
WANTED: dict[str, frozenset[str]] = {
    "_SEES": frozenset({"scratchpad", "stream", "worker", "text", "parameter"}),
    "_TO": frozenset({"scratchpad"}),
    "_CLEAR": frozenset({"scratchpad"}),
    "_PAUSE": frozenset({"worker"}),
    "_RESUME": frozenset({"worker"}),
    "_STOP": frozenset({"worker"}),
    "_ANSWER": frozenset({"scratchpad", "worker"}),
    "_ON": frozenset({"stream"}),
    "_OR": frozenset({"stream"}),
    "_WORKERS": frozenset({"parameter"}),
    "_IS": frozenset({"role"}),
    "_TEST": frozenset({"program"}),
    "_GIVEN": frozenset({"parameter"}),
    "_SAYS": frozenset({"worker"}),
    "_FEED": frozenset({"stream"}),
    "_EXPECT": frozenset({"scratchpad", "worker"}),
}
OUTCOMES = {"answer": "the run's answer", "reason": "why the run ended"}  # of a test, beside names
BESIDE_NAMES = frozenset({"NAME", "COMMA", "STRING", "TEXT_BLOCK", "CHAT_ROLE", "SELF", "OTHERS", "_IN", "_CONTEXT"})


@dataclass(frozen=True)
class Completion:
    """Something that may be written. `kind` is that of a name, `keyword`, `hole` or `file`."""

    label: str
    kind: str
    detail: str = ""
    about: str | None = None


class Prefix(Recovery):
    """Reads the tokens before a place, and no further."""

    def run_on(self) -> Stack | None:
        """The parser's stack at the place; None where there are too many slips before it."""
        at = 0
        while at < len(self.tokens) - 1:
            if self._shift(self.tokens[at], at):
                at += 1
            elif self._repairs >= MAX_REPAIRS:
                return None
            else:
                at = self._repair(at)
        return self.stack


def complete(index: Index, offset: int) -> list[Completion]:
    """What may be written at an offset, or instead of the word that ends there."""
    text = index.source.text
    try:
        tokens = lexer.tokens(text[:offset])[:-1]
    except lexer.TooManyTokens:
        return []
    last = tokens[-1] if tokens else None
    if last is None or last.end_pos != offset:
        return [] if commented(text, last, offset) else at_token(index, tokens, offset)
    if last.type in STRINGS and not ended(last):
        return in_string(index, tokens, offset)
    if last.type in REGEXES or last.type == "NUMBER":
        return []
    return at_token(index, tokens[:-1] if last.type == "NAME" else tokens, offset)


def commented(text: str, last: Token | None, offset: int) -> bool:
    """Whether a place behind a token is in a comment."""
    start = max(text.rfind("\n", 0, offset) + 1, (last.end_pos or 0) if last else 0)
    return "#" in text[start:offset]


def ended(token: Token) -> bool:
    """Whether a token that ends at a place is a string that is closed there."""
    return token.type in ("STRING", "TEXT_BLOCK")


# --- Words -----------------------------------------------------------------------------------------------------------


def at_token(index: Index, tokens: list[Token], offset: int) -> list[Completion]:
    end = Token(END, "", offset, 1, 1, 1, 1, offset) if not tokens else Token.new_borrow_pos(END, "", tokens[-1])
    prefix = Prefix(index.source, [*tokens, end])
    stack = prefix.run_on()
    if stack is None:
        return []
    accepts = prefix.table.accepts(stack)
    found = [word for terminal in sorted(accepts) for word in lexicon().spellings(terminal)]
    names = list(names_for(index, [each.token for each in prefix.read], offset)) if "NAME" in accepts else []
    offered = [*map(as_completion, names)]
    if prefix.read and prefix.read[-1].token.type == "_EXPECT":
        offered += [Completion(name, "hole", what) for name, what in OUTCOMES.items()]
    return [*offered, *(Completion(word, "keyword", about=about(word)) for word in sorted(found))]


def names_for(index: Index, before: list[Token], offset: int) -> Iterator[Symbol]:
    """The names of the kind that is wanted behind these tokens; none where a name is declared."""
    head = next((token.type for token in reversed(before) if token.type not in BESIDE_NAMES), "")
    if head in ("_WORKERS", "_IS", "_ON") and before[-1].type == "COMMA":
        return
    if head == "_OF" and len(before) > 2 and before[-3].type == "_EXPECT":
        head = "_SAYS"
    wanted = WANTED.get(head, frozenset())
    whole_file = {"_IS": index.names.roles, "_TEST": index.names.programs}
    visible: Iterable[Symbol] = whole_file.get(head) or index.visible(offset)
    for symbol in visible:
        if symbol.kind in wanted and (head != "_WORKERS" or INT.search(symbol.whole.text)):
            yield symbol


def as_completion(symbol: Symbol) -> Completion:
    return Completion(symbol.name, symbol.kind, f"{symbol.kind} in {symbol.inside}" if symbol.inside else symbol.kind)


# --- Strings ---------------------------------------------------------------------------------------------------------


def in_string(index: Index, tokens: list[Token], offset: int) -> list[Completion]:
    token = tokens[-1]
    if len(tokens) > 1 and lexicon().words.get(tokens[-2]) in PATHS:
        return paths(index, str(token).lstrip('"'), tokens[-2] == "import")
    if not OPEN_HOLE.search(token):
        return []
    names = [symbol for symbol in index.visible(offset) if symbol.kind in ("parameter", "text")]
    return [*map(as_completion, names), *(Completion(name, "hole", what) for name, what in HOLES.items())]


def paths(index: Index, begun: str, programs: bool) -> list[Completion]:
    """The files that may be named here: those below the file's folder."""
    root = index.source.folder
    if root is None:
        return []
    folder = (root / begun).resolve() if begun.endswith("/") or not begun else (root / begun).resolve().parent
    if not folder.is_relative_to(root.resolve()) or not folder.is_dir():
        return []
    return [Completion(shown(each), "file") for each in sorted(folder.iterdir())[:MAX_PATHS] if offered(each, programs)]


def offered(path: Path, programs: bool) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or not programs or path.suffix == ".hw")


def shown(path: Path) -> str:
    return path.name + "/" if path.is_dir() else path.name
