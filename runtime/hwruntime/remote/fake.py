"""A server without a model or a network, and a prefix cache like that of a real one. For tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hwruntime.errors import ServerError
from hwruntime.remote.server import Info, Reply, Request


class PrefixCache:
    """Which texts have been read: as SGLang's RadixAttention, whose tree has a node for a run of tokens, keeps them."""

    def __init__(self) -> None:
        self._root: dict[int, dict] = {}  # type: ignore[type-arg]  # a node: by token, the node behind it

    def known(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens of a text have been read before, behind the same ones."""
        node = self._root
        for count, token in enumerate(tokens):
            if token not in node:
                return count
            node = node[token]
        return len(tokens)

    def add(self, tokens: Sequence[int]) -> None:
        node = self._root
        for token in tokens:
            node = node.setdefault(token, {})


@dataclass
class FakeServer:
    """Says what `following` says that follows a text, token by token; `decode` gives the text of tokens.

    `requests` are those that were made, batch by batch; `fails` is asked about each, and may say why it fails.
    `tells`: whether it can tell probabilities (`scores` of a token behind a text), `bans`: whether it takes `banned`.
    """

    following: Callable[[Sequence[int], frozenset[int]], int]
    decode: Callable[[Sequence[int]], str]
    ends: frozenset[int] = frozenset({0})
    scores: Callable[[Sequence[int], int], float] = lambda tokens, choice: 0.0
    fails: Callable[[Request], ServerError | None] = lambda request: None
    tells: bool = True
    bans: bool = True
    model: str = "fake"
    url: str = "http://fake"
    requests: list[list[Request]] = field(default_factory=list)
    cache: PrefixCache = field(default_factory=PrefixCache)

    def info(self) -> Info:
        return Info(self.model, self.model)

    def generate(self, requests: Sequence[Request]) -> list[Reply | ServerError]:
        self.requests.append(list(requests))
        return [self.fails(request) or self._reply(request) for request in requests]

    def _reply(self, request: Request) -> Reply:
        banned = request.banned if self.bans else frozenset[int]()
        drawn: list[int] = []
        while not self._is_over(request, drawn):
            drawn.append(self.following((*request.tokens, *drawn), banned))
        cached = min(self.cache.known(request.tokens), len(request.tokens) - 1)  # of the last one, logits are wanted
        self.cache.add((*request.tokens, *drawn[:-1]))  # the last one was drawn, and never read
        logprobs = tuple(self.scores(request.tokens, choice) for choice in request.choices) if self.tells else ()
        return Reply(tuple(drawn), drawn[-1] in self.ends | request.ends, logprobs, cached, self.decode(drawn))

    def _is_over(self, request: Request, drawn: Sequence[int]) -> bool:
        text = self.decode(drawn)
        ended = bool(drawn) and drawn[-1] in self.ends | request.ends
        return ended or len(drawn) == request.most or any(stop in text for stop in request.stops)
