"""`hw explain FILE`: a program as it will run, as plain data: what every worker sees, and what happens when.

`tables` prints it, `headroom` counts its tokens, `arrays` has the plan of a pass. Parameters that are not given are
holes in the texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from hwlang import syntax
from hwlang.checks.crew import Member, Resolved
from hwlang.explaining.headroom import Counter
from hwlang.explaining.wording import actions_in_words, all_actions, quoted_text, text_of, trigger_in_words
from hwlang.formatting.printer import entry_text, escaped
from hwruntime.answer import DEFAULT_ANSWER_TOKENS
from hwruntime.inputs import active_workers, bind
from hwruntime.program import (
    Answer,
    Constant,
    Entry,
    Move,
    OthersEntry,
    PadEntry,
    Post,
    Program,
    Rule,
    Sampling,
    SelfEntry,
    StreamEntry,
    Text,
    Value,
    Worker,
    WorkerEntry,
)
from hwruntime.session import DEFAULT_BUDGET
from hwruntime.views import runs_of_constants

if TYPE_CHECKING:
    from hwlang.explaining.arrays import Arrays

Kind = Literal["constant", "scratchpad", "stream", "worker", "self"]
OUTSIDE = "outside"  # who writes a stream


@dataclass(frozen=True)
class BlockRow:
    """A block of a view. `writers` are workers, or `outside`; `readers` the workers whose views have it; `tokens` of
    what is there from the start, where they were counted, with `unfilled` holes left out."""

    block: str
    kind: Kind
    what: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    shared: bool
    tokens: int | None = None
    unfilled: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleRow:
    """When something happens, and what."""

    when: str
    then: tuple[str, ...]


@dataclass(frozen=True)
class Headroom:
    """How long a worker's view can get: `constants` tokens are there from the start, and each of `writers` adds up to
    one token a pass until the budget ends. `left` of the model's context, less than 0 where the run would end early."""

    constants: int
    writers: tuple[str, ...]
    worst: int
    left: int


@dataclass(frozen=True)
class WorkerView:
    """One worker. `sees` is its view as a `sees` says it, `layout` the layout that it was written as."""

    name: str
    role: str | None
    paused: bool
    layout: str | None
    sees: str
    clauses: Mapping[str, str]
    view: tuple[BlockRow, ...]
    rules: tuple[RuleRow, ...]
    headroom: Headroom | None = None


@dataclass(frozen=True)
class ParamRow:
    """A parameter: its default and the value that was given, as text."""

    name: str
    type: str
    default: str | None
    value: str | None


@dataclass(frozen=True)
class Overview:
    """A program as it will run. `left_out` are the workers of `workers n of ...` that do not take part."""

    program: str
    file: str
    params: tuple[ParamRow, ...]
    model: str | None
    budget: int
    budget_given: bool
    sampling: Mapping[str, float]
    syncs: tuple[RuleRow, ...]
    answer: str | None
    otherwise: str | None
    workers: tuple[WorkerView, ...]
    left_out: tuple[str, ...] = ()


def overview(
    resolved: Resolved,
    program: Program,
    given: Mapping[str, Value],
    count: int | None = None,
    counter: Counter | None = None,
) -> Overview:
    """What a program is, with the parameters that are given; with a `counter` also how long. Raises `InputError` for
    values that do not fit, or a number of workers that cannot be."""
    bind(partial(program), given)
    names = taking_part(program, given, count)
    crew = Crew(program, given, names, counter)
    members = {member.name.value: member for member in resolved.crew}
    roles = dict(role_names(resolved.tree))
    answer = program.answer
    return Overview(
        program=program.name,
        file=program.file,
        params=tuple(ParamRow(p.name, p.type, as_text(p.default), as_text(given.get(p.name))) for p in program.params),
        model=program.model,
        budget=program.budget or DEFAULT_BUDGET,
        budget_given=program.budget is not None,
        sampling=settings(program.sampling),
        syncs=tuple(
            RuleRow(
                f"a worker ends a step, and the workers were handed more than {sync.every} tokens since the last time",
                actions_in_words(sync.actions, crew.values),
            )
            for sync in program.syncs
        ),
        answer=answer_in_words(answer) if answer else None,
        otherwise=otherwise_in_words(answer, crew.values) if answer else None,
        workers=tuple(crew.view_of(w, members[w.name], roles.get(w.name)) for w in crew.workers),
        left_out=tuple(worker.name for worker in program.workers if worker.name not in names),
    )


def taking_part(program: Program, given: Mapping[str, Value], count: int | None) -> list[str]:
    """The workers that take part. A group whose number is not known takes part as a whole."""
    sizes: dict[str, Value] = {g.count: len(g.workers) for g in program.groups if isinstance(g.count, str)}
    defaults = {p.name: p.default for p in program.params if p.default is not None}
    return active_workers(program, {**sizes, **defaults, **given}, count)


def partial(program: Program) -> Program:
    """The program as one that can do without any of its parameters."""
    return replace(
        program, params=tuple(replace(p, default="" if p.default is None else p.default) for p in program.params)
    )


def role_names(tree: syntax.Program) -> Iterator[tuple[str, str]]:
    """Which worker has which role."""
    for node in tree.declarations:
        if isinstance(node, syntax.Worker | syntax.Workers) and node.role:
            for name in node.names:
                yield name.value, node.role.value


class Crew:
    """The workers that take part, and which of them see and write which block."""

    def __init__(
        self, program: Program, given: Mapping[str, Value], names: Sequence[str], counter: Counter | None
    ) -> None:
        self.program = program
        self._counter = counter
        self.workers = [worker for worker in program.workers if worker.name in names]
        self.names = tuple(worker.name for worker in self.workers)
        self.values: dict[str, Value] = {**given, "workers": ", ".join(self.names)}
        self._constants: dict[str, str] = {}  # names of the constants' blocks, by what makes them one block
        self._readers: dict[str, list[str]] = {}
        for worker in self.workers:
            for name in dict.fromkeys(row.block for row in self._rows(worker)):
                self._readers.setdefault(name, []).append(worker.name)

    def view_of(self, worker: Worker, member: Member, role: str | None) -> WorkerView:
        layout = member.body.layout
        view = tuple(self._rows(worker))
        return WorkerView(
            name=worker.name,
            role=role,
            paused=worker.paused,
            layout=layout.kind if layout else None,
            sees=", ".join(entry_text(entry, spelt) for entry in member.view),
            clauses=dict(clauses(worker, self._own_values(worker))),
            view=view,
            rules=tuple(rule_row(rule, self._own_values(worker)) for rule in worker.rules),
            headroom=self._headroom(view) if self._counter else None,
        )

    def _own_values(self, worker: Worker) -> dict[str, Value]:
        return {**self.values, "name": worker.name}

    # Views

    def _rows(self, worker: Worker) -> Iterator[BlockRow]:
        opening = True
        for run in runs_of_constants(worker.sees):
            if isinstance(run, tuple):
                yield self._constant(worker, run, opening)
            else:
                yield from self._growing(worker, run)
            opening = False

    def _constant(self, worker: Worker, run: tuple[Constant, ...], opening: bool) -> BlockRow:
        texts = [constant_in_words(constant, self._own_values(worker)) for constant in run]
        what = " + ".join(texts)
        in_context = run[0].in_context and not opening
        key = f"{'in context ' if in_context else ''}{what}"
        name = self._constants.setdefault(key, f"text {len(self._constants) + 1}")
        kind = "opening, encoded once" if opening else "encoded in context" if in_context else "encoded by itself"
        row = self._row(name, "constant", f"{what} ({kind})", ())
        if self._counter is None:
            return row
        tokens, unfilled = self._counter.constants(run, self._own_values(worker), opening)
        return replace(row, tokens=tokens, unfilled=unfilled)

    def _growing(self, worker: Worker, entry: Entry) -> Iterator[BlockRow]:
        match entry:
            case PadEntry(name=name):
                yield self._pad(worker, name)
            case StreamEntry(name=name):
                yield self._row(name, "stream", "stream: filled from outside", (OUTSIDE,))
            case WorkerEntry(name=name) if name in self.names:
                yield self._row(name, "worker", f"what {name} is writing", (name,))
            case OthersEntry():
                for name in self.names:
                    if name != worker.name:
                        yield self._row(name, "worker", f"what {name} is writing", (name,))
            case SelfEntry():
                yield self._row(worker.name, "self", "own block: it writes here", (worker.name,))

    def _pad(self, worker: Worker, name: str) -> BlockRow:
        own = next((pad for pad in worker.pads if pad.name == name), None)
        pad = own or next(pad for pad in self.program.pads if pad.name == name)
        values = self._own_values(worker) if own else self.values
        holds = f", starts as {quoted_text(text_of(pad.text, values))}" if pad.text else ""
        writers = (worker,) if own else tuple(w for w in self.workers if name not in {p.name for p in w.pads})
        written = tuple(w.name for w in writers if name in self._written_by(w))
        shown = f"{worker.name}.{name}" if own else name
        row = self._row(shown, "scratchpad", f"scratchpad{' of its own' if own else ''}{holds}", written)
        if self._counter is None or pad.text is None:
            return row
        tokens, unfilled = self._counter.text(pad.text, values)
        return replace(row, tokens=tokens, unfilled=unfilled)

    def _written_by(self, worker: Worker) -> set[str]:
        actions = [action for rule in worker.rules for action in rule.actions]
        actions += [action for sync in self.program.syncs for action in sync.actions]
        return {action.pad for action in all_actions(actions) if isinstance(action, Move | Post)}

    def _headroom(self, view: Sequence[BlockRow]) -> Headroom:
        """What is in the view from the start, and what those who write its blocks add until the budget ends."""
        assert self._counter is not None
        constants = sum(row.tokens or 0 for row in view)
        writing = {writer for row in view for writer in row.writers} - {OUTSIDE}
        writers = [worker for worker in self.workers if worker.name in writing]
        budget = self.program.budget or DEFAULT_BUDGET
        worst = constants + sum(min(budget, worker.max_tokens or budget) for worker in writers)
        return Headroom(constants, tuple(w.name for w in writers), worst, self._counter.context - worst)

    def _row(self, name: str, kind: Kind, what: str, writers: tuple[str, ...]) -> BlockRow:
        readers = tuple(self._readers.get(name, ()))
        return BlockRow(name, kind, what, writers, readers, shared=len(readers) > 1)


def as_json(seen: Overview, counter: Counter | None, plan: Arrays | None) -> dict[str, object]:
    """The object that `hw explain --json` prints: `tokens` and `plan` where they were asked for."""
    data: dict[str, object] = asdict(seen)
    if counter:
        data["tokens"] = {"model": counter.model, "context": counter.context}
    if plan:
        data["plan"] = asdict(plan)
    return data


# --- In words --------------------------------------------------------------------------------------------------------


def rule_row(rule: Rule, values: Mapping[str, Value]) -> RuleRow:
    when = " or ".join(trigger_in_words(trigger, values) for trigger in rule.triggers)
    return RuleRow(when, actions_in_words(rule.actions, values))


def clauses(worker: Worker, values: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """What a worker says of itself besides its view and its rules, as (clause, the rest of it)."""
    if worker.step:
        prefix = f"{quoted_text(text_of(worker.step.prefix, values))} " if worker.step.prefix else ""
        after = " after sentence" if worker.step.after_sentence else ""
        yield "step", f"{prefix}until {listed(worker.step.until, values)}{after}"
    if worker.begin:
        yield "begin", quoted_text(text_of(worker.begin, values))
    if worker.forbid:
        yield "forbid", listed(worker.forbid, values)
    if worker.stop_at:
        yield "stop at", listed(worker.stop_at, values)
    if worker.max_tokens:
        yield "max", f"{worker.max_tokens} tokens"
    if worker.sampling:
        yield "sampling", " ".join(f"{name} {value}" for name, value in settings(worker.sampling).items())
    if worker.constraint:
        regex = worker.constraint.form == "regex"
        yield ("match", f"/{worker.constraint.value}/") if regex else ("json", "a value that fits its schema")


def listed(texts: Iterable[Text], values: Mapping[str, Value]) -> str:
    return ", ".join(quoted_text(text_of(text, values)) for text in texts)


def constant_in_words(constant: Constant, values: Mapping[str, Value]) -> str:
    role = "" if constant.role == "text" else f"{constant.role} "
    return role + quoted_text(text_of(constant.text, values))


def spelt(string: syntax.String) -> str:
    parts = (
        "{{" + p.name + "}}" if isinstance(p, syntax.Hole) else escaped(p).replace("{{", "{{{{") for p in string.parts
    )
    return f'"{"".join(parts)}"'


def answer_in_words(answer: Answer) -> str:
    match answer.source:
        case "regex":
            return f"the first match of /{answer.value}/ in a step; it ends the run"
        case "vote":
            return f"the majority of the workers' votes: a step that matches /{answer.value}/"
        case "pad":
            return f"the scratchpad {answer.value}"
        case "worker":
            return f"all that {answer.value} has written"


def otherwise_in_words(answer: Answer, values: Mapping[str, Value]) -> str | None:
    if answer.otherwise is None:
        return None
    most = answer.max_tokens or DEFAULT_ANSWER_TOKENS
    return f"complete {quoted_text(text_of(answer.otherwise, values))} by at most {most} tokens"


def settings(sampling: Sampling | None) -> dict[str, float]:
    """What a `sampling` sets."""
    names = ("temperature", "top_p", "top_k", "min_p", "seed")
    found = {name: getattr(sampling, name) for name in names} if sampling else {}
    return {name: value for name, value in found.items() if value is not None}


def as_text(value: Value | None) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
