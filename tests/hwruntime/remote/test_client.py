"""The real client against a server on a real socket, and everything that can go wrong with one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread, get_ident

import pytest

import hwlang as hw
from hwruntime.errors import InputError, RequestRefused, ServerError
from hwruntime.remote.client import Client
from hwruntime.remote.engine import RemoteEngine
from hwruntime.remote.model import RemoteModel
from hwruntime.remote.server import Info, Manner, Reply, Request
from hwruntime.scripted import WordTokenizer
from tests.hwruntime.remote.stub import Stub, lettered

ROOT = Path(__file__).parents[3]
LIMIT = 10  # seconds until a run on a server that has gone must have ended
TALK = hw.parse('program p { budget 100000 passes worker Ann, Ben { sees "Go. ", others, self } }').compiled


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(lettered(WordTokenizer(), ends=0.0)).serving() as served:
        yield served


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwruntime.remote.client.WAITS", (0.01, 0.02))


def asked(stub: Stub, request: Request | None = None, **options: object) -> Reply:
    """What comes of one request."""
    client = Client(stub.url, **options)  # type: ignore[arg-type]
    (reply,) = client.generate([request or Request((5, 6, 7), 3)])
    if isinstance(reply, ServerError):
        raise reply
    return reply


def engine_at(url: str) -> RemoteEngine:
    return RemoteEngine(Client(url), RemoteModel("stub", WordTokenizer(), 10**6, 10**6), 4)


# --- What is sent, and what comes ---


def test_a_request_is_sent_as_sglang_has_it(stub):
    manner = Manner(0.6, 0.95, 20, 0.1, 77)
    asked(stub, Request((5, 6), 3, manner, frozenset({9, 0}), ("\n\n",), frozenset({8, 4}), (11, 12)))
    assert stub.seen == [
        {
            "input_ids": [5, 6],
            "sampling_params": {
                "max_new_tokens": 3,
                "temperature": 0.6,
                "top_p": 0.95,
                "top_k": 20,
                "min_p": 0.1,
                "skip_special_tokens": False,
                "no_stop_trim": True,
                "sampling_seed": 77,
                "stop_token_ids": [0, 9],
                "stop": ["\n\n"],
                "logit_bias": {"4": -1e9, "8": -1e9},
            },
            "return_logprob": True,
            "token_ids_logprob": [11, 12],
        }
    ]


def test_a_greedy_request_says_no_more_than_it_has_to(stub):
    asked(stub)
    sampling = stub.seen[0]["sampling_params"]
    assert (sampling["temperature"], sampling["top_k"]) == (0.0, -1)
    assert not {"sampling_seed", "stop", "stop_token_ids", "logit_bias"} & set(sampling)
    assert "return_logprob" not in stub.seen[0]


def test_replies_come_in_the_order_of_their_requests(stub):
    requests = [Request((number,), 2, choices=(3, 4)) for number in range(5, 25)]
    replies = Client(stub.url).generate(requests)
    assert replies == lettered(stub_tokenizer(stub), ends=0.0).generate(requests)


def stub_tokenizer(stub: Stub) -> WordTokenizer:
    tokenizer = stub.model.decode.__self__  # type: ignore[attr-defined]
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer


def test_requests_are_under_way_at_the_same_time():
    """The stub answers none before all are there."""
    together = Event()
    stub = Stub(lettered(WordTokenizer()))

    def wait(body: dict) -> None:
        stub.lock.release()
        if len(stub.seen) == 3:
            together.set()
        assert together.wait(LIMIT)
        stub.lock.acquire()

    stub.before = wait
    with stub.serving():
        assert len(Client(stub.url).generate([Request((n,), 1) for n in (5, 6, 7)])) == 3


def test_what_is_cached_is_told(stub):
    assert [asked(stub).cached for _ in range(2)] == [0, 2]


def test_the_model_is_told(stub):
    assert Client(stub.url + "/").info() == Info("fake", "fake")


def test_the_new_name_of_the_call_is_found_too(stub, monkeypatch):
    answer = (200, b'{"model_path": "new"}')
    monkeypatch.setattr(stub, "about", lambda path: answer if path == "/model_info" else (404, b"{}"))
    assert Client(stub.url).info() == Info("new", "new")


def test_the_key_is_sent(stub):
    stub.key = "secret"
    assert asked(stub, api_key="secret").tokens
    with pytest.raises(RequestRefused, match="answers /generate with 401: Unauthorized") as caught:
        asked(stub, api_key="other")
    assert "HW_API_KEY" in str(caught.value.help)


def test_an_end_token_that_is_left_away_is_put_back(stub):
    reply = {"output_ids": [5], "meta_info": {"finish_reason": {"type": "stop", "matched": 9}}}
    stub.before = lambda body: (200, json.dumps(reply).encode())
    assert asked(stub) == Reply((5, 9), ended=True)


# --- What goes wrong ---


@pytest.mark.parametrize("url", ["localhost:30000", "ftp://a", "http://", "http://a:port", "http://a/?b=c"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(InputError, match="is not the address of a server"):
        Client(url)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error": {"message": "The input is longer than the context"}}', "with 400: The input is longer than"),
        (422, b'{"detail": "top_p must be in (0, 1]"}', "with 422: top_p must be in"),
        (500, b"Internal Server Error\n at line 1", "with 500: Internal Server Error at line 1"),
        (502, b"", "with 502: Bad Gateway"),
        (200, b"<html>", "does not answer /generate as SGLang does: it is not JSON"),
        (200, b"[]", "does not answer /generate as SGLang does: it is not an object"),
        (200, b"{}", "as SGLang does: there is no `meta_info` in it"),
        (200, b'{"meta_info": {}}', "as SGLang does: there are no `output_ids` in it"),
        (200, b'{"meta_info": {}, "output_ids": []}', r"`output_ids` is \[\], for 3 tokens"),
        (200, b'{"meta_info": {}, "output_ids": [1, "a"]}', r"`output_ids` is \[1, 'a'\], for 3 tokens"),
        (200, b'{"meta_info": {}, "output_ids": [1, 2, 3, 4]}', r"`output_ids` is \[1, 2, 3, 4\], for 3 tokens"),
        (200, b'{"meta_info": {"finish_reason": {"type": "abort", "message": "out of memory"}}}', "up: out of memory"),
    ],
)
def test_what_a_server_answers_amiss_is_told(stub, status, body, message):
    stub.before = lambda _: (status, body)
    with pytest.raises(ServerError, match=message) as caught:
        asked(stub)
    assert stub.url in caught.value.message


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_and_that_is_said(stub, quick, caplog, status):
    stub.before = lambda body: (status, b"busy") if len(stub.seen) < 3 else None
    assert asked(stub).tokens
    assert [record.getMessage() for record in caplog.records] == [
        f"{stub.url} is busy ({status}): asked again in {wait} s" for wait in ("0.0", "0.0")
    ]


def test_a_server_that_stays_busy_ends_the_run(stub, quick):
    stub.before = lambda body: (503, b'{"error": "no healthy worker"}')
    with pytest.raises(ServerError, match="with 503: no healthy worker") as caught:
        asked(stub)
    assert len(stub.seen) == 3
    assert "--max-concurrency" in str(caught.value.help)


def test_other_errors_are_not_asked_again(stub):
    stub.before = lambda body: (500, b"oh")
    with pytest.raises(ServerError):
        asked(stub)
    assert len(stub.seen) == 1


def test_nobody_there_is_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServerError, match=f"the server at {url} cannot be reached") as caught:
        Client(url).info()
    assert "sglang.launch_server" in str(caught.value.help)


def test_a_server_that_does_not_answer_is_told():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", reply_seconds=0.2)
        (reply,) = client.generate([Request((1,), 1)])
    assert isinstance(reply, ServerError)
    assert "has not answered /generate within 0.2 s" in reply.message


def test_what_is_no_model_is_told(stub):
    stub.info = b'{"status": "ok"}'
    with pytest.raises(ServerError, match="does not answer /get_model_info as SGLang does"):
        Client(stub.url).info()


def test_a_killed_server_ends_the_run_soon_and_what_there_was_is_kept():
    command = [sys.executable, "-m", "tests.hwruntime.remote.stub"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, _, number = process.stdout.readline().partition(" ")
        engine = engine_at(url)
        run = engine.start(TALK, {})
        while run.session.passes < 20:
            assert engine.step([run])
        os.kill(int(number), signal.SIGKILL)
        process.wait()
        killed = time.monotonic()
        while engine.step([run]):
            pass
        assert time.monotonic() - killed < LIMIT
    assert isinstance(run.error, ServerError)
    assert url in run.error.message
    assert run.session.passes >= 20
    assert run.session.result("stub").workers["Ann"].text
    assert engine.counters.runs_ended == {"error": 1}


def test_a_server_that_stops_halfway_through_an_answer_ends_the_run_soon():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                connection.close()

        Thread(target=answer_half, daemon=True).start()
        engine = engine_at(f"http://127.0.0.1:{server.getsockname()[1]}")
        run = engine.start(TALK, {})
        began = time.monotonic()
        while engine.step([run]):
            pass
        assert time.monotonic() - began < LIMIT
    assert isinstance(run.error, ServerError)
    assert "broke off in the middle of /generate" in run.error.message


def test_an_interrupted_request_is_broken_off():
    """Ctrl-C in the middle of a request: the engine ends the run, and nothing is waited for."""
    there = Event()
    stub = Stub(lettered(WordTokenizer()))

    def hang(body: dict) -> None:
        there.set()
        time.sleep(LIMIT)

    stub.before = hang
    with stub.serving():
        engine = engine_at(stub.url)

        def interrupt() -> None:
            there.wait(LIMIT)
            # To this thread: so it does not end the wait of the main one, as one that comes just before it does not.
            signal.pthread_kill(get_ident(), signal.SIGINT)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is deaf to it
        Thread(target=interrupt, daemon=True).start()
        began = time.monotonic()
        result = engine.run(TALK, {})
        assert result.reason == "cancelled"
        assert time.monotonic() - began < LIMIT
