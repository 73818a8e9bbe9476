"""Where a run's answer comes from: steps, votes, pads, workers, and the finisher when the budget has ended."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from hwruntime.program import Answer, Sampling, Value, Worker
from hwruntime.rows import Block, Outcome, Row
from hwruntime.tokenizer import Tokenizer
from hwruntime.worker import Emit, WorkerState

DEFAULT_ANSWER_TOKENS = 64  # of the finisher


class Answers:
    """Collects what finished steps say. `text` is the answer once a regex has found it."""

    def __init__(self, answer: Answer | None) -> None:
        self.spec = answer
        self.text: str | None = None
        self._votes: dict[str, str] = {}

    def has_voted(self, worker: WorkerState) -> bool:
        return worker.name in self._votes

    def read(self, worker: WorkerState, step: str) -> None:
        """Look for an answer or a vote in a finished step: the first one counts."""
        if self.spec is None or self.spec.source not in ("regex", "vote"):
            return
        found = find(self.spec.value, step)
        if found is None:
            return
        if self.spec.source == "vote":
            self._votes.setdefault(worker.name, found)
        elif self.text is None:
            self.text = found

    def settle(self, workers: Sequence[WorkerState], pads: Mapping[str, Block], tokenizer: Tokenizer) -> str | None:
        """The answer as things stand."""
        if self.text is not None or self.spec is None:
            return self.text
        match self.spec.source:
            case "pad":
                return tokenizer.decode(pads[self.spec.value].tokens)
            case "worker":
                return next((w.voice for w in workers if w.name == self.spec.value), None)
            case "vote" if self._votes:
                votes = Counter(self._votes[w.name] for w in workers if self.has_voted(w))
                return votes.most_common(1)[0][0]  # ties: counted first, that is declared first
        return None


class Finisher:
    """A greedy worker over everything written so far, that completes the `else` text to an answer."""

    def __init__(
        self, answer: Answer, view: Sequence[Block], values: Mapping[str, Value], tokenizer: Tokenizer, emit: Emit
    ) -> None:
        assert answer.otherwise is not None
        self._answer = answer
        self._text = answer.otherwise.fill(values)
        spec = Worker(name="answer", sees=(), max_tokens=answer.max_tokens or DEFAULT_ANSWER_TOKENS)
        self._worker = WorkerState(spec, -1, Sampling(temperature=0.0), values, tokenizer, emit)
        self._worker.view = (*view, self._worker.block)
        self._worker.hand(self._text)
        self.done = False
        self.text: str | None = None

    def row(self) -> Row:
        row = self._worker.row()
        assert row is not None, "the finisher never pauses"
        return row

    def hear(self, outcome: Outcome) -> None:
        self._worker.block.tokens.extend(self._worker.pending)
        self._worker.written()
        ended = self._worker.hear(outcome.token).ended
        if self._answer.source in ("regex", "vote"):
            self.text = find(self._answer.value, self._worker.voice)
        elif ended:
            self.text = self._worker.voice[len(self._text) :].strip()
        self.done = ended or self.text is not None


def find(regex: str, text: str) -> str | None:
    """The first match of a regex: its first group where it has one."""
    found = re.search(regex, text, re.MULTILINE)
    return (found.group(1 if found.re.groups else 0) or "") if found else None
