"""The numbers game: reach a target with four numbers and + - * /, each number used exactly once."""

from __future__ import annotations

import ast
import operator
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

NUMBERS = 4  # in a puzzle
SMALLEST, LARGEST = 1, 25  # of the numbers
HIGHEST = 200  # target
LONGEST = 200  # characters of an expression that are looked at

SIGNS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
WRITTEN = {
    "\\times": "*",
    "\\cdot": "*",
    "\\div": "/",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "\\left": "",
    "\\right": "",
}
FRACTION = re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}")


@dataclass(frozen=True)
class Puzzle:
    """`solution` is an expression that comes to `target`: one way, of several perhaps."""

    numbers: tuple[int, ...]
    target: int
    solution: str

    @property
    def text(self) -> str:
        listed = ", ".join(map(str, self.numbers))
        return (
            f"Write an arithmetic expression that equals {self.target}. Use each of the numbers {listed} exactly once, "
            "and only +, -, *, / and parentheses."
        )

    @property
    def expected(self) -> str:
        """What `right` needs to check an answer: the numbers, and behind `=` the target."""
        return f"{' '.join(map(str, self.numbers))} = {self.target}"


class NotArithmetic(Exception):
    """A text that is no expression of whole numbers, + - * / and parentheses, or divides by zero."""


def make_puzzle(rng: random.Random) -> Puzzle:
    """A puzzle that has a solution: made from it, by joining the numbers in pairs until one is left."""
    while True:
        numbers = tuple(rng.randint(SMALLEST, LARGEST) for _ in range(NUMBERS))
        parts = [(str(number), Fraction(number)) for number in numbers]
        while len(parts) > 1:
            one = parts.pop(rng.randrange(len(parts)))
            two = parts.pop(rng.randrange(len(parts)))
            parts.append(_joined(rng, one, two))
        text, value = parts[0]
        if value.denominator == 1 and 1 <= value <= HIGHEST:
            puzzle = Puzzle(numbers, int(value), text.removeprefix("(").removesuffix(")"))
            assert right(puzzle.expected, puzzle.solution), "a puzzle is made from its solution"
            return puzzle


def _joined(rng: random.Random, left: tuple[str, Fraction], right: tuple[str, Fraction]) -> tuple[str, Fraction]:
    """Two expressions joined by a sign; the value stays whole and positive."""
    signs = ["+", "*"]
    if left[1] > right[1]:
        signs.append("-")
    if (left[1] / right[1]).denominator == 1:
        signs.append("/")
    sign = rng.choice(signs)
    text = f"({left[0]} {sign} {right[0]})"
    return text, evaluated(text)[0]


def right(expected: str, told: str) -> bool:
    """Whether an expression uses exactly the numbers of `expected` ("3 7 8 = 24") and comes to its target."""
    numbers, _, target = expected.partition("=")
    try:
        value, used = evaluated(told)
    except NotArithmetic:
        return False
    return value == int(target) and sorted(used) == sorted(map(int, numbers.split()))


def evaluated(text: str) -> tuple[Fraction, list[int]]:
    """An expression's value and the numbers in it. Nothing is executed: its tree is walked. Raises `NotArithmetic`."""
    try:
        tree = ast.parse(_plain(text), mode="eval")
        used: list[int] = []
        return _value(tree.body, used), used
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise NotArithmetic(str(error)) from error


def _plain(text: str) -> str:
    """LaTeX and typographic signs as Python writes them; what stands behind `=` is the result, and not part of it."""
    if len(text) > LONGEST:
        raise NotArithmetic(f"longer than {LONGEST} characters")
    while FRACTION.search(text):
        text = FRACTION.sub(r"((\1)/(\2))", text)
    for written, plain in WRITTEN.items():
        text = text.replace(written, plain)
    return text.replace("$", "").partition("=")[0].strip()


def _value(node: ast.expr, used: list[int]) -> Fraction:
    match node:
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in SIGNS:
            return SIGNS[type(sign)](_value(left, used), _value(right, used))
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            used.append(number)
            return Fraction(number)
        case _:
            raise NotArithmetic(f"`{type(node).__name__}` is no arithmetic of whole numbers")
