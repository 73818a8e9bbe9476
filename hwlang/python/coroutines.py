"""Blocks and coroutines, for what no declarative program can say: who sees what is decided while it runs.

async def main():
    with engine.block("prompt") as prompt, engine.block("Ann") as ann:
        await engine.prefill(prompt, hw.user("..."))
        async for token in engine.generate([prompt, ann], stop="\\n\\n"):
            ...

The memory model is that of programs. The coroutines of one event loop share their passes with each other and with the
programs that run: a pass begins when all that can go on wait for one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias, Unpack
from weakref import finalize

from hwlang import syntax
from hwlang.python.places import here
from hwlang.python.runs import Party, Run, Turns
from hwlang.python.values import misfit, shown_type

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from hwlang.python.crews import SamplingOptions
    from hwruntime.batch import Visit
    from hwruntime.requests import Ending, OpenBlock, Request, Writing
    from hwruntime.rows import Outcome

QUIET = 8  # turns of an event loop in which nobody asks for anything: all who can go on wait for a pass
Said: TypeAlias = "str | syntax.Constant"


@dataclass(frozen=True)
class Token:
    """A token that was sampled: what it adds to the text (nothing, while a character is not whole) and its id.

    >>> hw.Token("a", 7).text
    'a'
    """

    text: str
    id: int


class Block:
    """A block that coroutines write and see, made by `engine.block`. Its pages are free when it is closed (`close`,
    `with`), or when nobody holds it any more and the next pass is made.

    >>> import asyncio
    >>> engine = hw.Engine("tiny")
    >>> async def write():
    ...     with engine.block("Ann") as ann:
    ...         await engine.prefill(ann, "1) reverse abc")
    ...         return ann.text, ann.length
    >>> asyncio.run(write())
    ('1) reverse abc', 6)
    """

    def __init__(self, desk: Desk, name: str) -> None:
        self._desk = desk
        self._block = desk.requests.block(name)
        self._drop = finalize(self, leave, desk.turns, desk.runtime, self._block)
        self._drop.atexit = False

    @property
    def name(self) -> str:
        return self._block.name

    @property
    def text(self) -> str:
        """All that is written, with what waits for the next pass that writes the block: others do not see that yet."""
        return self._desk.requests.tokenizer.decode(self._tokens)

    @property
    def length(self) -> int:
        """Tokens of `text`."""
        return len(self._tokens)

    @property
    def _tokens(self) -> Sequence[int]:
        return self._block.tokens + self._block.waiting

    def say(self, text: str) -> None:
        """Have a text written with the next pass that writes the block, by whichever coroutine. It is tokenized by
        itself. Raises `InputError` where the block is closed."""
        self._desk.requests.say(self._block, self._desk.requests.tokenizer.encode(text))

    def close(self) -> None:
        """Give its pages back, after the pass that is under way. Whoever waits to write or see it gets `InputError`."""
        self._block.closed = True
        self._desk.when_idle(self._close)

    def _close(self) -> None:
        self._drop()
        self._desk.turns.tidy()

    def __enter__(self) -> Block:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Block({self.name!r}, length={self.length})"


class Generation(AsyncIterator[Token]):
    """A text that is being sampled, token by token; made by `engine.generate`. Each token is one pass.

    `text`: what there is of it. `ending`: `stop`, `max_tokens`, or `end` for the model's own end; None before.

    >>> import asyncio
    >>> engine = hw.Engine("tiny")
    >>> async def write():
    ...     with engine.block() as ann:
    ...         ann.say("1) 47+38\\n\\nAlice: ")
    ...         generation = engine.generate([ann], max_tokens=4)
    ...         return [token.text async for token in generation], generation.ending
    >>> asyncio.run(write())
    (['1', ') ', '4', '7'], 'max_tokens')
    """

    def __init__(self, desk: Desk, view: Sequence[Block], writing: Writing) -> None:
        self._desk = desk
        self._view = tuple(view)  # held as long as they are seen
        self._writing = writing

    @property
    def text(self) -> str:
        return self._writing.text

    @property
    def ending(self) -> Ending | None:
        return self._writing.ending

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Token:
        if self.ending:
            raise StopAsyncIteration
        came = await self._desk.ask(self._writing.request())
        text = self._writing.hear(came.token)
        if text is None:
            raise StopAsyncIteration
        return Token(text, came.token)


class Desk:
    """Where the coroutines of one event loop hand in what they ask of an engine's passes.

    A pass is made in a thread, and nothing can stop it halfway: what is said meanwhile of moves and of blocks that are
    closed waits for its end.
    """

    def __init__(self, turns: Turns, loop: AbstractEventLoop) -> None:
        self.turns = turns
        self.runtime = turns.engine.visit()
        self.requests = self.runtime.session
        self._loop = loop
        self._futures: dict[Request, Future[Outcome]] = {}
        self._along: list[Future[None]] = []
        self._orders: list[Callable[[], object]] = []
        self._making: Future[None] | None = None  # a pass
        self._looking = False  # for a time to make one
        self._quiet = 0
        finalize(self, turns.left.append, partial(turns.engine.finish, self.runtime)).atexit = False

    async def ask(self, request: Request) -> Outcome:
        """Wait for the pass, or passes, that give a request its outcome. Raises what ends it."""
        if request.view[-1].writer:
            self.forget_cancelled()
        self.requests.ask(request)
        future: Future[Outcome] = self._loop.create_future()
        self._futures[request] = future
        self._quiet = 0
        if not (self._looking or self._making):
            self._look()
        try:
            return await future
        finally:
            del self._futures[request]
            self.requests.withdraw(request)

    @property
    def over(self) -> bool:
        """Whether a pass was interrupted: nothing can be asked any more."""
        return self.runtime.stage == "over"

    def forget_cancelled(self) -> None:
        """Withdraw the requests of coroutines that are cancelled, and have not been told yet."""
        for request, future in self._futures.items():
            if future.cancelled():
                self.requests.withdraw(request)

    def when_idle(self, order: Callable[[], object]) -> None:
        """Do something now, or when the pass that is under way has ended."""
        if self._making:
            self._orders.append(order)
        else:
            order()

    async def take_along(self, run: Run) -> bool:
        import asyncio

        if not (self._looking or self._making):
            return False
        self.turns.await_pass(run)
        future: Future[None] = self._loop.create_future()
        self._along.append(future)
        try:
            await future
        except BaseException:
            if self._making:  # nothing can stop it halfway: a cancellation waits for its end
                await asyncio.wait([self._making])
            raise
        return True

    # --- Passes ---

    def _look(self) -> None:
        """Make a pass as soon as nobody has asked for anything for a while."""
        self._quiet += 1
        self._looking = self._quiet <= QUIET
        if self._looking:
            self._loop.call_soon(self._look)
            return
        self.forget_cancelled()
        if self.requests.begin():
            self._making = self._loop.run_in_executor(None, self.turns.make_pass, self)
            self._making.add_done_callback(self._made)
        else:
            self._tell()

    def _made(self, made: Future[None]) -> None:
        self._making = None
        error = made.exception() or self.runtime.error
        if error:
            self.requests.fail(error)
        self._tell()

    def _tell(self) -> None:
        """Tell who has waited; there may be more to do then."""
        self.forget_cancelled()
        for request in self.requests.end():
            if request.error:
                self._futures[request].set_exception(request.error)
            elif request.outcome:
                self._futures[request].set_result(request.outcome)
        along, self._along = self._along, []
        for future in along:
            if not future.done():
                future.set_result(None)
        orders, self._orders = self._orders, []
        for order in orders:
            order()
        if self._futures:
            self._quiet = 0
            self._look()

    # --- For `Turns`, whose turn it is ---

    def begin_pass(self, waited_for: bool) -> bool:
        self.turns.engine.join(self.runtime)
        return self.runtime.stage != "over"

    def end_pass(self) -> None:
        self.turns.engine.settle(self.runtime)

    def break_off(self, whose: Party) -> None:
        if whose is not self:
            self.runtime.break_off()
        self.turns.engine.finish(self.runtime)


class Coroutines:
    """What an engine does for coroutines. All of it is called where an event loop runs, which the blocks belong to.

    It raises `InputError` for a block that is closed, or of another engine or event loop, `PoolFull` where the cache
    has no room for what was asked for last, `RunError` for a view that is longer than the model's context.

    >>> import asyncio
    >>> engine = hw.Engine("tiny")
    >>> async def solve():
    ...     with engine.block() as prompt, engine.block() as done, engine.block("Ann") as ann:
    ...         await engine.prefill(prompt, "1) 47+38\\n2) reverse lemon\\n")
    ...         ann.say("\\nAlice: ")
    ...         step = engine.generate([prompt, done, ann], stop=".")
    ...         text = "".join([token.text async for token in step])
    ...         engine.move(ann, done)
    ...         scores = await engine.score([prompt, done], "\\nAlice: ", ["1", "2"])
    ...         return text, max(scores, key=scores.get)
    >>> asyncio.run(solve())
    ('1) 47+38: 7+8=15, 4+3+1=8 (#1=85).', '2')
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def block(self, name: str = "") -> Block:
        """An empty block. `name` is for messages alone."""
        return Block(self.desk(), name)

    async def prefill(
        self, block: Block, *texts: Said, context: Sequence[Block] = (), opening: bool | None = None
    ) -> None:
        """Append texts to a block and encode them, behind the blocks of `context` or alone. They are one text; chat
        messages (`hw.user("...")`) are rendered with the model's template. Without texts: what waits is written.

        `opening`: whether views will open with it, so that a plain text gets the tokenizer's start token; without it,
        that is so for an empty block that is encoded alone. Also raises `CompileError` for a text with holes.
        """
        desk = self.desk()
        first = not context and not block.length
        view = [each._block for each in (*context, block)]
        desk.forget_cancelled()
        request = desk.requests.text(view, [said(each) for each in texts], first if opening is None else opening)
        if request:
            await desk.ask(request)

    def generate(
        self,
        view: Sequence[Block],
        into: Block | None = None,
        *,
        stop: str | Sequence[str] = (),
        max_tokens: int | None = None,
        stream: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Generation:
        """Write the last block of a view, `into`, token by token: `async for token in engine.generate(...)`.

        It ends with the token that completes one of `stop`, after `max_tokens`, or where the model ends. What waits for
        the block is written first. The token that was sampled last is in the cache when the block is written again.

        The likeliest token is taken unless `temperature`, `top_p`, `top_k` or `min_p` is given; then one is drawn, with
        the block's next number of the random stream (`seed`, `stream`). Without `stream`, workers that see each other
        have streams of their own; give others that are to differ other seeds.
        """
        desk = self.desk()
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        blocks = [each._block for each in view]
        last = into._block if into else None
        writing = desk.requests.writing(blocks, last, stops, max_tokens, stream, sampling)
        return Generation(desk, view, writing)

    async def score(self, view: Sequence[Block], text: str, choices: Sequence[str]) -> dict[str, float]:
        """Compare how likely a text behind a view goes on with each choice: the logits of their first tokens. It costs
        a row of one pass and leaves nothing in the cache."""
        desk = self.desk()
        came = await desk.ask(desk.requests.question([each._block for each in view], text, choices))
        return dict(zip(choices, came.logits, strict=True))

    def move(self, source: Block, target: Block) -> None:
        """Append what the cache has of a block to another, and empty it. Nothing is encoded again; what waits for
        `source` goes on waiting for it."""
        desk = self.desk()
        desk.requests.check_move(source._block, target._block)
        desk.when_idle(lambda: desk.requests.move(source._block, target._block))  # which holds them until then

    def clear(self, block: Block) -> None:
        """Empty a block, with what waits for it."""
        desk = self.desk()
        desk.requests.check_free(block._block)
        desk.when_idle(lambda: desk.requests.clear(block._block))

    def desk(self) -> Desk:
        """What hands in requests of the event loop that runs; for what is built on it. Raises `RuntimeError` where none
        runs."""
        import asyncio  # most programs do without

        loop = asyncio.get_running_loop()
        desk = self._turns.hosts.get(loop)
        if not isinstance(desk, Desk) or desk.over:
            desk = self._turns.hosts[loop] = Desk(self._turns, loop)
        return desk


def said(text: object) -> tuple[str, str]:
    """The role and the text of what is prefilled. Raises `CompileError` for what is none, or has holes."""
    if isinstance(text, str):
        return "text", text
    if not isinstance(text, syntax.Constant):
        raise misfit(f"a text is needed here, not {shown_type(text)}", here().span)
    if text.text.holes:
        hole = text.text.holes[0]
        help = "a text for `prefill` has its values: write an f-string; `hw.literal(text)` keeps braces"
        raise misfit(f"nothing fills `{{{{{hole.name}}}}}`", hole.span or text.span, help, "HW107")
    return text.role, text.text.literal


def leave(turns: Turns, visit: Visit, block: OpenBlock) -> None:
    """Have a block's pages given back with the next turn. The garbage collector may call this, in any thread."""
    visit.session.drop(block)
    turns.left.append(partial(turns.engine.settle, visit))
