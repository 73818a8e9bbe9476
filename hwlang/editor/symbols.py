"""The names of a file: where each is declared, and where it is used, also in the holes of strings.

A role's names are those of the programs that use it, so that one use may mean several declarations.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, TypeAlias

from hwlang import parser, syntax
from hwlang.checks.files import Files, Unreadable
from hwlang.diagnostics import CompileError, Source, Span
from hwlang.syntax import Node

MAX_FILES = 50  # imported files that are looked at

Kind = Literal["program", "role", "parameter", "text", "scratchpad", "stream", "worker"]


@dataclass(frozen=True, eq=False)
class Symbol:
    """A declared name. `span` is the name, `whole` the declaration, `inside` what it is declared in, in words."""

    name: str
    kind: Kind
    span: Span
    whole: Span
    inside: str = ""


@dataclass(frozen=True)
class Use:
    """A place where a name is written, and what it stands for there; nothing where it is not declared."""

    span: Span
    symbols: tuple[Symbol, ...]
    declares: bool = False


@dataclass(frozen=True)
class Link:
    """A string that names a file."""

    span: Span
    target: Path


Space: TypeAlias = dict[str, Symbol]
Env: TypeAlias = tuple[Space, ...]  # spaces in the order in which a name is looked for in them


@dataclass(frozen=True)
class Names:
    """What is declared and used in a file and those that it imports. `spaces` are the names in each item or worker."""

    uses: tuple[Use, ...]
    links: tuple[Link, ...]
    spaces: tuple[tuple[Node, tuple[Env, ...]], ...]
    roles: tuple[Symbol, ...]
    programs: tuple[Symbol, ...]


def names_of(tree: syntax.File, source: Source) -> Names:
    return Collector(source).run(tree)


@dataclass
class Collector:
    """Goes through the trees of a file and its imports."""

    source: Source
    uses: list[Use] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = Files(self.source)
        self.roles: dict[str, tuple[syntax.Role, Symbol]] = {}
        self.programs: Space = {}
        self.declared: dict[str, Space] = {}  # by program
        self.workers: dict[tuple[str, str], Env] = {}  # by program and worker
        self.within: dict[int, dict[tuple[int, int], Env]] = {}  # by role: where its names are looked for
        self.pads: dict[int, Space] = {}  # by body
        self.spaces: dict[int, tuple[Node, tuple[Env, ...]]] = {}

    def run(self, tree: syntax.File) -> Names:
        trees = [tree, *self._imported(tree)]
        for each in trees:
            for role in each.roles:
                self._declare_role(role)
        for program in tree.programs:
            self._program(program)
        for role in (role for each in trees for role in each.roles):
            envs = tuple(self.within.get(id(role), {(0, 0): (self._pads_of(role.body, role),)}).values())
            self.spaces[id(role)] = role, envs
            self._walk(role.body, envs)
        for item in tree.items:
            if isinstance(item, syntax.Test):
                self._test(item)
            elif isinstance(item, syntax.Import):
                self._link(item.path)
        self.uses.sort(key=lambda use: (use.span.source is not self.source, use.span.source.file, use.span))
        self.links.sort(key=lambda link: (link.span.source is not self.source, link.span))
        roles = tuple(symbol for _, symbol in self.roles.values())
        programs = tuple(self.programs.values())
        return Names(tuple(self.uses), tuple(self.links), tuple(self.spaces.values()), roles, programs)

    # Imports

    def _imported(self, tree: syntax.File) -> Iterator[syntax.File]:
        """The trees of the files that a file imports, and of those that they import."""
        seen: set[Path] = set()
        waiting = list(tree.imports)
        while waiting and len(seen) < MAX_FILES:
            path = waiting.pop(0).path
            try:
                target, text = self.files.resolve(path), self.files.text(path)
            except (Unreadable, CompileError):
                continue
            if target in seen or target == self.files.main:
                continue
            seen.add(target)
            found, _ = parser.read(Source(self.files.shown(target), text, target))
            waiting += found.imports
            yield found

    # Declarations

    def _declare_role(self, role: syntax.Role) -> None:
        symbol = self._declare("role", role.name, role, "")
        if symbol:
            self.roles.setdefault(symbol.name, (role, symbol))

    def _program(self, program: syntax.Program) -> None:
        symbol = self._declare("program", program.name, program, "")
        if symbol:
            self.programs.setdefault(symbol.name, symbol)
        inside = f"program {program.name.value}"
        space: Space = {}
        for kind, name, node in declared_in(program):
            made = self._declare(kind, name, node, inside)
            if made:
                space.setdefault(made.name, made)
        self.spaces[id(program)] = program, ((space,),)
        self.declared.setdefault(program.name.value, space)
        for param in program.params:
            self._walk(param.default, ((space,),))
        for node in program.declarations:
            if isinstance(node, syntax.Worker | syntax.Workers):
                env = self._worker(node, space)
                self.workers |= {(program.name.value, name.value): env for name in node.names}
            else:
                self._walk(node, ((space,),))

    def _worker(self, node: syntax.Worker | syntax.Workers, space: Space) -> Env:
        own = self._pads_of(node.body, node)
        env: Env = (own, space)
        if isinstance(node, syntax.Workers):
            self._walk(node.count, ((space,),))
        if node.role:
            role, symbol = self.roles.get(node.role.value, (None, None))
            self._use(node.role, (symbol,) if symbol else ())
            if role:
                env = (own, self._pads_of(role.body, role), space)
                self.within.setdefault(id(role), {})[id(own) if own else 0, id(space)] = env
        self.spaces[id(node)] = node, (env,)
        self._walk(node.body, (env,))
        return env

    def _test(self, test: syntax.Test) -> None:
        """A test's names are those of its program; of a worker in it also the private scratchpads."""
        name = test.program.value
        self._use(test.program, meant(name, ((self.programs,),)))
        env: Env = (self.declared.get(name, {}),)
        self.spaces[id(test)] = test, (env,)
        for clause in test.clauses:
            whose = clause.worker.value if isinstance(clause, syntax.Expect) and clause.worker else ""
            self._walk(clause, (self.workers.get((name, whose), env),))

    def _pads_of(self, body: syntax.Body, owner: Node) -> Space:
        """A body's own scratchpads."""
        if id(body) not in self.pads:
            space = self.pads[id(body)] = Space()
            for clause in body.clauses:
                if isinstance(clause, syntax.Scratchpad):
                    made = self._declare("scratchpad", clause.name, clause, title(owner))
                    if made:
                        space.setdefault(made.name, made)
        return self.pads[id(body)]

    def _declare(self, kind: Kind, name: syntax.Name, node: Node, inside: str) -> Symbol | None:
        if not written(name):
            return None
        symbol = Symbol(name.value, kind, name.span, node.span, inside)
        self.uses.append(Use(name.span, (symbol,), declares=True))
        return symbol

    # Uses

    def _walk(self, value: object, envs: tuple[Env, ...]) -> None:
        """Note the names in a node. Names that are declared there are noted already."""
        match value:
            case tuple():
                for each in value:
                    self._walk(each, envs)
            case syntax.Name():
                self._use(value, meant(value.value, envs))
            case syntax.Hole():
                self._hole(value, envs)
            case syntax.Included() | syntax.Json():
                self._link(value.path)
            case syntax.Text():
                self._walk(value.value, envs)
            case syntax.Scratchpad():
                self._walk(value.text, envs)
            case syntax.Stream():
                pass
            case Node():
                for each in fields(value):
                    self._walk(getattr(value, each.name), envs)

    def _use(self, name: syntax.Name, symbols: tuple[Symbol, ...]) -> None:
        if name.value != "self" and written(name):
            self.uses.append(Use(name.span, symbols))

    def _hole(self, hole: syntax.Hole, envs: tuple[Env, ...]) -> None:
        """The name between the braces."""
        text, span = hole.span.text, hole.span
        at = text.find(hole.name)
        if at >= 0 and span.line == span.end_line:
            start = span.column + at
            inner = Span(span.line, start, span.line, start + len(hole.name), span.source)
            self.uses.append(Use(inner, meant(hole.name, envs)))

    def _link(self, path: syntax.String) -> None:
        try:
            self.links.append(Link(path.span, self.files.resolve(path)))
        except Unreadable:
            return


def declared_in(program: syntax.Program) -> Iterator[tuple[Kind, syntax.Name, Node]]:
    """The names that a program declares, in the order in which they are written."""
    for param in program.params:
        yield "parameter", param.name, param
    for node in program.declarations:
        match node:
            case syntax.Text():
                yield "text", node.name, node
            case syntax.Scratchpad():
                yield "scratchpad", node.name, node
            case syntax.Stream():
                yield "stream", node.name, node
            case syntax.Worker() | syntax.Workers():
                for name in node.names:
                    yield "worker", name, node


def meant(name: str, envs: tuple[Env, ...]) -> tuple[Symbol, ...]:
    """What a name stands for: in each environment the first that has it."""
    found = (next((space[name] for space in env if name in space), None) for env in envs)
    return tuple(dict.fromkeys(symbol for symbol in found if symbol))


def written(name: syntax.Name) -> bool:
    """Whether a name stands in the source, as it is: what was put in where one is missing does not."""
    return bool(name.value) and name.span.text == name.value


def title(node: Node) -> str:
    """What a node is, in words."""
    match node:
        case syntax.Program():
            return f"program {node.name.value}"
        case syntax.Role():
            return f"role {node.name.value}"
        case syntax.Worker() | syntax.Workers():
            return f"worker {', '.join(name.value for name in node.names)}"
    return type(node).__name__.lower()
