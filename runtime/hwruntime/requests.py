"""What coroutines ask of the passes, as pure bookkeeping: the part that a `Session` plays for a run of a program.

A coroutine hands in a `Request` for each pass that it takes part in, and waits. All of one event loop's are rows of one
pass, laid out in the order of the blocks, not in that of the coroutines:

    requests.ask(request), ...
    requests.begin(): carry out requests.edits in the cache, run requests.rows, requests.advance(their outcomes)
    requests.end(): those that have an outcome now, or an error

Only `advance` and `stop` are called in the thread that makes the pass; all else is, by the thread of the event loop.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal, Protocol

from hwruntime.errors import HwError, InputError, PoolFull, RunError
from hwruntime.result import Reason
from hwruntime.rows import AnyEdit, Block, ClearBlock, CopyTokens, Draw, MoveBlock, Outcome, Row, again_row, whole_row
from hwruntime.tokenizer import Detokenizer, Message, Tokenizer
from hwruntime.worker import completes

Ending = Literal["stop", "max_tokens", "end"]
LIMITS = {  # of what says how tokens are drawn: the least, the most, and in words
    "temperature": (0, inf, "0 or more"),
    "top_p": (0, 1, "more than 0 and at most 1"),
    "top_k": (1, inf, "1 or more"),
    "min_p": (0, 1, "between 0 and 1"),
    "seed": (0, inf, "0 or more"),
}


@dataclass(eq=False)
class OpenBlock(Block):
    """A block that coroutines write. `waiting`: tokens that were said or sampled and are not in the cache yet; `drawn`:
    how many were sampled; `writer`: the request that is writing it."""

    home: "Requests" = field(kw_only=True, repr=False)
    number: int = 0  # in the order of making
    waiting: list[int] = field(default_factory=list)
    drawn: int = 0
    closed: bool = False
    error: HwError | None = None  # what closed it, if it was one
    writer: "Request | None" = None
    voice: Detokenizer = field(kw_only=True)


class Kept(Protocol):
    """Blocks that are kept for requests to come. Real: `prefixes.Prefixes`."""

    def drop_oldest(self) -> OpenBlock | None:
        """Forget one that nobody uses: its pages are needed. Called in the thread that makes the pass."""


@dataclass(eq=False)
class Request:
    """To write what waits for the last block of `view`, and draw the token that follows with `draw`; or, with
    `choices`, to see which of them follows `question`, which is not kept.

    `seen` [len(view)] limits how many tokens of a block are seen, as in a row. `score_from`: the first token of the
    written block after which it is wanted how likely the one that waits behind it was; `scores` has those.
    """

    view: tuple[OpenBlock, ...]
    draw: Draw | None = None
    seen: tuple[int | None, ...] | None = None
    score_from: int | None = None
    scores: list[float] = field(default_factory=list)
    question: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()
    number: int = 0  # in the order of asking
    row: Row | None = None  # of the pass under way
    outcome: Outcome | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or self.outcome is not None

    @property
    def place(self) -> tuple[int, int]:
        """In a pass: what is only written, who goes on, questions; each in the order of their blocks."""
        return (2 if self.choices else 1 if self.draw else 0), self.view[-1].number


@dataclass(eq=False)
class Writing:
    """A text that one coroutine has sampled: how it is drawn, and where it ends."""

    view: tuple[OpenBlock, ...]
    stop: tuple[str, ...]
    most: float  # tokens
    draw: Draw
    text: str = ""
    tokens: int = 0
    ending: Ending | None = None

    def request(self) -> Request:
        """For the next token."""
        return Request(self.view, replace(self.draw, counter=self.view[-1].drawn))

    def hear(self, token: int) -> str | None:
        """Take the token that was sampled; its text, or None for one that ends the writing and is none of it."""
        block = self.view[-1]
        if token in block.home.tokenizer.end_tokens:
            self.ending = "end"
            return None
        delta = block.voice.add([token])
        self.tokens += 1
        if any(completes(self.text, delta, stop) is not None for stop in self.stop):
            self.ending = "stop"
        elif self.tokens >= self.most:
            self.ending = "max_tokens"
        self.text += delta
        return delta


class Requests:
    """What the coroutines of one event loop ask of an engine. `context`: the longest view, `chunk`: the most of a text
    that one pass encodes, in tokens."""

    openings: Sequence[Row] = ()
    reason: Reason | None = None

    def __init__(self, tokenizer: Tokenizer, context: int, chunk: int) -> None:
        self.tokenizer = tokenizer
        self.edits: deque[AnyEdit] = deque()
        self.rows: tuple[Row, ...] = ()
        self._context = context
        self._chunk = chunk
        self._made = 0  # blocks
        self._asked = 0
        self.error: BaseException | None = None  # after which nothing can be asked
        self.kept: Kept | None = None
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._came: Sequence[Outcome] = ()

    # --- Blocks ---

    def block(self, name: str) -> OpenBlock:
        self._made += 1
        return OpenBlock(name, home=self, number=self._made, voice=Detokenizer(self.tokenizer))

    def check(self, *blocks: OpenBlock) -> None:
        """Raises `InputError` for a block that is closed or somebody else's, or the error that closed it."""
        for block in blocks:
            if error := block.error or block.home.error:
                raise error
            if block.home is not self:
                help = "a block belongs to the engine that made it, and to the event loop that ran then"
                raise InputError(f"the block `{block.name}` is of another engine or event loop", help)
            if block.closed:
                raise InputError(f"the block `{block.name}` is closed", "its part of the cache is given back")

    def say(self, block: OpenBlock, tokens: Sequence[int]) -> None:
        """Have tokens written with the next pass that writes the block."""
        self.check(block)
        block.waiting += tokens
        block.voice.add(tokens)

    def check_move(self, source: OpenBlock, target: OpenBlock) -> None:
        """Raises `InputError`."""
        self.check(source, target)
        if source is target:
            raise InputError(f"the block `{source.name}` is moved to itself")

    def check_free(self, block: OpenBlock) -> None:
        """Raises `InputError` for a block that a coroutine writes."""
        self.check(block)
        if block.writer:
            help = "one coroutine writes a block at a time; what another one has to add, it can `say`"
            raise InputError(f"the block `{block.name}` is being written by another coroutine", help)

    def move(self, source: OpenBlock, target: OpenBlock) -> None:
        """Append what the cache has of a block to another (rule 4), before the next pass."""
        if source.tokens:
            target.tokens.extend(source.tokens)
            source.tokens.clear()
            self.edits.append(MoveBlock(source, target))

    def copy(self, source: OpenBlock, tokens: range, target: OpenBlock) -> None:
        """Append some of what the cache has of a block to another, before the next pass."""
        target.tokens.extend(source.tokens[tokens.start : tokens.stop])
        self.edits.append(CopyTokens(source, tokens.start, tokens.stop, target))

    def clear(self, block: OpenBlock) -> None:
        """Empty a block, before the next pass."""
        block.tokens.clear()
        block.waiting.clear()
        self.edits.append(ClearBlock(block))

    def drop(self, block: Block) -> None:
        """Give a block's pages back, for good."""
        self.edits.append(ClearBlock(block, for_good=True))

    # --- Requests ---

    def text(self, view: Sequence[OpenBlock], texts: Sequence[tuple[str, str]], opening: bool) -> Request | None:
        """Texts (role, text) that stand together, to be written to the last block of a view; None where nothing is to
        be written. Raises `InputError`, and `RunError` where chat has no template."""
        self.check(*view)
        self.check_free(view[-1])
        self.say(view[-1], self.tokenizer.encode_constants([Message(*text) for text in texts], opening))
        return Request(tuple(view)) if view[-1].waiting else None

    def writing(
        self,
        view: Sequence[OpenBlock],
        into: OpenBlock | None,
        stop: Sequence[str],
        most: int | None,
        stream: int | None,
        sampling: Mapping[str, object],
    ) -> Writing:
        """A text to be sampled. Without `stream`, workers that see each other have streams of their own, whatever else
        there is. Raises `InputError`."""
        self._check_view(view)
        if into not in (None, view[-1]):
            raise InputError("`into` is not the last block of the view", help="a view's last block is where is written")
        if not all(stop):
            raise InputError("a text to stop at is empty")
        if most is not None and most < 1:
            raise InputError(f"max_tokens is {most}: give at least 1")
        numbers = {name: in_range(name, value) for name, value in sampling.items()}
        own = sorted(block.number for block in view).index(view[-1].number) if stream is None else stream
        draw = Draw(
            temperature=numbers.get("temperature", 1.0 if numbers.keys() - {"seed"} else 0.0),
            top_p=numbers.get("top_p", 1.0),
            top_k=int(numbers.get("top_k", 0)),
            min_p=numbers.get("min_p", 0.0),
            seed=int(numbers.get("seed", 0)),
            stream=own,
            counter=0,
            banned=frozenset(),
        )
        return Writing(tuple(view), tuple(stop), inf if most is None else most, draw)

    def question(self, view: Sequence[OpenBlock], text: str, choices: Sequence[str]) -> Request:
        """Which of the choices follows a text behind a view. Raises `InputError`."""
        self._check_view(view)
        tokens, firsts = self.tokenizer.encode(text), [self.tokenizer.encode(choice)[:1] for choice in choices]
        if not tokens:
            raise InputError("the question is empty", help="end it where one of the choices would follow")
        if len(choices) < 2 or not all(firsts):
            raise InputError("a question has two choices or more, and none is empty")
        if len({first for (first,) in firsts}) < len(choices):
            raise InputError(
                f"two of the choices {', '.join(map(repr, choices))} start with the same token, so this model cannot "
                "tell them apart",
                help="choose words that start differently",
            )
        return Request(tuple(view), question=tuple(tokens), choices=tuple(first for (first,) in firsts))

    def ask(self, request: Request) -> None:
        """Take a request; it is in the passes from the next one on. Raises `InputError`, `RunError`."""
        self._check_view(request.view)
        block = request.view[-1]
        if not request.choices:
            self.check_free(block)
            if not block.waiting and not any(each.tokens for each in request.view):
                raise RunError(f"the block `{block.name}` has no text to start from", "prefill a block of its view")
            block.writer = request
        self._asked += 1
        request.number = self._asked
        self._waiting.append(request)

    def withdraw(self, request: Request) -> None:
        """Forget a request. A row of it that is under way is written, but nothing is sampled."""
        if request in self._waiting:
            self._waiting.remove(request)
            self._leave(request)

    def fail(self, error: BaseException) -> None:
        """Nothing can be asked any more; those that wait get the error."""
        self.error = error
        for request in self._waiting:
            request.error = request.error or error

    # --- A pass ---

    def begin(self) -> bool:
        """Lay out rows for all that wait; whether there are any. Those that cannot go on have an error then."""
        self._running, self._came = [], ()
        for request in sorted(self._waiting, key=lambda each: each.place):
            try:
                self.check(*request.view)
                request.row = self._row(request)
                self._running.append(request)
            except HwError as error:
                request.error = error
        self.rows = tuple(request.row for request in self._running if request.row)
        return bool(self.rows)

    def advance(self, outcomes: Sequence[Outcome]) -> None:
        """Take what came of the rows, in their order."""
        self._came = outcomes
        for row in self.rows:
            if row.block.kind == "throw-away":
                self.drop(row.block)

    def end(self) -> list[Request]:
        """What the pass wrote is in the cache now, if it came to one; the requests that wait no longer."""
        for request, outcome in zip(self._running, self._came, strict=False):
            self._commit(request, outcome)
        self._running, self.rows = [], ()
        done = [request for request in self._waiting if request.done]
        self._waiting = [request for request in self._waiting if not request.done]
        for request in done:
            self._leave(request)
        return sorted(done, key=lambda each: each.place)

    def stop(self, reason: Reason) -> None:
        """Say that there is no room, and nobody to make any: what was asked for last gets an error, nobody else."""
        error = PoolFull("the cache has no room for this", "close blocks that are not needed, or raise kv_tokens")
        match self.edits[0] if self.edits else None:
            case MoveBlock(source=OpenBlock() as source, target=OpenBlock() as target):
                self.edits.popleft()
                for block in (source, target):  # of neither is known how much it has
                    block.error = error
                    self.drop(block)
            case CopyTokens(target=OpenBlock() as target):
                self.edits.popleft()
                target.error = error
                self.drop(target)
            case _:
                max(self._running, key=lambda each: each.number).error = error

    def usual_load(self) -> tuple[int, int]:
        """How many rows the pass has, and the tokens that they see."""
        return len(self.rows), sum(row.length for row in self.rows)

    def close(self, error: HwError | None = None) -> None:
        """Nobody keeps a log of this."""

    def _row(self, request: Request) -> Row:
        """A request's row in the coming pass. Raises `RunError`."""
        block = request.view[-1]
        row: Row | None
        if request.choices:
            view = (*request.view, Block("probe", "throw-away"))
            row = whole_row(block.name, view, request.question, choices=request.choices)
        elif block.waiting:
            whole = len(block.waiting) <= self._chunk
            row = whole_row(block.name, request.view, block.waiting[: self._chunk], request.draw if whole else None)
            row = replace(row, seen=request.seen or row.seen, scored=scored(block, len(row.tokens), request.score_from))
        else:
            assert request.draw, "there is something to write"
            row = again_row(block.name, request.view, request.draw)
        if row is None:
            raise RunError(f"the block `{block.name}` has no text to start from", "prefill a block of its view")
        if row.length > self._context:
            message = f"the view of `{block.name}` has {row.length} tokens, the model's context is {self._context}"
            raise RunError(message, "move less into it, or take a model with a longer context")
        return row

    def _commit(self, request: Request, outcome: Outcome) -> None:
        """A request's tokens are in the cache. Only one that still waits has its outcome."""
        assert request.row, "it has run"
        block = request.view[-1]
        if request.row.block is block:
            block.tokens.extend(request.row.tokens)
            del block.waiting[: len(request.row.tokens)]
            request.scores += outcome.scores
        if request not in self._waiting:
            return
        if request.choices or request.row.draw or not (request.draw or block.waiting):
            request.outcome = outcome
        if request.row.draw:
            block.drawn += 1
            if outcome.token not in self.tokenizer.end_tokens:
                block.waiting.insert(0, outcome.token)  # before what was said while the pass was under way

    def _leave(self, request: Request) -> None:
        if request.view[-1].writer is request:
            request.view[-1].writer = None

    def _check_view(self, view: Sequence[OpenBlock]) -> None:
        if not view:
            raise InputError("the view is empty", help="its last block is where is written")
        self.check(*view)


def scored(block: OpenBlock, tokens: int, start: int | None) -> tuple[tuple[int, int], ...]:
    """Of the next tokens that a block is written, from `start` in the block on: their index, and what waits behind."""
    if start is None:
        return ()
    first = max(0, start - len(block.tokens))
    return tuple((index, block.waiting[index + 1]) for index in range(first, min(tokens, len(block.waiting) - 1)))


def in_range(name: str, value: object) -> float:
    """The value of a setting. Raises `InputError`."""
    if name not in LIMITS:
        raise InputError(f"there is no `{name}` in sampling", help=f"there is {', '.join(LIMITS)}")
    least, most, told = LIMITS[name]
    if not isinstance(value, int | float) or not least <= value <= most or (name == "top_p" and not value):
        raise InputError(f"`{name}` is {told}, not {value!r}")
    return value
