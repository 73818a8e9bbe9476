"""`hw serve`: an engine behind HTTP, for programs of SGLang's frontend and for hw.call."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from hwlang import api
from hwlang.cli import models
from hwlang.cli.errors import OK, Usage, told
from hwlang.cli.inputs import not_negative, positive
from hwlang.cli.output import loading, make_console

if TYPE_CHECKING:  # the runtime is imported where it is needed
    from rich.console import Console

PORT = 30000  # SGLang's


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Answer requests as an SGLang server does, on one engine."
    parser.add_argument("--sglang-api", action="store_true", help="answer as SGLang; there is no other way yet")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=port, default=PORT, metavar="N", help=f"0: any free (default: {PORT})")
    models.add(parser, default="tiny")
    parser.add_argument("--kv-tokens", type=positive, metavar="N", help="size of the cache (default: grows as needed)")
    parser.add_argument("--kv-dtype", default="auto", help="of the cache: auto (what the model computes in) or fp8")
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="of requests without one (default: 0)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was chosen, and each request")


def run(options: argparse.Namespace) -> int:
    if not options.sglang_api:
        raise Usage("say what to serve: `hw serve --sglang-api`")
    try:
        from hwlang.serving.generation import Generator
        from hwlang.serving.server import Server
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise Usage("a server needs uvicorn and starlette: `pip install 'hwlang[serve]'`") from None
    from hwruntime.errors import HwError

    listening = listen(options.host, options.port)  # a slip in them is told before the model is loaded
    model = options.model or "tiny"
    try:
        with listening:
            with loading(model):
                engine = load_engine(model, options)
            server = Server(Generator(engine, options.seed), "info" if options.verbose else "warning")
            greet(make_console(stderr=True), engine, url_of(listening), options.verbose)
            with suppress(KeyboardInterrupt):  # uvicorn has ended by then, and passes it on
                server.run(sockets=[listening])
    except HwError as error:
        return told(error)
    print("stopped", file=sys.stderr)
    return OK


def load_engine(model: str, options: argparse.Namespace) -> api.Engine:
    return api.Engine(model, kv_tokens=options.kv_tokens, kv_dtype=options.kv_dtype, **models.where(options))


def port(text: str) -> int:
    number = not_negative(text)
    if number >= 2**16:
        raise argparse.ArgumentTypeError(f"must be below {2**16}, not {number}")
    return number


def listen(host: str, number: int) -> socket.socket:
    """A socket that listens at a port. Raises `Usage`."""
    try:
        return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        help = ": --port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise Usage(f"cannot listen at {host}:{number}: {reason}{help}") from None


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def greet(console: Console, engine: api.Engine, url: str, verbose: bool) -> None:
    """Say what answers, and where, and how to end it."""
    from rich.markup import escape

    model = engine.local.model
    for why in model.why if verbose else ():
        console.print(f"hw: {why}", markup=False)
    cache = "a cache that grows" if model.pool.grows else f"a cache of {model.pool.capacity} tokens"
    console.print(f"{escape(model.name)} answers at [bold]{url}[/]: a context of {model.context} tokens, {cache}")
    console.print(f'from Python: sgl.set_default_backend(sgl.RuntimeEndpoint("{url}"))', style="dim")
    console.print("Ctrl-C stops it", style="dim")
