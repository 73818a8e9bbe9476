"""The fake model: it says what its script says. For tests of programs, without weights and without torch.

model = ScriptedModel({"Alice": "First.\n\nSecond.", "Bob": "Mine."}, asks={"ahead": "yes"})
result = model.play(Session(program, inputs, model.tokenizer))
"""

import re
from collections.abc import Mapping, Sequence

from hwruntime.errors import RunError
from hwruntime.result import Result
from hwruntime.rows import Outcome, Row
from hwruntime.session import Session
from hwruntime.tokenizer import Message

END = 0
PIECES = re.compile(r"\w+|\s|[^\w\s]")  # a word, or any other single character


class WordTokenizer:
    """Words, spaces and punctuation are tokens; new ones get the next id when they are first met."""

    def __init__(self) -> None:
        self._pieces = ["<end>"]
        self._bytes = [b"<end>"]
        self._ids = {"<end>": END}
        self.end_tokens = self.special_tokens = frozenset({END})
        for character in map(chr, (9, 10, *range(32, 127))):
            self._id(character)

    @property
    def vocabulary(self) -> Sequence[bytes]:
        return self._bytes  # the list itself: it grows

    def encode(self, text: str) -> list[int]:
        return [self._id(piece) for piece in PIECES.findall(text)]

    def encode_constants(self, messages: Sequence[Message], opening: bool) -> list[int]:
        """Chat messages become `<role>text</role>`."""
        texts = [m.text if m.role == "text" else f"<{m.role}>{m.text}</{m.role}>" for m in messages]
        return self.encode("".join(texts))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self._pieces[token] for token in tokens)

    def matcher(self, grammar: str) -> None:
        """A script says what it says."""

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
            self._bytes.append(piece.encode())
        return self._ids[piece]


class ScriptedModel:
    """Says `lines[worker]` token by token, then ends the worker. The finisher's lines are those of `answer`.

    `asks`: which choice to take where the question holds this text, else the first. A worker without lines
    ends at once.
    """

    def __init__(self, lines: Mapping[str, str], asks: Mapping[str, str] | None = None) -> None:
        self.tokenizer = WordTokenizer()
        self._script = {name: [*self.tokenizer.encode(text), END] for name, text in lines.items()}
        self._asks = dict(asks or {})
        self._said: dict[str, int] = {}

    def reply(self, row: Row) -> Outcome:
        """What this model makes of a row."""
        if row.choices:
            return Outcome(self._choose(row))
        if row.draw is None:
            return Outcome()
        script = self._script.get(row.writer, [END])
        said = self._said.get(row.writer, 0)
        self._said[row.writer] = said + 1
        return Outcome(script[min(said, len(script) - 1)])

    def play(self, session: Session, name: str = "scripted") -> Result:
        """Run a session to its end."""
        while rows := session.next_pass().rows:
            session.advance([self.reply(row) for row in rows])
        return session.result(name)

    def _choose(self, row: Row) -> int:
        question = self.tokenizer.decode(row.tokens)
        wanted = next((choice for text, choice in self._asks.items() if text in question), None)
        if wanted is None:
            return 0
        firsts = [self.tokenizer.decode([token]) for token in row.choices]
        first = self.tokenizer.decode(self.tokenizer.encode(wanted)[:1])
        if first not in firsts:
            raise RunError(f'"{wanted}" is picked at "{question}", where the choices begin with {", ".join(firsts)}')
        return firsts.index(first)
