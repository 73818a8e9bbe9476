"""A run as Python sees it: its events while it goes on, its texts by name at any time.

with math.stream(problem="...") as run:
    for event in run:
        ...
run.state["Alice"], run.state.answer
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary, finalize

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from hwruntime.batch import Run as RuntimeRun
    from hwruntime.batch import Tenant
    from hwruntime.program import Json
    from hwruntime.result import Event, Reason, Result, Usage, WorkerResult
    from hwruntime.runner import Runner

    OnEvent = Callable[[Event], object]

T = TypeVar("T")

MOST_EVENTS = 4096  # of an eager run that are not looked at yet: with more it waits for who looks at them


class CallbackError(Exception):
    """An observer of a run raised an exception (`__cause__`), at this event of this worker. The run has ended.

    >>> def watch(event):
    ...     raise ValueError("enough")
    >>> program = hw.parse('program p { worker Ann { sees "1) reverse abc Ann:", self max 4 tokens } }')
    >>> try:
    ...     program.run(on_event=watch)
    ... except hw.CallbackError as error:
    ...     print(error)
    on_event failed at a `token` of worker `Ann`, pass 1: ValueError: enough
    """

    def __init__(self, event: Event, cause: Exception) -> None:
        self.event = event
        self.worker = event.worker
        whose = "stream" if event.kind == "feed" else "worker"
        what = f"{type(cause).__name__}: {cause}".rstrip(": ")
        super().__init__(f"on_event failed at a `{event.kind}` of {whose} `{event.worker}`, pass {event.at}: {what}")


@dataclass(frozen=True)
class State(Mapping[str, str]):
    """What a run has written: the texts of its workers and scratchpads by name, its answer, and how it ended.

    `state["Alice"]` is everything in the worker's own voice, `state["history"]` what is in the scratchpad;
    `state["Ann.notes"]` is a private one. `result` holds the same as plain data. A name that the run does not have
    raises `KeyError`.

    >>> state = hw.parse('program p { worker Ann { sees "1) reverse abc Ann:", self max 4 tokens } }').run()
    >>> list(state), state.reason, state.answer
    (['Ann'], 'done', None)
    """

    result: Result

    def __getitem__(self, name: str) -> str:
        worker = self.result.workers.get(name)
        text = worker.text if worker else self.result.scratchpads.get(name)
        if text is None:
            known = ", ".join(f"`{each}`" for each in self)
            raise KeyError(f"the run has no `{name}`: it has {known}")
        return text

    def __iter__(self) -> Iterator[str]:
        yield from self.result.workers
        yield from self.result.scratchpads

    def __len__(self) -> int:
        return len(self.result.workers) + len(self.result.scratchpads)

    @property
    def answer(self) -> str | None:
        """What the program's `answer` found; None where it has none, or found nothing."""
        return self.result.answer

    @property
    def reason(self) -> Reason:
        """Why the run ended: answer, stopped, done, budget, stalled, context, cache or cancelled."""
        return self.result.reason

    @property
    def passes(self) -> int:
        """Passes of the model in which workers went on."""
        return self.result.passes

    @property
    def seed(self) -> int:
        """Of the run's random streams."""
        return self.result.seed

    @property
    def program(self) -> str:
        """The program's name."""
        return self.result.program

    @property
    def model(self) -> str:
        """The model's name."""
        return self.result.model

    @property
    def usage(self) -> Usage:
        """How many tokens there were, by where they came from."""
        return self.result.usage

    @property
    def workers(self) -> dict[str, WorkerResult]:
        """Of each worker: `text`, `tokens` (its length) and `steps` (how many it finished)."""
        return self.result.workers

    @property
    def scratchpads(self) -> dict[str, str]:
        """The texts of the scratchpads; a private one is called `WORKER.NAME`."""
        return self.result.scratchpads

    def to_json(self) -> dict[str, Json]:
        """The object that `hw run --json` prints."""
        return self.result.to_json()


class Party(Protocol):
    """Who takes part in a pass: a `Run`, or the coroutines of an event loop (`coroutines.Desk`)."""

    @property
    def runtime(self) -> Tenant: ...

    def begin_pass(self, waited_for: bool) -> bool:
        """Whether it takes part."""

    def end_pass(self) -> None:
        """The pass has been made."""

    def break_off(self, whose: Party) -> None:
        """The pass was interrupted. It was made for `whose`."""


class Host(Protocol):
    """Who makes passes for an event loop: `coroutines.Desk`."""

    async def take_along(self, run: Run) -> bool:
        """Wait for the pass that is to be made, with a run in it; False where there is none."""


class Turns:
    """Who may use an engine: one thread at a time. Runs that wait for a pass at the same time share it.

    `eager` runs go along with every pass, whether somebody waits for them or not, as long as not too many of their
    events are still to be looked at. `left` is what gives back the pages of runs that nobody holds any more. That is
    done when the next one takes its turn, and not by the garbage collector, which may come in the middle of a pass.
    `hosts` are of the event loops in which coroutines ask for passes themselves.
    """

    def __init__(self, engine: Runner) -> None:
        self.engine = engine
        self.left: deque[Callable[[], object]] = deque()
        self.eager: WeakSet[Run] = WeakSet()
        self.hosts: WeakValueDictionary[AbstractEventLoop, Host] = WeakValueDictionary()
        self._waiting: dict[Party, None] = {}
        self._lock = Lock()  # of the engine
        self._list = Lock()  # of who waits

    def __enter__(self) -> Runner:
        self._lock.acquire()
        self._give_back()
        return self.engine

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self.tidy()

    def tidy(self) -> None:
        """Give back what is left, if it is nobody's turn; else whose turn it is does so at its end."""
        while self.left and self._lock.acquire(blocking=False):
            self._give_back()
            self._lock.release()

    def _give_back(self) -> None:
        while self.left:
            self.left.popleft()()

    def await_pass(self, run: Party) -> None:
        """Have a run take part in the next pass that is made."""
        with self._list:
            self._waiting[run] = None

    def make_pass(self, run: Party) -> None:
        """Make a pass of a run and of all others that wait or are eager, unless another thread has made it already."""
        self.await_pass(run)
        with self as engine:
            with self._list:
                if run not in self._waiting:
                    return
                waiting, self._waiting = self._waiting, {}
            eager = [each for each in self.eager if each not in waiting]
            asked = [each for each in (*waiting, *eager) if each.begin_pass(each in waiting)]
            try:
                engine.step([each.runtime for each in asked])
            except BaseException:  # in the middle of a pass: none of its runs can go on
                for each in asked:
                    each.break_off(whose=run)
                raise
            for each in asked:
                each.end_pass()


class Run(Iterator["Event"]):
    """A run that is under way: iterate over its events as they happen.

    It goes on as far as it is iterated over. Close it (`close`, `with`) to end it early: its part of the cache is free
    then. An error that ends the run is raised from the iteration.

    >>> program = hw.parse('program p { worker Ann { sees "1) reverse abc Ann:", self max 4 tokens } }')
    >>> with program.stream() as run:
    ...     kinds = [event.kind for event in run]
    >>> kinds.count("token"), run.state.passes
    (4, 4)
    """

    def __init__(self, turns: Turns, start: Callable[[Runner], RuntimeRun], eager: bool = False) -> None:
        self._turns = turns
        self._fed: deque[tuple[str, str]] = deque()
        self._cancelled = False
        with turns as engine:
            self.runtime = start(engine)
            self._events = deque(self.runtime.session.drain())
            self._model = engine.model.name
            self._left = finalize(self, turns.left.append, partial(engine.finish, self.runtime))
            self._left.atexit = False
            if eager:
                turns.eager.add(self)

    def __next__(self) -> Event:
        while not self.ready:
            if not self.step():
                raise StopIteration
        return self._events.popleft()

    @property
    def ready(self) -> bool:
        """Whether there are events that have not been looked at."""
        return bool(self._events)

    def step(self) -> bool:
        """Do one pass; False where there was none to do. Raises the error that ends the run."""
        self.advance()
        return self.goes_on()

    def goes_on(self) -> bool:
        """Whether there is anything to come. Raises the error that ended the run."""
        self.runtime.raise_error()
        return self._left.alive or self.ready

    async def async_step(self) -> bool:
        """`step` in a thread, or together with the coroutines of the event loop, if they are about to do a pass."""
        import asyncio  # most programs do without

        host = self._turns.hosts.get(asyncio.get_running_loop())
        if self._left.alive and host and await host.take_along(self):
            return self.goes_on()
        return await in_thread(self.step)

    def advance(self) -> None:
        """Do one pass, if it has not ended; it may end by an error then."""
        if self._left.alive:
            self._turns.make_pass(self)

    @property
    def over(self) -> bool:
        """Whether it has ended; there may be events that have not been looked at."""
        return not self._left.alive

    def feed(self, stream: str, text: str) -> None:
        """Add text to one of the program's streams, before the next pass. Raises `InputError` if it has none such."""
        if stream not in self.runtime.session.program.streams:
            self.runtime.feed(stream, text)  # raises
        self._fed.append((stream, text))

    def cancel(self) -> None:
        """End the run after the pass that is under way, with reason `cancelled`; the state keeps what there is."""
        self._cancelled = True

    def close(self) -> None:
        """End the run now, if it has not ended, and give its part of the cache back."""
        with self._turns:
            self.end()
        self._events.clear()

    @property
    def state(self) -> State:
        """What there is by now."""
        with self._turns:
            return State(self.runtime.session.result(self._model))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def take_events(self) -> list[Event]:
        """All events that have not been looked at."""
        events = list(self._events)
        self._events.clear()
        return events

    # --- For `Turns`, whose turn it is ---

    def begin_pass(self, waited_for: bool) -> bool:
        """Hand on what was said meanwhile; whether it takes part in the pass."""
        if self.over or (len(self._events) > MOST_EVENTS and not waited_for):
            return False
        while self._fed:
            self.runtime.feed(*self._fed.popleft())
        if self._cancelled:
            self.runtime.cancel()
        return True

    def end_pass(self) -> None:
        """Take what happened."""
        self._events.extend(self.runtime.session.drain())
        if self.runtime.stage == "over":
            self.end()

    def break_off(self, whose: Party) -> None:
        """End it in the middle of a pass that was interrupted, which was made for the run `whose`."""
        if self is not whose:
            self.runtime.break_off()
        self.end()

    def end(self) -> None:
        """Give the run's pages back; once or more often."""
        self._turns.eager.discard(self)
        if self._left.detach():
            self._turns.engine.finish(self.runtime)


class AsyncRun:
    """A run that is under way, for `async for`: its passes are made in a thread, so that the event loop goes on.

    A task that is cancelled ends the run after the pass that is under way.

    >>> import asyncio
    >>> program = hw.parse('program p { worker Ann { sees "1) reverse abc Ann:", self max 4 tokens } }')
    >>> async def tokens():
    ...     async with program.astream() as run:
    ...         return len([event async for event in run if event.kind == "token"]), run.state.passes
    >>> asyncio.run(tokens())
    (4, 4)
    """

    def __init__(self, start: Callable[[], Run]) -> None:
        self._start = start
        self._run: Run | None = None
        self._before: list[Callable[[Run], object]] = []  # what was asked for before the run began
        self._closed = False

    def __aiter__(self) -> AsyncRun:
        return self

    async def __anext__(self) -> Event:
        try:
            event = None if self._closed else await self._next()
        except BaseException:
            self.close()
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    def feed(self, stream: str, text: str) -> None:
        """Add text to one of the program's streams, before the next pass. Raises `InputError` if it has none such."""
        self._tell(lambda run: run.feed(stream, text))

    def cancel(self) -> None:
        """End the run after the pass that is under way, with reason `cancelled`; the state keeps what there is."""
        self._tell(Run.cancel)

    def close(self) -> None:
        """End the run now, if it has not ended, and give its part of the cache back."""
        self._closed = True
        if self._run:
            self._run.close()

    @property
    def state(self) -> State:
        """What there is by now. Raises `RuntimeError` before the first event has been asked for."""
        if self._run is None:
            raise RuntimeError("the run has not begun: it does with the first `async for`")
        return self._run.state

    async def __aenter__(self) -> AsyncRun:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    async def _next(self) -> Event | None:
        run = self._run if self._run else await in_thread(self._begin)
        while not run.ready and await run.async_step():
            pass
        return next(run) if run.ready else None

    def _begin(self) -> Run:
        self._run = self._start()
        for order in self._before:
            order(self._run)
        return self._run

    def _tell(self, order: Callable[[Run], object]) -> None:
        if self._run is None:
            self._before.append(order)
        else:
            order(self._run)


async def in_thread(call: Callable[[], T]) -> T:
    """Make a call in a thread. Nothing can stop a pass halfway: a cancellation waits for its end."""
    import asyncio  # most programs do without

    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at: asyncio need not tell
        await asyncio.wait([task])
        raise


def finished(run: Run, on_event: OnEvent | None) -> State:
    """A run's state at its end."""
    with run:
        for event in run:
            tell(on_event, event)
        return run.state


async def finished_async(run: AsyncRun, on_event: OnEvent | None) -> State:
    async with run:
        async for event in run:
            tell(on_event, event)
        return run.state


def tell(on_event: OnEvent | None, event: Event) -> None:
    """Call an observer. Raises `CallbackError`."""
    if on_event:
        try:
            on_event(event)
        except Exception as error:
            raise CallbackError(event, error) from error
