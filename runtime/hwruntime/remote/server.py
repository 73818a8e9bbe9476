"""The one seam to a server: texts as token ids in, tokens out. Real: `client.Client`; fake: `fake.FakeServer`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hwruntime.errors import ServerError


@dataclass(frozen=True)
class Manner:
    """How tokens are drawn: as `rows.Draw` has it. `seed` is for this request alone; a server may do without."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """Asks for at most `most` tokens that follow `tokens`.

    The server stops early behind a token of `ends` (and its own), or a text of `stops`. `banned` tokens are not drawn.
    With `choices`, the logarithms of these tokens' probabilities as the next one are wanted, too.
    """

    tokens: tuple[int, ...]
    most: int
    manner: Manner = field(default_factory=Manner)
    ends: frozenset[int] = frozenset()
    stops: tuple[str, ...] = ()
    banned: frozenset[int] = frozenset()
    choices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reply:
    """`tokens`: what was drawn, the one that ended it included. `ended`: a token ended it that ends texts for the
    server. `logprobs`: of the request's choices; none where the server does not tell them. `cached`: how many tokens of
    the request it had in its cache. `text`: the tokens as the server reads them, where it says so."""

    tokens: tuple[int, ...]
    ended: bool = False
    logprobs: tuple[float, ...] = ()
    cached: int = 0
    text: str | None = None


@dataclass(frozen=True)
class Info:
    """`model` and `tokenizer`: where the server has them from."""

    model: str
    tokenizer: str


class Server(Protocol):
    @property
    def url(self) -> str: ...

    def info(self) -> Info:
        """What it runs. Raises `ServerError`."""

    def generate(self, requests: Sequence[Request]) -> list[Reply | ServerError]:
        """What comes of requests that are made at the same time, in their order; one that fails, fails alone."""
