"""Static training text for the embedded model `tiny`.

Everything here is pure Python and deterministic from the random generator that is passed in:

* the token table, and `pieces`, which cuts text into tokens;
* the kinds of problem, and `solution`, which writes the work of each the way the model should;
* `simulate`, an ideal run of `programs/sums.hw`, one token per worker per pass;
* `views`, snapshots of such a run: what one worker sees, as flat text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

NAMES = ("Alice", "Bob", "Carol", "Dave")
TAKEN = "all taken"
END = "."
MAX_PROBLEMS = 9

SPECIAL = ("<unk>", "<pad>", "<eos>")
WORDS = (*NAMES, TAKEN, "reverse ", "sort ", "largest ", "smallest ", "count ", " in ", ") ", ": ", ", ")
CHARACTERS = ("\n", *(chr(code) for code in range(32, 127)))
VOCABULARY = (*SPECIAL, *WORDS, *CHARACTERS)
PIECE = "|".join(re.escape(word) for word in WORDS) + r"|[\s\S]"  # one token: a whole word first, else one character

_PIECE = re.compile(PIECE)


def pieces(text: str) -> list[str]:
    """Cut `text` into the tokens that the tokenizer gives."""
    return _PIECE.findall(text)


# --- problems -------------------------------------------------------------------------------------------------------


def _word(rng: random.Random, shortest: int, longest: int) -> str:
    """A made-up word: half of the time pronounceable, else any letters."""
    length = rng.randint(shortest, longest)
    if rng.random() < 0.5:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))
    start = rng.randint(0, 1)
    return "".join(rng.choice("aeiou" if (start + i) % 2 else "bcdfghklmnprstvw") for i in range(length))


def _make_sum(rng: random.Random) -> str:
    return f"{rng.randint(10, 99)}+{rng.randint(10, 99)}"


def _make_difference(rng: random.Random) -> str:
    large, small = sorted((rng.randint(10, 99), rng.randint(10, 99)), reverse=True)
    return f"{large}-{small}"


def _make_reverse(rng: random.Random) -> str:
    return f"reverse {_word(rng, 3, 5)}"


def _make_sort(rng: random.Random) -> str:
    return "sort " + "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 4)))


def _make_extreme(rng: random.Random) -> str:
    numbers = " ".join(str(number) for number in rng.sample(range(10, 100), 3))
    return f"{rng.choice(('largest', 'smallest'))} {numbers}"


def _make_count(rng: random.Random) -> str:
    word = list(_word(rng, 4, 6))
    letter = rng.choice(word) if rng.random() < 0.9 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    for _ in range(rng.randint(0, 3)):
        word[rng.randrange(len(word))] = letter
    return f"count {letter} in {''.join(word)}"


KINDS: dict[str, Callable[[random.Random], str]] = {
    "sum": _make_sum,
    "difference": _make_difference,
    "reverse": _make_reverse,
    "sort": _make_sort,
    "extreme": _make_extreme,
    "count": _make_count,
}


def _sum(a: int, b: int) -> str:
    units = a % 10 + b % 10
    tens, carry = a // 10 + b // 10 + units // 10, "+1" if units > 9 else ""
    return f"{a % 10}+{b % 10}={units}, {a // 10}+{b // 10}{carry}={tens}, {a + b}"


def _difference(a: int, b: int) -> str:
    borrows = a % 10 < b % 10
    units, tens = a % 10 + 10 * borrows, a // 10 - b // 10 - borrows
    return f"{units}-{b % 10}={units - b % 10}, {a // 10}-{b // 10}{'-1' * borrows}={tens}, {a - b}"


def _extreme(numbers: Sequence[int], choose: Callable[[int, int], int]) -> str:
    best, work = numbers[0], ""
    for number in numbers[1:]:
        work += f"{best}{'<' if best < number else '>' if best > number else '='}{number}, "
        best = choose(best, number)
    return f"{work}{best}"


def _count(letter: str, word: str) -> str:
    tally = " ".join(f"{seen}{word[: place + 1].count(letter)}" for place, seen in enumerate(word))
    return f"{tally}, {word.count(letter)}"


def solution(problem: str) -> str:
    """The work and the result of `problem`, as the model should write them; the result comes after the last comma."""
    if match := re.fullmatch(r"(\d\d)([+-])(\d\d)", problem):
        a, b = int(match[1]), int(match[3])
        return _sum(a, b) if match[2] == "+" else _difference(a, b)
    verb, _, rest = problem.partition(" ")
    if verb == "reverse":
        return rest[::-1]
    if verb == "sort":
        return "".join(sorted(rest))
    if verb == "count":
        return _count(rest[0], rest[5:])
    return _extreme([int(number) for number in rest.split()], max if verb == "largest" else min)


def result(text: str) -> str:
    """The result in a piece of work: what follows the last comma or colon."""
    return re.split(r"[,:] ", text)[-1]


def make_problems(rng: random.Random, count: int) -> tuple[str, ...]:
    """`count` fresh problems of random kinds."""
    kinds = list(KINDS.values())
    return tuple(rng.choice(kinds)(rng) for _ in range(count))


def opening(problems: Sequence[str]) -> str:
    """The text that opens every view: one numbered problem a line, the last line ended too."""
    return "".join(f"{number}) {problem}\n" for number, problem in enumerate(problems, 1))


# --- an ideal run ---------------------------------------------------------------------------------------------------


def prefix(name: str) -> list[str]:
    """The tokens handed to a worker where a step begins."""
    return ["\n", name, ": "]


@dataclass(frozen=True)
class Block:
    """A run of one worker's tokens; the first `handed` were given to it, not sampled."""

    worker: int
    tokens: tuple[str, ...]
    handed: int

    @property
    def choice(self) -> str | None:
        """The problem number it takes (or "all taken"); None while it is still choosing."""
        return self.tokens[self.handed] if len(self.tokens) > self.handed else None


@dataclass(frozen=True)
class Moment:
    """What is in the cache at one pass."""

    problems: tuple[str, ...]
    done: tuple[Block, ...]
    blocks: tuple[Block, ...]  # one a worker, in declaration order


@dataclass
class _Worker:
    index: int
    tokens: list[str] = field(default_factory=list)
    handed: int = 0
    pending: list[str] = field(default_factory=list)  # tokens that the next pass writes
    script: list[str] = field(default_factory=list)  # the rest of its step, once it has chosen
    stopped: bool = False

    def block(self) -> Block:
        return Block(self.index, tuple(self.tokens), self.handed)


def ideal_choice(problems: Sequence[str], seen: Sequence[Block], own: int) -> str:
    """The lowest free number, past one for every worker before `own` that is choosing too; or "all taken"."""
    taken = {block.choice for block in seen}
    free = [str(number) for number in range(1, len(problems) + 1) if str(number) not in taken]
    skips = sum(block.choice is None and block.worker < own for block in seen)
    return free[skips] if skips < len(free) else TAKEN


def step_tokens(problems: Sequence[str], choice: str) -> list[str]:
    """What a worker samples after its prefix, once it has made its choice."""
    if choice == TAKEN:
        return [TAKEN]
    problem = problems[int(choice) - 1]
    return pieces(f"{choice}) {problem}: {solution(problem)}.")


def simulate(
    rng: random.Random, problems: tuple[str, ...], workers: int, wander: float = 0.0, stall: float = 0.0
) -> Iterator[Moment]:
    """An ideal run, a `Moment` a pass.

    With probability `wander` a worker takes any number instead of the right one, and with probability `stall` it
    skips a pass: both make arrangements that the model should survive, though an ideal run has none of them.
    """
    crew = [_Worker(index, pending=prefix(NAMES[index]), handed=3) for index in range(workers)]
    done: list[Block] = []
    while not all(worker.stopped for worker in crew):
        writes = [worker for worker in crew if not done or rng.random() >= stall]
        for worker in writes:
            worker.tokens += worker.pending
            worker.pending = []
        now = Moment(problems, tuple(done), tuple(worker.block() for worker in crew))
        yield now
        for worker in writes:
            if worker.stopped:
                continue
            if not worker.script:
                seen = [*now.done, *(block for block in now.blocks if block.worker != worker.index)]
                choice = ideal_choice(problems, seen, worker.index)
                if rng.random() < wander:
                    choice = str(rng.randint(1, len(problems)))
                worker.script = step_tokens(problems, choice)
            token = worker.script.pop(0)
            if token == END:
                done.append(worker.block())
                worker.tokens, worker.pending, worker.handed = [], [END, *prefix(NAMES[worker.index])], 4
            else:
                worker.pending, worker.stopped = [token], token == TAKEN


# --- views ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """One worker's view as flat tokens, with its own step carried on to its end; `weights` are for the loss."""

    tokens: tuple[str, ...]
    weights: tuple[float, ...]


CHOICE_WEIGHT = 10.0


def flatten(moment: Moment, own: int, ended: bool = True) -> View:
    """The view of worker `own`; its opening ends with a line feed if `ended`.

    Only tokens that some worker sampled have weight: neither the opening nor what was handed out can be foreseen.
    A choice has weight only where it is the right one for the text in front of it (in `done` it need not be).
    """
    tokens = pieces(opening(moment.problems))[: None if ended else -1]
    weights = [0.0] * len(tokens)
    mine = moment.blocks[own]
    others = [block for block in moment.blocks if block.worker != own and block.tokens]
    seen: list[Block] = []
    choice = mine.choice or ideal_choice(moment.problems, [*moment.done, *others], own)
    whole = Block(own, (*mine.tokens[: mine.handed], *step_tokens(moment.problems, choice)), mine.handed)
    for block in (*moment.done, *others, whole):
        right = block.choice == ideal_choice(moment.problems, seen, block.worker)
        weight = CHOICE_WEIGHT if block is whole else 1.0
        sampled = len(block.tokens) - block.handed
        tokens += block.tokens
        weights += ([0.0] * block.handed + [weight * right] + [1.0] * (sampled - 1))[: len(block.tokens)]
        seen.append(block)
    return View(tuple(tokens), tuple(weights))


def _rarity(moment: Moment, own: int) -> float:
    """How much rather than any other choice to show this one: it must look at what another has only just done."""
    if not moment.done:
        return 1.0
    others = [block for block in moment.blocks if block.worker != own and block.tokens]
    if any(block.choice is None and block.worker < own for block in others):
        return 12.0
    return 4.0 if any(len(block.tokens) <= block.handed + 1 for block in others) else 1.0


def views(rng: random.Random, most_problems: int, per_run: int = 4) -> list[View]:
    """A few views from one random run; most are cut where their worker chooses."""
    workers = rng.randint(1, len(NAMES))
    problems = make_problems(rng, rng.randint(1, most_problems))
    odd = rng.random()
    run = list(simulate(rng, problems, workers, wander=0.15 * (odd < 0.25), stall=0.2 * (odd > 0.7)))
    choosing: list[tuple[Moment, int]] = []
    weights: list[float] = []
    for moment in run:
        for own, block in enumerate(moment.blocks):
            if block.tokens and block.choice is None:
                choosing.append((moment, own))
                weights.append(_rarity(moment, own))
    picks = set(rng.choices(range(len(choosing)), weights, k=per_run - 1))
    chosen = [choosing[pick] for pick in sorted(picks)]
    moment = rng.choice(run)
    live = [block.worker for block in moment.blocks if block.tokens and block.choice != TAKEN]
    if live:
        chosen.append((moment, rng.choice(live)))
    ended = rng.random() < 0.7
    return [flatten(moment, own, ended) for moment, own in chosen]
