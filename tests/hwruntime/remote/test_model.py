"""The tokenizer of a server's model: where it is from, and that it is the right one."""

from importlib.resources import files

import pytest

from hwruntime.errors import ModelError, ServerError
from hwruntime.remote.fake import FakeServer
from hwruntime.remote.model import connect
from hwruntime.remote.server import Reply, Request
from tests.hwruntime.models_for_tests import QWEN

TINY = str(files("hwruntime") / "tiny")


class Saying(FakeServer):
    """Says tokens 3, 4, ..., which it reads as `text`."""

    def __init__(self, model: str, text: str | None) -> None:
        super().__init__(lambda tokens, banned: 3, lambda tokens: "", model=model)
        self.text = text

    def generate(self, requests):
        self.requests.append(list(requests))
        return [Reply((3, 4, 5, 6), text=self.text)]


def test_the_tokenizer_is_taken_from_where_the_server_has_it():
    server = Saying(TINY, None)
    model = connect(server)
    assert (model.name, model.size > 50, model.context > 100) == (TINY, True, True)
    assert len(model.tokenizer.end_tokens) == 1
    assert model.why[0] == f"server: http://fake runs `{TINY}`"
    assert isinstance(server.requests[0][0], Request)


def test_another_one_can_be_named():
    assert connect(Saying("/somewhere/else", None), TINY).name == "/somewhere/else"


def test_a_tokenizer_that_is_not_here_has_to_be_named():
    with pytest.raises(ModelError, match=r"runs `/nowhere/at-all`, and its tokenizer is not to be had here") as caught:
        connect(Saying("/nowhere/at-all", None))
    assert "--model" in str(caught.value.help)


def test_a_tokenizer_that_reads_as_the_server_does_is_taken():
    model = connect(Saying(TINY, None))
    text = model.tokenizer.decode([3, 4, 5, 6])
    assert connect(Saying(TINY, f" {text} ")).size == model.size
    assert connect(Saying(TINY, model.tokenizer.decode([3, 4, 5]))).size == model.size  # without the end


def test_a_tokenizer_of_another_model_is_refused():
    with pytest.raises(ModelError, match="is not that of the server's model: what the server calls 'Hello'"):
        connect(Saying(TINY, "Hello"), str(QWEN))


def test_a_server_that_fails_is_told():
    server = Saying(TINY, None)
    server.generate = lambda requests: [ServerError("gone")]  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="gone"):
        connect(server)
