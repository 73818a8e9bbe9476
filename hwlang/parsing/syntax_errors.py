"""What is said of a slip in the syntax: one diagnostic for each repair."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lark import Token

from hwlang.diagnostics import Diagnostic, Label, Source, Span, quoted
from hwlang.parsing import lexer
from hwlang.parsing.expected import alike, spelled, wanted
from hwlang.parsing.lexer import END
from hwlang.parsing.repairs import BLANKS, SYMBOLS, Repair, Slip, twice

QUOTES = 'strings are written with straight quotes: `"`'
COMMENTS = "comments begin with `#` and end with their line"


class Read(Protocol):
    """A token that was read before the slip."""

    @property
    def token(self) -> Token: ...
    @property
    def index(self) -> int | None: ...


@dataclass(frozen=True)
class Teller:
    """Says what is wrong at a slip. `read` are the tokens before it."""

    source: Source
    slip: Slip
    repair: Repair
    read: Sequence[Read]

    def diagnostic(self) -> Diagnostic | None:
        """What is wrong; None where it was said when an earlier slip was repaired."""
        token, repair = self.slip.token, self.repair
        if repair.kind == "insert" and repair.start < self.slip.at and repair.tokens[0].type == "LBRACE":
            return self._earlier_brace()
        if token.type in (lexer.UNCLOSED_STRING, lexer.UNCLOSED_REGEX, lexer.UNCLOSED_BLOCK) and repair.kind == "close":
            return self._unclosed(token)
        if repair.kind == "comment":
            return self._comment(token)
        if token.type in (lexer.STRAY, lexer.FOREIGN_STRING, lexer.FOREIGN_WORD):
            return self._stray(token)
        if repair.kind == "insert" and {each.type for each in repair.tokens} == {"RBRACE"}:
            return self._open_brace()
        if repair.kind in ("respell", "join", "swap") and repair.start < self.slip.at:
            return self._earlier_word()
        if repair.kind == "back" or (repair.kind == "replace" and repair.start < self.slip.at):
            return self._earlier_symbol()
        if repair.kind == "insert" and repair.start < self.slip.at:
            return self._earlier_gap()
        if token.type == END:
            return self._end()
        if token.type == "RBRACE" and self.open_brace() is None:
            return Diagnostic("HW001", "this `}` closes nothing", self.span(token), "remove it")
        return self._unexpected(token)

    # Tokens that may not come

    def _unexpected(self, token: Token) -> Diagnostic:
        made = self.repair.tokens
        if self.repair.kind == "insert" and len(made) == 1 and made[0].type in SYMBOLS:
            return self._missing_symbol(token, made[0])
        last = self.read[-1].token if self.read else None
        if self.repair.kind == "drop" and last is not None and (last, last.type) == (token, token.type):
            return self._twice(token)
        wanted = self._wanted()
        after = "" if self.repair.kind == "respell" and wanted.startswith("a") else self._after()
        message = f"expected {wanted}{after}, found {quoted(token)}"
        return Diagnostic("HW001", message, self._place(token), self._help(token))

    def _twice(self, token: Token) -> Diagnostic:
        return Diagnostic("HW001", f"{quoted(token)} is written twice", self.span(token), "remove one of them")

    def _place(self, token: Token) -> Span:
        """Where a token is missing or does not fit. What is missing at the end of a line is missing there."""
        last = self.read[-1].token if self.read else None
        missing = self.repair.kind == "insert" and (not self.repair.lost or self.repair.tokens[0].type in BLANKS)
        if not missing or last is None or not last.end_line or last.end_line == token.line:
            return self.span(token)
        column = last.end_column or 1
        return Span(last.end_line, column, last.end_line, column + 1, self.source)

    def _missing_symbol(self, token: Token, symbol: Token) -> Diagnostic:
        last = self.read[-1].token if self.read else None
        if not last or last.type == "LBRACE":
            return Diagnostic("HW001", f"a `{symbol}` is missing before {quoted(token)}", self.span(token))
        message = f"a `{symbol}` is missing between {quoted(last)} and {quoted(token)}"
        fixed = f"{last}{'' if symbol in ',:)' else ' '}{symbol} {token}"
        return Diagnostic("HW001", message, self._place(token), f"write {quoted(fixed)}" if len(fixed) < 40 else None)

    def _wanted(self) -> str:
        accepts = self.slip.table.accepts(self.slip.stack)
        if self.repair.tokens and not self.repair.lost:  # what was meant is known: only its like is of use
            accepts = accepts & alike(self.repair.tokens[0].type) or accepts
        return wanted(accepts)

    def _after(self) -> str:
        last = self.read[-1].token if self.read else None
        return "" if last is None or last.type == "LBRACE" or not last else f" after {quoted(last)}"

    def _help(self, token: Token) -> str | None:
        """What to do, where that is certain."""
        made = self.repair.tokens
        match self.repair.kind:
            case "respell" | "join":
                return f"did you mean `{made[0]}`?"
            case "swap":
                return f"write `{made[0]} {made[1]}`"
            case "name":
                return f"names are written without quotes: `{made[0]}`"
            case "text":
                return 'texts are written in quotes: `"..."`'
            case "drop" if not self.repair.lost:
                return f"remove {quoted(token)}"
            case "replace" if not self.repair.lost:
                return f"write `{made[0]}` instead"
            case "insert" if not self.repair.lost:
                return f"write `{' '.join(made)}` before it"
        return None

    def _earlier_word(self) -> Diagnostic:
        """A word that is read as something else than what was meant: what follows tells."""
        token, word = self.slip.token, self.slip.tokens[self.repair.start]
        help = self._help(word)
        if self.repair.kind == "join":
            word = Token("NAME", f"{word} {self.slip.tokens[self.repair.start + 1]}")
        message = f"{quoted(word)} cannot be followed by {self._found(token)}"
        first, last = self.slip.tokens[self.repair.start], self.slip.tokens[self.repair.end - 1]
        labels = (Label(self.span(token), "this does not fit"),)
        return Diagnostic("HW001", message, span_of(self.source, first, last), help, labels=labels)

    def _earlier_symbol(self) -> Diagnostic:
        token, symbol = self.slip.token, self.slip.tokens[self.repair.start]
        if twice(self.slip, self.repair.start):
            return self._twice(symbol)
        labels = (Label(self.span(token), "this does not fit after it"),)
        if symbol.type == "RBRACE":
            message = f"this `}}` closes too early: {self._found(token)} cannot follow it"
        else:
            message = f"{quoted(symbol)} cannot be followed by {self._found(token)}"
        help = None if self.repair.tokens else f"remove this {quoted(symbol)}"
        return Diagnostic("HW001", message, self.span(symbol), help, labels=labels)

    def _earlier_gap(self) -> Diagnostic:
        """What is missing before a keyword, which was then taken for a name."""
        at = self.repair.start
        before, word = self.slip.tokens[at - 1], self.slip.tokens[at]
        what = wanted(self.slip.table.accepts(self.slip.stack_before(at)) & alike(self.repair.tokens[0].type))
        message = f"expected {what} after {quoted(before)}, found {quoted(word)}"
        return Diagnostic("HW001", message, self.span(word))

    def _earlier_brace(self) -> Diagnostic:
        """A `{` that is missing before a clause that could come without it."""
        after, before = self.slip.tokens[self.repair.start - 1], self.slip.tokens[self.repair.start]
        message = f"a `{{` is missing between {quoted(after)} and {quoted(before)}"
        column = after.end_column or 1
        line = after.end_line or 1
        place = self.span(before) if line == before.line else Span(line, column, line, column + 1, self.source)
        return Diagnostic("HW001", message, place, f"write {quoted(f'{after} {{ {before}')}")

    def _found(self, token: Token) -> str:
        return "the end of the file" if token.type == END else quoted(token)

    # Braces and the end of the text

    def _open_brace(self) -> Diagnostic | None:
        token, count = self.slip.token, len(self.repair.tokens)
        written = {id(each.token) for each in self.read if each.index is not None}
        braces = [brace for brace in self._never_closed(count) if id(brace) in written]
        if not braces:
            return None
        span, others = self.span(braces[0]), tuple(Label(self.span(each), "nor is this one") for each in braces[1:])
        if token.type == END:
            help = f"the file ends at line {len(self.source.lines)}, before its `}}`"
            return Diagnostic("HW004", "this `{` is never closed", span, help, labels=others)
        place = Label(self.span(token), "a `}` is missing before this" if count == 1 else f"{count} are missing before")
        return Diagnostic("HW004", "this `{` is never closed", span, "write a `}` for it", labels=(*others, place))

    def _never_closed(self, count: int) -> list[Token]:
        """The braces that are never closed: by the indentation of the lines, or else the innermost open ones."""
        open_, pairs = self._braces()
        inner = [pair for pair in pairs if not open_ or (pair[0].start_pos or 0) > (open_[-1].start_pos or 0)]
        for opening, closing in inner if count == 1 and open_ else ():
            outer, closes = self._indent(open_[-1]), self._indent(closing)
            if closes < self._indent(opening) and closes == outer and self._first_on_line(closing):
                return [opening]
        return open_[-count:][::-1]

    def _braces(self) -> tuple[list[Token], list[tuple[Token, Token]]]:
        """The braces before the slip that are open, and the pairs that are closed, by the order of their ends."""
        open_: list[Token] = []
        pairs: list[tuple[Token, Token]] = []
        for each in self.read:
            if each.token.type == "LBRACE":
                open_.append(each.token)
            elif each.token.type == "RBRACE" and open_:
                pairs.append((open_.pop(), each.token))
        return open_, pairs

    def open_brace(self) -> Token | None:
        """The innermost `{` that is still open."""
        return next(iter(self._braces()[0][::-1]), None)

    def _indent(self, token: Token) -> int:
        line = self.source.line(token.line or 1)
        return len(line) - len(line.lstrip())

    def _first_on_line(self, token: Token) -> bool:
        return self._indent(token) == (token.column or 1) - 1

    def _end(self) -> Diagnostic:
        message = f"expected {self._wanted()}{self._after()}, found the end of the file"
        end = len(self.source.text.rstrip())
        return Diagnostic("HW001", message, self.source.span(end, end + 1))

    # What is no token of the language

    def _comment(self, token: Token) -> Diagnostic:
        first, last = token, self.slip.tokens[self.repair.end - 1]
        opening = token[:1] if token.type == lexer.STRAY and token[0] != "-" else token[:2]
        return Diagnostic("HW001", f"`{opening}` does not begin a comment", span_of(self.source, first, last), COMMENTS)

    def _unclosed(self, token: Token) -> Diagnostic:
        start = token.start_pos or 0
        if token.type == lexer.UNCLOSED_BLOCK:
            return Diagnostic("HW003", 'this `"""` is never closed', self.source.span(start, start + 3))
        span = self.source.span(start, start + len(token.rstrip()))
        if token.type == lexer.UNCLOSED_STRING:
            help = 'write a `"` where the text ends, or use `"""` for several lines'
            return Diagnostic("HW003", "this string is not closed on its line", span, help)
        help = "comments start with `#`; `/.../` is a regex"
        return Diagnostic("HW003", "this regex is not closed on its line", span, help)

    def _stray(self, token: Token) -> Diagnostic:
        char = token[0]
        name = unicodedata.name(char, "")
        message = f"unexpected character {quoted(char)} (U+{ord(char):04X}{' ' + name if name else ''})"
        return Diagnostic("HW002", message, self.span(token), self._stray_help(token, name))

    def _stray_help(self, token: Token, name: str) -> str | None:
        made = self.repair.tokens
        if token.type == lexer.FOREIGN_STRING or "QUOTATION MARK" in name or token[0] in "'`":
            return QUOTES
        if token.type == lexer.FOREIGN_WORD:
            return "names are made of the letters a to z, digits and `_`, and begin with a letter"
        if self.repair.kind == "replace" and len(made) == 1 and made[0].type in SYMBOLS:
            return f"write `{spelled(made[0].type)}` instead"
        return f"remove {quoted(token)}" if self.repair.kind == "drop" and len(token) == 1 else None

    def span(self, token: Token) -> Span:
        return span_of(self.source, token, token)


def span_of(source: Source, first: Token, last: Token) -> Span:
    return Span(first.line or 1, first.column or 1, last.end_line or 1, last.end_column or 1, source)
