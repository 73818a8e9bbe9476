"""A run on a server: its session, what the server has written ahead for it, and what that has cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hwruntime.answer import DEFAULT_ANSWER_TOKENS
from hwruntime.batch import Run, wants
from hwruntime.program import Program, Value
from hwruntime.remote.drafts import Draft
from hwruntime.remote.server import Reply, Request
from hwruntime.result import Remote, Result
from hwruntime.rows import AnyEdit, ClearBlock, Outcome, Row
from hwruntime.session import Log, RunOptions, Session
from hwruntime.tokenizer import Tokenizer

MOST_STOPS = 32  # texts that SGLang looks for in one request


class RemoteSession(Session):
    """A session whose result says that it is approximate, and what it has cost. `cost` is counted while it goes on."""

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        tokenizer: Tokenizer,
        context: int,
        log: Log | None,
        options: RunOptions,
        cost: Remote,
    ) -> None:
        self.cost = cost
        super().__init__(program, inputs, tokenizer, context, log, **options)

    def result(self, model: str) -> Result:
        return replace(super().result(model), remote=self.cost)

    def count(self, request: Request, reply: Reply) -> None:
        """Count what a request has cost."""
        cost = self.cost
        self.cost = replace(
            cost,
            requests=cost.requests + 1,
            prompt_tokens=cost.prompt_tokens + len(request.tokens),
            cached_tokens=cost.cached_tokens + reply.cached,
            generated_tokens=cost.generated_tokens + len(reply.tokens),
        )

    def drop(self, tokens: int) -> None:
        """Count tokens that were written ahead in vain."""
        self.cost = replace(self.cost, unused_tokens=self.cost.unused_tokens + tokens)

    def left(self, writer: str) -> int:
        """How many tokens a writer can still use."""
        worker = next((each for each in self._workers if each.name == writer), None)
        if worker is None or self.reason is not None:  # the finisher, which comes after the budget
            answer = self.program.answer
            return (answer and answer.max_tokens) or DEFAULT_ANSWER_TOKENS
        most = worker.spec.max_tokens
        passes = self.budget - self.passes
        return max(1, passes if most is None else min(passes, most - worker.sampled))

    def stops(self, writer: str) -> tuple[str, ...]:
        """Texts behind which a writer will hardly go on as the server would: the ends of its steps, and its own."""
        worker = next((each for each in self._workers if each.name == writer), None)
        if worker is None:
            return ()
        step = worker.spec.step
        until = step.until if step and not step.after_sentence else ()
        return tuple(text.fill(worker.values) for text in (*until, *worker.spec.stop_at))[:MOST_STOPS]


@dataclass(eq=False)
class RemoteRun(Run):
    """`drafts`: by writer, what the server has written ahead; `chosen`: what came of this pass's choices. `made`:
    passes of it that this engine has made."""

    session: RemoteSession
    drafts: dict[str, Draft] = field(default_factory=dict)
    chosen: dict[Row, Outcome] = field(default_factory=dict)
    made: int = 0

    def drop_disturbed(self, edits: Iterable[AnyEdit], rows: Sequence[Row]) -> None:
        """Drop drafts that what comes with this pass makes stale: their worker posts, or a block of their view is fed
        or cleared. What other workers write, move and post is seen at the next sync."""
        changed = {edit.block for edit in edits if isinstance(edit, ClearBlock)}
        changed |= {row.block for row in rows if row.writer in self.session.program.streams}
        posting = {row.writer for row in rows if not wants(row)}
        for writer, draft in list(self.drafts.items()):
            if writer in posting or not changed.isdisjoint(draft.view):
                self._drop(writer)

    def keep(self, writer: str, draft: Draft) -> None:
        """Put a draft in the place of the one that there was."""
        self._drop(writer)
        self.drafts[writer] = draft

    def drop_drafts(self) -> None:
        for writer in list(self.drafts):
            self._drop(writer)

    def _drop(self, writer: str) -> None:
        if old := self.drafts.pop(writer, None):
            self.session.drop(len(old.tokens))
