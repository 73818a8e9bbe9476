"""A small SGLang server over a real socket: the two calls that we use, in front of a `FakeServer`.

As a program it writes its address, and says something until it is killed: `python -m tests.hwruntime.remote.stub`.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from hwruntime.remote.fake import FakeServer
from hwruntime.remote.server import Reply, Request
from hwruntime.scripted import WordTokenizer

Answer = tuple[int, bytes]  # status and body


class Listener(ThreadingHTTPServer):
    """Takes as many connections at once as requests go out."""

    daemon_threads = True
    request_queue_size = 128


@dataclass
class Stub:
    """`model` says what is said. `before` is called with every request to /generate, and may answer in its place.
    Without `key` in the header, nobody is answered. `seen`: the bodies that came."""

    model: FakeServer
    before: Callable[[dict], Answer | None] = lambda body: None
    key: str | None = None
    info: bytes | None = None
    seen: list[dict] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator["Stub"]:
        with Listener(("127.0.0.1", 0), self._handler()) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            yield self
            server.shutdown()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(*stub.about(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                allowed = stub.key is None or self.headers["Authorization"] == f"Bearer {stub.key}"
                self._answer(*(stub.generate(body) if allowed else (401, b'{"error": "Unauthorized"}')))

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def about(self, path: str) -> Answer:
        told = {"model_path": self.model.model, "tokenizer_path": self.model.model, "is_generation": True}
        return (200, self.info or json.dumps(told).encode()) if path == "/get_model_info" else (404, b"{}")

    def generate(self, body: dict) -> Answer:
        with self.lock:
            self.seen.append(body)
            instead = self.before(body)
            if instead is not None:
                return instead
            request = request_of(body)
            reply = self.model.generate([request])[0]
        if not isinstance(reply, Reply):
            return 500, json.dumps({"error": {"message": reply.message}}).encode()
        return 200, json.dumps(reply_json(request, reply)).encode()


def request_of(body: dict) -> Request:
    """What SGLang makes of a body."""
    sampling = body["sampling_params"]
    return Request(
        tokens=tuple(body["input_ids"]),
        most=sampling["max_new_tokens"],
        ends=frozenset(sampling.get("stop_token_ids", ())),
        stops=tuple(sampling.get("stop", ())),
        banned=frozenset(int(token) for token, bias in sampling.get("logit_bias", {}).items() if bias < -1e6),
        choices=tuple(body.get("token_ids_logprob", ())) if body.get("return_logprob") else (),
    )


def reply_json(request: Request, reply: Reply) -> dict:
    """As SGLang 0.5.23 answers."""
    finish = (
        {"type": "stop", "matched": reply.tokens[-1]} if reply.ended else {"type": "length", "length": request.most}
    )
    meta = {
        "id": "0",
        "finish_reason": finish,
        "prompt_tokens": len(request.tokens),
        "completion_tokens": len(reply.tokens),
        "cached_tokens": reply.cached,
    }
    if request.choices:
        first = [[value, token, None] for value, token in zip(reply.logprobs, request.choices, strict=False)]
        meta["output_token_ids_logprobs"] = [first]
    return {"text": reply.text, "output_ids": list(reply.tokens), "meta_info": meta}


def lettered(tokenizer: WordTokenizer, letters: str = "abc .\n", ends: float = 0.02) -> FakeServer:
    """Says letters that follow from the whole text before them, and the end with probability `ends`."""
    import zlib

    def following(tokens: Sequence[int], banned: frozenset[int]) -> int:
        number = zlib.crc32(tokenizer.decode(tokens).encode()) / 2**32
        if number < ends:
            return 0
        ids = [token for each in letters if (token := tokenizer.encode(each)[0]) not in banned]
        return ids[int(number * 1e6) % len(ids)]

    def score(tokens: Sequence[int], choice: int) -> float:
        return -(zlib.crc32(tokenizer.decode((*tokens, choice)).encode()) / 2**32)

    return FakeServer(following, tokenizer.decode, scores=score)


if __name__ == "__main__":
    letters = FakeServer(lambda tokens, banned: 50 + len(tokens) % 7, lambda tokens: "")  # whatever it is that is asked
    with Stub(letters).serving() as served:
        print(served.url, os.getpid(), flush=True)
        while os.read(0, 1):  # until whoever started it has gone
            pass
