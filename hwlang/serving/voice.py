"""The text of tokens as they are sampled: what there is of it, where it ends, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwlang.serving.sglang_api import Finish, Sampling
from hwruntime.tokenizer import Detokenizer
from hwruntime.worker import completes

if TYPE_CHECKING:
    from hwruntime.tokenizer import Tokenizer

BEFORE = 8  # tokens of the prompt that decide how the first ones read: a character can be as many


class Voice:
    """`text`: all that was said, without what has ended it; `finish`: how it has, or None; `tokens`: those sampled."""

    def __init__(self, tokenizer: Tokenizer, sampling: Sampling, prompt: Sequence[int]) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.finish: Finish | None = None
        self._sampling = sampling
        # A text that is held to something ends where that does, whatever `ignore_eos` says.
        ends = tokenizer.end_tokens if sampling.constraint or not sampling.ignore_eos else frozenset()
        self.ends = ends | sampling.stop_token_ids
        self._unsaid = tokenizer.special_tokens if sampling.skip_special_tokens else frozenset()
        self._detokenizer = Detokenizer(tokenizer)
        self._detokenizer.add(prompt[-BEFORE:])

    @property
    def shown(self) -> str:
        """As much of the text as nothing can take back: not the beginning of a stop text at its end."""
        if self.finish:
            return self.text
        starts = (stop[:length] for stop in self._sampling.stop for length in range(len(stop) - 1, 0, -1))
        held = max((len(start) for start in starts if self.text.endswith(start)), default=0)
        return self.text[: len(self.text) - held]

    def hear(self, token: int) -> None:
        """Take the token that was sampled."""
        self.tokens.append(token)
        if token in self.ends:
            self.text += self._detokenizer.flush()
            if self._sampling.no_stop_trim and token not in self._unsaid:
                self.text += self._detokenizer.add([token])
            self.finish = Finish("stop", token)
            return
        before = self.text
        self.text += "" if token in self._unsaid else self._detokenizer.add([token])
        delta = self.text[len(before) :]
        places = ((completes(before, delta, stop), stop) for stop in self._sampling.stop)
        found = [(at, stop) for at, stop in places if at is not None]
        if found:
            at, stop = min(found)
            self.text = self.text[: at + len(stop) if self._sampling.no_stop_trim else at]
            self.finish = Finish("stop", stop)
        elif len(self.tokens) >= self._sampling.max_new_tokens:
            self.text += self._detokenizer.flush()
            self.finish = Finish("length", length=len(self.tokens))
