"""The static checks: everything about a program that can be said before a model is loaded.

`check_text` and `check_file` parse and check; `check_tree` checks a tree that was built in Python. All three return a
`Checked` with every problem found, in the order of the source, and one `Resolved` for each program: its names resolved,
its roles inlined and its layouts written out, ready for `lowering.lower`.

The order in here: reading other files, what a worker consists of, the checks of a file, the checks of a program.
"""

import difflib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from hwlang import parser, syntax
from hwlang.diagnostics import CompileError, Diagnostic, Severity, Source, Span, in_order, quoted
from hwlang.syntax import Hole, Name, String

MAX_FILE = 16 * 1024 * 1024  # bytes of an included file
MAX_SIZE = 1_000_000  # nodes of a program with all roles and texts written out
MAX_TEXT = 10_000  # parts of a text with the texts in it written out
MAX_REGEX = 10_000  # characters
MAX_IMPORTS = 32  # files that import each other in a row
GUESSES = 20  # "did you mean" is looked for in the first so many problems

# Words that the grammar has a use for where a name could stand too, and the holes that every program has.
RESERVED = frozenset(
    {"self", "others", "in", "name", "workers", "vote"}
    | {"scratchpad", "sees", "layout", "begin", "step", "forbid", "stop", "max", "paused", "sampling", "match", "json"}
    | {"on", "every", "start", "end", "say", "ask", "post", "move", "clear", "pause", "resume"}
)

T = TypeVar("T")
Parts: TypeAlias = tuple[str | Hole, ...]
Kind = Literal["parameter", "text", "scratchpad", "stream", "worker"]
KINDS: tuple[Kind, ...] = ("parameter", "text", "scratchpad", "stream", "worker")


@dataclass(frozen=True)
class Checked:
    """A file and all that was found in it."""

    source: Source
    tree: syntax.File
    diagnostics: tuple[Diagnostic, ...]
    programs: tuple["Resolved", ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")

    def raise_on_errors(self) -> None:
        """Raise `CompileError` with every diagnostic (warnings too) if there is an error among them."""
        if self.errors:
            raise CompileError(self.diagnostics)


def check(source: Source) -> Checked:
    """Check what `parser.load` has read, or any other source."""
    tree, problems = parser.read(source)
    return check_tree(tree, source, problems)


def check_text(text: str, file: str = "<program>", folder: Path | None = None) -> Checked:
    """Check a program's text. Without a `folder` it can neither import nor include files."""
    path = folder / Path(file).name if folder else None
    return check(Source(file, text.removeprefix("\ufeff"), path))


def check_file(path: Path | str) -> Checked:
    """Check a `.hw` file. It reads other files only below its own folder."""
    try:
        return check(parser.load(path))
    except CompileError as error:
        return Checked(Source(str(path), ""), syntax.File(), error.diagnostics, ())


def check_tree(tree: syntax.File, source: Source, problems: Iterable[Diagnostic] = ()) -> Checked:
    """Check a syntax tree, wherever it comes from. `problems` are those that are known already."""
    report = Report(list(problems))
    programs = FileCheck(tree, Files(source), report).run()
    return Checked(source, tree, in_order(report.problems), tuple(programs))


class Report:
    """The problems found so far."""

    def __init__(self, problems: list[Diagnostic]) -> None:
        self.problems = problems

    def error(self, code: str, span: Span, message: str, help: str | None = None) -> None:
        self.problems.append(Diagnostic(code, message, span, help))

    def warning(self, code: str, span: Span, message: str, help: str | None = None) -> None:
        severity: Severity = "warning"
        self.problems.append(Diagnostic(code, message, span, help, severity))

    def suggestion(self, name: str, candidates: Iterable[str]) -> str | None:
        """A help for a name that is not known. Only for the first problems: the search takes time."""
        if len(self.problems) >= GUESSES:
            return None
        close = difflib.get_close_matches(name[:40], list(islice(candidates, 500)), 1, 0.6)
        return f"did you mean `{close[0]}`?" if close else None


# --- Other files -----------------------------------------------------------------------------------------------------


class Unreadable(Exception):
    """A file that cannot be had, with the code and the reason."""

    def __init__(self, code: str, reason: str, help: str | None = None) -> None:
        super().__init__(code, reason, help)
        self.code, self.reason, self.help = code, reason, help


class Files:
    """Files below the folder of the main program, each read once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.main = source.path.resolve() if source.path else None
        self.root = self.main.parent if self.main else None
        self._texts: dict[Path, str] = {}

    def resolve(self, path: String) -> Path:
        """The file that a string names, which may not be above the root, however the path is written."""
        name = path.literal
        folder = path.span.source.folder or self.source.folder
        if self.root is None or folder is None:
            raise Unreadable("HW402", "this program has no folder to read files from", "save it as a .hw file")
        if not name or Path(name).is_absolute():
            raise Unreadable("HW402", f"{quoted(name)} is not a path below the program's folder")
        try:
            target = (folder / name).resolve()
        except (OSError, RuntimeError, ValueError):
            raise Unreadable("HW401", f"{quoted(name)} is not a path that can be read") from None
        if not target.is_relative_to(self.root):
            raise Unreadable("HW402", f"{quoted(name)} lies outside of the program's folder")
        return target

    def text(self, path: String) -> str:
        """A file's contents, as they are."""
        target = self.resolve(path)
        if target not in self._texts:
            self._texts[target] = self._read(target, quoted(path.literal))
        return self._texts[target]

    def _read(self, target: Path, name: str) -> str:
        try:
            if not target.exists():
                raise Unreadable("HW401", f"there is no file {name}")
            if not target.is_file():
                raise Unreadable("HW401", f"{name} is not a file")
            if target.stat().st_size > MAX_FILE:
                raise Unreadable("HW403", f"{name} is larger than {MAX_FILE // 2**20} MiB")
            return target.read_bytes().decode().removeprefix("\ufeff")
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise Unreadable("HW403", f"{name} is not UTF-8 (byte {error.start})") from None
            raise Unreadable("HW401", f"cannot read {name}") from None

    def shown(self, target: Path) -> str:
        """How an imported file is called in messages: next to the main program's name."""
        assert self.root is not None
        return str(Path(self.source.file).parent / target.relative_to(self.root))


# --- What a worker consists of ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Member:
    """A body as it will run: a role's clauses and the worker's own. What can be said once, the worker says last."""

    sees: syntax.Sees | None = None
    layout: syntax.Layout | None = None
    begin: syntax.Begin | None = None
    step: syntax.Step | None = None
    max_tokens: syntax.MaxTokens | None = None
    constraint: syntax.Match | syntax.Json | None = None
    options: tuple[syntax.Option, ...] = ()
    paused: syntax.Paused | None = None
    pads: tuple[syntax.Scratchpad, ...] = ()
    forbid: tuple[String, ...] = ()
    stop_at: tuple[String, ...] = ()
    rules: tuple[syntax.On, ...] = ()
    size: int = 0


def member(body: syntax.Body) -> Member:
    """A body's clauses by kind. Of a clause that is there twice (an error) the last one counts."""
    clauses = body.clauses
    return Member(
        sees=last(clauses, syntax.Sees),
        layout=last(clauses, syntax.Layout),
        begin=last(clauses, syntax.Begin),
        step=last(clauses, syntax.Step),
        max_tokens=last(clauses, syntax.MaxTokens),
        constraint=last(clauses, syntax.Match) or last(clauses, syntax.Json),
        options=tuple(o for c in clauses if isinstance(c, syntax.Sampling) for o in c.options),
        paused=last(clauses, syntax.Paused),
        pads=tuple(c for c in clauses if isinstance(c, syntax.Scratchpad)),
        forbid=tuple(t for c in clauses if isinstance(c, syntax.Forbid) for t in c.texts),
        stop_at=tuple(t for c in clauses if isinstance(c, syntax.StopAt) for t in c.texts),
        rules=tuple(c for c in clauses if isinstance(c, syntax.On)),
        size=sum(map(clause_size, clauses)),
    )


def last(clauses: tuple[syntax.Clause, ...], kind: type[T]) -> T | None:
    return next((clause for clause in reversed(clauses) if isinstance(clause, kind)), None)


def clause_size(clause: syntax.Clause) -> int:
    if isinstance(clause, syntax.Sees):
        return 1 + len(clause.entries)
    if isinstance(clause, syntax.Forbid | syntax.StopAt):
        return 1 + len(clause.texts)
    if isinstance(clause, syntax.On):
        return len(clause.triggers) + sum(1 for _ in all_actions(clause.actions))
    return 1


def combined(role: Member, own: Member) -> Member:
    """A role's clauses with the worker's own: what can be said once, the worker's wins; the rest adds up."""
    if own.size == 0:
        return role
    whole_view = own.sees is not None and any(isinstance(e, syntax.Own) for e in own.sees.entries)
    mine = {option.name for option in own.options}
    return Member(
        sees=own.sees or role.sees,
        layout=own.layout or (None if whole_view else role.layout),
        begin=own.begin or role.begin,
        step=own.step or role.step,
        max_tokens=own.max_tokens or role.max_tokens,
        constraint=own.constraint or role.constraint,
        options=tuple(o for o in role.options if o.name not in mine) + own.options,
        paused=own.paused or role.paused,
        pads=role.pads + own.pads,
        forbid=role.forbid + own.forbid,
        stop_at=role.stop_at + own.stop_at,
        rules=role.rules + own.rules,
        size=role.size + own.size,
    )


def all_actions(actions: Iterable[syntax.Action]) -> Iterator[syntax.Action]:
    """The actions and those in the choices of an `ask`, depth first."""
    for action in actions:
        yield action
        if isinstance(action, syntax.Ask):
            for choice in action.choices:
                yield from all_actions(choice.actions)


@dataclass(frozen=True, eq=False)
class Crew:
    """One worker of a program: its name, its body (shared with others of the same role) and its view."""

    name: Name
    member: Member
    paused: bool
    view: tuple[syntax.Entry, ...]


@dataclass(frozen=True)
class Group:
    """`workers COUNT of NAMES`"""

    count: syntax.Number | Name
    names: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, eq=False)
class Resolved:
    """A program whose names resolve: what lowering writes out. Only of use where there are no errors."""

    file: str
    tree: syntax.Program
    kinds: Mapping[str, Kind]
    texts: Mapping[str, Parts]
    schemas: Mapping[str, str]
    crew: tuple[Crew, ...]
    groups: tuple[Group, ...]

    @property
    def name(self) -> str:
        return self.tree.name.value


# --- A file ----------------------------------------------------------------------------------------------------------


class FileCheck:
    """The checks of one file: its imports, what each role says by itself, then each program."""

    def __init__(self, tree: syntax.File, files: Files, report: Report) -> None:
        self.tree = tree
        self.files = files
        self.report = report
        self.roles: dict[str, syntax.Role] = {}
        self.members: dict[str, Member] = {}
        self.origin: dict[str, syntax.Import] = {}
        self.used: set[str] = set()
        self.imports_failed = False
        self._imported: set[Path] = set()

    def run(self) -> list[Resolved]:
        main = [self.files.main] if self.files.main else []
        for node in self.tree.imports:
            self._import(node, node, main)
        self._declare_roles(self.tree, None)
        self._programs_once()
        programs = [ProgramCheck(program, self).run() for program in self.tree.programs]
        if programs:
            self._unused()
        return programs

    def _import(self, node: syntax.Import, top: syntax.Import, above: list[Path]) -> None:
        """Bring in a file's roles, and those that it imports. `top` is the import in the main file."""
        if not plain(node.path, self.report):
            return
        try:
            target = self.files.resolve(node.path)
            if target in above:
                raise Unreadable("HW405", f"{quoted(node.path.literal)} imports itself, in a circle")
            if len(above) > MAX_IMPORTS:
                raise Unreadable("HW405", f"imports are more than {MAX_IMPORTS} deep here")
            if target in self._imported:
                return
            self._imported.add(target)
            text = self.files.text(node.path)
        except Unreadable as error:
            self.imports_failed = True
            self.report.error(error.code, node.path.span, error.reason, error.help)
            return
        tree, problems = parser.read(Source(self.files.shown(target), text, target))
        self.imports_failed |= bool(problems)
        self.report.problems += problems
        self._declare_roles(tree, top)
        for inner in tree.imports:
            self._import(inner, top, [*above, target])

    def _declare_roles(self, tree: syntax.File, origin: syntax.Import | None) -> None:
        for role in tree.roles:
            name = role.name.value
            reserved(role.name, self.report)
            BodyCheck(self.report).run(role.body)
            if name in self.roles:
                where = place(self.roles[name].name.span, role.name.span)
                self.report.error("HW102", role.name.span, f"there is a role {quoted(name)} already, {where}")
                continue
            self.roles[name] = role
            self.members[name] = member(role.body)
            if origin:
                self.origin[name] = origin

    def _programs_once(self) -> None:
        seen: dict[str, Name] = {}
        for program in self.tree.programs:
            name = program.name
            if name.value in seen:
                where = place(seen[name.value].span, name.span)
                self.report.error("HW102", name.span, f"there is a program {quoted(name.value)} already, {where}")
            seen.setdefault(name.value, name)

    def _unused(self) -> None:
        for name, role in self.roles.items():
            if name not in self.used and name not in self.origin:
                self.report.warning("HW105", role.name.span, f"no worker is a {quoted(name)}")
        useful = {id(self.origin[name]) for name in self.used if name in self.origin}
        for node in self.tree.imports if not self.imports_failed else ():
            if id(node) not in useful:
                self.report.warning("HW105", node.span, f"no role of {quoted(node.path.literal)} is used")


def place(first: Span, second: Span) -> str:
    """Where the first of two declarations is, for a message about the second."""
    if not first:
        return "declared before"
    return f"on line {first.line}" + ("" if first.source is second.source else f" of {first.source.file}")


def reserved(name: Name, report: Report) -> bool:
    if name.value in RESERVED:
        report.error("HW104", name.span, f"{quoted(name.value)} has a meaning of its own and cannot be a name")
    return name.value in RESERVED


def plain(text: String, report: Report) -> bool:
    """Whether a text has no holes, where it is needed before there are any values."""
    for hole in text.holes[:1]:
        report.error("HW107", hole.span, f"nothing fills {shown(hole)} here: this text is read before the run")
    return not text.holes


def shown(hole: Hole) -> str:
    return quoted("{{" + hole.name + "}}")


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> "re.Pattern[str] | str":
    """A regex, or why it is none."""
    if len(pattern) > MAX_REGEX:
        return f"it is longer than {MAX_REGEX} characters"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        return error.msg
    except (RecursionError, OverflowError):
        return "it is too complex"


def groups(regex: syntax.Regex) -> int:
    found = compiled(regex.pattern)
    return found.groups if isinstance(found, re.Pattern) else 99  # its own error is reported already


# --- A body by itself ------------------------------------------------------------------------------------------------


class BodyCheck:
    """What can be said of a body, its rules and their texts whatever the program around it is."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def run(self, body: syntax.Body) -> None:
        self._once(body)
        for clause in body.clauses:
            self._clause(clause)

    def _once(self, body: syntax.Body) -> None:
        words = {
            syntax.Sees: "`sees`", syntax.Layout: "`layout`", syntax.Begin: "`begin`", syntax.Step: "`step`",
            syntax.MaxTokens: "`max`", syntax.Match: "`match` or `json`", syntax.Json: "`match` or `json`",
        }  # fmt: skip
        seen: set[str] = set()
        for clause in body.clauses:
            word = words.get(type(clause))
            if word in seen:
                self.report.error("HW103", clause.span, f"{word} is given twice")
            if word:
                seen.add(word)

    def _clause(self, clause: syntax.Clause) -> None:
        match clause:
            case syntax.Step():
                self.nonempty("a separator", clause.until)
            case syntax.Forbid() | syntax.StopAt():
                self.nonempty("this text", clause.texts)
            case syntax.MaxTokens():
                self.at_least_one(clause.count)
            case syntax.Sampling():
                self.sampling(clause)
            case syntax.Match():
                self.regex(clause.regex)
            case syntax.On():
                self._rule(clause)

    def _rule(self, rule: syntax.On) -> None:
        for trigger in rule.triggers:
            match trigger:
                case syntax.Every():
                    self.at_least_one(trigger.count)
                case syntax.Seen():
                    self.nonempty("a trigger's text", (trigger.text,))
                case syntax.Matches():
                    self._trigger(trigger.regex)
        self.actions(rule.actions)
        if not rule.actions:
            self.report.warning("HW306", rule.span, "this rule does nothing")

    def _trigger(self, regex: syntax.Regex) -> None:
        if not self.regex(regex):
            return
        found = compiled(regex.pattern)
        if isinstance(found, re.Pattern) and found.search(""):
            self.report.warning("HW308", regex.span, "this regex matches the empty text, so it fires at every place")

    def actions(self, actions: tuple[syntax.Action, ...]) -> None:
        for action, following in pairwise(actions):
            if isinstance(action, syntax.Stop) and action.worker is None:
                self.report.warning("HW305", following.span, "this is never done: `stop` before it ends the run")
        for action in actions:
            if isinstance(action, syntax.Ask):
                self._choices(action)

    def _choices(self, ask: syntax.Ask) -> None:
        if len(ask.choices) < 2:
            many = "one choice" if ask.choices else "no choice"
            span = ask.choices[0].text.span if ask.choices else ask.span
            message = f"`ask` has {many}: there is nothing to choose"
            self.report.error("HW303", span, message, "give two choices or more")
        seen: set[String] = set()
        for choice in ask.choices:
            if choice.text in seen:
                self.report.error("HW304", choice.text.span, "this choice is given twice")
            seen.add(choice.text)
            self.nonempty("a choice", (choice.text,))
            self.actions(choice.actions)

    def nonempty(self, what: str, texts: tuple[String, ...]) -> None:
        for text in texts:
            if not text.parts:
                self.report.error("HW409", text.span, f"{what} cannot be empty")

    def at_least_one(self, number: syntax.Number) -> None:
        if number.value < 1:
            self.report.error("HW406", number.span, f"this number is at least 1, not {number.value}")

    def regex(self, regex: syntax.Regex) -> bool:
        found = compiled(regex.pattern)
        if isinstance(found, str):
            self.report.error("HW408", regex.span, f"this regex cannot be read: {found}")
        return not isinstance(found, str)

    def sampling(self, sampling: syntax.Sampling) -> None:
        seen: set[str] = set()
        for option in sampling.options:
            if option.name in seen:
                self.report.error("HW103", option.span, f"`{option.name}` is given twice")
            seen.add(option.name)
            if not in_range(option):
                message = f"`{option.name}` is {RANGES[option.name]}, not {option.value.value}"
                self.report.error("HW406", option.value.span, message)


RANGES = {
    "temperature": "0 or more",
    "top_p": "more than 0 and at most 1",
    "top_k": "1 or more",
    "min_p": "between 0 and 1",
    "seed": "0 or more",
}


def in_range(option: syntax.Option) -> bool:
    value = option.value.value
    match option.name:
        case "temperature" | "seed":
            return value >= 0
        case "top_p":
            return 0 < value <= 1
        case "top_k":
            return value >= 1
        case "min_p":
            return 0 <= value <= 1


# --- A program -------------------------------------------------------------------------------------------------------


@dataclass
class Fill:
    """What fills the holes of a text, beside parameters and texts."""

    name: bool = True
    step: bool = False
    groups: int = 0
    step_help: str = "`{{step}}` is filled in the texts of a worker with `step`, but not in its view"


@dataclass
class Uses:
    """What the workers and syncs of a program do with its names."""

    names: set[str] = field(default_factory=set)  # used anywhere
    seen: dict[str, Span] = field(default_factory=dict)  # shared pads in a view or as the answer
    written: set[str] = field(default_factory=set)  # shared pads
    unknown: set[str] = field(default_factory=set)  # what the names that are not declared should have been


class ProgramCheck:
    """The checks of one program. Its methods follow the order in which they are called by `run`."""

    def __init__(self, program: syntax.Program, file: FileCheck) -> None:
        self.program = program
        self.file = file
        self.files = file.files
        self.report = file.report
        self.local = BodyCheck(file.report)
        self.declared: dict[str, tuple[Kind, Name]] = {}
        self.params: dict[str, syntax.Param] = {}
        self.strings: dict[str, syntax.Text] = {}
        self.texts: dict[str, Parts] = {}
        self.schemas: dict[str, str] = {}
        self.private: dict[str, str] = {}  # a private pad's name -> a worker that has it
        self.crew: list[Crew] = []
        self.groups: list[Group] = []
        self._views: dict[Member, tuple[syntax.Entry, ...]] = {}
        self._inner: dict[str, dict[str, Hole]] = {}  # the holes that are left in a text, each once
        self.uses = Uses()
        self.size = 0

    def run(self) -> Resolved:
        self._declare()
        self._once()
        self._texts()
        self._params()
        self._declarations()
        self._crew()
        self._bodies()
        self._syncs()
        self._answer()
        if self.size > MAX_SIZE:
            message = f"written out, this program has more than {MAX_SIZE} parts"
            self.report.error("HW008", self.program.name.span, message)
            return self._resolved()
        self._pads()
        self._paused()
        self._unused()
        return self._resolved()

    def _resolved(self) -> Resolved:
        kinds = {name: kind for name, (kind, _) in self.declared.items()}
        file = self.files.source.file
        return Resolved(file, self.program, kinds, self.texts, self.schemas, tuple(self.crew), tuple(self.groups))

    def _each(self, kind: type[T]) -> list[T]:
        return [node for node in self.program.declarations if isinstance(node, kind)]

    # Names

    def _declare(self) -> None:
        for param in self.program.params:
            self._name("parameter", param.name)
            self.params.setdefault(param.name.value, param)
        for node in self.program.declarations:
            match node:
                case syntax.Text():
                    self._name("text", node.name)
                    self.strings.setdefault(node.name.value, node)
                case syntax.Scratchpad():
                    self._name("scratchpad", node.name)
                case syntax.Stream():
                    self._name("stream", node.name)
                case syntax.Worker() | syntax.Workers():
                    for name in node.names:
                        self._name("worker", name)

    def _name(self, kind: Kind, name: Name) -> None:
        wrong = reserved(name, self.report)
        if wrong or name.value in self.declared:
            self.uses.names.add(name.value)  # one slip, one message: it is not "never used" as well
        if name.value not in self.declared:
            self.declared[name.value] = kind, name
            return
        other, first = self.declared[name.value]
        where = place(first.span, name.span)
        if kind == other == "worker":
            message = f"two workers {quoted(name.value)} would write one block; the first is {where}"
            self.report.error("HW202", name.span, message, "give each worker a name of its own")
        else:
            self.report.error("HW102", name.span, f"{quoted(name.value)} is the name of a {other} already, {where}")

    def _once(self) -> None:
        seen: set[type] = set()
        for node in self.program.declarations:
            if isinstance(node, syntax.Model | syntax.Sampling | syntax.Budget | syntax.Answer):
                if type(node) in seen:
                    self.report.error("HW103", node.span, f"`{type(node).__name__.lower()}` is given twice")
                seen.add(type(node))

    def _kind(self, name: Name) -> Kind | None:
        """What a name stands for; marks it as used. None where it is not declared."""
        self.uses.names.add(name.value)
        found = self.declared.get(name.value)
        return found[0] if found else None

    def _undefined(self, name: Name, what: str, kinds: tuple[Kind, ...], extra: Iterable[str] = ()) -> None:
        self.uses.unknown.add(what)
        known = (n for n, (kind, _) in self.declared.items() if kind in kinds)
        help = self.report.suggestion(name.value, chain(extra, known))
        self.report.error("HW101", name.span, f"there is no {what} {quoted(name.value)}", help)

    # Texts and holes

    def _texts(self) -> None:
        for text in self.strings.values():
            if isinstance(text.value, syntax.Included):
                self.texts[text.name.value] = (self._included(text.value.path),)
        for name in self.strings:
            if name not in self.texts:
                self._expand(name)

    def _included(self, path: String) -> str:
        if plain(path, self.report):
            try:
                return self.files.text(path)
            except Unreadable as error:
                self.report.error(error.code, path.span, error.reason, error.help)
        return ""

    def _expand(self, first: str) -> None:
        """Write a text out: the texts in its holes first. No recursion: texts may use each other in a long chain."""
        open_ = {first: self._holes_of(first)}
        while open_:
            name, holes = next(reversed(open_.items()))
            hole = next(holes, None)
            if hole is None:
                self.texts[name] = self._expansion(name)
                open_.popitem()
            elif hole.name in open_:
                self.report.error("HW108", hole.span, f"the text {quoted(hole.name)} contains itself")
            elif hole.name not in self.texts:
                open_[hole.name] = self._holes_of(hole.name)

    def _holes_of(self, name: str) -> Iterator[Hole]:
        """The holes of a text that stand for other texts."""
        value = self.strings[name].value
        holes = value.holes if isinstance(value, String) else ()
        return (hole for hole in holes if hole.name in self.strings)

    def _expansion(self, name: str) -> Parts:
        value = self.strings[name].value
        assert isinstance(value, String)
        self.uses.names.update(hole.name for hole in value.holes if hole.name in self.strings)
        if sum(len(self.texts.get(hole.name, ())) for hole in value.holes) > MAX_TEXT:
            self.report.error("HW008", value.span, f"the text {quoted(name)} is too long when it is written out")
            return ()
        return written_out(value, self.texts)

    def _text(self, text: String, fill: Fill) -> None:
        """Check that something fills every hole of a text."""
        self.size += 1 + len(text.parts)
        for hole in text.holes:
            parts = self.texts.get(hole.name)
            if parts is None:
                self._hole(hole, fill)
                continue
            self.uses.names.add(hole.name)
            self._inner_holes(hole.name, hole.span, parts, fill)

    def _inner_holes(self, name: str, span: Span, parts: Parts, fill: Fill) -> None:
        self.size += len(parts)
        if name not in self._inner:
            self._inner[name] = {part.name: part for part in parts if isinstance(part, Hole)}
        for inner in self._inner[name].values():
            self._hole(inner, fill, Hole(inner.name, span=span), name)

    def _hole(self, hole: Hole, fill: Fill, at: Hole | None = None, text: str | None = None) -> None:
        """Check one hole. `at` is where a `text` that contains it is used."""
        at = at or hole
        within = f" of the text {quoted(text)}" if text else ""
        kind = self.declared[hole.name][0] if hole.name in self.declared else None
        if kind == "parameter":
            self.uses.names.add(hole.name)
        elif hole.name.isdecimal():
            self._group(hole, fill, at, within)
        elif hole.name == "step" and not fill.step:
            self.report.error("HW107", at.span, f"nothing fills {shown(hole)}{within} here", fill.step_help)
        elif hole.name == "name" and not fill.name:
            help = "`{{name}}` is a worker's name, and this text belongs to no worker"
            self.report.error("HW107", at.span, f"nothing fills {shown(hole)}{within} here", help)
        elif hole.name not in ("step", "name", "workers"):
            self._unfilled(hole, kind)

    def _group(self, hole: Hole, fill: Fill, at: Hole, within: str) -> None:
        if 1 <= int(hole.name[:9]) <= fill.groups:
            return
        if fill.groups:
            message = f"nothing fills {shown(hole)}{within}: not every regex of this rule has that many groups"
            help = f"the groups here are 1 to {fill.groups}"
        else:
            message = f"nothing fills {shown(hole)}{within}: it stands for a group of a regex"
            help = 'all triggers of a rule must be regexes with groups, as in `on /(.+)/ { say "{{1}}" }`'
        self.report.error("HW307", at.span, message, help)

    def _unfilled(self, hole: Hole, kind: Kind | None) -> None:
        self.uses.names.add(hole.name)
        if kind == "text":
            return  # a text that contains itself: reported already
        if kind:
            message = f"{shown(hole)} is a {kind}: a hole takes a parameter or a text"
            self.report.error("HW107", hole.span, message, f"a view has {quoted(hole.name)} as an entry of its own")
            return
        self.uses.unknown.add("hole")
        known = (n for n, (k, _) in self.declared.items() if k in ("parameter", "text"))
        help = self.report.suggestion(hole.name, chain(("name", "step", "workers"), known))
        self.report.error("HW107", hole.span, f"nothing fills {shown(hole)}", help)

    # Parameters and single declarations

    def _params(self) -> None:
        for param in self.program.params:
            default = param.default
            if default is None:
                continue
            if isinstance(default.value, String):
                plain(default.value, self.report)
            if type_of(default) != param.type and (type_of(default), param.type) != ("int", "float"):
                message = f"the parameter {quoted(param.name.value)} is {param.type}, its default is {type_of(default)}"
                self.report.error("HW407", default.span, message)

    def _declarations(self) -> None:
        for node in self.program.declarations:
            match node:
                case syntax.Model():
                    plain(node.name, self.report)
                    self.local.nonempty("a model's name", (node.name,))
                case syntax.Sampling():
                    self.local.sampling(node)
                case syntax.Budget():
                    self.local.at_least_one(node.passes)
                case syntax.Scratchpad() if node.text:
                    self._text(node.text, Fill(name=False))

    # Workers

    def _crew(self) -> None:
        for node in self.program.declarations:
            if isinstance(node, syntax.Worker | syntax.Workers):
                self._workers(node)
        if not self._each(syntax.Worker) + self._each(syntax.Workers):
            name = self.program.name
            self.report.error("HW208", name.span, f"the program {quoted(name.value)} has no workers")
        for one in self.crew:
            self.private.update((pad.name.value, one.name.value) for pad in one.member.pads)

    def _workers(self, node: syntax.Worker | syntax.Workers) -> None:
        if isinstance(node, syntax.Workers):
            self._group_size(node)
            self.groups.append(Group(node.count, node.names, node.span))
        self.local.run(node.body)
        role = self._role(node.role) if node.role else Member()
        own = member(node.body)
        self.size += own.size and own.size + (role.size if role else 0)
        if role is None or self.size > MAX_SIZE:
            return
        body = combined(role, own)
        view = self._view(body, node)
        paused = node.paused or body.paused is not None
        self.crew += [Crew(name, body, paused, view) for name in node.names]

    def _role(self, name: Name) -> Member | None:
        self.file.used.add(name.value)
        if name.value in self.file.members:
            return self.file.members[name.value]
        self.uses.unknown.add("role")
        if not self.file.imports_failed:
            help = self.report.suggestion(name.value, self.file.roles)
            self.report.error("HW101", name.span, f"there is no role {quoted(name.value)}", help)
        return None

    def _group_size(self, node: syntax.Workers) -> None:
        most = len(node.names)
        if isinstance(node.count, syntax.Number):
            self._count(node.count.value, node.count.span, most)
            return
        kind = self._kind(node.count)
        if kind is None:
            self._undefined(node.count, "parameter", ("parameter",))
        elif kind != "parameter" or self.params[node.count.value].type != "int":
            found = f"a {kind}" if kind != "parameter" else f"of type {self.params[node.count.value].type}"
            message = f"the number of workers is a parameter of type int, and {quoted(node.count.value)} is {found}"
            self.report.error("HW106", node.count.span, message)
        else:
            default = self.params[node.count.value].default
            if default and isinstance(default.value, syntax.Number):
                self._count(default.value.value, default.span, most)

    def _count(self, count: float, span: Span, most: int) -> None:
        if count < 1:
            self.report.error("HW208", span, "there must be one worker at least")
        elif count > most:
            message = f"{count} workers are asked for, and only {most} {'is' if most == 1 else 'are'} named"
            self.report.error("HW208", span, message)

    # Views

    def _view(self, body: Member, node: syntax.Worker | syntax.Workers) -> tuple[syntax.Entry, ...]:
        """The view of a body, made once for all workers that share it."""
        if body not in self._views:
            self._views[body] = self._written_view(body, node)
        return self._views[body]

    def _written_view(self, body: Member, node: syntax.Worker | syntax.Workers) -> tuple[syntax.Entry, ...]:
        """A body's view, with a layout written out."""
        entries = body.sees.entries if body.sees else ()
        layout = body.layout
        if body.sees is None:
            name = node.names[0]
            what = "nothing says what it sees" if layout is None else "`layout` needs an opening"
            message = f"the worker {quoted(name.value)} has no view: {what}"
            self.report.error("HW205", name.span, message, 'add `sees user "..."`')
            return ()
        if layout is None:
            self._own_last(body.sees, node)
            return entries
        if all(map(self._is_constant, entries)):
            return entries + self._layout(layout)
        message = "`layout` writes the view, but `sees` has more than an opening"
        help = "give `layout` an opening of texts only, or write the whole view as `sees`"
        self.report.error("HW206", layout.span, message, help)
        return entries

    def _is_constant(self, entry: syntax.Entry) -> bool:
        if isinstance(entry, Name):
            kind = self.declared.get(entry.value, (None, None))[0]
            return kind in ("parameter", "text", None)  # an unknown name has an error of its own
        return isinstance(entry, syntax.Constant)

    def _layout(self, layout: syntax.Layout) -> tuple[syntax.Entry, ...]:
        entries: list[syntax.Entry] = []
        if layout.kind != "contiguous":
            entries += self._history(layout)
        if layout.kind != "interleaved":
            entries += before(layout.before_others)
            entries.append(syntax.Others(span=layout.span))
        elif layout.before_others:
            message = "an interleaved view has no `others` for this text to be before"
            self.report.error("HW206", layout.before_others.span, message)
        return (*entries, *before(layout.before_self), syntax.Own(span=layout.span))

    def _history(self, layout: syntax.Layout) -> list[syntax.Entry]:
        pads = [pad.name.value for pad in self._each(syntax.Scratchpad)]
        name = "history" if "history" in pads or len(pads) != 1 else pads[0]
        if name in pads:
            return [Name(name, span=layout.span)]
        message = f"the {layout.kind} layout needs a scratchpad for the finished steps"
        self.report.error("HW206", layout.span, message, "add `scratchpad history` to the program")
        return []

    def _own_last(self, sees: syntax.Sees, node: syntax.Worker | syntax.Workers) -> None:
        own = [entry for entry in sees.entries if isinstance(entry, syntax.Own)]
        if len(own) > 1:
            self.report.error("HW201", own[1].span, "a view has `self` once, at its end", "take this `self` away")
        elif not isinstance(sees.entries[-1], syntax.Own):
            message = "the last entry of a view is the block that its worker writes, `self`"
            help = "move `self` to the end" if own else "add `, self` at the end"
            self.report.error("HW201", own[0].span if own else sees.entries[-1].span, message, help)

    # Bodies: once for all workers that share one

    def _bodies(self) -> None:
        for one in {one.member: one for one in reversed(self.crew)}.values():
            if self.size <= MAX_SIZE:
                MemberCheck(one, self).run()
        for one in self.crew:
            self._sees_itself(one)

    def _sees_itself(self, one: Crew) -> None:
        for entry in one.view:
            if isinstance(entry, Name) and entry.value == one.name.value:
                message = f"the worker {quoted(entry.value)} sees its own block by name"
                self.report.error("HW201", entry.span, message, "its own block is `self`, at the end of the view")

    # Syncs and answer

    def _syncs(self) -> None:
        steps = [one for one in self.crew if one.member.step]
        for sync in self._each(syntax.Sync):
            self.local.at_least_one(sync.every)
            self.local.actions(sync.actions)
            if not sync.actions:
                self.report.warning("HW306", sync.span, "this sync does nothing")
            if not steps and self.crew:
                help = "a sync is done when a worker ends a step: give the workers `step until ...`"
                self.report.error("HW301", sync.span, "this never happens: no worker has steps", help)
            fill = Fill(step=len(steps) == len(self.crew) or not steps)
            ActionCheck(self, {}, fill).run(sync.actions)

    def _answer(self) -> None:
        for answer in self._each(syntax.Answer):
            match answer.source:
                case Name():
                    self._answer_name(answer.source)
                case syntax.Regex():
                    self.local.regex(answer.source)
                case syntax.Vote():
                    self.local.regex(answer.source.regex)
            if answer.otherwise:
                self._text(answer.otherwise.text, Fill(name=False))
                if answer.otherwise.max_tokens:
                    self.local.at_least_one(answer.otherwise.max_tokens)

    def _answer_name(self, name: Name) -> None:
        kind = self._kind(name)
        if kind == "scratchpad":
            self.uses.seen.setdefault(name.value, name.span)
        elif kind is None and name.value in self.private:
            self.not_shared(name)
        elif kind is None:
            self._undefined(name, "scratchpad or worker", ("scratchpad", "worker"))
        elif kind != "worker":
            message = f"{quoted(name.value)} is a {kind}: an answer is a scratchpad, a worker, a /regex/ or a `vote`"
            self.report.error("HW106", name.span, message)

    def not_shared(self, name: Name) -> None:
        owner = self.private[name.value]
        message = f"the scratchpad {quoted(name.value)} is private to {quoted(owner)}"
        self.report.error("HW203", name.span, message, "declare it in the program to share it")

    # The program as a whole

    def _pads(self) -> None:
        if self.uses.unknown & {"scratchpad", "role"}:
            return  # the name that is not known may be the one that is missed here
        for pad in self._each(syntax.Scratchpad):
            name = pad.name.value
            if name in self.uses.seen and name not in self.uses.written and pad.text is None:
                message = f"the scratchpad {quoted(name)} is always empty: nobody writes to it"
                help = f"write to it with `move self to {name}` or `post ... to {name}`, or give it a text"
                self.report.error("HW204", pad.name.span, message, help)

    def _paused(self) -> None:
        """Every worker that starts paused must be resumed by something that can happen."""
        waiting = {one.name.value: one for one in self.crew if one.paused}
        if not waiting or self.uses.unknown & {"worker", "role"}:
            return
        running = [one for one in self.crew if not one.paused]
        targets = [name for sync in self._each(syntax.Sync) for name in resumed(sync.actions) if running]
        for one in waiting.values():
            rules = [rule for rule in one.member.rules if wakes(rule)]
            named = [name for rule in rules for name in resumed(rule.actions)]
            targets += [one.name.value if name == "self" else name for name in named]
        done: set[Member] = set()
        while running or targets:
            if targets:
                woken = waiting.pop(targets.pop(), None)
                running += [woken] if woken else []
            elif (body := running.pop().member) not in done:
                done.add(body)
                targets += [name for rule in body.rules for name in resumed(rule.actions)]
        for name, one in waiting.items():
            message = f"the worker {quoted(name)} starts paused, and nothing can resume it"
            self.report.error("HW302", one.name.span, message, f"add `resume {name}` to a rule of a worker that runs")

    def _unused(self) -> None:
        if self.uses.unknown:
            return
        for name, (kind, node) in self.declared.items():
            if kind == "worker" or name in self.uses.names or (kind == "scratchpad" and name in self.uses.written):
                continue
            self.report.warning("HW105", node.span, f"the {kind} {quoted(name)} is never used")


def before(text: String | None) -> list[syntax.Entry]:
    return [syntax.Constant(text, span=text.span)] if text else []


def written_out(text: String, texts: Mapping[str, Parts]) -> Parts:
    """The parts of a string, with the texts in its holes in their place."""
    made: list[str | Hole] = []
    for part in text.parts:
        if isinstance(part, Hole) and part.name in texts:
            made += texts[part.name]
        else:
            made.append(part)
    return tuple(made)


def type_of(default: syntax.Value) -> str:
    value = default.value
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, String):
        return "str"
    return "int" if isinstance(value.value, int) else "float"


def resumed(actions: Iterable[syntax.Action]) -> Iterator[str]:
    """The workers that these actions may resume."""
    return (action.worker.value for action in all_actions(actions) if isinstance(action, syntax.Resume))


def wakes(rule: syntax.On) -> bool:
    """Whether a rule can fire while its worker is paused."""
    return any(
        isinstance(trigger, syntax.Arrives | syntax.AtStart)
        or (isinstance(trigger, syntax.Every) and trigger.unit == "passes" and not trigger.at_step)
        for trigger in rule.triggers
    )


class MemberCheck:
    """The checks of a body in its program: its names, the holes of its texts, its triggers."""

    def __init__(self, one: Crew, program: ProgramCheck) -> None:
        self.one = one
        self.body = one.member
        self.program = program
        self.report = program.report
        self.pads: dict[str, syntax.Scratchpad] = {}
        self.written: set[str] = set()  # of its own pads

    def run(self) -> None:
        for pad in self.body.pads:
            self._declare(pad)
        self._view()
        self._texts()
        for rule in self.body.rules:
            self._rule(rule)
        self._schema()
        self._own_pads()

    def _declare(self, pad: syntax.Scratchpad) -> None:
        name = pad.name
        reserved(name, self.report)
        other = self.program.declared.get(name.value)
        if other:
            where = place(other[1].span, name.span)
            message = f"{quoted(name.value)} is the name of a {other[0]} already, {where}"
            self.report.error("HW102", name.span, message)
            self.written.add(name.value)  # one slip, one message: it is not "never used" as well
        elif name.value in self.pads:
            where = place(self.pads[name.value].name.span, name.span)
            self.report.error("HW102", name.span, f"{quoted(name.value)} is the name of a scratchpad already, {where}")
        self.pads.setdefault(name.value, pad)

    def _view(self) -> None:
        seen: set[str] = set()
        others = any(isinstance(entry, syntax.Others) for entry in self.one.view)
        for entry in self.one.view:
            name = entry.value if isinstance(entry, Name) else "others" if isinstance(entry, syntax.Others) else None
            if isinstance(entry, syntax.Constant):
                self.program._text(entry.text, Fill())
            elif isinstance(entry, Name):
                self._entry(entry)
                name = name if self._is_block(entry, others) else None
            if name in seen:
                self.report.error("HW207", entry.span, f"{quoted(name)} is in this view already")
            if name:
                seen.add(name)

    def _is_block(self, entry: Name, others: bool) -> bool:
        """Whether this entry is a block, of which a view has each once."""
        kind = self.program.declared.get(entry.value, (None, None))[0]
        if kind == "worker" and others and entry.value != self.one.name.value:
            self.report.error("HW207", entry.span, f"{quoted(entry.value)} is in this view already, as one of `others`")
        return kind in ("scratchpad", "stream", "worker") or entry.value in self.pads

    def _entry(self, name: Name) -> None:
        if name.value in self.pads:
            return
        kind = self.program._kind(name)
        if kind is None and name.value in self.program.private:
            self.program.not_shared(name)
        elif kind is None:
            what = "scratchpad, stream, worker, text or parameter"
            self.program._undefined(name, what, KINDS, [*self.pads, "self", "others"])
        elif kind == "text":
            self.program._inner_holes(name.value, name.span, self.program.texts[name.value], Fill())
        elif kind == "scratchpad":
            self.program.uses.seen.setdefault(name.value, name.span)

    def _texts(self) -> None:
        steps = self.body.step is not None
        for pad in self.body.pads:
            if pad.text:
                self.program._text(pad.text, Fill())
        if self.body.begin:
            self.program._text(self.body.begin.text, Fill(step=steps))
        if self.body.step:
            if self.body.step.prefix:
                self.program._text(self.body.step.prefix, Fill(step=True))
            for text in self.body.step.until:
                self.program._text(text, Fill())
        for text in self.body.forbid + self.body.stop_at:
            self.program._text(text, Fill())

    def _rule(self, rule: syntax.On) -> None:
        counts = [groups(t.regex) if isinstance(t, syntax.Matches) else 0 for t in rule.triggers]
        for trigger in rule.triggers:
            self._trigger(trigger)
        fill = Fill(step=self.body.step is not None, groups=min(counts))
        written = ActionCheck(self.program, self.pads, fill).run(rule.actions)
        self.written |= written

    def _trigger(self, trigger: syntax.Trigger) -> None:
        match trigger:
            case syntax.AtStep():
                self._needs_steps(trigger)
            case syntax.Every():
                if trigger.unit == "steps" or trigger.at_step:
                    self._needs_steps(trigger)
            case syntax.Seen():
                self.program._text(trigger.text, Fill())
            case syntax.Arrives():
                self._stream(trigger.stream)

    def _needs_steps(self, trigger: syntax.Trigger) -> None:
        if self.body.step is None:
            message = f"this never happens: the worker {quoted(self.one.name.value)} has no steps"
            self.report.error("HW301", trigger.span, message, 'add `step until "\\n\\n"` or the like')

    def _stream(self, name: Name) -> None:
        kind = self.program._kind(name)
        if kind is None:
            self.program._undefined(name, "stream", ("stream",), ("step", "every", "start", "end"))
        elif kind != "stream":
            message = f"this never happens: {quoted(name.value)} is a {kind}, and only streams bring in text"
            self.report.error("HW301", name.span, message)

    def _schema(self) -> None:
        node = self.body.constraint
        if not isinstance(node, syntax.Json) or not plain(node.path, self.report):
            return
        try:
            text = self.program.files.text(node.path)
            if not isinstance(json.loads(text), dict | bool):
                raise Unreadable("HW404", f"{quoted(node.path.literal)} is not a JSON schema: it is no object")
            self.program.schemas[node.path.literal] = text
        except Unreadable as error:
            self.report.error(error.code, node.path.span, error.reason, error.help)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, json.JSONDecodeError) else "too deep or too large"
            self.report.error("HW404", node.path.span, f"{quoted(node.path.literal)} is not JSON: {reason}")

    def _own_pads(self) -> None:
        if "scratchpad" in self.program.uses.unknown:
            return
        seen = {entry.value for entry in self.one.view if isinstance(entry, Name)}
        for name, pad in self.pads.items():
            if name not in seen and name not in self.written:
                self.report.warning("HW105", pad.name.span, f"the scratchpad {quoted(name)} is never used")
            elif name in seen and name not in self.written and pad.text is None:
                message = f"the scratchpad {quoted(name)} is always empty: its worker does not write to it"
                help = f"write to it with `move self to {name}` or `post ... to {name}`, or give it a text"
                self.report.error("HW204", pad.name.span, message, help)


class ActionCheck:
    """The checks of a rule's actions: the names in them and the holes of their texts."""

    def __init__(self, program: ProgramCheck, pads: Mapping[str, syntax.Scratchpad], fill: Fill) -> None:
        self.program = program
        self.report = program.report
        self.pads = pads
        self.fill = fill
        self.written: set[str] = set()

    def run(self, actions: tuple[syntax.Action, ...]) -> set[str]:
        """Check them; returns the private pads that they write to."""
        for action in all_actions(actions):
            match action:
                case syntax.Say():
                    self.program._text(action.text, self.fill)
                case syntax.Ask():
                    for text in (action.text, *(choice.text for choice in action.choices)):
                        self.program._text(text, self.fill)
                case syntax.Post():
                    self.program._text(action.text, self.fill)
                    self._pad(action.pad, writes=True)
                case syntax.Move():
                    self._pad(action.pad, writes=True)
                case syntax.Clear():
                    self._pad(action.pad, writes=False)
                case syntax.Pause() | syntax.Resume() | syntax.Stop():
                    if action.worker and action.worker.value != "self":
                        self._worker(action.worker)
        return self.written

    def _pad(self, name: Name, writes: bool) -> None:
        if name.value in self.pads:
            self.written |= {name.value} if writes else set()
            return
        kind = self.program._kind(name)
        if kind == "scratchpad":
            self.program.uses.written |= {name.value} if writes else set()
        elif kind is None and name.value in self.program.private:
            self.program.not_shared(name)
        elif kind is None:
            self.program._undefined(name, "scratchpad", ("scratchpad",), self.pads)
        elif kind == "worker":
            message = f"only the worker {quoted(name.value)} itself writes its block"
            self.report.error("HW202", name.span, message, "write to a scratchpad that both see")
        else:
            self.report.error("HW106", name.span, f"{quoted(name.value)} is a {kind}; a scratchpad is needed here")

    def _worker(self, name: Name) -> None:
        kind = self.program._kind(name)
        if kind is None:
            self.program._undefined(name, "worker", ("worker",), ("self",))
        elif kind != "worker":
            self.report.error("HW106", name.span, f"{quoted(name.value)} is a {kind}; a worker is needed here")
