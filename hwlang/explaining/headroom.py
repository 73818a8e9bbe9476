"""How many tokens the constant texts of a program are, with a model's tokenizer: `hw explain --tokens`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwlang.explaining.wording import text_of
from hwruntime.errors import RunError
from hwruntime.program import Constant, Hole, Program, Text, Value
from hwruntime.tokenizer import Message, Tokenizer


@dataclass(frozen=True)
class Counter:
    """Counts with a tokenizer. `context` is that of its model; `defaults` fill the holes of parameters that are not
    given."""

    model: str
    tokenizer: Tokenizer
    context: int
    defaults: Mapping[str, Value]

    def constants(
        self, run: tuple[Constant, ...], values: Mapping[str, Value], opening: bool
    ) -> tuple[int, tuple[str, ...]]:
        """The tokens of a run of constants, and the holes in it that nothing fills: they count as empty."""
        known = {**self.defaults, **values}
        unfilled = tuple(dict.fromkeys(name for constant in run for name in holes(constant.text) if name not in known))
        filled = {**known, **dict.fromkeys(unfilled, "")}
        messages = [Message(constant.role, text_of(constant.text, filled)) for constant in run]
        try:
            return len(self.tokenizer.encode_constants(messages, opening)), unfilled
        except RunError as error:  # there is no chat template, say
            chat = next((constant for constant in run if constant.role != "text"), run[0])
            raise RunError(error.message, error.help, chat.span) from None

    def text(self, text: Text, values: Mapping[str, Value]) -> tuple[int, tuple[str, ...]]:
        """The tokens of a text by itself."""
        known = {**self.defaults, **values}
        unfilled = tuple(dict.fromkeys(name for name in holes(text) if name not in known))
        filled = {**known, **dict.fromkeys(unfilled, "")}
        return len(self.tokenizer.encode(text_of(text, filled))), unfilled


def holes(text: Text) -> list[str]:
    return [part.name for part in text.parts if isinstance(part, Hole)]


def defaults(program: Program) -> dict[str, Value]:
    return {param.name: param.default for param in program.params if param.default is not None}
