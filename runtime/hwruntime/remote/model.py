"""The model of a server, as far as it is here: its tokenizer, and that this is the right one."""

from collections.abc import Sequence
from dataclasses import dataclass

from hwruntime.checkpoint import open_text
from hwruntime.errors import ModelError, ServerError
from hwruntime.remote.server import Request, Server
from hwruntime.tokenizer import Tokenizer

TRIED = "1 2 3, 1 2"  # a text to go on with: some tokens of any model
LOST = "�"  # a part of a character


@dataclass(frozen=True)
class RemoteModel:
    """`name`: what the server calls its model. `size`: how many tokens the tokenizer's model knows. `context`: the
    longest view, in tokens; the server may allow less. `why`: a line for each choice that was made."""

    name: str
    tokenizer: Tokenizer
    size: int
    context: int
    why: Sequence[str] = ()


def connect(server: Server, tokenizer: str | None = None, trust_remote_code: bool = False) -> RemoteModel:
    """What a server runs. `tokenizer`: a folder or a hub name, in place of where the server says that it has its own.

    Raises `ServerError`, and `ModelError` where there is no tokenizer, or one of another model.
    """
    info = server.info()
    name = tokenizer or info.tokenizer
    try:
        text = open_text(name, trust_remote_code)
    except ModelError as error:
        if tokenizer:
            raise
        raise ModelError(
            f"the server at {server.url} runs `{info.model}`, and its tokenizer is not to be had here: {error.message}",
            help="name it with --model: the model's folder on this machine, or its name on the Hugging Face hub",
        ) from error
    check(server, name, text.tokenizer)
    why = [
        f"server: {server.url} runs `{info.model}`",
        f"tokenizer: of `{name}`, {text.size} tokens; it reads what the server writes as the server does",
        f"context: {text.context} tokens, as the tokenizer's model says; the server may allow less",
    ]
    return RemoteModel(info.model, text.tokenizer, text.size, text.context, why)


def check(server: Server, name: str, tokenizer: Tokenizer) -> None:
    """Have the server write a few tokens, and read them as it does. Raises `ModelError`, `ServerError`."""
    tried = tuple(tokenizer.encode(TRIED))
    (reply,) = server.generate([Request(tried, 4, ends=tokenizer.end_tokens)])
    if isinstance(reply, ServerError):
        raise reply
    here = plain(tokenizer.decode(reply.tokens))
    if reply.text is not None and plain(reply.text) not in (here, plain(tokenizer.decode(reply.tokens[:-1]))):
        raise ModelError(
            f"the tokenizer of `{name}` is not that of the server's model: what the server calls {plain(reply.text)!r} "
            f"it reads as {here!r}",
            help="give --model the model that the server runs",
        )


def plain(text: str) -> str:
    """A text without what two ways to put tokens together may differ in: spaces at the ends, halves of characters."""
    return text.replace(LOST, "").strip()
