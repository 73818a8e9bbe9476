"""The endpoints of `hw serve`: what SGLang's frontend asks for, programs, and what watches a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from hwlang.diagnostics import CompileError
from hwlang.serving.generation import Generator, Stopped
from hwlang.serving.sglang_api import Generate, Prompt, Reply, read_call, read_generate, read_join
from hwruntime.errors import HwError, InputError, PoolFull

if TYPE_CHECKING:
    from hwruntime.program import Json

PATIENCE = 5  # seconds for what is under way, after Ctrl-C: its pass, and telling its clients
GONE = 499  # the status, which nobody reads, of a request whose sender has gone


def application(generator: Generator) -> Starlette:
    """All endpoints, on one engine."""
    endpoints = Endpoints(generator)
    post = ["POST", "PUT"]
    return Starlette(
        routes=[
            Route("/generate", endpoints.generate, methods=post),
            Route("/concate_and_append_request", endpoints.join, methods=post),
            Route("/get_model_info", endpoints.model_info),
            Route("/get_server_info", endpoints.server_info),
            Route("/server_info", endpoints.server_info),
            Route("/flush_cache", endpoints.flush_cache, methods=["GET", "POST"]),
            Route("/health", endpoints.health),
            Route("/health_generate", endpoints.health),
            Route("/metrics", endpoints.metrics),
            Route("/hw/run", endpoints.run, methods=post),
        ],
        exception_handlers={HwError: refusal, CompileError: refusal},
    )


class Server(uvicorn.Server):
    """Ends requests that are under way when it is told to stop, and does not wait for their clients."""

    def __init__(self, generator: Generator, log_level: str = "warning") -> None:
        app = application(generator)
        super().__init__(uvicorn.Config(app, log_level=log_level, lifespan="off", timeout_graceful_shutdown=PATIENCE))
        self._generator = generator

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._generator.stopping.set()
        super().handle_exit(sig, frame)


class Endpoints:
    """Each takes a request and gives the response. `HwError`, `CompileError`: see `refusal`."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def generate(self, request: Request) -> Response:
        asked = read_generate(await body_of(request))
        if asked.stream:
            return await self._stream(request, asked.prompts[0])
        return await self._unless_over(request, self._replies(asked))

    async def join(self, request: Request) -> Response:
        branches = self._generator.cache.joins.ask(read_join(await body_of(request)))
        moved = None if branches is None else await self._generator.join(branches)
        return JSONResponse({"success": True, "moved_tokens": moved})

    async def run(self, request: Request) -> Response:
        call = read_call(await body_of(request))

        async def ran() -> Response:
            return JSONResponse((await self._generator.run(call)).to_json())

        return await self._unless_over(request, ran())

    async def model_info(self, request: Request) -> Response:
        name = self._generator.engine.runtime.model.name
        return JSONResponse(
            {
                "model_path": name,
                "tokenizer_path": name,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
            }
        )

    async def server_info(self, request: Request) -> Response:
        return JSONResponse(server_info(self._generator))

    async def flush_cache(self, request: Request) -> Response:
        self._generator.flush()
        return PlainTextResponse("Cache flushed: what running requests need is still there.\n")

    async def health(self, request: Request) -> Response:
        return Response()

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._generator.engine.metrics() + self._generator.metrics())

    async def _replies(self, asked: Generate) -> Response:
        tasks = [asyncio.ensure_future(self._generator.reply(prompt)) for prompt in asked.prompts]
        try:
            replies = [reply.to_json() for reply in await asyncio.gather(*tasks)]
        finally:
            for task in tasks:
                task.cancel()
        return JSONResponse(replies[0] if asked.single else replies)

    async def _stream(self, request: Request, prompt: Prompt) -> Response:
        """What is refused is told before the stream begins, with a status."""
        replies = self._generator.replies(prompt)
        first: list[Reply] = []

        async def begin() -> Response:
            first.append(await anext(replies))
            return StreamingResponse(events(first[0], replies), media_type="text/event-stream")

        return await self._unless_over(request, begin())

    async def _unless_over(self, request: Request, work: Coroutine[object, object, Response]) -> Response:
        """A response, unless who asked for it goes before it is there, or the server ends: then the work ends."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(disconnected(request))
        stopped = asyncio.ensure_future(self._generator.stopping.wait())
        try:
            await asyncio.wait([task, gone, stopped], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            if gone.done():
                return Response(status_code=GONE)
            raise Stopped()
        finally:
            for each in (task, gone, stopped):
                each.cancel()
            await asyncio.wait([task, gone, stopped])


async def events(first: Reply, replies: AsyncGenerator[Reply, None]) -> AsyncIterator[str]:
    """Server-sent events: the text so far, each time; then `[DONE]`."""
    async with aclosing(replies):
        try:
            yield event(first.to_json())
            async for reply in replies:
                yield event(reply.to_json())
        except HwError as error:
            yield event(told(error))
    yield "data: [DONE]\n\n"


def event(data: dict[str, Json]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def disconnected(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def body_of(request: Request) -> object:
    """A request's JSON. Raises `InputError`."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON: {error}") from None


async def refusal(request: Request, error: Exception) -> Response:
    """What cannot be done: 400, or 503 for what may be done later."""
    assert isinstance(error, HwError | CompileError)
    return JSONResponse(told(error), status_code=503 if isinstance(error, PoolFull | Stopped) else 400)


def told(error: HwError | CompileError) -> dict[str, Json]:
    """An error as SGLang's server shows its own, with the code that `hw explain` knows, and a way out."""
    if isinstance(error, CompileError):
        return {"error": {"message": str(error), "code": error.diagnostics[0].code, "help": error.diagnostics[0].help}}
    return {"error": {"message": error.message, "code": error.code, "help": error.help}}


def server_info(generator: Generator) -> dict[str, Json]:
    """What runs here, and how full it is."""
    from importlib.metadata import version

    engine = generator.engine
    model, pool = engine.local.model, engine.local.model.pool
    return {
        "version": f"hwlang {version('hwlang')}",
        "model_path": model.name,
        "context_length": model.context,
        "max_total_num_tokens": None if pool.grows else pool.capacity,
        "cache_tokens": pool.used,
        "kept_tokens": generator.kept_tokens,
        **engine.options,
    }
