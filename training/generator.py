"""Static training text for the embedded model `tiny`.

Everything here is pure Python and deterministic from the random generator that is passed in:

* the token table, and `pieces`, which cuts text into tokens;
* `work`, which solves a problem the way the model should write it;
* `simulate`, an ideal run of workers that share a list of problems, one token per worker per pass;
* `views`, snapshots of such a run: what one worker sees, as flat text;
* `drill`, many questions whether work is redundant, in little text.

The problems are those of `hwlang.evaluation.problems`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from hwlang.evaluation.problems import MOST, SIMPLE, filled, make_chains, make_sums, opening, results, uses

NAMES = ("Alice", "Bob", "Carol", "Dave")
TAKEN = "all taken"
END = "."
PROMPT = "Quick check: am I doing redundant work? (yes/no): "

SPECIAL = ("<unk>", "<pad>", "<eos>")
WORDS = (
    *NAMES,
    TAKEN,
    *("Quick check: ", "am I doing redundant work? ", "(yes/no): "),
    *("reverse ", "sort ", "largest ", "smallest ", "count ", " in ", " ("),
    *(f"#{number}" for number in range(1, MOST + 1)),
    *(") ", ": ", ", ", "? "),
)
CHARACTERS = ("\n", *(chr(code) for code in range(32, 127)))
VOCABULARY = (*SPECIAL, *WORDS, *CHARACTERS)
PIECE = "|".join(re.escape(word) for word in WORDS) + r"|[\s\S]"  # one token: a whole word first, else one character

_PIECE = re.compile(PIECE)


def pieces(text: str) -> list[str]:
    """Cut `text` into the tokens that the tokenizer gives."""
    return _PIECE.findall(text)


# --- work -----------------------------------------------------------------------------------------------------------


def _sum(a: int, b: int) -> str:
    units = a % 10 + b % 10
    tens, carry = a // 10 + b // 10 + units // 10, "+1" if units > 9 else ""
    return f"{a % 10}+{b % 10}={units}, {a // 10}+{b // 10}{carry}={tens}"


def _difference(a: int, b: int) -> str:
    borrows = a % 10 < b % 10
    units, tens = a % 10 + 10 * borrows, a // 10 - b // 10 - borrows
    return f"{units}-{b % 10}={units - b % 10}, {a // 10}-{b // 10}{'-1' * borrows}={tens}"


def _extreme(numbers: Sequence[int], choose: Callable[[int, int], int]) -> str:
    best, compared = numbers[0], []
    for number in numbers[1:]:
        compared.append(f"{best}{'<' if best < number else '>' if best > number else '='}{number}")
        best = choose(best, number)
    return ", ".join(compared)


def work(problem: str) -> str:
    """How a problem that stands by itself (`problems.filled`) is worked out, up to its result."""
    if match := SIMPLE.fullmatch(problem):
        a, b = int(match["left"]), int(match["right"])
        return _sum(a, b) if match["sign"] == "+" else _difference(a, b)
    verb, _, rest = problem.partition(" ")
    if verb == "reverse":
        return ", ".join(rest[::-1])
    if verb == "sort":
        return ", ".join(sorted(rest))
    if verb == "count":
        letter, _, word = rest.partition(" in ")
        return " ".join(f"{seen}{word[: place + 1].count(letter)}" for place, seen in enumerate(word))
    return _extreme([int(number) for number in rest.split()], max if verb == "largest" else min)


def stated(text: str) -> list[tuple[str, str]]:
    """The results that a finished step states for good: (number, result) of the `(#1=85)` at its end."""
    return re.findall(r"\(#(\d)=([^\s)]+)\)\.?$", text)


# --- an ideal run ---------------------------------------------------------------------------------------------------


Layout = Literal["combined", "interleaved", "contiguous", "shuffled"]  # three of the paper (section 3.2), and any order


class Part(Enum):
    """What a token of a worker's step is, which decides whether training may ask for it."""

    GIVEN = "handed to the worker, not sampled"
    PLAIN = "follows from the text of the step itself"
    CHOICE = "the number of a problem, or that all are taken"
    ANSWER = "the first letter of yes or no"
    LOOK = "whether a result that is needed is there"
    COPY = "a result that was read from another step"


@dataclass(frozen=True)
class List:
    """A list of problems with its right results; numbers are 1, 2, ..."""

    problems: tuple[str, ...]
    results: tuple[str, ...]

    @classmethod
    def of(cls, problems: Sequence[str]) -> List:
        return cls(tuple(problems), results(problems))

    def filled(self, number: int) -> str:
        return filled(self.problems[number - 1], self.results)

    def uses(self, number: int) -> int | None:
        return uses(self.problems[number - 1])


@dataclass(frozen=True)
class Token:
    """One token of a step."""

    text: str
    part: Part = Part.PLAIN
    shows: int | None = None  # it is a character of the result of this problem, at the step's end, or what closes it
    needs: int | None = None  # comes only when the result of this problem is there; until then `? #n` comes instead
    about: int | None = None  # it answers whether work on this problem is redundant


@dataclass
class Step:
    """What a worker has written since its step began, and what it is about."""

    worker: int
    tokens: list[Token] = field(default_factory=list)
    number: int | None = None  # the problem it is working on; 0 where all are taken
    choosing: bool = True  # its next token is a choice
    asked: bool = False  # its next token is an answer
    left: tuple[int, ...] = ()  # problems that it gave up in this step
    beside: tuple[Step, ...] = ()  # the others' steps when it made its last choice, or was handed its problem

    @property
    def shown(self) -> int:
        """How many characters of its result are there, and what closes it."""
        return sum(token.shows == self.number for token in self.tokens[-8:]) if self.number else 0

    def copy(self) -> Step:
        other = copy(self)
        other.tokens = list(self.tokens)
        return other


@dataclass(frozen=True)
class Moment:
    """What is in the cache at one pass."""

    asked: List
    done: tuple[Step, ...]
    steps: tuple[Step, ...]  # one a worker, in declaration order; without tokens where it missed its first pass
    scripts: tuple[tuple[Token, ...], ...]  # what each will write next if nobody interrupts it
    finished: tuple[int | None, ...]  # the problem that each worker finished last
    behind: tuple[bool, ...]  # who missed this pass

    def beside(self, own: int) -> tuple[Step, ...]:
        """What the others are writing."""
        return tuple(step for step in self.steps if step.worker != own and step.tokens)

    def seen(self, own: int, layout: Layout = "combined", rng: random.Random | None = None) -> list[Step]:
        """All that worker `own` sees of itself and of the others, except its own step, in the order of the layout.

        With `rng` the others' steps come in any order, and in `shuffled` the finished ones, too; at the start of a run
        some of them are left out. In flat text what a step says of its own next token is not what it says in the cache,
        where all are written at once: so the model learns to look at who is there, not at what they are about to take.
        """
        if layout == "interleaved":
            return list(self.done)
        others = [step for step in self.steps if step.worker != own]
        if rng is not None:
            few = others and not self.done and all(step.choosing for step in self.steps)
            others = rng.sample(others, rng.randint(1, len(others)) if few else len(others))
        order = [*(step.worker for step in others), own]
        others = [step for step in others if step.tokens]
        if layout == "contiguous":
            return sorted([*self.done, *others], key=lambda step: order.index(step.worker))
        if layout == "shuffled" and rng is not None:
            mixed = rng.sample([*self.done, *others], len(self.done) + len(others))
            owns = (step for step in self.done if step.worker == own)  # in order: it may be asked about the last one
            return [next(owns) if step.worker == own else step for step in mixed]
        return [*self.done, *others]


def prefix(name: str) -> list[Token]:
    """The tokens handed to a worker where a step begins."""
    return given(["\n", name, ": "])


def given(texts: Sequence[str]) -> list[Token]:
    """Tokens that a worker is handed."""
    return [Token(text, Part.GIVEN) for text in texts]


def plain(text: str) -> list[Token]:
    """Tokens that follow from what is in front of them."""
    return [Token(piece) for piece in pieces(text)]


def reply(yes: bool) -> list[str]:
    """The answer to the sync prompt; its first letter says all."""
    return pieces("yes\n" if yes else "no\n")


def characters_of(number: int, seen: Sequence[Step]) -> int:
    """How many characters of a result can be read in what is seen; what closes it counts, too."""
    return max((step.shown for step in seen if step.number == number), default=0)


def preferred(asked: List, seen: Sequence[Step]) -> list[int]:
    """The problems that nobody has taken: those that can be done now first, each group from the lowest up."""
    taken = {step.number for step in seen}
    free = [number for number in range(1, len(asked.problems) + 1) if number not in taken]
    later = [n for n in free if (used := asked.uses(n)) is not None and not characters_of(used, seen)]
    return [*(number for number in free if number not in later), *later]


def ideal_choice(asked: List, seen: Sequence[Step], own: Step) -> int:
    """The first preferred problem, past one for every worker before this one that is choosing too; 0: all taken.

    Where nobody has begun anything the workers begin in the order of their names, whoever of the others is seen.
    """
    free = [number for number in preferred(asked, seen) if number not in own.left]
    choosing = {step.worker for step in seen if step.choosing and step.worker != own.worker}
    begun = any(step.number is not None for step in seen)
    skips = own.worker if choosing and not begun else sum(worker < own.worker for worker in choosing)
    return free[skips] if skips < len(free) else 0


def redundant(seen: Sequence[Step], own: Step, finished: int | None) -> bool:
    """Whether another worker has done, or is doing, what this one is doing (at a step's start: has just done).

    Of two that are asked in the same pass, the one declared first goes on.
    """
    number = own.number or finished
    return number is not None and any(
        step.number == number and step.worker != own.worker and not (step.asked and own.worker < step.worker)
        for step in seen
    )


def solving(asked: List, number: int) -> list[Token]:
    """What a worker samples for problem `number`, from its choice to the end of its step; for 0, that all are taken."""
    if number == 0:
        return [Token(TAKEN, Part.CHOICE)]
    used, result = asked.uses(number), asked.results[number - 1]
    tokens = [Token(str(number), Part.CHOICE), *plain(f") {asked.problems[number - 1]}: ")]
    if used is not None:
        tokens += [Token(f"#{used}"), Token("=", Part.LOOK, needs=used)]
        copied = (*asked.results[used - 1], ", ")  # that nothing more is to be copied must be read, too
        tokens += [Token(piece, Part.COPY, needs=used) for piece in copied]
    tokens += plain(f"{work(asked.filled(number))} (#{number}=")
    return [*tokens, *(Token(piece, shows=number) for piece in (*result, ")")), *plain(END)]


@dataclass
class Worker:
    """A worker of an ideal run: its step, what it is handed next, and what it will write if nobody interrupts it."""

    step: Step
    pending: list[Token]
    script: list[Token] = field(default_factory=list)
    finished: int | None = None
    stopped: bool = False

    def next(self, asked: List, seen: Sequence[Step], wish: int | None = None) -> Token:
        """The token it samples now; where it must choose, `wish` is taken instead of the ideal choice."""
        step = self.step
        if step.asked:
            self._answer(redundant(seen, step, self.finished))
        elif step.choosing:
            step.number = ideal_choice(asked, seen, step) if wish is None else wish
            self.script = solving(asked, step.number)
        step.choosing = step.asked = False
        token = self.script.pop(0)
        if token.part is Part.LOOK and token.needs and not characters_of(token.needs, seen):
            self.script = [Token(f"#{token.needs}"), token, *self.script]
            token = Token("? ", Part.LOOK, needs=token.needs)
        if not self.script and token.text == "\n":  # behind an answer
            step.choosing = True
        return token

    def waits(self, now: Moment) -> bool:
        """Whether it is at a result that nobody has begun to write."""
        looks = (token.needs for token in self.script[:2] if token.part is Part.LOOK)
        return any(need and not characters_of(need, (*now.done, *now.steps)) for need in looks)

    def _answer(self, yes: bool) -> None:
        step, about = self.step, self.step.number or self.finished
        if yes and step.number is not None:
            step.left, step.number, self.script = (*step.left, step.number), None, []
        first, *rest = reply(yes)
        self.script = [Token(first, Part.ANSWER, about=about), *map(Token, rest), *self.script]

    def written(self) -> Step:
        """Its step as it is in the cache now."""
        step = self.step.copy()
        if any(token.part is Part.CHOICE for token in self.pending):
            step.number, step.choosing = None, True
        return step

    def ends_step(self) -> Step:
        """Close the step; the next one begins with the token that ended it."""
        done, index = self.step, self.step.worker
        self.finished = done.number
        self.step, self.pending = Step(index), [*given([END]), *prefix(NAMES[index])]
        return done


@dataclass(frozen=True)
class Manner:
    """How a run departs from the ideal, so that the model survives what an ideal run never has."""

    wander: float = 0.0  # probability that a worker takes any number it could begin
    leaves: float = 0.0  # probability that a worker that chooses says that all are taken, be it true or not
    stall: float = 0.0  # probability that a worker misses a pass
    asks: float = 0.0  # probability per pass that a worker is asked whether its work is redundant
    starts: float = 0.0  # probability that a worker is asked where a step begins
    lead: str = "\n"  # in front of that question in the middle of a step
    every: int = 0  # tokens handed to the workers until the next that begins a step is asked; 0: nobody is, for that
    begins: tuple[int | None, ...] = ()  # the problem that each worker is handed at the start


@dataclass
class SyncCounter:
    """A program's `sync every N tokens`: how many tokens the workers were handed since one was last asked."""

    every: int
    handed: int = 0

    def falls_due(self) -> bool:
        """Whether to ask the worker that begins a step now; the count begins anew then."""
        due = 0 < self.every < self.handed
        self.handed = 0 if due else self.handed
        return due


def simulate(rng: random.Random, asked: List, workers: int, manner: Manner = Manner()) -> Iterator[Moment]:
    """A run, a `Moment` a pass. It ends where all wait for one another, which those who wander may come to."""
    crew = [Worker(Step(index), prefix(NAMES[index])) for index in range(workers)]
    _hand_out(crew, asked, manner.begins)
    done: list[Step] = []
    counter = SyncCounter(manner.every)
    while not all(worker.stopped for worker in crew):
        writes = [worker for worker in crew if not done or rng.random() >= manner.stall]
        for worker in writes:
            worker.step.tokens += worker.pending
            worker.pending = []
        now = Moment(
            asked,
            tuple(done),
            tuple(worker.written() for worker in crew),
            tuple(tuple(worker.script) for worker in crew),
            tuple(worker.finished for worker in crew),
            tuple(bool(worker.pending) for worker in crew),
        )
        yield now
        if all(worker.stopped or worker.waits(now) for worker in crew):
            return
        for worker in writes:
            if not worker.stopped:
                _advance(rng, worker, now, manner, counter, done)
                counter.handed += len(worker.pending)


def _hand_out(crew: Sequence[Worker], asked: List, begins: Sequence[int | None]) -> None:
    """Hand the workers their first problems, all at once: each finds the others with theirs beside it."""
    for worker, number in zip(crew, begins, strict=False):
        if number is not None:
            _hand(worker, asked, number)
    there = [replace(worker.step, tokens=list(worker.pending)) for worker in crew]
    for worker in crew:
        worker.step.beside = tuple(step for step in there if step.worker != worker.step.worker)


def _hand(worker: Worker, asked: List, number: int) -> None:
    """Let a worker begin with a problem that it did not choose."""
    script = solving(asked, number)
    cut = 1 + len(pieces(f") {asked.problems[number - 1]}: "))
    worker.pending = [*worker.pending, *given([token.text for token in script[:cut]])]
    worker.script, worker.step.number, worker.step.choosing = script[cut:], number, False


def _advance(
    rng: random.Random, worker: Worker, now: Moment, manner: Manner, counter: SyncCounter, done: list[Step]
) -> None:
    seen, wish = now.seen(worker.step.worker), None
    if worker.step.choosing:
        worker.step.beside = now.beside(worker.step.worker)
        wish = _anything(rng, now.asked, seen) if rng.random() < manner.wander else None
        wish = 0 if manner.leaves and rng.random() < manner.leaves else wish
    token = worker.next(now.asked, seen, wish)
    if token.text == END:
        done.append(worker.ends_step())
        if rng.random() < manner.starts or counter.falls_due():
            _ask(worker, "")
        return
    worker.pending, worker.stopped = [token], token.text == TAKEN
    if rng.random() < manner.asks and _may_be_asked(worker, token):
        _ask(worker, manner.lead)


def _may_be_asked(worker: Worker, token: Token) -> bool:
    """Not in the middle of an answer, nor of a result, which others may be reading."""
    answering = any(following.text == "\n" for following in worker.script)
    concluding = token.shows or any(following.shows for following in worker.script[:1])
    return not (worker.stopped or worker.step.choosing or answering or concluding)


def _anything(rng: random.Random, asked: List, seen: Sequence[Step]) -> int | None:
    """Any number whose result will not be waited for in vain."""
    begun = {step.number for step in seen}
    open_to = [n for n in range(1, len(asked.problems) + 1) if (used := asked.uses(n)) is None or used in begun]
    return rng.choice(open_to) if open_to else None


def _ask(worker: Worker, lead: str) -> None:
    worker.pending = [*worker.pending, *given(pieces(lead + PROMPT))]
    worker.step.asked, worker.step.choosing = True, False


# --- views ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """One worker's view as flat tokens, with its own step carried on; `weights` are for the loss."""

    tokens: tuple[str, ...]
    weights: tuple[float, ...]


RECALLS = 0.6  # of the texts have glimpses
GLIMPSES = 0.8  # of the steps in those have some

WRITTEN = 4.0  # weight of a decision in what has been written already
OWN = {Part.GIVEN: 0.0, Part.PLAIN: 1.0, Part.CHOICE: 20.0, Part.ANSWER: 20.0, Part.LOOK: 4.0, Part.COPY: 2.0}


def carried_on(now: Moment, own: int, seen: Sequence[Step]) -> list[Token]:
    """What worker `own` goes on to write if nobody else does: to the end of its step, or of what it can read."""
    worker = Worker(now.steps[own].copy(), [], list(now.scripts[own]), now.finished[own])
    tokens: list[Token] = []
    while not tokens or tokens[-1].text not in (END, TAKEN, "? "):
        token = worker.next(now.asked, seen)
        if token.part is Part.COPY and token.needs is not None:
            recent = (*worker.step.tokens[-8:], *tokens[-8:])
            if sum(t.part is Part.COPY for t in recent) >= characters_of(token.needs, seen):
                break
        tokens.append(token)
    return tokens


def flatten(
    now: Moment, own: int, seen: Sequence[Step], ended: bool = True, recalls: random.Random | None = None
) -> View:
    """The view of worker `own`: the list, what it has `seen`, its own step; the list ends with a line feed if `ended`.

    With `recalls`, glimpses of the others come in front of a step: how they stood when it made its choice. In the cache
    a step has seen just that, be it as stale as it may; so the model learns not to take it for what is there now. They
    have no weight, as they could be copied.

    Only tokens that some worker sampled have weight: neither the opening nor what was handed out can be foreseen. In
    what has been written already, a decision has weight only where it is the right one for the text in front of it, and
    whatever hung on text that is not in front of it has none.
    """
    texts = pieces(opening(now.asked.problems))[: None if ended else -1]
    weights = [0.0] * len(texts)
    for index, step in enumerate((*seen, now.steps[own])):
        glimpses = _glimpses(recalls, now, own, step) if recalls else []
        texts += (token.text for glimpse in glimpses for token in glimpse.tokens)
        weights += [0.0] * (len(texts) - len(weights))
        texts += (token.text for token in step.tokens)
        weights += _weights(now.asked, seen[:index], glimpses, step)
    tail = carried_on(now, own, seen)
    texts += (token.text for token in tail)
    weights += (OWN[token.part] for token in tail)
    return View(tuple(texts), tuple(weights))


def _glimpses(rng: random.Random, now: Moment, own: int, step: Step) -> list[Step]:
    """The others as `step` found them when it made its choice, once or twice, in any order."""
    there = now.beside(step.worker) if step.choosing else step.beside
    if rng.random() >= GLIMPSES or (step.choosing and step.worker == own):  # what it finds now is in front of it anyway
        return []
    return [_glimpse(rng, other) for _ in range(rng.randint(1, 2)) for other in rng.sample(there, len(there))]


def _glimpse(rng: random.Random, step: Step) -> Step:
    """A step that is choosing, or one up to just behind its choice: in its text the rest says nothing new."""
    short = step.copy()
    if not step.choosing:
        chosen = [index for index, token in enumerate(step.tokens) if token.part is Part.CHOICE]
        short.tokens = step.tokens[: max(chosen, default=8) + rng.randint(1, 8)]
    return short


def _weights(asked: List, before: Sequence[Step], glimpses: Sequence[Step], step: Step) -> list[float]:
    """For the loss on what has been written already."""
    rights = {ideal_choice(asked, seen, Step(step.worker)) for seen in (before, (*before, *glimpses))}
    right = str(rights.pop() or TAKEN) if len(rights) == 1 else ""
    return [_weight(token, asked, before, glimpses, step, right) for token in step.tokens]


def _weight(
    token: Token, asked: List, before: Sequence[Step], glimpses: Sequence[Step], step: Step, right: str
) -> float:
    """Nothing where a token cannot be told from the text in front of it."""
    if token.part is Part.CHOICE:
        return WRITTEN * (token.text == right)
    if token.part is Part.ANSWER:
        there = [
            any(other.number == token.about and other.worker != step.worker for other in seen)
            for seen in (before, (*before, *glimpses))
        ]
        return WRITTEN * all(yes == (token.text == "y") for yes in there)
    if token.needs is not None:
        whole = characters_of(token.needs, before) > len(asked.results[token.needs - 1])
        return float(whole and token.text != "? ")
    return float(token.part is Part.PLAIN)


@dataclass(frozen=True)
class Mix:
    """How much there is of what in the texts of a part of the training."""

    ends: float = 1.0  # how much rather than any other choice to show the one that all are taken
    busy: float = 1.0  # and how much more where another is still at work
    last: float = 1.0  # and the one where only one or two are left
    starts: tuple[float, ...] = (0.2, 0.5)  # probability that a worker is asked where a step begins, one of these
    drills: float = 0.0  # probability of drills instead of views of a run
    long: float = 0.0  # probability that a list is one of the longest there may be
    hard: float = 0.0  # probability that a problem which can be made harder is
    synced: float = 0.0  # probability that workers are asked as a program asks; all they do wrong is to leave too early


def _rarity(now: Moment, own: int, mix: Mix) -> float:
    """How much rather than any other choice to show this one.

    It must look at what another has only just done, or pass over a problem whose needs are not met.
    """
    others = [step for step in now.steps if step.worker != own and step.tokens]
    free = preferred(now.asked, now.seen(own))
    if not free:
        return mix.ends * (mix.busy if any(step.number != 0 for step in others) else 1.0)
    reordered = 6.0 if free != sorted(free) else 1.0
    if len(free) <= 2 < len(now.asked.problems):  # to be told from none
        reordered *= mix.last
    if not now.done:
        return 2.0 * reordered
    if any(step.choosing and step.worker < own for step in others):
        return 12.0
    return 4.0 if any(len(step.tokens) <= 5 for step in others) else reordered


def harder(rng: random.Random, problems: Sequence[str], share: float) -> list[str]:
    """Some of the problems that no other uses made harder: numbers to compare that are close, digits that repeat."""
    used = {uses(problem) for problem in problems}
    made = []
    for number, problem in enumerate(problems, 1):
        verb, _, rest = problem.partition(" ")
        if share and number not in used and verb in ("largest", "smallest", "sort") and rng.random() < share:
            problem = f"{verb} {_repeated(rng, len(rest)) if verb == 'sort' else _close(rng)}"
        made.append(problem)
    return made


def _close(rng: random.Random) -> str:
    low = rng.randint(10, 88)
    return " ".join(str(number) for number in rng.sample(range(low, low + 12), 3))


def _repeated(rng: random.Random, length: int) -> str:
    digits = rng.sample("0123456789", 3)
    return "".join(rng.choice(digits) for _ in range(length))


def _manner(rng: random.Random, asked: List, workers: int, chained: bool, mix: Mix) -> Manner:
    if mix.synced and rng.random() < mix.synced:
        return Manner(every=rng.choice((32, 64, 64, 128)), leaves=rng.choice((0.0, 0.1)))
    kind = rng.random()
    if kind < 0.2:
        return Manner()
    if kind < 0.3:
        return Manner(wander=0.15)
    if kind < 0.35 and not chained:  # a worker that reads a result must not overtake the one that writes it
        return Manner(stall=0.2)
    begins: tuple[int | None, ...] = ()
    if kind > 0.5:
        alone = [n for n in range(1, len(asked.problems) + 1) if asked.uses(n) is None]
        first = rng.choice(alone)
        begins = tuple(rng.choice((first, first, rng.choice(alone), None)) for _ in range(workers))
    lead, asks = rng.choice(("\n", "\n", "\n", "", " ")), rng.choice((0.02, 0.05, 0.1))
    return Manner(wander=0.3, asks=asks, starts=rng.choice(mix.starts), lead=lead, begins=begins)


def views(rng: random.Random, most_problems: int, mix: Mix = Mix()) -> list[View]:
    """A few views from one random run; most are cut where their worker has something to decide."""
    workers, count = rng.randint(1, len(NAMES)), rng.randint(1, most_problems)
    if mix.long and rng.random() < mix.long:
        count = rng.randint(max(1, most_problems - 2), most_problems)
    chained = rng.random() < 0.5
    asked = List.of(harder(rng, (make_chains if chained else make_sums)(rng, count), mix.hard))
    if mix.drills and rng.random() < mix.drills:
        return [drill(rng, asked) for _ in range(4)]
    run = list(simulate(rng, asked, workers, _manner(rng, asked, workers, chained, mix)))
    layout: Layout = rng.choices(("combined", "shuffled", "contiguous", "interleaved"), (38, 38, 17, 7))[0]
    ended, recalls = rng.random() < 0.7, rng if layout != "interleaved" and rng.random() < RECALLS else None
    return [
        flatten(run[index], own, run[index].seen(own, layout, rng), ended, recalls)
        for index, own in _cuts(rng, run, mix)
    ]


def _cuts(rng: random.Random, run: Sequence[Moment], mix: Mix) -> list[tuple[int, int]]:
    """Where to cut a run: (pass, worker), each once; of each kind of decision some, and any one place."""
    choices, rarities, looks, others = [], [], [], []
    answers: dict[tuple[bool, bool], list[tuple[int, int]]] = {}  # by where the question is asked, and by the answer
    for index, now in enumerate(run):
        for own, step in enumerate(now.steps):
            place = (index, own)
            if not step.tokens or step.number == 0 or now.behind[own]:
                continue
            if step.choosing:
                choices.append(place)
                rarities.append(_rarity(now, own, mix))
            elif step.asked:
                kind = (step.number is None, redundant(now.seen(own), step, now.finished[own]))
                answers.setdefault(kind, []).append(place)
            elif now.scripts[own][0].part is Part.LOOK:
                looks.append(place)
            else:
                others.append(place)
    picked = rng.choices(choices, rarities, k=3)
    kinds = rng.choices(list(answers), [2 if yes else 1 for _, yes in answers], k=6) if answers else []
    picked += [rng.choice(answers[kind]) for kind in kinds]
    picked += rng.choices(looks, k=1) if looks else []
    picked += rng.choices(others, k=1) if others else []
    return list(dict.fromkeys(picked))


# --- drills ---------------------------------------------------------------------------------------------------------


def drill(rng: random.Random, asked: List) -> View:
    """Questions and their answers, one after another: steps that workers begin, and may end, in no sensible order.

    A view of a run has one question to be answered, after some 200 tokens, and the answer is rarely yes. Here there is
    one every 40 tokens or so, and yes is somewhat more frequent than no.
    """
    tokens = given(pieces(opening(asked.problems))[: rng.choice((None, -1))])
    begun: list[tuple[str, int]] = []  # whose step, and its problem, without those that were given up
    finished: dict[str, int] = {}  # who is between two steps, and the problem of the last one
    for _ in range(rng.randint(4, 14)):
        if finished and rng.random() < 0.4:
            name = rng.choice(list(finished))
            tokens += [*prefix(name), *_quizzed(_doubled(begun, name, finished.pop(name)))]
            continue
        name, number = _begins(rng, asked, begun)
        finished.pop(name, None)
        written = [token.text for token in solving(asked, number)]
        short = rng.randint(1, 8)
        cut = rng.choice((short, short, rng.randrange(1, len(written)), len(written)))
        tokens += [*prefix(name), *given(written[:cut])]
        if cut == len(written):
            finished[name] = number
        elif rng.random() < 0.7:
            yes = _doubled(begun, name, number)
            tokens += [*given([rng.choice(("\n", "\n", " "))]), *_quizzed(yes)]
            if yes:
                continue
        begun.append((name, number))
    return View(tuple(token.text for token in tokens), tuple(OWN[token.part] for token in tokens))


def _begins(rng: random.Random, asked: List, begun: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """Who begins what: often a problem that somebody has begun."""
    name = rng.choice(NAMES)
    theirs = [number for worker, number in begun if worker != name]
    return name, rng.choice(theirs) if theirs and rng.random() < 0.5 else rng.randint(1, len(asked.problems))


def _doubled(begun: Sequence[tuple[str, int]], name: str, number: int) -> bool:
    return any(worker != name and other == number for worker, other in begun)


def _quizzed(yes: bool) -> list[Token]:
    """The question, and its answer."""
    first, *rest = reply(yes)
    return [*given(pieces(PROMPT)), Token(first, Part.ANSWER), *given(rest)]
