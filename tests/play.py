"""Run a program's text on the scripted model: no torch, no weights."""

from collections.abc import Mapping

import hwlang as hw
from hwruntime.program import Value
from hwruntime.result import Event, Result
from hwruntime.rows import Edit, Row
from hwruntime.scripted import ScriptedModel
from hwruntime.session import Log, Session


class Play:
    """One run of `source`, pass by pass. `lines` are what each worker says; `asks` what it chooses."""

    def __init__(
        self,
        source: str | hw.Program,
        lines: Mapping[str, str],
        asks: Mapping[str, str] | None = None,
        *,
        inputs: Mapping[str, Value] | None = None,
        budget: int | None = None,
        workers: int | None = None,
        context: int | None = None,
        feeds: Mapping[int, tuple[str, str]] | None = None,
        log: Log | None = None,
    ) -> None:
        self.model = ScriptedModel(lines, asks)
        self.program = (hw.parse(source) if isinstance(source, str) else source).compiled
        self.session = Session(
            self.program, inputs or {}, self.model.tokenizer, budget=budget, workers=workers, context=context, log=log
        )
        self.passes: list[tuple[Row, ...]] = []
        self.edits: list[tuple[Edit, ...]] = []  # before each pass
        self.events: list[Event] = []
        self._feeds = dict(feeds or {})

    def run(self) -> Result:
        """To the end."""
        while self.step():
            pass
        return self.session.result("scripted")

    def step(self) -> bool:
        if self.session.passes in self._feeds:
            self.session.feed(*self._feeds.pop(self.session.passes))
        now = self.session.next_pass()
        self.edits.append(now.edits)
        if not now.rows:
            self.events += self.session.drain()
            return False
        self.passes.append(now.rows)
        self.session.advance([self.model.reply(row) for row in now.rows])
        self.events += self.session.drain()
        return True

    def texts(self, number: int) -> list[tuple[str, str]]:
        """(writer, text) of the rows of a pass, counted from 0."""
        return [(row.writer, self.model.tokenizer.decode(row.tokens)) for row in self.passes[number]]

    def kinds(self, *kinds: str) -> list[tuple[str, int, str, str]]:
        """The events of these kinds: (kind, pass, worker, text)."""
        return [(e.kind, e.at, e.worker, e.text) for e in self.events if e.kind in kinds]


def play(source: str, lines: Mapping[str, str], asks: Mapping[str, str] | None = None, **options: object) -> Result:
    """The result of a run; options as for `Play`."""
    return Play(source, lines, asks, **options).run()  # type: ignore[arg-type]
