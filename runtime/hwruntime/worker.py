"""One worker while it runs: its voice, its steps, when its rules are due, and the row it wants next."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hwruntime.constraint import Matcher, grammar
from hwruntime.errors import RunError
from hwruntime.program import (
    Arrives,
    AtEnd,
    AtStart,
    AtStep,
    Every,
    Matches,
    Rule,
    Sampling,
    Seen,
    Trigger,
    Value,
    Worker,
)
from hwruntime.result import EventKind
from hwruntime.rows import Block, Draw, Row, again_row, whole_row
from hwruntime.tokenizer import Detokenizer, Forbidden, Tokenizer

SENTENCE_END = re.compile(r"""[.!?…。！？]["'”’»)\]}*_`]*\s*$""")
Emit = Callable[[EventKind, str, str], None]  # kind, worker, text


@dataclass(frozen=True)
class Moment:
    """What has just happened to one worker: the occasion for its rules."""

    before: str = ""  # the end of the voice before the token just sampled
    delta: str = ""  # that token's text
    sampled: bool = False
    step: str | None = None  # text of the step that has just ended
    arrived: str | None = None  # the stream that was fed
    started: bool = False
    ended: bool = False


@dataclass
class Count:
    """What has happened since a rule last fired."""

    tokens: int = 0
    steps: int = 0
    passes: int = 0


class WorkerState:
    """A worker of one run. `pending` is what was handed to it and goes into its block in the next pass."""

    def __init__(
        self,
        spec: Worker,
        index: int,
        sampling: Sampling,
        values: Mapping[str, Value],
        tokenizer: Tokenizer,
        emit: Emit,
    ) -> None:
        self.spec = spec
        self.index = index
        self.name = spec.name
        self.values: dict[str, Value] = {**values, "name": spec.name, "step": 1}
        self.block = Block(spec.name)
        self.view: tuple[Block, ...] = ()
        self.pending: list[int] = []
        self.pending_text = ""
        self.steps = 0  # finished ones
        self.tokens = 0  # of its voice: sampled and handed
        self.sampled = 0
        self.handed = 0
        self.paused = spec.paused
        self.ended = False
        self._sampling = sampling
        self._tokenizer = tokenizer
        self._emit = emit
        self._detokenizer = Detokenizer(tokenizer)
        self._forbidden = Forbidden([text.fill(self.values) for text in spec.forbid], tokenizer)
        self._voice: list[str] = []
        self._tail = ""  # of the voice: as much as a text that is looked for can need
        self._step_text = ""  # of the step being written, without its prefix
        self._counts = [Count() for _ in spec.rules]
        self._matcher = self._make_matcher()
        self._recent: list[int] = []  # its last tokens: as many as a forbidden text can need
        self._tail_length = max(map(len, self._needles()), default=0)

    @property
    def voice(self) -> str:
        """Everything in the worker's own voice, in order."""
        return "".join(self._voice)

    # --- Writing ---

    def begin(self) -> None:
        """First inputs: the first step's prefix and `begin`, as one text."""
        texts = [self.spec.step.prefix if self.spec.step else None, self.spec.begin]
        self.hand("".join(text.fill(self.values) for text in texts if text), in_step=False)
        self._step_text = self.spec.begin.fill(self.values) if self.spec.begin else ""

    def hand(self, text: str, in_step: bool = True) -> None:
        """Put text into the worker's voice, to be fed with its next inputs (rule 9)."""
        tokens = self._tokenizer.encode(text) if text and not self.ended else []
        if tokens:
            self.pending += tokens
            self.handed += len(tokens)
            self._speak("say", tokens, in_step)

    def hear(self, token: int) -> Moment:
        """Take the token that was sampled for this worker."""
        self.sampled += 1
        if token in self._tokenizer.end_tokens:
            return Moment(step=self.close(by_itself=True), ended=True)
        before, tail = self._step_text, self._tail
        self.pending.append(token)
        delta = self._speak("token", [token])
        if self._matcher:
            self._matcher.take(token)
        for count in self._counts:
            count.tokens += 1
        stopped = any(completes(tail, delta, text.fill(self.values)) is not None for text in self.spec.stop_at)
        if stopped or self.sampled == self.spec.max_tokens:
            return Moment(tail, delta, True, self.close(by_itself=True), ended=True)
        step = self._ended_step(before, delta)
        if step is not None:
            self._next_step()
        return Moment(tail, delta, True, step)

    def written(self) -> None:
        """What was pending is in the cache now."""
        self.pending, self.pending_text = [], ""

    def close(self, by_itself: bool) -> str | None:
        """End the worker. By itself it ends its step, too, and so does a worker without steps; the step's text."""
        self.ended = True
        if rest := self._detokenizer.flush():
            self._voice.append(rest)
            self.pending_text += rest
            self._step_text += rest
            self._emit("token", self.name, rest)
        if not self._step_text or not (by_itself or self.spec.step is None):
            return None
        self._count_step()
        return self._step_text

    def _ended_step(self, before: str, delta: str) -> str | None:
        """The text of the step that the new token ends, without its separator."""
        step = self.spec.step
        if step is None:
            return None
        found = [completes(before, delta, text.fill(self.values)) for text in step.until]
        starts = [start for start in found if start is not None]
        if not starts:
            return None
        text = (before + delta)[: min(starts)]
        if step.after_sentence and (text.count("```") % 2 or text.count("$$") % 2 or not SENTENCE_END.search(text)):
            return None
        return text

    def _next_step(self) -> None:
        """The token that ended the step is fed with the next step's prefix (rule 5)."""
        self._count_step()
        if self._matcher:
            self._matcher.reset()
        self.values["step"] = self.steps + 1
        self._step_text = ""
        prefix = self.spec.step.prefix if self.spec.step else None
        self.hand(prefix.fill(self.values) if prefix else "", in_step=False)

    def _count_step(self) -> None:
        self.steps += 1
        for count in self._counts:
            count.steps += 1

    def _speak(self, kind: EventKind, tokens: list[int], in_step: bool = True) -> str:
        text = self._detokenizer.add(tokens)
        self.tokens += len(tokens)
        self._voice.append(text)
        self.pending_text += text
        self._recent = (self._recent + tokens)[-self._forbidden.reach :] if self._forbidden.reach else []
        self._tail = (self._tail + text)[-self._tail_length :] if self._tail_length else ""
        if in_step:
            self._step_text += text
        self._emit(kind, self.name, text)
        return text

    # --- Reading ---

    def row(self) -> Row | None:
        """What the worker runs in the next pass: None where it is paused, or has ended and has nothing to write."""
        if self.ended:  # its last token, for the others to see
            return whole_row(self.name, self.view, self.pending, text=self.pending_text) if self.pending else None
        if self.paused:
            return None
        if self.pending:
            return whole_row(self.name, self.view, self.pending, self._draw(), text=self.pending_text)
        row = again_row(self.name, self.view, self._draw())
        if row is None:
            help = "give it a text to see, a step prefix or `begin`"
            raise RunError(f"worker `{self.name}` has no text to start from", help=help, span=self.spec.span)
        return row

    def _draw(self) -> Draw:
        s = self._sampling
        return Draw(
            temperature=s.temperature or 0.0,
            top_p=1.0 if s.top_p is None else s.top_p,
            top_k=s.top_k or 0,
            min_p=s.min_p or 0.0,
            seed=s.seed or 0,
            stream=self.index,
            counter=self.sampled,
            banned=self._forbidden.after(self._recent),
            allowed=self._matcher.allowed() if self._matcher else None,
        )

    def _make_matcher(self) -> Matcher | None:
        if self.spec.constraint is None:
            return None
        separators = [text.fill(self.values) for text in self.spec.step.until] if self.spec.step else []
        try:
            return self._tokenizer.matcher(grammar(self.spec.constraint, separators))
        except RunError as error:
            message = f"worker `{self.name}`: {error.message}"
            raise RunError(message, error.help, self.spec.constraint.span) from None

    # --- Rules ---

    def count_pass(self) -> None:
        for count in self._counts:
            count.passes += 1

    def occasions(self, index: int, moment: Moment) -> list[dict[str, Value]]:
        """The regex groups for each time that rule `index` fires now: once, or once for each match."""
        rule = self.spec.rules[index]
        groups = self._matches(rule, moment)
        if not groups and any(self._hit(trigger, index, moment) for trigger in rule.triggers):
            groups = [{}]
        if groups:
            self._counts[index] = Count()
        return groups

    def _matches(self, rule: Rule, moment: Moment) -> list[dict[str, Value]]:
        regexes = [t.regex for t in rule.triggers if isinstance(t, Matches)]
        if moment.step is None or not regexes:
            return []
        found = [m for regex in regexes for m in re.finditer(regex, moment.step, re.MULTILINE)]
        return [{str(i): group or "" for i, group in enumerate(m.groups(), 1)} for m in found]

    def _hit(self, trigger: Trigger, index: int, moment: Moment) -> bool:
        match trigger:
            case AtStep():
                return moment.step is not None
            case Every(count=n, unit=unit, at_step=at_step):
                reached: int = getattr(self._counts[index], unit)
                due = moment.step is not None if at_step or unit == "steps" else moment.sampled or unit == "passes"
                return due and reached >= n
            case Seen(text=text):
                return completes(moment.before, moment.delta, text.fill(self.values)) is not None
            case Arrives(stream=stream):
                return moment.arrived == stream
            case AtStart():
                return moment.started
            case AtEnd():
                return moment.ended
            case Matches():
                return False

    def _needles(self) -> list[str]:
        """Texts that are looked for in the voice as it grows."""
        seen = [t.text for rule in self.spec.rules for t in rule.triggers if isinstance(t, Seen)]
        return [text.fill(self.values) for text in (*seen, *self.spec.stop_at)]


def completes(before: str, delta: str, needle: str) -> int | None:
    """Where `needle` starts in `before + delta`, if it ends in `delta`."""
    skip = max(0, len(before) - len(needle) + 1)
    found = (before[skip:] + delta).find(needle) if needle else -1
    return None if found < 0 else skip + found
