"""The static checks: everything about a program that can be said before a model is loaded.

`check_text` and `check_file` parse and check; `check_tree` checks a tree that was built in Python. All three return a
`Checked` with every problem found, in the order of the source, and one `Resolved` for each program: its names resolved,
its roles inlined and its layouts written out, ready for `lowering.lower`.

    checker     a file: its imports, its roles, its programs
    programs    one program; what is in it is checked by the modules below
    workers     the workers and what each does        views    what they see
    rules       triggers and actions                  texts    what fills the holes
    names       what is declared and used             clauses  what is wrong whatever is around it
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwlang import parser, syntax
from hwlang.clauses import ClauseCheck
from hwlang.crew import Resolved, by_kind
from hwlang.diagnostics import CompileError, Diagnostic, Report, Source, in_order, quoted
from hwlang.files import Files, Unreadable
from hwlang.names import place, reserved
from hwlang.programs import ProgramCheck
from hwlang.syntax import Name
from hwlang.texts import plain
from hwlang.workers import Roles

MAX_IMPORTS = 32  # files that import each other in a row


@dataclass(frozen=True)
class Checked:
    """A file and all that was found in it."""

    source: Source
    tree: syntax.File
    diagnostics: tuple[Diagnostic, ...]
    programs: tuple[Resolved, ...]

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
    report = Report(problems)
    programs = FileCheck(tree, Files(source), report).run()
    return Checked(source, tree, in_order(report.problems), tuple(programs))


class FileCheck:
    """The checks of one file: its imports, what each role says by itself, then each program."""

    def __init__(self, tree: syntax.File, files: Files, report: Report) -> None:
        self.tree = tree
        self.files = files
        self.report = report
        self.roles = Roles()
        self._declared: dict[str, Name] = {}  # roles
        self._origin: dict[str, syntax.Import] = {}  # the import that brings in a role
        self._imported: set[Path] = set()

    def run(self) -> list[Resolved]:
        main = [self.files.main] if self.files.main else []
        for node in self.tree.imports:
            self._import(node, node, main)
        self._declare_roles(self.tree, None)
        self._programs_once()
        programs = [ProgramCheck(node, self.roles, self.files, self.report).run() for node in self.tree.programs]
        if programs:
            self._unused()
        return programs

    # Imports and roles

    def _import(self, node: syntax.Import, top: syntax.Import, above: list[Path]) -> None:
        """Bring in a file's roles, and those that it imports. `top` is the import in the main file."""
        if not plain(node.path, self.report):
            return
        try:
            target = self._target(node.path, above)
            if target in self._imported:
                return
            self._imported.add(target)
            text = self.files.text(node.path)
        except Unreadable as error:
            self.roles.complete = False
            self.report.error(error.code, node.path.span, error.reason, error.help)
            return
        tree, problems = parser.read(Source(self.files.shown(target), text, target))
        self.roles.complete &= not problems
        self.report.problems += problems
        self._declare_roles(tree, top)
        for inner in tree.imports:
            self._import(inner, top, [*above, target])

    def _target(self, path: syntax.String, above: list[Path]) -> Path:
        """The file to import. `above` are the files that led here."""
        target = self.files.resolve(path)
        if target in above:
            raise Unreadable("HW405", f"{quoted(path.literal)} imports itself, in a circle")
        if len(above) > MAX_IMPORTS:
            raise Unreadable("HW405", f"imports are more than {MAX_IMPORTS} deep here")
        return target

    def _declare_roles(self, tree: syntax.File, origin: syntax.Import | None) -> None:
        for role in tree.roles:
            name = role.name.value
            reserved(role.name, self.report)
            ClauseCheck(self.report).body(role.body)
            if name in self._declared:
                where = place(self._declared[name].span, role.name.span)
                self.report.error("HW102", role.name.span, f"there is a role {quoted(name)} already, {where}")
                continue
            self._declared[name] = role.name
            self.roles.bodies[name] = by_kind(role.body)
            if origin:
                self._origin[name] = origin

    # Programs

    def _programs_once(self) -> None:
        seen: dict[str, Name] = {}
        for program in self.tree.programs:
            name = program.name
            if name.value in seen:
                where = place(seen[name.value].span, name.span)
                self.report.error("HW102", name.span, f"there is a program {quoted(name.value)} already, {where}")
            seen.setdefault(name.value, name)

    def _unused(self) -> None:
        for name, declared in self._declared.items():
            if name not in self.roles.used and name not in self._origin:
                self.report.warning("HW105", declared.span, f"no worker is a {quoted(name)}")
        useful = {id(self._origin[name]) for name in self.roles.used if name in self._origin}
        for node in self.tree.imports if self.roles.complete else ():
            if id(node) not in useful:
                self.report.warning("HW105", node.span, f"no role of {quoted(node.path.literal)} is used")
