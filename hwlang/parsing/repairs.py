"""What may have been meant where a token does not fit: every likely repair, and which of them is the best.

A repair replaces some tokens by others. It is tried on the states of the parser alone: the farther the text can be read
after it, and the smaller the slip that it takes back, the better it is.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lark import Token

from hwlang.diagnostics.suggestions import unlikeness
from hwlang.parsing import lexer
from hwlang.parsing.lalr import Stack, Table
from hwlang.parsing.lexer import END

LOOK = 8  # tokens that are read on to see whether a repair is right
AHEAD = 0.3  # what each of them is worth
MISREAD = 0.8  # what it costs to take a keyword for a name
TEXTS = ("STRING", "TEXT_BLOCK")
BACK = 5  # tokens before the one that does not fit where a brace may be missing
WORDS_BACK = 3  # tokens before it which may be a word that is misspelt
MOST_DROPPED = 3  # tokens or groups in braces
MOST_KEPT = 10_000  # characters of a text block that is not closed
SYNC = 3  # places to go on from that are tried
LARGEST = 2000  # tokens of a group in braces that is left out as a whole
FARTHEST = 300  # tokens from the slip to the last of them

Kind = Literal[
    "respell", "join", "insert", "drop", "replace", "swap", "back", "text", "name", "close", "comment", "quotes", "skip"
]
SURE = {"respell", "join", "drop"}
IN_PLACE = {"close", "comment", "quotes", "swap", "back"}  # what these put in is read once more, like the text itself

# What stands for a token that is missing.
BLANKS = {
    "NAME": "",
    "STRING": '""',
    "NUMBER": "1",
    "REGEX": "/./",
    "TYPE": "str",
    "OPTION": "seed",
    "CHAT_ROLE": "user",
    "LAYOUT_KIND": "contiguous",
    "BOOL": "true",
    "SELF": "self",
    "OTHERS": "others",
}
SYMBOLS = {"COMMA": ",", "COLON": ":", "EQUAL": "=", "LPAR": "(", "RPAR": ")", "LBRACE": "{", "RBRACE": "}"}
NEVER = {"TEXT_BLOCK", "_HW", "_IMPORT", END}  # never put in
LIKE = {":": {"EQUAL", "LBRACE", "COMMA"}, "=": {"COLON"}, "(": {"LBRACE"}, ")": {"RBRACE"}, ",": {"COLON"},
        ";": {"COMMA"}, "[": {"LBRACE", "LPAR"}, "]": {"RBRACE", "RPAR"}}  # fmt: skip
STARTS = frozenset(
    "import role program model sampling budget text scratchpad stream worker workers sync answer sees layout begin "
    "step forbid stop max match json on say ask post move clear pause resume test given says picks feed expect".split()
)
# Words of other languages, and of plain English, for which ours are meant.
WORDS = dict(
    pair.split("=")
    for pair in "agent=worker pad=scratchpad print=say write=say when=on if=on and=or view=sees prompt=sees string=str "
    "integer=int number=int boolean=bool var=text let=text const=text kill=stop append=post send=post wait=pause "
    "wake=resume me=self everyone=others yes=true no=false True=true False=false include=import def=role".split()
)


@dataclass(frozen=True)
class Repair:
    """Put `tokens` in the place of those from `start` to `end`. `lost`: what was meant is not known for sure."""

    start: int
    end: int
    tokens: tuple[Token, ...]
    kind: Kind
    cost: float
    lost: bool = False


@dataclass(frozen=True)
class Slip:
    """A token that does not fit. `stacks` are those of the parser before it and before the tokens that it may go back
    to: the last one is the one before `at`. `open` counts the braces of the text that are not closed."""

    table: Table
    tokens: Sequence[Token]
    at: int
    stacks: Sequence[Stack]
    open: int
    roles: frozenset[str] = frozenset()  # names that are declared somewhere in the text
    streams: frozenset[str] = frozenset()

    @property
    def stack(self) -> Stack:
        return self.stacks[-1]

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def stack_before(self, index: int) -> Stack:
        return self.stacks[index - self.at - 1]

    def misread(self, index: int) -> bool:
        """Whether a token before this one is a keyword that was taken for a name."""
        if not self.first <= index < self.at:
            return False
        return self.takes_for_name(self.tokens[index], self.stack_before(index), self.tokens[index + 1])

    def takes_for_name(self, token: Token, stack: Stack, following: Token) -> bool:
        """Whether a token is a keyword that is taken for a name here. Not where there is a stream of that name."""
        if token not in self.table.lexicon.words or token in self.streams:
            return False
        kind = self.table.kind(stack, token)
        return kind == "NAME" or (kind == "CHAT_ROLE" and following.type not in TEXTS)

    @property
    def new_line(self) -> bool:
        """Whether the token is the first on its line."""
        return self.at == 0 or self.tokens[self.at - 1].end_line != self.token.line

    @property
    def first(self) -> int:
        """The first token that a repair may go back to."""
        return self.at + 1 - len(self.stacks)


def best(slip: Slip) -> Repair:
    """The repair that lets the most be read for the smallest slip."""
    if special := list(foreign(slip)):
        ranked = [(score(slip, each), each) for each in special]
        return min(ranked, key=lambda pair: 99 if pair[0] is None else pair[0])[1]
    ranked = [(score(slip, repair), repair) for repair in repairs(slip)]
    fitting = [(points, repair) for points, repair in ranked if points is not None]
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    return Repair(slip.at, slip.at + 1, (), "skip", 9, lost=True)


def score(slip: Slip, repair: Repair) -> float | None:
    """The cost of a repair and of what cannot be read after it; None where it does not fit at all."""
    stack = fed(slip.table, slip.stack_before(min(repair.start, slip.at)), repair.tokens)
    if stack is None:
        return None
    tokens, read = slip.tokens, 0
    misread = sum(map(slip.misread, range(repair.start - 3, repair.start)))
    if repair.kind == "swap":
        first, second = repair.tokens
        misread += slip.takes_for_name(first, slip.stack_before(repair.start), second)
        misread -= second.type == "COMMA" and slip.misread(repair.start - 1)  # no longer
    for index in range(repair.end, len(tokens)):
        after = slip.table.advance(stack, slip.table.kind(stack, tokens[index]))
        if after is None:
            break
        if index - slip.at <= 1 and tokens[index].type == "NAME":
            misread += slip.takes_for_name(tokens[index], stack, tokens[index + 1])
        stack = after
        read = LOOK if index == len(tokens) - 1 else read + (index >= slip.at)
        if read >= LOOK:
            break
    if not read and repair.end < len(tokens):  # the next slip follows at once
        sure = repair.kind in SURE and not repair.lost and repair.start == slip.at
        return repair.cost + AHEAD * LOOK + 0.5 if sure or repair.kind == "skip" else None
    return repair.cost + AHEAD * (LOOK - read) + MISREAD * misread


def fed(table: Table, stack: Stack, tokens: Sequence[Token]) -> Stack | None:
    for token in tokens:
        after = table.advance(stack, table.kind(stack, token))
        if after is None:
            return None
        stack = after
    return stack


def repairs(slip: Slip) -> Iterator[Repair]:
    """Every repair that is tried."""
    for index in range(max(slip.first, slip.at - WORDS_BACK), slip.at + 1):
        yield from respelled(slip, index)
    yield from backward(slip)
    yield from inserted(slip)
    if slip.token.type != END:
        yield from replaced(slip)
        yield from swapped(slip)
        yield from dropped(slip)


# --- Words -----------------------------------------------------------------------------------------------------------


def respelled(slip: Slip, index: int) -> Iterator[Repair]:
    """A word that is nearly a keyword, or two words that are one."""
    token = slip.tokens[index]
    if token.type != "NAME":
        return
    stack, back = slip.stack_before(index), 0.1 * (slip.at - index)
    meant = slip.table.kind(stack, token)
    words = keywords(slip.table, slip.table.accepts(stack))
    for word, terminal in words.items():
        if word == token:
            continue
        unlike = 1.0 if WORDS.get(token) == word else unlikeness(token, word)
        if unlike is not None and (meant != terminal or word != token):
            cost = 0.3 + 0.25 * unlike + back + 0.3 * (meant != "NAME")
            yield Repair(index, index + 1, (copy(token, terminal, word),), "respell", cost)
    following = slip.tokens[index + 1] if index + 1 < len(slip.tokens) else token
    joined = f"{token}{following}"
    if following.type == "NAME" and joined in words:
        made = copy(token, words[joined], joined)
        yield Repair(index, index + 2, (made,), "join", 0.3 + back)


def keywords(table: Table, accepts: set[str]) -> dict[str, str]:
    return {word: terminal for word, terminal in table.lexicon.words.items() if terminal in accepts}


# --- Tokens that are missing or too many -----------------------------------------------------------------------------


def inserted(slip: Slip) -> Iterator[Repair]:
    """Tokens that are missing here."""
    for tokens, cost, sure in bridges(slip, slip.stack, slip.at, 3):
        yield Repair(slip.at, slip.at, tokens, "insert", cost, not sure or slip.token.type == END)
    if slip.token.type == END:
        tokens = closing(slip)
        yield Repair(slip.at, slip.at, tokens, "insert", 2 + len(tokens), lost=True)


def closing(slip: Slip) -> tuple[Token, ...]:
    """What is missing at the end of the text."""
    made: list[Token] = []
    stack = slip.stack
    while slip.table.advance(stack, END) is None:
        if (after := slip.table.advance(stack, "RBRACE")) is not None:
            made.append(blank(slip.token, "RBRACE"))
        else:
            terminal = min(slip.table.accepts(stack) - NEVER, key=lambda t: (price(slip, stack, t), t))
            made.append(blank(slip.token, terminal))
            after = slip.table.advance(stack, terminal)
        assert after is not None
        stack = after
    return tuple(made)


class Bridge(NamedTuple):
    """Tokens that are missing, what it costs to think so, and whether they are the only ones that could be."""

    tokens: tuple[Token, ...]
    cost: float
    sure: bool


def bridges(slip: Slip, stack: Stack, target: int, most: int) -> Iterator[Bridge]:
    """Up to so many tokens after which the target can come."""
    table, goal = slip.table, slip.tokens[target]
    level: list[tuple[Bridge, Stack]] = [(Bridge((), 0.0, True), stack)]
    for _ in range(most):
        longer: list[tuple[Bridge, Stack]] = []
        for bridge, top in level:
            accepts = table.accepts(top)
            only = len({t for t in accepts if t not in ("TEXT_BLOCK", "COMMA")}) == 1
            for terminal in sorted(accepts - NEVER):
                again = terminal == "RBRACE" and terminal in {token.type for token in bridge.tokens[-1:]}
                role = terminal == "_IS" and goal in slip.roles  # the one word that can come before a role
                total = bridge.cost + (0.3 if again else 0.8 if role else price(slip, top, terminal, only))
                after = table.advance(top, terminal)
                if after is None or total > 5:
                    continue
                sure = bridge.sure and (terminal in SYMBOLS or role or (only and terminal not in BLANKS))
                token = missing_type(slip, target) if terminal == "TYPE" else blank(goal, terminal)
                made = Bridge((*bridge.tokens, token), total, sure)
                if table.advance(after, table.kind(after, goal)) is not None:
                    yield made
                longer.append((made, after))
        level = sorted(longer, key=lambda each: each[0].cost)[:24]


def price(slip: Slip, stack: Stack, terminal: str, only: bool = False) -> float:
    """What it costs to think that a token is missing."""
    if terminal == "RBRACE":
        return 1.0 if slip.open > 0 else 2.5
    if terminal == "LBRACE":
        return 1.0 if slip.open < 0 else 1.6
    if terminal in SYMBOLS:
        return 1.6 if terminal == "COMMA" and slip.new_line else 1.0
    if terminal in BLANKS:
        return 1.5 + 0.1 * (terminal != "NAME") + 0.3 * (terminal not in ("NAME", "STRING", "NUMBER"))
    return 1.2 if only else 2.8


def missing_type(slip: Slip, target: int) -> Token:
    """The type of a parameter that is missing: that of its default."""
    default = slip.tokens[target + 1] if slip.tokens[target] == "=" else slip.token
    made = {"NUMBER": "float" if "." in default else "int", "NAME": "bool"}
    return copy(blank(slip.tokens[target], "TYPE"), "TYPE", made.get(default.type, "str"))


def dropped(slip: Slip) -> Iterator[Repair]:
    """Tokens that are too many, perhaps with others missing in their place; and going on at the next clause."""
    end, cost = slip.at, 0.0
    for number in range(MOST_DROPPED):
        extent = chunk(slip, end)
        if extent is None:
            break
        cost += 0.6 if number == 0 and twice(slip, end) else drop_cost(slip, end)
        end = extent
        lost = any(token.type not in HARMLESS for token in slip.tokens[slip.at : end])
        yield Repair(slip.at, end, (), "drop", cost, lost)
        for tokens, more, _ in bridges(slip, slip.stack, end, 2 if number == 0 else 1):
            one = number == 0 and len(tokens) == 1  # a token for another one
            yield Repair(slip.at, end, tokens, "replace", max(cost, more) + 0.5 if one else cost + more, True)
    yield from skipped(slip)


HARMLESS = frozenset({"COMMA", "COLON", "EQUAL", "LPAR", "RPAR", "LBRACE", "RBRACE", lexer.STRAY})


def drop_cost(slip: Slip, index: int) -> float:
    token = slip.tokens[index]
    match token.type:
        case "RBRACE":
            return 1.0 if slip.open < 0 else 2.5
        case "LBRACE":
            return 1.0 if slip.open > 0 else 2.5
        case "STRING" | "TEXT_BLOCK":
            return 2.5
        case kind if kind in HARMLESS:
            return 0.8
    return 2.5 if token in STARTS else 1.7


def chunk(slip: Slip, index: int) -> int | None:
    """Where the token or the group in braces ends that begins here; None where it closes what is around it."""
    tokens = slip.tokens
    if tokens[index].type == END or (tokens[index].type == "RBRACE" and index != slip.at):
        return None
    if tokens[index].type != "LBRACE" or slip.open > 0:
        return index + 1
    return closing_brace(tokens, index) + 1


def closing_brace(tokens: Sequence[Token], index: int) -> int:
    """The brace that closes the one at `index`, or the last token that is looked at."""
    depth = 0
    last = min(len(tokens) - 2, index + LARGEST)
    for at in range(index, last + 1):
        depth += (tokens[at].type == "LBRACE") - (tokens[at].type == "RBRACE")
        if depth == 0:
            return at
    return last


def skipped(slip: Slip) -> Iterator[Repair]:
    """Go on at one of the next clauses, or where the braces around this are closed."""
    for start in range(slip.first, slip.at + 1):
        if start < slip.at and (slip.tokens[start] not in STARTS or slip.tokens[start].type != "NAME"):
            continue
        for end in sync_points(slip):
            if end <= slip.at:
                continue
            known = start == slip.at and slip.token in STARTS  # a clause that belongs elsewhere
            cost = (2 if known else 4) + (0.1 if known else 0.3) * (end - start)
            yield Repair(start, end, (), "skip", cost, True)
            if start == slip.at:
                for tokens, more, _ in bridges(slip, slip.stack, end, 2):
                    yield Repair(start, end, tokens, "skip", cost + more, True)


def sync_points(slip: Slip) -> Iterator[int]:
    """The next places to go on from: a word that begins a clause, or the brace that closes what is around."""
    found, index = 0, slip.at + (slip.token.type == "RBRACE")
    end = min(len(slip.tokens) - 1, index + FARTHEST)
    while index < end and found < SYNC:
        token = slip.tokens[index]
        if token.type == "RBRACE" or (token.type == "NAME" and token in STARTS):
            yield index
            found += 1
            if token.type == "RBRACE":
                return
        index = closing_brace(slip.tokens, index) + 1 if token.type == "LBRACE" else index + 1
    yield min(index, len(slip.tokens) - 1)


def backward(slip: Slip) -> Iterator[Repair]:
    """A symbol before this one that is too many, a brace that closes too early, a brace that is missing earlier."""
    for index in range(slip.first, slip.at):
        token, back = slip.tokens[index], 0.1 * (slip.at - index)
        if token.type in HARMLESS and token.type != "LBRACE" and index >= slip.at - 2:
            yield Repair(index, index + 1, (), "back", drop_cost(slip, index) + 0.3 + back)
        if slip.open and token in STARTS:
            brace = blank(token, "RBRACE" if slip.open > 0 else "LBRACE")
            yield Repair(index, index, (brace,), "insert", 1.2 + back)
        if twice(slip, index):
            yield Repair(index, index + 1, (), "back", 0.6 + back)
        if slip.misread(index):
            for tokens, cost, _ in bridges(slip, slip.stack_before(index), index, 1):
                yield Repair(index, index, tokens, "insert", cost + back - 0.4, lost=True)
        if token.type == "RBRACE" and slip.open < 0 and index == slip.at - 1:
            for tokens, cost, _ in bridges(slip, slip.stack_before(index), slip.at, 1):
                yield Repair(index, index + 1, tokens, "replace", 0.5 + cost + back, lost=True)


def twice(slip: Slip, index: int) -> bool:
    """Whether a token is the same as the one before it, and no symbol."""
    token: str = slip.tokens[index]
    return index > 0 and slip.tokens[index].type not in HARMLESS and token == str(slip.tokens[index - 1])


# --- Tokens that stand for others ------------------------------------------------------------------------------------


def replaced(slip: Slip) -> Iterator[Repair]:
    """A symbol for another one, a text without quotes, a name in quotes, another keyword than the one that must be."""
    token, accepts = slip.token, slip.table.accepts(slip.stack)
    here = (slip.at, slip.at + 1)
    for terminal in LIKE.get(token[:1], set()) & accepts if len(token) == 1 else ():
        yield Repair(*here, (blank(token, terminal),), "replace", 1.3 if terminal == "COMMA" else 1.0)
    if token.type == "STRING" and "NAME" in accepts and re.fullmatch(r'"[A-Za-z_]\w*"', token):
        yield Repair(*here, (copy(token, "NAME", token[1:-1]),), "name", 0.6)
    if token.type in ("NAME", lexer.FOREIGN_WORD) and "STRING" in accepts:
        keyword = token in slip.table.lexicon.words
        yield Repair(*here, (copy(token, "STRING", f'"{token}"'),), "text", 1.2 + 0.5 * keyword, lost=True)
    if token.type == lexer.FOREIGN_WORD and "NAME" in accepts:
        yield Repair(*here, (copy(token, "NAME", str(token)),), "name", 0.5)
    if token.type == lexer.STRAY and "STRING" in accepts:
        yield Repair(*here, (blank(token, "STRING"),), "replace", 1.8, lost=True)
    only = accepts - {"COMMA"}
    if len(only) == 1 and not slip.new_line and token.type == "NAME" and not accepts & set(BLANKS):
        yield Repair(*here, (blank(token, *only),), "replace", 1.1)


def swapped(slip: Slip) -> Iterator[Repair]:
    """Two neighbours in the wrong order."""
    for index in (slip.at - 2, slip.at - 1, slip.at):
        if slip.first <= index < len(slip.tokens) - 2:
            first, second = slip.tokens[index], slip.tokens[index + 1]
            braces = not {first.type, second.type}.isdisjoint({"LBRACE", "RBRACE"})
            if first.type != second.type or {first, second} & slip.table.lexicon.words.keys():
                cost = 1.4 + 0.2 * braces + 0.1 * (index < slip.at - 1)
                yield Repair(index, index + 2, (second, first), "swap", cost)


def foreign(slip: Slip) -> Iterator[Repair]:
    """What other languages write: their comments, their quotes; and strings that are not closed."""
    token = slip.token
    here = (slip.at, slip.at + 1)
    match token.type:
        case lexer.FOREIGN_COMMENT:
            yield Repair(*here, (), "comment", 0)
        case "REGEX" | lexer.UNCLOSED_REGEX if token[:2] in ("//", "/*"):
            yield Repair(slip.at, line_end(slip), (), "comment", 0)
        case lexer.STRAY if token[:2] in ("--", "%%", "<!"):
            yield Repair(slip.at, line_end(slip), (), "comment", 0)
        case lexer.FOREIGN_STRING:
            inside = token[1:-1].replace('"', '\\"')
            yield Repair(*here, (copy(token, "STRING", f'"{inside}"'),), "quotes", 0)
            name = inside.isidentifier() and "NAME" in slip.table.accepts(slip.stack)
            if name and "STRING" not in slip.table.accepts(slip.stack):
                yield Repair(*here, (copy(token, "NAME", inside),), "quotes", 0)
        case lexer.UNCLOSED_STRING | lexer.UNCLOSED_REGEX | lexer.UNCLOSED_BLOCK:
            yield from closed(slip)


def line_end(slip: Slip) -> int:
    """The first token that does not begin on the line of the slip."""
    line = slip.token.line
    return next((i for i, t in enumerate(slip.tokens[slip.at :], slip.at) if t.line != line or t.type == END), slip.at)


CLOSERS = re.compile(r"\s*(?=[,{}]|\b(?:to|until|or|else|max|after|before)\b)")


def closed(slip: Slip) -> Iterator[Repair]:
    """Where an open string may have been meant to end: at the end of its line, or before what may follow a string."""
    token = slip.token
    if token.type == lexer.UNCLOSED_BLOCK:
        end = block_end(token)
        made = copy(token, "TEXT_BLOCK", token[: min(end, MOST_KEPT)] + '"""')
        yield Repair(slip.at, slip.at + 1, (made, *rest_of(token, end)), "close", 0, lost=True)
        yield Repair(slip.at, slip.at + 1, (made,), "close", 1, lost=True)
        return
    quote, kind = token[0], "STRING" if token[0] == '"' else "REGEX"
    text = token.rstrip()
    ends = sorted({len(text), *(found.start() for found in CLOSERS.finditer(text) if found.start() > 0)}, reverse=True)
    for number, end in enumerate(ends[:12]):
        inside = text[1:end].rstrip("\\")
        made = copy(token, kind, quote + inside + quote)
        yield Repair(slip.at, slip.at + 1, (made, *rest_of(token, end)), "close", 0.01 * number, lost=True)
    yield Repair(slip.at, slip.at + 1, (), "close", 3, lost=True)


def block_end(token: Token) -> int:
    """Where an open text block may have been meant to end: before the first line of code that is not indented more."""
    words = "|".join(STARTS)
    code = re.compile(rf"^[ \t]*(?:\}}|(?:{words})\b)", re.MULTILINE)
    lines = [found for found in code.finditer(token) if found.start() > 0]
    indent = (token.column or 1) - 1
    found = next((each for each in lines if len(each[0]) - len(each[0].lstrip()) < max(indent, 1)), None)
    return found.start() if found else len(token.rstrip())


def rest_of(token: Token, end: int) -> list[Token]:
    """The tokens after the first `end` characters of one."""
    lines = token[:end].split("\n")
    line, column = (token.line or 1) + len(lines) - 1, len(lines[-1]) + (1 if len(lines) > 1 else token.column or 1)
    found = lexer.tokens(token[end:], most=1 << 30)[:-1]
    for each in found:
        each.start_pos = (each.start_pos or 0) + (token.start_pos or 0) + end
        each.end_pos = (each.end_pos or 0) + (token.start_pos or 0) + end
        each.column = (each.column or 1) + (column - 1 if each.line == 1 else 0)
        each.end_column = (each.end_column or 1) + (column - 1 if each.end_line == 1 else 0)
        each.line = (each.line or 1) + line - 1
        each.end_line = (each.end_line or 1) + line - 1
    return found


# --- Tokens ----------------------------------------------------------------------------------------------------------


def copy(token: Token, kind: str, text: str) -> Token:
    """A token of another kind in the place of one."""
    return Token.new_borrow_pos(kind, text, token)


def blank(before: Token, terminal: str) -> Token:
    """A token that is missing before another one."""
    words = BLANKS | SYMBOLS
    text = words[terminal] if terminal in words else terminal.strip("_").lower()
    at, line, column = before.start_pos, before.line, before.column
    return Token(terminal, text, at, line, column, line, column, at)
