"""The checks of tests: what a `test` names must be there in its program, and what it gives must fit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hwlang import syntax
from hwlang.checks.clauses import ClauseCheck
from hwlang.checks.crew import Resolved, all_actions
from hwlang.checks.files import Files, Unreadable
from hwlang.checks.names import Kind, Names, first_here, once, place
from hwlang.checks.programs import type_of
from hwlang.checks.texts import plain
from hwlang.diagnostics import Diagnostic, Report, Span, quoted

REASONS = ("answer", "stopped", "done", "budget", "stalled", "context", "cache", "cancelled")
ANSWER, REASON = "answer", "reason"  # what a test can look at besides workers and scratchpads


@dataclass(frozen=True)
class Known:
    """What a program has that a test can name."""

    resolved: Resolved
    names: Names
    missing: dict[str, list[Diagnostic]] = field(default_factory=dict)  # each use, in any test, of what it has not

    @cached_property
    def params(self) -> Mapping[str, syntax.Param]:
        return {param.name.value: param for param in self.resolved.tree.params}

    @cached_property
    def workers(self) -> Sequence[str]:
        return list(self.names.of_kinds(("worker",)))

    @cached_property
    def pads(self) -> Sequence[str]:
        return list(self.names.of_kinds(("scratchpad",)))

    @cached_property
    def streams(self) -> Sequence[str]:
        return list(self.names.of_kinds(("stream",)))

    @cached_property
    def choices(self) -> set[str]:
        """The texts of all choices of the program that have no holes."""
        found = [ask for ask in self._asks() if isinstance(ask, syntax.Ask)]
        return {choice.text.literal for ask in found for choice in ask.choices}

    def private(self, worker: str) -> Sequence[str] | None:
        """The scratchpads that a worker has for itself; None where it is not known what it does."""
        body = next((member.body for member in self.resolved.crew if member.name.value == worker), None)
        return [pad.name.value for pad in body.pads] if body else None

    @property
    def finishes(self) -> bool:
        """Whether the program has an `else`, whose lines are those of `answer`."""
        return any(isinstance(d, syntax.Answer) and d.otherwise is not None for d in self.resolved.tree.declarations)

    def _asks(self) -> Iterator[syntax.Action]:
        for body in dict.fromkeys(member.body for member in self.resolved.crew):
            for rule in body.rules:
                yield from all_actions(rule.actions)
        for node in self.resolved.tree.declarations:
            if isinstance(node, syntax.Sync):
                yield from all_actions(node.actions)


def check_tests(
    tests: Iterable[syntax.Test], programs: Iterable[tuple[Resolved, Names]], files: Files, report: Report
) -> None:
    """Check the tests of a file. What a program says of its names is not said again of its tests."""
    known = {resolved.name: Known(resolved, names) for resolved, names in programs}
    seen: dict[tuple[str, str], Span] = {}
    for test in tests:
        name = test.program.value
        if name not in known:
            help = report.suggestion(name, known)
            report.error("HW601", test.program.span, f"there is no program {quoted(name)} to test", help)
            continue
        CaseCheck(test, known[name], files, report).run()
        key = (name, test.title.literal)
        if key in seen:
            message = f"there is a test {quoted(key[1])} of {quoted(name)} already, {place(seen[key], test.title.span)}"
            report.error("HW102", test.title.span, message, labels=first_here(seen[key]))
        seen.setdefault(key, test.title.span)
    for each in known.values():
        report.problems += map(once, each.missing.values())


class CaseCheck:
    """The checks of one test."""

    def __init__(self, test: syntax.Test, known: Known, files: Files, report: Report) -> None:
        self.test = test
        self.known = known
        self.files = files
        self.report = report
        self._clauses = ClauseCheck(report)
        self._seen: dict[str, Span] = {}

    def run(self) -> None:
        plain(self.test.title, self.report)
        for clause in self.test.clauses:
            self._clause(clause)
        self._together()

    def _clause(self, clause: syntax.TestClause) -> None:
        match clause:
            case syntax.Given(settings):
                for setting in settings:
                    self._setting(setting)
            case syntax.Model(name):
                self._once("`model`", clause.span)
                plain(name, self.report)
            case syntax.Budget(passes):
                self._once("`budget`", clause.span)
                self._clauses.at_least_one(passes)
            case syntax.Option():
                self._option(clause)
            case syntax.Says():
                self._says(clause)
            case syntax.Picks():
                self._picks(clause)
            case syntax.Feed():
                self._feed(clause)
            case syntax.Expect():
                self._expect(clause)
            case syntax.ExpectPasses(most):
                self._clauses.at_least_one(most)

    def _once(self, what: str, span: Span) -> None:
        if what in self._seen:
            self.report.error("HW103", span, f"{what} is given twice", labels=first_here(self._seen[what]))
        self._seen.setdefault(what, span)

    def _known(self, name: syntax.Name, what: str, kinds: tuple[Kind, ...], names: Sequence[str]) -> bool:
        """Whether there is such a name; notes one that is not."""
        if name.value in names:
            return True
        if self.known.names.is_told(name.value, kinds):
            return False
        uses = self.known.missing.setdefault(name.value, [])
        message = f"{quoted(self.known.resolved.name)} has no {what} {quoted(name.value)}"
        help = None if uses else self.report.suggestion(name.value, names)
        if help is None and names and not uses:
            help = f"it has {', '.join(quoted(each) for each in names[:8])}"
        uses.append(Diagnostic("HW602", message, name.span, help))
        return False

    # What is given

    def _setting(self, setting: syntax.Setting) -> None:
        self._once(quoted(setting.name.value), setting.span)
        if not self._known(setting.name, "parameter", ("parameter",), list(self.known.params)):
            return
        param = self.known.params[setting.name.value]
        if isinstance(setting.value, syntax.Included):
            self._file(setting.value)
            given = "str"
        else:
            given = type_of(setting.value)
            if isinstance(setting.value.value, syntax.String):
                plain(setting.value.value, self.report)
        if given != param.type and (given, param.type) != ("int", "float"):
            message = f"the parameter {quoted(param.name.value)} is {param.type}, this is {given}"
            self.report.error("HW604", setting.value.span, message)

    def _file(self, included: syntax.Included) -> None:
        if plain(included.path, self.report):
            try:
                self.files.text(included.path)
            except Unreadable as error:
                self.report.error(error.code, included.path.span, error.reason, error.help)

    def _option(self, option: syntax.Option) -> None:
        self._once(f"`{option.name}`", option.span)
        if option.name != "seed":
            message = f"a test sets `seed` alone: `{option.name}` is its program's to say"
            self.report.error("HW605", option.span, message)
        else:
            self._clauses.sampling(syntax.Sampling((option,), span=option.span))

    # The script

    def _says(self, says: syntax.Says) -> None:
        names = [*self.known.workers, *([ANSWER] if self.known.finishes else [])]
        self._known(says.worker, "worker", ("worker",), names)
        self._once(f"what {quoted(says.worker.value)} says", says.span)
        for text in says.texts:
            plain(text, self.report)

    def _picks(self, picks: syntax.Picks) -> None:
        plain(picks.question, self.report)
        all_known = "role" not in self.known.names.unknown
        if plain(picks.choice, self.report) and all_known and picks.choice.literal not in self.known.choices:
            message = f"no `ask` of {quoted(self.known.resolved.name)} has the choice {quoted(picks.choice.literal)}"
            self.report.error("HW604", picks.choice.span, message)

    def _feed(self, feed: syntax.Feed) -> None:
        self._known(feed.stream, "stream", ("stream",), self.known.streams)
        plain(feed.text, self.report)
        if feed.after.value < 0:
            self.report.error("HW406", feed.after.span, f"this number is at least 0, not {feed.after.value}")

    # What is expected

    def _expect(self, expect: syntax.Expect) -> None:
        if expect.worker is None:
            own = (*self.known.workers, *self.known.pads)
            self._known(expect.what, "worker or scratchpad", ("worker", "scratchpad"), [*own, ANSWER, REASON])
        elif self._known(expect.worker, "worker", ("worker",), self.known.workers):
            private = self.known.private(expect.worker.value)
            if private is not None:
                what = f"scratchpad of {quoted(expect.worker.value)}'s own"
                self._known(expect.what, what, ("scratchpad",), private)
        if isinstance(expect.value, syntax.Regex):
            self._clauses.regex(expect.value)
        elif plain(expect.value, self.report):
            self._reason(expect, expect.value)

    def _reason(self, expect: syntax.Expect, value: syntax.String) -> None:
        is_name = expect.what.value in (*self.known.workers, *self.known.pads)
        if expect.what.value == REASON and expect.how == "is" and not is_name and value.literal not in REASONS:
            help = self.report.suggestion(value.literal, REASONS) or f"one of {', '.join(REASONS)}"
            self.report.error("HW604", value.span, f"no run ends with the reason {quoted(value.literal)}", help)

    # All of it

    def _together(self) -> None:
        clauses = self.test.clauses
        if not any(isinstance(clause, syntax.Expect | syntax.ExpectPasses) for clause in clauses):
            self.report.warning("HW603", self.test.title.span, "this test expects nothing", "add an `expect`")
        model = next((clause for clause in clauses if isinstance(clause, syntax.Model)), None)
        if model and any(isinstance(clause, syntax.Says | syntax.Picks) for clause in clauses):
            message = "this test has a script, so no model runs in it"
            self.report.error("HW605", model.span, message, "leave out `model`, or `says` and `picks`")
        given = {s.name.value for clause in clauses if isinstance(clause, syntax.Given) for s in clause.settings}
        missing = [p for p in self.known.params.values() if p.default is None and p.name.value not in given]
        if missing:
            names = ", ".join(quoted(f"{p.name.value}: {p.type}") for p in missing)
            help = f"write `given {missing[0].name.value} = ...`"
            self.report.error("HW604", self.test.program.span, f"the program needs {names}", help)
