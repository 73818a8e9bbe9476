"""The checks of one program, in the order in which they are made."""

from typing import TypeVar

from hwlang import syntax
from hwlang.checks.clauses import ClauseCheck
from hwlang.checks.crew import Body, Resolved
from hwlang.checks.files import Files
from hwlang.checks.names import MAX_LABELS, Names, first_here
from hwlang.checks.rules import RuleCheck, never_resumed
from hwlang.checks.texts import MAX_SIZE, Fill, Texts, plain
from hwlang.checks.views import StartCheck, check_not_itself
from hwlang.checks.workers import CrewCheck, MemberCheck, Roles
from hwlang.diagnostics import Label, Report, Span, quoted
from hwlang.syntax import Name, String

T = TypeVar("T")


class ProgramCheck:
    """Checks a program and resolves it. The methods stand in the order in which `run` calls them."""

    def __init__(self, program: syntax.Program, roles: Roles, files: Files, report: Report) -> None:
        self.program = program
        self.files = files
        self.report = report
        self.names = Names(report)
        self.texts = Texts(program, self.names, files, report)
        self.clauses = ClauseCheck(report)
        self.workers = CrewCheck(program, roles, self.names, self.texts, report)
        self.schemas: dict[Body, str] = {}

    def run(self) -> Resolved:
        self._declare()
        self._once()
        self.texts.write_out()
        self._defaults()
        self._settings()
        self.workers.run()
        self._bodies()
        self._syncs()
        self._answer()
        self.names.tell_missing()
        if self.texts.too_large:
            message = f"written out, this program has more than {MAX_SIZE} parts"
            self.report.error("HW008", self.program.name.span, message)
        else:
            self._whole()
        return self._resolved()

    def _each(self, kind: type[T]) -> list[T]:
        return [node for node in self.program.declarations if isinstance(node, kind)]

    # Declarations

    def _declare(self) -> None:
        for param in self.program.params:
            self.names.declare("parameter", param.name)
        for node in self.program.declarations:
            match node:
                case syntax.Text():
                    self.names.declare("text", node.name)
                case syntax.Scratchpad():
                    self.names.declare("scratchpad", node.name)
                case syntax.Stream():
                    self.names.declare("stream", node.name)
                case syntax.Worker() | syntax.Workers():
                    for name in node.names:
                        self.names.declare("worker", name)

    def _once(self) -> None:
        seen: dict[type, Span] = {}
        for node in self.program.declarations:
            if isinstance(node, syntax.Model | syntax.Sampling | syntax.Budget | syntax.Answer):
                if type(node) in seen:
                    word, labels = type(node).__name__.lower(), first_here(seen[type(node)])
                    self.report.error("HW103", node.span, f"`{word}` is given twice", labels=labels)
                seen.setdefault(type(node), node.span)

    def _defaults(self) -> None:
        for param in self.program.params:
            default = param.default
            if default is None:
                continue
            if isinstance(default.value, String):
                plain(default.value, self.report)
            if type_of(default) != param.type and (type_of(default), param.type) != ("int", "float"):
                message = f"the parameter {quoted(param.name.value)} is {param.type}, its default is {type_of(default)}"
                self.report.error("HW407", default.span, message)

    def _settings(self) -> None:
        for node in self.program.declarations:
            match node:
                case syntax.Model():
                    plain(node.name, self.report)
                    self.clauses.nonempty("a model's name", (node.name,))
                case syntax.Sampling():
                    self.clauses.sampling(node)
                case syntax.Budget():
                    self.clauses.at_least_one(node.passes)
                case syntax.Scratchpad() if node.text:
                    self.texts.check(node.text, Fill(name=False))

    # Workers, syncs, answer

    def _bodies(self) -> None:
        """Check each body once, for the first of the workers that share it."""
        for one in {one.body: one for one in reversed(self.workers.crew)}.values():
            if not self.texts.too_large:
                MemberCheck(one, self.names, self.texts, self.files, self.schemas, self.report).run()
        for one in self.workers.crew:
            check_not_itself(one, self.report)

    def _syncs(self) -> None:
        crew = self.workers.crew
        steps = [one for one in crew if one.body.step]
        for sync in self._each(syntax.Sync):
            self.clauses.at_least_one(sync.every)
            self.clauses.actions(sync.actions)
            if not sync.actions:
                self.report.warning("HW306", sync.span, "this sync does nothing")
            if not steps and crew and not self.names.no_steps:
                help = "a sync is done when a worker ends a step: give the workers `step until ...`"
                self.report.error("HW301", sync.span, "this never happens: no worker has steps", help)
            fill = Fill(step=len(steps) == len(crew) or not steps)
            RuleCheck(self.names, self.texts, self.report, pads={}).actions(sync.actions, fill)

    def _answer(self) -> None:
        for answer in self._each(syntax.Answer):
            match answer.source:
                case Name():
                    self._answer_name(answer.source)
                case syntax.Regex():
                    self.clauses.regex(answer.source)
                case syntax.Vote():
                    self.clauses.regex(answer.source.regex)
            if answer.otherwise:
                self.texts.check(answer.otherwise.text, Fill(name=False))
                if answer.otherwise.max_tokens:
                    self.clauses.at_least_one(answer.otherwise.max_tokens)

    def _answer_name(self, name: Name) -> None:
        kind = self.names.use(name, "scratchpad")
        if kind == "scratchpad":
            self.names.see_pad(name)
        elif kind is None:
            self.names.undefined(name, "scratchpad or worker", ("scratchpad", "worker"))
        elif kind != "worker":
            message = f"{quoted(name.value)} is a {kind}: an answer is a scratchpad, a worker, a /regex/ or a `vote`"
            self.report.error("HW106", name.span, message)

    # The program as a whole

    def _whole(self) -> None:
        StartCheck(self.program, self.names, self.report).run(self.workers.crew)
        self._empty_pads()
        self._paused()
        self.names.warn_unused()

    def _empty_pads(self) -> None:
        if self.names.unknown & {"scratchpad", "role"}:
            return  # the name that is not known may be the one that is missed here
        for pad in self._each(syntax.Scratchpad):
            name = pad.name.value
            if name in self.names.seen and name not in self.names.written and pad.text is None:
                message = f"the scratchpad {quoted(name)} is always empty: nobody writes to it"
                help = f"write to it with `move self to {name}` or `post ... to {name}`, or give it a text"
                self.report.error("HW204", pad.name.span, message, help)

    def _paused(self) -> None:
        if self.names.unknown & {"worker", "role"}:
            return
        waiting: dict[Body, list[Name]] = {}
        for one in never_resumed(self.workers.crew, self._each(syntax.Sync)):
            waiting.setdefault(one.body, []).append(one.name)
        for name, *others in waiting.values():
            message = f"the worker {quoted(name.value)} starts paused, and nothing can resume it"
            help = f"add `resume {name.value}` to a rule of a worker that runs"
            labels = [Label(each.span, "nor this one") for each in others[:MAX_LABELS]]
            self.report.error("HW302", name.span, message, help, labels)

    def _resolved(self) -> Resolved:
        return Resolved(
            file=self.files.source.file,
            tree=self.program,
            kinds=self.names.kinds(),
            texts=self.texts.written,
            schemas=self.schemas,
            crew=tuple(self.workers.crew),
            groups=tuple(self.workers.groups),
        )


def type_of(default: syntax.Value) -> str:
    value = default.value
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, String):
        return "str"
    return "int" if isinstance(value.value, int) else "float"
