"""A model's own tokenizer, from Hugging Face."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from hwruntime.constraint import Matcher
from hwruntime.errors import RunError
from hwruntime.guide import guide
from hwruntime.tokenizer import Message

SHORT = 3  # tokens: a growing text is decoded in such pieces, and the same ones come again and again
REMEMBERED = 2**16  # of them


class ModelTokenizer:
    """A Hugging Face tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> None:
        self._hf = tokenizer
        self._end_tokens = end_tokens
        self._decode_short = lru_cache(REMEMBERED)(self._decode)

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._end_tokens

    def endless(self) -> "ModelTokenizer":
        """The same, for texts that no token ends."""
        return ModelTokenizer(self._hf, frozenset())

    @cached_property
    def special_tokens(self) -> frozenset[int]:
        return frozenset(self._hf.all_special_ids) | self._end_tokens

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
        return self._decode_short(tuple(tokens)) if len(tokens) <= SHORT else self._decode(tokens)

    def _decode(self, tokens: Sequence[int]) -> str:
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
    characters: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]
    alphabet = {character: byte for byte, character in characters.items()}  # byte-level BPE
    return bytes(alphabet[c] for c in name) if all(c in alphabet for c in name) else text.encode()
