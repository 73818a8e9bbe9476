"""The workers of a program: how many there are, which bodies they have, and what each does with the program's names."""

from hwlang import syntax
from hwlang.checks.clauses import ClauseCheck
from hwlang.checks.crew import Body, Group, Member, by_kind, combined
from hwlang.checks.files import Files, Unreadable
from hwlang.checks.names import Names, first_here, place, reserved
from hwlang.checks.rules import RuleCheck
from hwlang.checks.texts import Fill, Texts, plain
from hwlang.checks.views import ViewCheck, Views, WorkerNode
from hwlang.diagnostics import Diagnostic, Report, Span, quoted
from hwlang.syntax import Name


class Roles:
    """The roles that workers may have: those of the file and those that it imports."""

    def __init__(self) -> None:
        self.bodies: dict[str, Body] = {}
        self.used: set[str] = set()
        self.missing: dict[str, list[Diagnostic]] = {}  # by name: each use of a role that is not there
        self.complete = True  # no import failed

    def use(self, name: Name, report: Report) -> Body | None:
        self.used.add(name.value)
        if name.value not in self.bodies and self.complete:
            uses = self.missing.setdefault(name.value, [])
            help = None if uses else report.suggestion(name.value, self.bodies)
            uses.append(Diagnostic("HW101", f"there is no role {quoted(name.value)}", name.span, help))
        return self.bodies.get(name.value)


class CrewCheck:
    """Makes the crew of a program from its `worker` and `workers` declarations."""

    def __init__(self, program: syntax.Program, roles: Roles, names: Names, texts: Texts, report: Report) -> None:
        self.program = program
        self.roles = roles
        self.names = names
        self.texts = texts
        self.report = report
        self.crew: list[Member] = []
        self.groups: list[Group] = []
        self._views = Views(program, names, report)

    def run(self) -> None:
        nodes = [node for node in self.program.declarations if isinstance(node, WorkerNode)]
        for node in nodes:
            if isinstance(node, syntax.Workers):
                self._group(node)
            self._workers(node)
        if not nodes:
            name = self.program.name
            self.report.error("HW208", name.span, f"the program {quoted(name.value)} has no workers")
        for one in self.crew:
            self.names.private.update((pad.name.value, one.name.value) for pad in one.body.pads)

    def _workers(self, node: WorkerNode) -> None:
        ClauseCheck(self.report).body(node.body)
        role = self.roles.use(node.role, self.report) if node.role else Body()
        own = by_kind(node.body)
        self.texts.size += own.size and own.size + (role.size if role else 0)
        if role is None:
            self.names.unknown.add("role")
        if role is None or self.texts.too_large:
            return
        body = combined(role, own)
        view = self._views.of(body, node)
        paused = node.paused or body.paused is not None
        self.crew += [Member(name, body, paused, view) for name in node.names]

    # How many

    def _group(self, node: syntax.Workers) -> None:
        self.groups.append(Group(node.count, node.names, node.span))
        if isinstance(node.count, syntax.Number):
            self._count(node.count.value, node.count.span, len(node.names))
        elif param := self._parameter(node.count):
            default = param.default
            if default and isinstance(default.value, syntax.Number):
                self._count(default.value.value, default.span, len(node.names))

    def _parameter(self, name: Name) -> syntax.Param | None:
        """The parameter that gives the number of workers."""
        kind = self.names.use(name)
        if kind is None:
            self.names.undefined(name, "parameter", ("parameter",))
            return None
        param = next((p for p in self.program.params if kind == "parameter" and p.name.value == name.value), None)
        if param and param.type == "int":
            return param
        found = f"of type {param.type}" if param else f"a {kind}"
        message = f"the number of workers is a parameter of type int, and {quoted(name.value)} is {found}"
        self.report.error("HW106", name.span, message)
        return None

    def _count(self, count: float, span: Span, most: int) -> None:
        if count < 1:
            self.report.error("HW208", span, "there must be one worker at least")
        elif count > most:
            message = f"{count} workers are asked for, and only {most} {'is' if most == 1 else 'are'} named"
            self.report.error("HW208", span, message)


# --- One worker ------------------------------------------------------------------------------------------------------


class MemberCheck:
    """The checks of a worker in its program: its names, the holes of its texts, its rules, its schema."""

    def __init__(
        self, one: Member, names: Names, texts: Texts, files: Files, schemas: dict[Body, str], report: Report
    ) -> None:
        self.one = one
        self.body = one.body
        self.names = names
        self.texts = texts
        self.files = files
        self.schemas = schemas
        self.report = report
        self.pads: dict[str, syntax.Scratchpad] = {}
        self._rules = RuleCheck(names, texts, report, self.pads)

    def run(self) -> None:
        for pad in self.body.pads:
            self._declare(pad)
        ViewCheck(self.one, self.pads, self.names, self.texts, self.report).run()
        self._texts()
        for rule in self.body.rules:
            self._rules.rule(rule, self.one)
        self._schema()
        self._own_pads()

    def _declare(self, pad: syntax.Scratchpad) -> None:
        name = pad.name
        if reserved(name, self.report):
            self.names.misnamed.add("scratchpad")
        if name.value in self.names.declared:
            kind, first = self.names.declared[name.value]
            message = f"{quoted(name.value)} is the name of a {kind} already, {place(first.span, name.span)}"
            self.report.error("HW102", name.span, message, labels=first_here(first.span))
            self._rules.written.add(name.value)  # one slip, one message: it is not "never used" as well
        elif name.value in self.pads:
            earlier = self.pads[name.value].name.span
            message = f"{quoted(name.value)} is the name of a scratchpad already, {place(earlier, name.span)}"
            self.report.error("HW102", name.span, message, labels=first_here(earlier))
        self.pads.setdefault(name.value, pad)

    def _texts(self) -> None:
        begin, step = self.body.begin, self.body.step
        for pad in self.body.pads:
            if pad.text:
                self.texts.check(pad.text, Fill())
        if begin:
            self.texts.check(begin.text, Fill(step=step is not None, stepless=None if step else self.body))
        if step and step.prefix:
            self.texts.check(step.prefix, Fill(step=True))
        for text in (step.until if step else ()) + self.body.forbid + self.body.stop_at:
            self.texts.check(text, Fill())

    def _schema(self) -> None:
        node = self.body.constraint
        if isinstance(node, syntax.Json) and plain(node.path, self.report):
            try:
                self.schemas[self.body] = schema(self.files.text(node.path), quoted(node.path.literal))
            except Unreadable as error:
                self.report.error(error.code, node.path.span, error.reason, error.help)

    def _own_pads(self) -> None:
        if "scratchpad" in self.names.unknown:
            return
        seen = {entry.value for entry in self.one.view if isinstance(entry, Name)}
        for name, pad in self.pads.items():
            if name in self._rules.written:
                continue
            if name not in seen:
                self.report.warning("HW105", pad.name.span, f"the scratchpad {quoted(name)} is never used")
            elif pad.text is None:
                message = f"the scratchpad {quoted(name)} is always empty: its worker does not write to it"
                help = f"write to it with `move self to {name}` or `post ... to {name}`, or give it a text"
                self.report.error("HW204", pad.name.span, message, help)


def schema(text: str, file: str) -> str:
    """A JSON schema, as it is; raises `Unreadable` where it is none."""
    import json  # few programs have a schema

    try:
        is_schema = isinstance(json.loads(text), dict | bool)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "too deep or too large"
        raise Unreadable("HW404", f"{file} is not JSON: {reason}") from None
    if not is_schema:
        raise Unreadable("HW404", f"{file} is not a JSON schema: it is no object")
    return text
