"""Runs tests of programs: scripted ones on the scripted model, without torch, the others on a model, loaded once.

case -> a run -> what it came to, next to what was expected (`verdicts` shows it)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hwlang import syntax
from hwlang.checks.casecheck import ANSWER, REASON
from hwlang.diagnostics import Span
from hwlang.lowering import lower
from hwlang.testing.cases import Case, Feed
from hwruntime.errors import HwError
from hwruntime.program import Program
from hwruntime.result import Result
from hwruntime.scripted import ScriptedModel
from hwruntime.session import Session

if TYPE_CHECKING:
    from hwruntime.runner import Runner

How = Literal["is", "contains", "lacks", "matches", "passes", "runs"]
Load = Callable[[str], "Runner"]


@dataclass(frozen=True)
class Failure:
    """What was not as expected, and where that is written. `how` they were compared; with `runs`, `got` is an error."""

    span: Span
    how: How
    what: str
    expected: str
    got: str
    help: str | None = None


@dataclass(frozen=True, eq=False)
class Verdict:
    """What came of a test."""

    case: Case
    model: str
    passes: int
    seconds: float
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


def judge(case: Case, load: Load, model: str | None = None) -> Verdict:
    """Run a test: by its script if it has one, else on `model`, its own model or its program's."""
    program = Program.from_json(lower(case.program))
    name = "scripted" if case.scripted else model or case.model or program.model or "tiny"
    started = time.monotonic()
    try:
        if case.scripted:
            result, unfed = scripted(case, program)
        else:
            engine = load(name)
            started = time.monotonic()
            result, unfed = on_model(case, program, engine)
        failures = (*map(not_fed, unfed), *(f for expect in case.expects if (f := look(expect, result))))
        return Verdict(case, name, result.passes, time.monotonic() - started, failures)
    except HwError as error:
        return Verdict(case, name, 0, time.monotonic() - started, (failed_run(case, error),))


def scripted(case: Case, program: Program) -> tuple[Result, list[Feed]]:
    """The result of a run on the scripted model, and what was never fed."""
    model = ScriptedModel(case.lines or {}, case.picks)
    session = Session(program, case.inputs, model.tokenizer, budget=case.budget, seed=case.seed)
    feeds = list(case.feeds)
    while True:
        feeds = fed(feeds, session, session.feed)
        rows = session.next_pass().rows
        if not rows:
            return session.result("scripted"), feeds
        session.advance([model.reply(row) for row in rows])


def on_model(case: Case, program: Program, engine: Runner) -> tuple[Result, list[Feed]]:
    """The result of a run on a model, and what was never fed."""
    run = engine.start(program, case.inputs, budget=case.budget, seed=case.seed)
    feeds = list(case.feeds)
    try:
        while True:
            feeds = fed(feeds, run.session, run.feed)
            if not engine.step([run]):
                return run.result(engine.model.name), feeds
    finally:
        engine.finish(run)


def fed(feeds: list[Feed], session: Session, feed: Callable[[str, str], None]) -> list[Feed]:
    """Feed what is due now; what is left."""
    if session.reason is not None:
        return feeds
    for each in feeds:
        if each.after <= session.passes:
            feed(each.stream, each.text)
    return [each for each in feeds if each.after > session.passes]


# --- What is expected ------------------------------------------------------------------------------------------------


def look(expect: syntax.Expect | syntax.ExpectPasses, result: Result) -> Failure | None:
    """What is not as expected."""
    if isinstance(expect, syntax.ExpectPasses):
        most = int(expect.most.value)
        if result.passes <= most:
            return None
        return Failure(expect.span, "passes", "passes", f"at most {most}", str(result.passes))
    what, text = text_of(expect, result)
    how: How = "matches" if isinstance(expect.value, syntax.Regex) and expect.how == "is" else expect.how
    wanted = expect.value.pattern if isinstance(expect.value, syntax.Regex) else expect.value.literal
    if holds(text, expect.how, expect.value):
        return None
    return Failure(expect.span, how, what, wanted, text)


def text_of(expect: syntax.Expect, result: Result) -> tuple[str, str]:
    """What a test looks at: what it is called, and its text. A run without an answer has an empty one; so has a worker
    that did not take part."""
    name = expect.what.value
    if expect.worker:
        whole = f"{expect.worker.value}.{name}"
        return whole, result.scratchpads.get(whole, "")
    if name in result.workers:
        return name, result.workers[name].text
    if name in result.scratchpads:
        return name, result.scratchpads[name]
    others = {ANSWER: result.answer or "", REASON: result.reason}
    return name, others.get(name, "")


def holds(text: str, how: Literal["is", "contains", "lacks"], value: syntax.String | syntax.Regex) -> bool:
    if isinstance(value, syntax.Regex):
        return (re.search(value.pattern, text, re.MULTILINE) is None) == (how == "lacks")
    if how == "is":
        return text == value.literal
    return (value.literal in text) == (how == "contains")


def not_fed(feed: Feed) -> Failure:
    return Failure(feed.span, "runs", "", "", f"the run ended before its pass {feed.after}: this was never fed")


def failed_run(case: Case, error: HwError) -> Failure:
    at, source = error.span, case.span.source
    span = Span(at.line, at.column, at.end_line, at.end_column, source) if at else case.span
    return Failure(span, "runs", "", "", error.message, error.help)


def engines(make: Callable[[str], Runner]) -> Load:
    """Loads each model once."""
    loaded: dict[str, Runner] = {}

    def load(name: str) -> Runner:
        if name not in loaded:
            loaded[name] = make(name)
        return loaded[name]

    return load


def chosen(cases: Iterator[Case], part: str | None) -> list[Case]:
    """The tests in whose file, program or title there is this text, in whatever case."""
    wanted = (part or "").casefold()
    return [case for case in cases if wanted in f"{case.span.source.file} {case.name}".casefold()]
