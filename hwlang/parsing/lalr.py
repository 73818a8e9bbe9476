"""The LALR machine: walks the tables that Lark makes of the grammar.

`Table` answers what may come next, on stacks of states alone: that is what recovery tries its repairs on. `build` runs
the tables on whole token lists and makes the nodes. Lark's own loop makes a tree first and needs 2.5 times as long.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias, cast

from lark import Token

from hwlang.parsing.grammar import KEEP, SPLICE, tables
from hwlang.parsing.lexer import END, Lexicon, lexicon

Stack: TypeAlias = tuple[int, "Stack | None"]  # the state on top, and what is below: stacks share their lower parts


class Reduction(NamedTuple):
    """What a rule of the grammar does: takes `size` values, drops keywords and symbols, makes a node by `name`.

    Rules that Lark adds for `*` and the like have no name: their values become the values of the rule around them.
    """

    size: int
    origin: str
    name: str | None
    single: bool  # one value is handed on as it is
    keep: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """For each state what each terminal does: the next state, or a reduction; for each rule's origin the next state."""

    states: Mapping[int, Mapping[str, int | Reduction]]
    start: int
    end: int
    lexicon: Lexicon

    def advance(self, stack: Stack, terminal: str) -> "Stack | None":
        """The stack once this terminal has come; None where it may not come. The end of the text stays unread."""
        while True:
            action = self.states[stack[0]].get(terminal)
            if action is None:
                return None
            if isinstance(action, int):
                return action, stack
            for _ in range(action.size):
                assert stack[1] is not None
                stack = stack[1]
            goto = self.states[stack[0]][action.origin]
            assert isinstance(goto, int)
            stack = goto, stack
            if goto == self.end:
                return stack if terminal == END else None

    def accepts(self, stack: Stack) -> set[str]:
        """The terminals that may come next."""
        return {t for t in self.states[stack[0]] if (t.isupper() or t == END) and self.advance(stack, t) is not None}

    def kind(self, stack: Stack, token: Token) -> str:
        return self.lexicon.kind(token, self.states[stack[0]])


@cache
def table() -> Table:
    made = tables()
    rules = [Reduction(r["size"], r["origin"], r["name"], r["single"], tuple(r["keep"])) for r in made["rules"]]
    states = {
        int(state): {symbol: number if number >= 0 else rules[-1 - number] for symbol, number in row.items()}
        for state, row in made["states"].items()
    }
    return Table(states, made["start"], made["end"], lexicon())


# --- Building --------------------------------------------------------------------------------------------------------


class Unexpected(Exception):
    """A token that may not come where it is."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


Value: TypeAlias = "Token | object"  # of a symbol on the stack: a token, a node, or the values of a rule of Lark's own
Make: TypeAlias = Callable[..., object]


class Builder:
    """Runs the table on tokens. `make(name)` gives what makes the node of a rule, of a first token, a last token and
    the values in between."""

    def __init__(self, make: Callable[[str], Make]) -> None:
        self._make = make
        self._made: dict[str, Make] = {}

    def build(self, tokens: Sequence[Token]) -> object:
        """The node of the whole text. Raises `Unexpected`."""
        machine = table()
        states, kind = machine.states, machine.lexicon.kind
        stack: list[int] = [machine.start]
        values: list[Value] = []
        firsts: list[Token | None] = []  # of each value the first token, None if it is empty
        lasts: list[Token | None] = []
        for index, token in enumerate(tokens):
            terminal = kind(token, states[stack[-1]])
            while True:
                action = states[stack[-1]].get(terminal)
                if action is None:
                    raise Unexpected(index)
                if isinstance(action, int):
                    if token.type != terminal:
                        token.type = terminal
                    stack.append(action)
                    values.append(token)
                    firsts.append(token)
                    lasts.append(token)
                    break
                size = action.size
                children: list[Value] = []
                first = last = None
                if size:
                    children, first, last = values[-size:], firsts[-size], lasts[-1]
                    if first is None or last is None:
                        first, last = edges(firsts[-size:], lasts[-size:])
                    del stack[-size:], values[-size:], firsts[-size:], lasts[-size:]
                stack.append(cast(int, states[stack[-1]][action.origin]))
                values.append(self._reduce(action, children, first, last))
                firsts.append(first)
                lasts.append(last)
                if stack[-1] == machine.end:
                    if terminal != END:
                        raise Unexpected(index)
                    return values[-1]
        raise AssertionError("the last token is the end of the text")

    def _reduce(self, rule: Reduction, children: list[Value], first: Token | None, last: Token | None) -> Value:
        kept = kept_of(rule.keep, children)
        if rule.name is None:
            return kept
        if rule.single and len(kept) == 1:
            return kept[0]
        make = self._made.get(rule.name)
        if make is None:
            make = self._made[rule.name] = self._make(rule.name)
        return make(first, last, *kept)


def kept_of(keep: Sequence[int], children: list[Value]) -> list[Value]:
    kept: list[Value] = []
    for how, child in zip(keep, children, strict=True):
        if how == KEEP:
            kept.append(child)
        elif how == SPLICE:
            assert isinstance(child, list)
            if kept:
                kept += child
            else:
                kept = child  # a list that grows from the left: never copied
    return kept


def edges(firsts: Sequence[Token | None], lasts: Sequence[Token | None]) -> tuple[Token | None, Token | None]:
    """The first and the last token of a rule, some of whose parts are empty."""
    return next(filter(None, firsts), None), next(filter(None, reversed(lasts)), None)
