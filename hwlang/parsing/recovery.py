"""Reading on after slips: each is told once and repaired, so that the rest of the text can be read and checked too.

slip -> the best repair (repairs.py) -> a diagnostic, the repaired tokens, and what is no longer known for sure
"""

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from lark import Token

from hwlang.diagnostics import Diagnostic, Label, Source
from hwlang.diagnostics.source import Damage
from hwlang.parsing.lalr import Stack, table
from hwlang.parsing.lexer import END
from hwlang.parsing.repairs import BACK, BLANKS, IN_PLACE, Repair, Slip, best
from hwlang.parsing.syntax_errors import Teller, span_of

MAX_REPAIRS = 100
VALUES = {*BLANKS, "TEXT_BLOCK", "_IN"}
QUIET = 3  # tokens that have to fit after a guess before the next slip is told


@dataclass(frozen=True)
class Recovered:
    """Tokens that fit the grammar, and what had to be done for that."""

    tokens: list[Token]
    problems: list[Diagnostic]
    damage: tuple[Damage, ...]
    complete: bool


@dataclass(frozen=True)
class Read:
    """A token that was read, and the stack before it. `index` is its place in the text, None if it was put in."""

    token: Token
    stack: Stack
    index: int | None


class Recovery:
    """Reads the tokens of a text that does not fit the grammar."""

    def __init__(self, source: Source, tokens: list[Token]) -> None:
        self.source = source
        self.tokens = tokens
        self.table = table()
        self.stack: Stack = (self.table.start, None)
        self.read: list[Read] = []
        self.problems: list[Diagnostic] = []
        self.damage: list[Damage] = []
        self._open = sum((t.type == "LBRACE") - (t.type == "RBRACE") for t in tokens)
        self._roles, self._streams = declared(tokens, "role"), declared(tokens, "stream")
        self._quiet_until = -1
        self._comma = -QUIET - 1  # where the last comma was missing
        self._repaired = -QUIET  # where the text goes on after the last repair
        self._repairs = 0

    def run(self) -> Recovered:
        at = 0
        while at < len(self.tokens):
            if self._shift(self.tokens[at], at):
                at += 1
            elif self._repairs >= MAX_REPAIRS:
                return self._given_up()
            else:
                at = self._repair(at)
        return Recovered([each.token for each in self.read], self.problems, tuple(self.damage), True)

    def _given_up(self) -> Recovered:
        end = self.tokens[-1]
        return Recovered([end], self.problems, tuple(self.damage), False)

    def _shift(self, token: Token, index: int | None) -> bool:
        kind = self.table.kind(self.stack, token)
        after = self.table.advance(self.stack, kind)
        if after is None:
            return False
        typed = token if token.type == kind else Token.new_borrow_pos(kind, token, token)
        self.read.append(Read(typed, self.stack, index))
        self.stack = after
        return True

    # Repairs

    def _repair(self, at: int) -> int:
        """Repair the slip at a token; returns where to go on."""
        self._repairs += 1
        slip = Slip(self.table, self.tokens, at, self._stacks(at), self._open, self._roles, self._streams)
        repair = best(slip)
        if not self._is_told(slip, repair) and (problem := Teller(self.source, slip, repair, self.read).diagnostic()):
            self._tell(problem, slip, repair)
        if repair.lost or missing(slip, repair):
            self.damage.append(damage(self.source, slip, repair))
        if repair.lost:
            self._quiet_until = max(repair.end, at) + (QUIET if guessed(repair) else 0)
        self._repaired = repair.start + len(repair.tokens) if repair.kind in IN_PLACE else repair.end
        for _ in range(repair.start, at):
            self.stack = self.read.pop().stack
        return self._apply(repair)

    def _tell(self, problem: Diagnostic, slip: Slip, repair: Repair) -> None:
        """Tell a slip. Commas that are missing one after the other in a line are one."""
        comma = repair.kind == "insert" and [token.type for token in repair.tokens] == ["COMMA"]
        if comma and slip.at - self._comma <= QUIET and self.problems[-1].span.line == problem.span.line:
            last = self.problems.pop()
            problem = replace(last, labels=(*last.labels, Label(problem.span, "one is missing here, too")))
        self.problems.append(problem)
        self._comma = slip.at if comma else -QUIET - 1

    def _is_told(self, slip: Slip, repair: Repair) -> bool:
        """Whether this slip comes of the one before it, which was told."""
        if slip.token.type == END:
            return slip.at - self._repaired < QUIET
        return slip.at < self._quiet_until

    def _stacks(self, at: int) -> list[Stack]:
        """The stacks before this token and before those that it may go back to."""
        found = [self.stack]
        for back, each in enumerate(reversed(self.read[-BACK:]), 1):
            if each.index != at - back:
                break
            found.append(each.stack)
        return found[::-1]

    def _apply(self, repair: Repair) -> int:
        gone = self.tokens[repair.start : repair.end]
        self._open += balance(repair.tokens) - balance(gone)
        if repair.kind in IN_PLACE:
            self.tokens[repair.start : repair.end] = repair.tokens
            return repair.start
        for token in repair.tokens:
            self._shift(token, None)
        return repair.end


def guessed(repair: Repair) -> bool:
    """Whether the next slip may come of this repair. Not where one name, text or number was missing or not closed."""
    if repair.kind == "insert" or (repair.kind == "replace" and repair.end == repair.start + 1):
        return repair.tokens[0].type not in BLANKS
    return repair.kind in ("drop", "replace", "skip")


def declared(tokens: list[Token], word: str) -> frozenset[str]:
    """The names that come after this word."""
    return frozenset(str(name) for before, name in pairwise(tokens) if before == word and name.type == "NAME")


def missing(slip: Slip, repair: Repair) -> bool:
    """Whether something was left out where a name, a text or a number is missing."""
    if repair.kind not in ("drop", "back"):
        return False
    return any(slip.table.accepts(stack) <= VALUES for stack in (slip.stack, slip.stack_before(repair.start)))


def balance(tokens: "list[Token] | tuple[Token, ...]") -> int:
    return sum((token.type == "LBRACE") - (token.type == "RBRACE") for token in tokens)


def damage(source: Source, slip: Slip, repair: Repair) -> Damage:
    """What is not known for sure after a repair."""
    gone = [t for t in slip.tokens[repair.start : repair.end] if t.type != END]
    words = {word for token in gone for word in re.findall(r"[A-Za-z_]\w*", token[:10_000])}
    first, last = (gone or [slip.token])[0], (gone or [slip.token])[-1]
    unnamed = any(token.type == "NAME" and not token for token in repair.tokens)
    unnamed |= slip.tokens[repair.end].type == END  # what came after it is not there
    unnamed |= missing(slip, repair) and "NAME" in slip.table.accepts(slip.stack)
    return Damage(span_of(source, first, last), frozenset(words), unnamed)
