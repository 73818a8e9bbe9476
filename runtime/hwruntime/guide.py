"""Steps held to a grammar by llguidance: masks over a model's vocabulary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hwruntime.errors import RunError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


@dataclass
class Guide:
    """A matcher for one worker. Raises `RunError` for a grammar that llguidance cannot follow."""

    make: Callable[[], "LLMatcher"]

    def __post_init__(self) -> None:
        self.reset()
        self._check()

    def allowed(self) -> bytes:
        mask: bytes = self._matcher.compute_bitmask()  # the end of the text where nothing else may come
        if not self._matcher.is_stopped():
            self._check()
        return mask

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def reset(self) -> None:
        self._matcher = self.make()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RunError(f"the constraint on a step cannot be followed: {self._matcher.get_error().splitlines()[0]}")


def guide(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[bytes], ends: frozenset[int], text: str) -> Guide:
    """A matcher of `text`, a grammar, over a tokenizer whose tokens write `pieces`. Raises `RunError`."""
    try:
        from llguidance import LLMatcher
    except ImportError:
        help = "pip install 'hwlang[constraints]'"
        raise RunError("`match` and `json` need the package llguidance", help=help) from None
    vocabulary = _vocabulary(tokenizer, pieces, ends)
    return Guide(lambda: LLMatcher(vocabulary, text, log_level=0))


@dataclass(frozen=True)
class _Pieces:
    """A vocabulary by the text of its tokens, in the form that llguidance asks for."""

    tokens: list[bytes]
    eos_token_id: int
    special_token_ids: list[int]
    encode: Callable[[str], list[int]]
    bos_token_id: int | None = None

    def __call__(self, text: str) -> list[int]:
        if isinstance(text, bytes):  # llguidance tries; what is no text it then splits itself
            raise TypeError("texts only")
        return self.encode(text)


def _vocabulary(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[bytes], ends: frozenset[int]) -> "LLTokenizer":
    from llguidance import LLTokenizer, TokenizerWrapper, hf

    if isinstance(tokenizer, PreTrainedTokenizerFast):
        try:
            return hf.from_tokenizer(tokenizer, eos_token=sorted(ends) or None)
        except ValueError:
            pass  # its tokens are plain text: llguidance knows those of BPE and of bytes
    special = tokenizer.all_special_ids
    wrapped = _Pieces(list(pieces), min(ends, default=0), special, lambda text: tokenizer.encode(text))
    return LLTokenizer(TokenizerWrapper(wrapped), eos_token=sorted(ends) or None)
