"""What cannot be done on a server is refused by name and place, before any of the program is sent."""

import pytest

import hwlang as hw
from hwruntime.errors import RequestRefused, RunError, ServerError
from hwruntime.remote.engine import RemoteEngine
from hwruntime.remote.fake import FakeServer
from hwruntime.remote.model import RemoteModel
from hwruntime.scripted import WordTokenizer
from tests.hwruntime.remote.stub import lettered

ASK = """program p {
  worker Ann {
    sees "The secret plan. ", self
    step until "."
    on step { ask "Done? " { "yes" { stop } "no" { } } }
  }
}"""
SYNC = """program p {
  worker Ann { sees "The secret plan. ", self step until "." }
  sync every 9 tokens { ask "Done? " { "yes" { stop } "no" { } } }
}"""
FORBID = """program p {
  worker Ann { sees "The secret plan. ", self
    forbid "x" }
}"""
MATCH = """program p {
  worker Ann { sees "The secret plan. ", self step until "."
    match /[a-z]+/ }
}"""


def refused(source: str, server: FakeServer) -> RunError:
    model = RemoteModel("fake", WordTokenizer(), 10**6, 10**5)
    with pytest.raises(RunError) as caught:
        RemoteEngine(server, model).run(hw.parse(source).compiled, {})
    plan = model.tokenizer.encode("secret")[0]
    assert not any(plan in each.tokens for batch in server.requests for each in batch)
    return caught.value


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        (ASK, (5, 15), "`ask` compares the probabilities of its choices, and the server at http://fake does not tell"),
        (SYNC, (3, 25), "`ask` compares the probabilities of its choices, and the server at http://fake does not tell"),
        (FORBID, (3, 12), "`forbid` keeps tokens from being drawn, and the server at http://fake draws them all the"),
        (MATCH, (3, 5), "`match` holds every token of a step to a form, which cannot be done through the server at"),
    ],
)
def test_what_a_server_cannot_do_is_refused_at_its_place(source, place, message):
    server = lettered(WordTokenizer())
    server.tells = server.bans = False
    error = refused(source, server)
    assert error.message.startswith(message)
    assert error.span is not None
    assert (error.span.line, error.span.column) == place
    assert error.help is not None
    assert "leave --engine out" in error.help


def test_a_server_that_does_not_know_such_requests_cannot_do_it():
    server = lettered(WordTokenizer())
    server.fails = lambda request: RequestRefused("unknown: token_ids_logprob") if request.choices else None
    assert refused(ASK, server).message.startswith("`ask` compares")


def test_a_server_that_is_gone_is_told_as_that():
    server = lettered(WordTokenizer())
    server.fails = lambda request: ServerError("gone")
    with pytest.raises(ServerError, match="gone"):
        RemoteEngine(server, RemoteModel("fake", WordTokenizer(), 9, 9)).run(hw.parse(ASK).compiled, {})


def test_what_a_server_can_do_is_tried_once():
    server = lettered(WordTokenizer())
    engine = RemoteEngine(server, RemoteModel("fake", WordTokenizer(), 10**6, 10**5))
    program = hw.parse(FORBID).compiled
    for _ in range(3):
        engine.finish(engine.start(program, {}))
    assert len(server.requests) == 2
