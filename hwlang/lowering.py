"""Syntax tree -> plain data: one checked program as the JSON that `hwruntime.program.Program.from_json` reads.

The checker has resolved the names, inlined the roles and written out the layouts; here every node becomes a dictionary
with its kind, its fields and its span. Fields that are not set are left out, as the runtime itself leaves them out. So
are the spans of imported roles: a span of the data is one of the program's own file.
"""

from collections.abc import Iterable
from typing import TypeAlias

from hwlang import syntax
from hwlang.checks.crew import Body, Group, Member, Resolved
from hwlang.checks.texts import written_out
from hwlang.diagnostics import Span
from hwlang.syntax import Parts

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Data: TypeAlias = dict[str, Json]


def lower(program: Resolved) -> Data:
    """The data of a program that the checker found no errors in."""
    return Lowering(program).program()


def given(fields: Data) -> Data:
    return {key: value for key, value in fields.items() if not (value is None or value is False or value == [])}


class Lowering:
    """Writes out one program. What workers of one role share is written out once and used again."""

    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.tree = resolved.tree
        self._bodies: dict[int, Data] = {}

    def node(self, kind: str, span: Span, **fields: Json) -> Data:
        """A node of the data. Fields that are None, False or empty are left out: so are they in the runtime."""
        data: Data = {"kind": kind, **given(fields)}
        if span and span.source.file == self.resolved.file:
            data["span"] = [span.line, span.column, span.end_line, span.end_column]
        return data

    def program(self) -> Data:
        needed: Data = {
            "params": [self.param(param) for param in self.tree.params],
            "workers": [self.worker(one) for one in self.resolved.crew],
        }
        groups: list[Json] = [self.group(group) for group in self.resolved.groups]
        data = self.node("program", self.tree.span, name=self.resolved.name, file=self.resolved.file, groups=groups)
        return data | needed | self._declarations()

    def _declarations(self) -> Data:
        single: Data = {}
        lists: dict[str, list[Json]] = {}
        for declaration in self.tree.declarations:
            match declaration:
                case syntax.Model():
                    single["model"] = declaration.name.literal
                case syntax.Sampling():
                    single["sampling"] = self.sampling(declaration.options, declaration.span)
                case syntax.Budget():
                    single["budget"] = declaration.passes.value
                case syntax.Answer():
                    single["answer"] = self.answer(declaration)
                case syntax.Scratchpad():
                    lists.setdefault("pads", []).append(self.pad(declaration))
                case syntax.Stream():
                    lists.setdefault("streams", []).append(declaration.name.value)
                case syntax.Sync():
                    lists.setdefault("syncs", []).append(self.sync(declaration))
        return {**single, **lists}

    def param(self, param: syntax.Param) -> Data:
        default = param.default.value if param.default else None
        value: Json = None
        if isinstance(default, syntax.String):
            value = default.literal
        elif isinstance(default, syntax.Number):
            value = float(default.value) if param.type == "float" else default.value
        else:
            value = default
        data = self.node("param", param.span, name=param.name.value, type=param.type)
        return data if value is None else data | {"default": value}

    def sampling(self, options: Iterable[syntax.Option], span: Span) -> Data:
        data = self.node("sampling", span)
        for option in options:
            value = option.value.value
            data[option.name] = int(value) if option.name in ("top_k", "seed") else float(value)
        return data

    def pad(self, pad: syntax.Scratchpad) -> Data:
        return self.node("pad", pad.span, name=pad.name.value, text=self.text(pad.text) if pad.text else None)

    def group(self, group: Group) -> Data:
        count = group.count.value
        return self.node("group", group.span, count=count, workers=[name.value for name in group.names])

    def sync(self, sync: syntax.Sync) -> Data:
        return self.node("sync", sync.span, every=sync.every.value) | {"actions": self.actions(sync.actions)}

    def answer(self, answer: syntax.Answer) -> Data:
        match answer.source:
            case syntax.Regex():
                source, value = "regex", answer.source.pattern
            case syntax.Vote():
                source, value = "vote", answer.source.regex.pattern
            case syntax.Name():
                value = answer.source.value
                source = "pad" if self.resolved.kinds[value] == "scratchpad" else "worker"
        otherwise = answer.otherwise
        return self.node(
            "answer",
            answer.span,
            source=source,
            value=value,
            otherwise=self.text(otherwise.text) if otherwise else None,
            max_tokens=otherwise.max_tokens.value if otherwise and otherwise.max_tokens else None,
        )

    # Texts

    def text(self, text: syntax.String) -> Data:
        return self.parts(written_out(text, self.resolved.texts), text.span)

    def parts(self, parts: Parts, span: Span) -> Data:
        made: list[Json] = [part if isinstance(part, str) else self.hole(part) for part in parts]
        return self.node("text", span) | {"parts": made}

    def hole(self, hole: syntax.Hole) -> Data:
        return self.node("hole", hole.span, name=hole.name)

    def texts(self, texts: Iterable[syntax.String]) -> list[Json]:
        return [self.text(text) for text in texts]

    # Workers

    def worker(self, one: Member) -> Data:
        if id(one.body) not in self._bodies:
            self._bodies[id(one.body)] = self.body(one.body, one.view)
        return self.node("worker", one.name.span, name=one.name.value, paused=one.paused) | self._bodies[id(one.body)]

    def body(self, body: Body, view: tuple[syntax.Entry, ...]) -> Data:
        private = {pad.name.value for pad in body.pads}
        fields: Data = {
            "pads": [self.pad(pad) for pad in body.pads],
            "step": self.step(body.step) if body.step else None,
            "begin": self.text(body.begin.text) if body.begin else None,
            "forbid": self.texts(body.forbid),
            "stop_at": self.texts(body.stop_at),
            "max_tokens": body.max_tokens.count.value if body.max_tokens else None,
            "sampling": self.sampling(body.options, body.options[0].span) if body.options else None,
            "constraint": self.constraint(body),
            "rules": [self.rule(rule) for rule in body.rules],
        }
        sees: list[Json] = [self.entry(entry, private) for entry in view]
        return {"sees": sees, **given(fields)}

    def entry(self, entry: syntax.Entry, private: set[str]) -> Data:
        match entry:
            case syntax.Constant():
                text = self.text(entry.text)
                return self.node("constant", entry.span, role=entry.role, text=text, in_context=entry.in_context)
            case syntax.Others():
                return self.node("others_entry", entry.span)
            case syntax.Own():
                return self.node("self_entry", entry.span)
            case syntax.Name():
                return self.name_entry(entry, private)

    def name_entry(self, name: syntax.Name, private: set[str]) -> Data:
        kind = "scratchpad" if name.value in private else self.resolved.kinds[name.value]
        if kind == "parameter":
            hole = syntax.Hole(name.value, span=name.span)
            return self.node("constant", name.span, role="text", text=self.parts((hole,), name.span))
        if kind == "text":
            return self.node(
                "constant", name.span, role="text", text=self.parts(self.resolved.texts[name.value], name.span)
            )
        entry = {"scratchpad": "pad_entry", "stream": "stream_entry", "worker": "worker_entry"}[kind]
        return self.node(entry, name.span, name=name.value)

    def step(self, step: syntax.Step) -> Data:
        prefix = self.text(step.prefix) if step.prefix else None
        until = self.texts(step.until)
        return self.node("step", step.span, until=until, after_sentence=step.after_sentence) | {"prefix": prefix}

    def constraint(self, body: Body) -> Data | None:
        match body.constraint:
            case None:
                return None
            case syntax.Match():
                form, value = "regex", body.constraint.regex.pattern
            case syntax.Json():
                form, value = "json", self.resolved.schemas[body]
        return self.node("constraint", body.constraint.span, form=form, value=value)

    # Triggers and actions

    def rule(self, rule: syntax.On) -> Data:
        triggers: list[Json] = [self.trigger(trigger) for trigger in rule.triggers]
        return self.node("rule", rule.span) | {"triggers": triggers, "actions": self.actions(rule.actions)}

    def trigger(self, trigger: syntax.Trigger) -> Data:
        match trigger:
            case syntax.AtStep():
                return self.node("at_step", trigger.span)
            case syntax.AtStart():
                return self.node("at_start", trigger.span)
            case syntax.AtEnd():
                return self.node("at_end", trigger.span)
            case syntax.Every():
                return self.node(
                    "every", trigger.span, count=trigger.count.value, unit=trigger.unit, at_step=trigger.at_step
                )
            case syntax.Seen():
                return self.node("seen", trigger.span, text=self.text(trigger.text))
            case syntax.Matches():
                return self.node("matches", trigger.span, regex=trigger.regex.pattern)
            case syntax.Arrives():
                return self.node("arrives", trigger.span, stream=trigger.stream.value)

    def actions(self, actions: Iterable[syntax.Action]) -> list[Json]:
        return [self.action(action) for action in actions]

    def action(self, action: syntax.Action) -> Data:
        match action:
            case syntax.Say():
                return self.node("say", action.span, text=self.text(action.text))
            case syntax.Ask():
                choices: list[Json] = [self.choice(choice) for choice in action.choices]
                return self.node("ask", action.span, text=self.text(action.text), choices=choices)
            case syntax.Post():
                return self.node("post", action.span, text=self.text(action.text), pad=action.pad.value)
            case syntax.Move():
                return self.node("move", action.span, pad=action.pad.value)
            case syntax.Clear():
                return self.node("clear", action.span, pad=action.pad.value)
            case syntax.Pause():
                return self.node("pause", action.span, worker=action.worker.value)
            case syntax.Resume():
                return self.node("resume", action.span, worker=action.worker.value)
            case syntax.Stop():
                return self.node("stop", action.span, worker=action.worker.value if action.worker else None)

    def choice(self, choice: syntax.Choice) -> Data:
        return self.node("choice", choice.span, text=self.text(choice.text)) | {"actions": self.actions(choice.actions)}
