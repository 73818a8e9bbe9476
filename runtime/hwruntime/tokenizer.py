"""Text to tokens and back: the seam that a session knows (`Tokenizer`), and the real one (`ModelTokenizer`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from hwruntime.constraint import Matcher, guide
from hwruntime.errors import RunError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Message:
    """A stretch of constant text. `role` is a chat role, or `text` for text that stands as it is written."""

    role: str
    text: str


class Tokenizer(Protocol):
    """What a session needs of a tokenizer. Fake: `hwruntime.scripted.WordTokenizer`."""

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a worker."""

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


class ModelTokenizer:
    """A Hugging Face tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", end_tokens: frozenset[int]) -> None:
        self._hf = tokenizer
        self._end_tokens = end_tokens

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._end_tokens

    @cached_property
    def vocabulary(self) -> Sequence[bytes]:
        # Decoding a token behind another shows what it adds to a text: by itself, some tokenizers drop its space.
        anchor = self.encode("a")
        skip = len(self.decode(anchor))
        ids = range(len(self._hf))
        texts = self._hf.batch_decode([[*anchor, token] for token in ids], clean_up_tokenization_spaces=False)
        names = self._hf.convert_ids_to_tokens(list(ids))
        return [token_bytes(name, text[skip:]) for name, text in zip(names, texts, strict=True)]

    def encode(self, text: str) -> list[int]:
        return list(self._hf.encode(text, add_special_tokens=False))

    def encode_constants(self, messages: Sequence[Message], opening: bool) -> list[int]:
        plain = all(message.role == "text" for message in messages)
        start = self._start_tokens() if opening and plain and self._hf.bos_token_id is not None else []
        tokens = self.encode("".join(self._rendered(messages)))
        return start + tokens if tokens else []

    def decode(self, tokens: Sequence[int]) -> str:
        text = self._hf.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def matcher(self, grammar: str) -> Matcher:
        return guide(self._hf, self.vocabulary, self._end_tokens, grammar)

    def _start_tokens(self) -> list[int]:
        """The start token, if the tokenizer puts it before a text; chat templates write theirs out themselves."""
        first = self._hf.encode("a", add_special_tokens=True)[:1]
        return first if first == [self._hf.bos_token_id] else []

    def _rendered(self, messages: Sequence[Message]) -> list[str]:
        """Texts as they are; each run of chat messages through the template at once."""
        parts: list[str] = []
        chat: list[dict[str, str]] = []
        for index, message in enumerate(messages):
            if message.role == "text":
                parts.append(message.text)
                continue
            chat.append({"role": message.role, "content": message.text})
            if index + 1 == len(messages) or messages[index + 1].role == "text":
                parts.append(self._render_chat(chat))
                chat = []
        return parts

    def _render_chat(self, chat: list[dict[str, str]]) -> str:
        if self._hf.chat_template is None:
            raise RunError(
                f"the program uses `{chat[0]['role']}` text, and this model's tokenizer has no chat template",
                help='write plain text ("...") instead of user, system or assistant text, or use a chat model',
            )
        # The last message of the assistant's is left open, for the worker to go on with it.
        open_end = chat[-1]["role"] == "assistant"
        text = self._hf.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=not open_end, continue_final_message=open_end
        )
        assert isinstance(text, str)
        return text


def token_bytes(name: str, text: str) -> bytes:
    """A token's bytes: its text, or, where that is no whole character, what the tokenizer's own name for it says."""
    if "\ufffd" not in text:
        return text.encode()
    if byte := re.fullmatch("<0x([0-9A-F]{2})>", name):  # SentencePiece
        return bytes.fromhex(byte[1])
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    characters: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]
    alphabet = {character: byte for byte, character in characters.items()}  # byte-level BPE
    return bytes(alphabet[c] for c in name) if all(c in alphabet for c in name) else text.encode()


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
