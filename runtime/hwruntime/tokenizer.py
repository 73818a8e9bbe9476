"""Text to tokens and back, as a session knows it: the seam `Tokenizer`, growing text, forbidden texts.

The real tokenizer is `model_tokenizer.ModelTokenizer`, the fake one `scripted.WordTokenizer`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hwruntime.constraint import Matcher


@dataclass(frozen=True)
class Message:
    """A stretch of constant text. `role` is a chat role, or `text` for text that stands as it is written."""

    role: str
    text: str


class Tokenizer(Protocol):
    """What a session needs of a tokenizer."""

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a worker."""

    @property
    def special_tokens(self) -> frozenset[int]:
        """Tokens that are none of the text, as its ends."""

    @property
    def vocabulary(self) -> Sequence[bytes]:
        """What each token adds to a text, by id, as UTF-8: a token can be a part of a character."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text by itself, nothing added."""

    def encode_constants(self, messages: Sequence[Message], opening: bool) -> list[int]:
        """Tokens of a run of constants: chat messages in the model's template, generation prompt included; where they
        open a view and are not chat, behind the start token that the tokenizer uses."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones included."""

    def matcher(self, grammar: str) -> Matcher | None:
        """Follows a grammar of llguidance, token by token. None for a tokenizer that holds nobody to one."""


@dataclass
class Detokenizer:
    """Text of a growing list of tokens, O(1) per token.

    A token can be a part of a character, or lose its space at the start of a text: so each new token is decoded behind
    the few before it, and held back while it ends in the middle of a character.
    """

    tokenizer: Tokenizer
    _tokens: list[int] = field(default_factory=list)
    _start: int = 0  # of the window that is decoded
    _done: int = 0  # tokens whose text is out

    def add(self, tokens: Sequence[int]) -> str:
        """The text that these tokens add."""
        return "".join(map(self._add_one, tokens))

    def _add_one(self, token: int) -> str:
        self._tokens.append(token)
        before = self.tokenizer.decode(self._tokens[self._start : self._done])
        after = self.tokenizer.decode(self._tokens[self._start :])
        if after.endswith("\ufffd") and len(self._tokens) - self._done < 8:  # a character is at most 4 bytes
            return ""
        self._start, self._done = self._done, len(self._tokens)
        return after[len(before) :]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        before = self.tokenizer.decode(self._tokens[self._start : self._done])
        after = self.tokenizer.decode(self._tokens[self._start :])
        self._done = len(self._tokens)
        return after[len(before) :]


class Forbidden:
    """The tokens that would write one of `texts`, however it is split into tokens.

    Works on bytes: a token can be a part of a character. `reach`: how many of the tokens before matter.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self._texts = [text.encode() for text in texts if text]
        self._vocabulary = tokenizer.vocabulary if self._texts else ()
        self._starting: dict[bytes, frozenset[int]] = {}
        self._always = frozenset(i for i, piece in enumerate(self._vocabulary) if any(t in piece for t in self._texts))
        self.reach = max((len(text) - 1 for text in self._texts), default=0)

    def after(self, tokens: Sequence[int]) -> frozenset[int]:
        """Token ids that may not follow `tokens`, of which the last `reach` are looked at."""
        recent = tokens[-self.reach :] if self.reach else ()
        tail = b"".join(self._vocabulary[t] for t in recent if t < len(self._vocabulary))  # models have spare ids
        rests = [t[n:] for t in self._texts for n in range(1, len(t)) if tail.endswith(t[:n])]
        return self._always.union(*map(self._starting_with, rests)) if rests else self._always

    def _starting_with(self, rest: bytes) -> frozenset[int]:
        if rest not in self._starting:
            self._starting[rest] = frozenset(i for i, p in enumerate(self._vocabulary) if p.startswith(rest))
        return self._starting[rest]
