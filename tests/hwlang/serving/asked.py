"""Requests as tests write them, and a server in a thread of this process, so that torch is imported once."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

from hwlang import api
from hwlang.python.coroutines import Coroutines
from hwlang.python.runs import Turns
from hwlang.serving.generation import Generator
from hwlang.serving.server import Server
from hwlang.serving.sglang_api import Prompt, Reply, read_generate
from hwruntime.cache import Pool
from hwruntime.engine import Engine
from hwruntime.scripted import WordTokenizer
from tests.hwruntime.fake_model import Flat

T = TypeVar("T")
LIMIT = 120  # seconds: nothing may hang


def wait(task: Coroutine[object, object, T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(task, LIMIT)

    return asyncio.run(limited())


def prompt(text: str | list[int], new: int = 8, **sampling: object) -> Prompt:
    """A greedy request, unless it says otherwise; what is not of `sampling_params` is of the request."""
    of_request = {key: sampling.pop(key) for key in list(sampling) if "logprob" in key or key == "rid"}
    given = {"text": text} if isinstance(text, str) else {"input_ids": text}
    asked = read_generate(
        {**given, **of_request, "sampling_params": {"temperature": 0, "max_new_tokens": new, **sampling}}
    )
    return asked.prompts[0]


class Letters(WordTokenizer):
    """Every character is a token, so that what is sampled is tokenized again as it was."""

    def encode(self, text: str) -> list[int]:
        return [self._id(character) for character in text]


class FlatEngine(Coroutines):
    """As much of an engine as a generator needs, with a model that costs nothing."""

    def __init__(self, tokens: int | None, ends: float) -> None:
        model = Flat(Pool(tokens, page_size=4), ends)
        model.tokenizer = Letters()
        self.runtime = Engine(model)
        super().__init__(Turns(self.runtime))

    @property
    def local(self) -> Engine:
        return self.runtime


class Fake(Generator):
    """Answers on a model that costs nothing."""

    def __init__(self, tokens: int | None = None, ends: float = 0, seed: int = 0) -> None:
        self.fake = FlatEngine(tokens, ends)
        super().__init__(self.fake, seed)  # type: ignore[arg-type]

    async def ask(self, text: str, new: int = 8, **sampling: object) -> Reply:
        return await self.reply(prompt(text, new, **sampling))

    async def write(self, text: str, new: int = 8) -> str:
        return text + (await self.ask(text, new)).text

    @property
    def encoded(self) -> int:
        return self.fake.runtime.counters.encoded_tokens

    @property
    def used(self) -> int:
        return self.fake.runtime.model.pool.used


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    generator: Generator

    @property
    def encoded(self) -> int:
        return self.generator.engine.runtime.counters.encoded_tokens

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=LIMIT) as answer:
            return answer.read()

    def post_text(self, path: str) -> str:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, b""), timeout=LIMIT) as answer:
            text: str = answer.read().decode()
            return text

    def post(self, path: str, data: object) -> tuple[int, dict]:
        """The status, and the JSON that came."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=LIMIT) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def generate(self, text: str, new: int = 8, **more: object) -> dict:
        sampling = {"max_new_tokens": new, "temperature": 0}
        status, reply = self.post("/generate", {"text": text, "sampling_params": sampling, **more})
        assert status == 200, reply
        return reply


@contextmanager
def serving(engine: api.Engine) -> Iterator[Served]:
    """A server on a free port, as long as the block goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        generator = Generator(engine)
        server = Server(generator, log_level="error")
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", generator)
        finally:
            server.should_exit = True
            thread.join(LIMIT)
            assert not thread.is_alive()
