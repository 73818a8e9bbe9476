"""Small problems with one right result each, made from a random generator: what the suites `sums` and `chains` ask.

A list is numbered from 1. In a chain a problem may use the result of an earlier one, as `#2`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

MOST = 9  # problems in a list: their numbers have one digit

VOWELS, CONSONANTS, LETTERS = "aeiou", "bcdfghklmnprstvw", "abcdefghijklmnopqrstuvwxyz"
SIMPLE = re.compile(r"(?P<left>\d+|#\d)(?P<sign>[+-])(?P<right>\d+)")


def word(rng: random.Random, shortest: int, longest: int) -> str:
    """A made-up word: half of the time one that can be pronounced, else any letters."""
    length = rng.randint(shortest, longest)
    if rng.random() < 0.5:
        return "".join(rng.choice(LETTERS) for _ in range(length))
    start = rng.randint(0, 1)
    return "".join(rng.choice(VOWELS if (start + place) % 2 else CONSONANTS) for place in range(length))


def _sum(rng: random.Random) -> str:
    return f"{rng.randint(10, 99)}+{rng.randint(10, 99)}"


def _difference(rng: random.Random) -> str:
    small, large = sorted((rng.randint(10, 99), rng.randint(10, 99)))
    return f"{large}-{small}"


def _reverse(rng: random.Random) -> str:
    return f"reverse {word(rng, 4, 6)}"


def _sort(rng: random.Random) -> str:
    return "sort " + "".join(rng.choice("0123456789") for _ in range(rng.randint(4, 6)))


def _extreme(rng: random.Random) -> str:
    numbers = " ".join(str(number) for number in rng.sample(range(10, 100), 3))
    return f"{rng.choice(('largest', 'smallest'))} {numbers}"


def _count(rng: random.Random) -> str:
    letters = list(word(rng, 4, 6))
    letter = rng.choice(letters) if rng.random() < 0.9 else rng.choice(LETTERS)
    for _ in range(rng.randint(0, 3)):
        letters[rng.randrange(len(letters))] = letter
    return f"count {letter} in {''.join(letters)}"


KINDS: dict[str, Callable[[random.Random], str]] = {
    "sum": _sum,
    "difference": _difference,
    "reverse": _reverse,
    "sort": _sort,
    "extreme": _extreme,
    "count": _count,
}


def make_sums(rng: random.Random, count: int) -> tuple[str, ...]:
    """`count` fresh problems of random kinds, each by itself."""
    kinds = list(KINDS.values())
    return tuple(rng.choice(kinds)(rng) for _ in range(count))


def make_chains(rng: random.Random, count: int) -> tuple[str, ...]:
    """`count` fresh problems; from the second on, each uses an earlier result with a probability of nearly one half.

    Added to, or taken from, is a result of two digits; a result of four characters or more is turned round. Where no
    earlier result will do, the problem stands by itself.
    """
    problems: list[str] = []
    found: list[str] = []
    for _ in range(count):
        linked = _linked(rng, found) if rng.random() < 0.55 else None
        problems.append(linked or make_sums(rng, 1)[0])
        found.append(_result(problems[-1], found))
    return tuple(problems)


def _linked(rng: random.Random, found: Sequence[str]) -> str | None:
    usable = [
        number for number, text in enumerate(found, 1) if len(text) >= 4 or (text.isdigit() and 10 <= int(text) <= 99)
    ]
    if not usable:
        return None
    number = rng.choice(usable)
    text = found[number - 1]
    if len(text) >= 4:
        return f"reverse #{number}"
    if rng.random() < 0.5 and int(text) > 10:
        return f"#{number}-{rng.randint(10, int(text))}"
    return f"#{number}+{rng.randint(10, 99)}"


def uses(problem: str) -> int | None:
    """The number of the problem whose result this one uses; None where it stands by itself."""
    match = re.search(r"#(\d)", problem)
    return int(match[1]) if match else None


def filled(problem: str, found: Sequence[str]) -> str:
    """The problem with the result that it uses written out; `found` are the results in front of it."""
    number = uses(problem)
    return problem if number is None else problem.replace(f"#{number}", found[number - 1])


def results(problems: Sequence[str]) -> tuple[str, ...]:
    """The right result of every problem of a list."""
    found: list[str] = []
    for problem in problems:
        found.append(_result(problem, found))
    return tuple(found)


def _result(problem: str, found: Sequence[str]) -> str:
    problem = filled(problem, found)
    if match := SIMPLE.fullmatch(problem):
        left, right = int(match["left"]), int(match["right"])
        return str(left + right if match["sign"] == "+" else left - right)
    verb, _, rest = problem.partition(" ")
    if verb == "reverse":
        return rest[::-1]
    if verb == "sort":
        return "".join(sorted(rest))
    if verb == "count":
        letter, _, letters = rest.partition(" in ")
        return str(letters.count(letter))
    return str((max if verb == "largest" else min)(map(int, rest.split())))


def kind(problem: str) -> str:
    """Which of `KINDS` this is."""
    if match := SIMPLE.fullmatch(problem):
        return "sum" if match["sign"] == "+" else "difference"
    verb = problem.partition(" ")[0]
    return verb if verb in KINDS else "extreme"


def opening(problems: Sequence[str]) -> str:
    """The list as a worker sees it: one numbered problem a line, the last line ended too."""
    return "".join(f"{number}) {problem}\n" for number, problem in enumerate(problems, 1))
