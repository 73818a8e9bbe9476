"""Requests on an engine: what is cached of their texts, their passes, their tokens.

Every request is a few rows of passes that all share, among themselves and with the programs that run. What it has
written stays in the cache, for texts that begin so, until its pages are needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.python.runs import State, in_thread
from hwlang.serving.joins import Branches, Joined, Joins
from hwlang.serving.sglang_api import Finish, Prompt, Reply, Score
from hwlang.serving.voice import Voice
from hwruntime.errors import HwError, InputError
from hwruntime.prefixes import Lease, Prefixes
from hwruntime.requests import Request
from hwruntime.rows import Draw, Outcome
from hwruntime.tokenizer import Message

if TYPE_CHECKING:
    from hwlang.python.coroutines import Desk
    from hwlang.serving.sglang_api import ProgramCall
    from hwruntime.constraint import Matcher
    from hwruntime.prefixes import Prefix
    from hwruntime.tokenizer import Tokenizer


@dataclass(frozen=True)
class Cache:
    """What one event loop's requests have written."""

    desk: Desk
    prefixes: Prefixes
    joins: Joins


@dataclass
class Counts:
    """Since the start: requests, tokens of their prompts, and how many of those were in the cache."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Stopped(HwError):
    """The server ends, and the request with it."""

    def __init__(self) -> None:
        super().__init__("the server was stopped", help="ask again when it runs")


class Generator:
    """Answers requests on one engine. All of it is called in one event loop."""

    def __init__(self, engine: api.Engine, seed: int = 0) -> None:
        self.engine = engine
        self.counts = Counts()
        self.stopping = asyncio.Event()  # requests that are under way end with `Stopped`
        self.going = 0  # requests that hold a text
        self._seed = seed
        self._streams = count()  # of random numbers, one a request
        self._line = asyncio.Lock()  # of those that wait for room: first come, first served
        self._changed = asyncio.Event()  # what the cache has, or who holds some of it
        self._cache: Cache | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.runtime.model.tokenizer

    @property
    def cache(self) -> Cache:
        """Another one after a pass that was broken off: nothing is known of what the cache has then."""
        desk = self.engine.desk()
        if self._cache is None or self._cache.desk is not desk:
            page = self.engine.local.model.pool.page_size
            self._cache = Cache(desk, Prefixes(desk.requests, page), Joins())
        return self._cache

    @property
    def kept_tokens(self) -> int:
        """In the cache, of requests that go on or have ended."""
        return self._cache.prefixes.tokens if self._cache else 0

    async def reply(self, prompt: Prompt) -> Reply:
        """The whole answer. Raises `HwError`, `CompileError`."""
        began = time.monotonic()
        if prompt.program is not None:
            return await self._call(prompt, prompt.program, began)
        async with aclosing(self._write(prompt)) as moments:
            writing = await anext(moments)
            async for _ in moments:
                pass
        return writing.reply(time.monotonic() - began)

    async def replies(self, prompt: Prompt) -> AsyncGenerator[Reply, None]:
        """The answer as it grows, token by token; the last one is whole. Closing this ends it. Raises as `reply`."""
        began = time.monotonic()
        if prompt.program is not None:
            yield await self._call(prompt, prompt.program, began)
            return
        async with aclosing(self._write(prompt)) as moments:
            async for writing in moments:
                yield writing.reply(time.monotonic() - began)

    async def _write(self, prompt: Prompt) -> AsyncGenerator[Writing, None]:
        """A prompt's writing, after each of its tokens."""
        cache = self.cache
        self.counts.requests += 1
        async with self._held(cache, prompt) as (tokens, lease):
            self.counts.prompt_tokens += len(tokens)
            self.counts.cached_tokens += lease.cached
            writing = Writing(prompt, tokens, lease, self.tokenizer, self._draw(prompt))
            while (request := writing.request()) is not None:
                if self.stopping.is_set():
                    raise Stopped()
                writing.hear(request, await cache.desk.ask(request))
                if len(writing.voice.tokens) <= 1:  # the prompt is there
                    self._changed.set()
                if not writing.done:
                    yield writing
            self._note(cache.joins, prompt, writing.voice.text)
            yield writing

    async def join(self, branches: Branches) -> int:
        """Put what branches have written behind their opening, one after the other; how many tokens were moved."""
        cache, leases = self.cache, []
        opening, root = self._tokens(cache, branches.opening) if branches.opening else ([], None)
        try:
            for text in branches.texts:
                tokens, own = self._tokens(cache, text)
                if tokens[: len(opening)] != opening:  # a token reaches over the end of the opening
                    tokens, own = opening + self.tokenizer.encode(text[len(branches.opening) :]), root
                lease = await self._written(cache, tokens, own)
                leases.append((lease, tokens))
            first, *others = leases
            prefix = cache.prefixes.join(first[0], [(lease, len(opening)) for lease, _ in others])
            added = [token for _, tokens in others for token in tokens[len(opening) :]]
            cache.joins.add(branches, Joined((*first[1], *added), prefix))
            await in_thread(partial(settle, cache.desk))
        finally:
            for lease, _ in leases:
                cache.prefixes.give_back(lease)
        return len(added)

    def flush(self) -> None:
        """Give back all that is only kept for later."""
        self.cache.prefixes.drop_all()
        self.cache.desk.turns.left.append(partial(self.engine.runtime.settle, self.cache.desk.runtime))
        self.cache.desk.turns.tidy()

    def metrics(self) -> str:
        """Counts of requests, as text for Prometheus."""
        counters = {
            "hw_requests_total": (self.counts.requests, "Requests for a text that have come."),
            "hw_prompt_tokens_total": (self.counts.prompt_tokens, "Tokens of their prompts."),
            "hw_cached_tokens_total": (self.counts.cached_tokens, "Of these, those that were in the cache."),
        }
        lines = [f"# HELP {name} {help}\n# TYPE {name} counter\n{name} {n}" for name, (n, help) in counters.items()]
        kept = "# HELP hw_kept_tokens Tokens kept in the cache for texts to come.\n# TYPE hw_kept_tokens gauge"
        return "\n".join([*lines, f"{kept}\nhw_kept_tokens {self.kept_tokens}"]) + "\n"

    async def run(self, call: ProgramCall) -> State:
        """Run a program. Raises `HwError`, `CompileError`."""
        program = api.parse(call.program, call.name)
        budget, workers = call.budget, call.workers
        return await self.engine.arun(program, call.inputs, seed=call.seed, budget=budget, workers=workers)

    async def _call(self, prompt: Prompt, call: ProgramCall, began: float) -> Reply:
        state = await self.run(call)
        if state.answer is None:
            message = f"program `{state.program}` ended without an answer: {state.reason}"
            raise InputError(message, help="give it an `answer`, and `else` for where none is found")
        usage = state.usage
        self.counts.requests += 1
        return Reply(
            rid=prompt.rid,
            text=state.answer,
            tokens=(),
            prompt_tokens=usage.constant_tokens,
            completion_tokens=usage.sampled_tokens,
            cached_tokens=0,
            finish=Finish("stop"),
            seconds=time.monotonic() - began,
            result=state.to_json(),
        )

    # --- Texts ---

    def _tokens(self, cache: Cache, text: str) -> tuple[list[int], Prefix | None]:
        """A text's tokens, and what the cache has of it where it begins with a joined one."""
        joined = cache.joins.of(text)
        if joined is None:
            return self.tokenizer.encode_constants([Message("text", text)], opening=True), None
        begins, has = joined
        return [*has.tokens, *self.tokenizer.encode(text[len(begins) :])], has.prefix

    async def _prompt(self, cache: Cache, prompt: Prompt) -> tuple[list[int], Prefix | None]:
        """Raises `InputError` for one that does not fit."""
        root = None
        if prompt.text is None:
            tokens = list(prompt.tokens)
        else:
            while (due := cache.joins.due(prompt.text)) is not None:
                await self.join(due)
            tokens, root = self._tokens(cache, prompt.text)
        self._check(prompt, tokens)
        return tokens, root

    def _check(self, prompt: Prompt, tokens: Sequence[int]) -> None:
        model, new = self.engine.runtime.model, prompt.sampling.max_new_tokens
        if not tokens:
            raise InputError("the prompt is empty")
        given = (*prompt.tokens, *prompt.sampling.stop_token_ids)
        if given and not 0 <= max(given) < (known := len(self.tokenizer.vocabulary)):
            raise InputError(f"there is no token {max(given)}: the model has {known}")
        if len(tokens) + new > model.context:
            asked = f"the prompt has {len(tokens)} tokens, and `max_new_tokens` is {new}"
            raise InputError(f"{asked}: the model's context is {model.context}", help="ask for less")
        if prompt.logprob_start is not None and prompt.logprob_start >= len(tokens):
            raise InputError(f"`logprob_start_len` is {prompt.logprob_start}: the prompt has {len(tokens)} tokens")

    def _draw(self, prompt: Prompt) -> Draw:
        s, stream = prompt.sampling, next(self._streams)
        return Draw(
            temperature=s.temperature,
            top_p=s.top_p,
            top_k=s.top_k,
            min_p=s.min_p,
            seed=self._seed if s.seed is None else s.seed,
            stream=stream if s.seed is None else 0,
            counter=0,
            banned=frozenset(),
            scored=prompt.logprob_start is not None,
        )

    def _note(self, joins: Joins, prompt: Prompt, text: str) -> None:
        if prompt.text is not None:
            joins.note_id(prompt.rid, prompt.text + text)
            if not prompt.sampling.max_new_tokens:
                joins.note_written(prompt.text)

    # --- Room ---

    @asynccontextmanager
    async def _held(self, cache: Cache, prompt: Prompt) -> AsyncIterator[tuple[list[int], Lease]]:
        """A prompt's tokens, and what the cache has of them, with room for the rest."""
        await self._wait_for_others(cache, prompt)
        async with self._line:
            tokens, lease = await self._take(cache, prompt)
        self.going += 1
        try:
            yield tokens, lease
        finally:
            cache.desk.when_idle(partial(self._give_back, cache, lease))

    def _give_back(self, cache: Cache, lease: Lease) -> None:
        cache.prefixes.give_back(lease)
        self.going -= 1
        self._changed.set()

    async def _wait_for_others(self, cache: Cache, prompt: Prompt) -> None:
        """Let those who are writing a page or more of this very text do so."""
        page = self.engine.local.model.pool.page_size
        while True:
            tokens, root = await self._prompt(cache, prompt)
            if cache.prefixes.coming(tokens, most_of(prompt, tokens), root) < page:
                return
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _take(self, cache: Cache, prompt: Prompt) -> tuple[list[int], Lease]:
        """Wait until there is room. Raises `InputError` where there never is."""
        pool = self.engine.local.model.pool
        while True:
            tokens, root = await self._prompt(cache, prompt)
            try:
                lease = cache.prefixes.take(tokens, most_of(prompt, tokens), prompt.sampling.max_new_tokens, root)
            except LookupError:  # the joined text went in this very moment: the text is a plain one now
                continue
            if pool.grows or cache.prefixes.pages() * pool.page_size <= pool.capacity:
                return tokens, lease
            cache.prefixes.give_back(lease)
            if not self.going:
                need = f"{len(tokens)} tokens and {prompt.sampling.max_new_tokens} new ones"
                help = "ask for less, or start the server with more --kv-tokens"
                raise InputError(f"{need} do not fit into a cache of {pool.capacity}", help)
            await self._change()

    async def _written(self, cache: Cache, tokens: Sequence[int], root: Prefix | None) -> Lease:
        """A text that is all in the cache, held: nothing is encoded that is there."""
        lease = cache.prefixes.take(tokens, len(tokens), root=root)
        if not lease.writes:
            return lease
        try:
            await cache.desk.ask(Request(lease.view, seen=lease.seen))
            return cache.prefixes.take(tokens, len(tokens), root=root)
        finally:
            cache.desk.when_idle(partial(cache.prefixes.give_back, lease))


def settle(desk: Desk) -> None:
    """Carry out what waits for the next pass, in the cache."""
    with desk.turns as engine:
        engine.settle(desk.runtime)


def most_of(prompt: Prompt, tokens: Sequence[int]) -> int:
    """How many tokens of a prompt are of use where they are cached: what is to follow comes from one that is not."""
    if prompt.logprob_start is not None:
        return len(tokens) - 1 if prompt.logprob_start == -1 else prompt.logprob_start
    return len(tokens) - 1 if prompt.sampling.max_new_tokens else len(tokens)


class Writing:
    """A prompt on its way: the requests for its passes, and what came of them."""

    def __init__(self, prompt: Prompt, tokens: Sequence[int], lease: Lease, tokenizer: Tokenizer, draw: Draw) -> None:
        self.voice = Voice(tokenizer, prompt.sampling, tokens)
        self._prompt = prompt
        self._tokens = tokens
        self._lease = lease
        self._tokenizer = tokenizer
        self._draw = draw
        self._matcher = matcher_of(prompt, tokenizer)
        self._scores: list[float] = []  # of the prompt
        self._drawn: list[Score] = []
        self._begun = False
        start = prompt.logprob_start
        self._start = len(tokens) - 1 if start == -1 else start

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        if self._prompt.sampling.max_new_tokens:
            return self.voice.finish is not None
        return self._begun or not self._lease.writes

    def request(self) -> Request | None:
        """For the next pass, or passes; None where nothing is left to do."""
        if self.done:
            return None
        lease, drawn = self._lease, len(self.voice.tokens)
        first = None if self._begun or self._start is None else self._start - sum(n or 0 for n in lease.seen)
        self._begun = True
        if not self._prompt.sampling.max_new_tokens:
            return Request(lease.view, seen=lease.seen, score_from=first)
        banned = self.voice.ends if drawn < self._prompt.sampling.min_new_tokens else frozenset()
        allowed = self._matcher.allowed() if self._matcher else None
        draw = replace(self._draw, counter=drawn, banned=banned, allowed=allowed)
        return Request(lease.view, draw, lease.seen, first)

    def hear(self, request: Request, came: Outcome) -> None:
        """Take what came of a request."""
        self._scores += request.scores
        if request.draw is None:
            return
        self.voice.hear(came.token)
        if not self.voice.finish and came.token in self._tokenizer.end_tokens:  # ignored: it is a token as any other
            self._lease.block.waiting.append(came.token)
        if self._matcher and not self.voice.finish:
            self._matcher.take(came.token)
        if came.score is not None:
            self._drawn.append(self._score(came.score, came.token))

    def reply(self, seconds: float) -> Reply:
        """What there is by now."""
        ended = self.voice.finish or (None if self._prompt.sampling.max_new_tokens else Finish("length"))
        start, voice = self._start, self.voice
        scores = [None, *self._scores]
        return Reply(
            rid=self._prompt.rid,
            text=voice.shown,
            tokens=tuple(voice.tokens),
            prompt_tokens=len(self._tokens),
            completion_tokens=len(voice.tokens),
            cached_tokens=self._lease.cached,
            finish=ended,
            seconds=seconds,
            input_scores=None if start is None else tuple(map(self._score, scores, self._tokens[start:])),
            output_scores=None if start is None else tuple(self._drawn),
        )

    def _score(self, logprob: float | None, token: int) -> Score:
        return Score(logprob, token, self._tokenizer.decode([token]) if self._prompt.token_texts else None)


def matcher_of(prompt: Prompt, tokenizer: Tokenizer) -> Matcher | None:
    """What holds a text to its regex or schema. Raises `RunError`."""
    from hwruntime.constraint import grammar

    return tokenizer.matcher(grammar(prompt.sampling.constraint, [])) if prompt.sampling.constraint else None
