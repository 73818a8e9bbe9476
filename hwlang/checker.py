"""The static checks: everything about a program that can be said before a model is loaded.

`check_text` and `check_file` parse and check; `check_tree` checks a tree that was built in Python. All three return a
`Checked` with every problem found, in the order of the source, and one `Resolved` for each program: its names resolved,
its roles inlined and its layouts written out, ready for `lowering.lower`. Here a file is checked: its imports, its
roles, its programs; what is in a program is checked by the modules of `checks`.
"""

from dataclasses import dataclass
from pathlib import Path

from hwlang import parser, syntax
from hwlang.checks.casecheck import check_tests
from hwlang.checks.clauses import ClauseCheck
from hwlang.checks.consequences import independent
from hwlang.checks.crew import Resolved, by_kind
from hwlang.checks.files import Files, Unreadable
from hwlang.checks.names import first_here, once, place, reserved
from hwlang.checks.programs import ProgramCheck
from hwlang.checks.texts import plain
from hwlang.checks.workers import Roles
from hwlang.diagnostics import CompileError, Diagnostic, Report, Source, in_order, quoted
from hwlang.parsing import lexer
from hwlang.syntax import Name

MAX_IMPORTS = 32  # files that import each other in a row
LEAST = 100  # tokens that an imported file counts as, however small it is


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
    return check_reading(parser.read_on(source), source)


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


def check_tree(tree: syntax.File, source: Source) -> Checked:
    """Check a syntax tree, wherever it comes from."""
    return check_reading(parser.Reading(tree), source)


def check_reading(reading: parser.Reading, source: Source) -> Checked:
    """Check what was read. What follows from slips in the syntax is not told as well."""
    report = Report()
    checks = FileCheck(reading, Files(source), report)
    programs = checks.run()
    found = independent(report.problems, checks.damage, reading.tree, source)
    problems = in_order([*reading.problems, *checks.problems, *found])
    return Checked(source, reading.tree, problems, tuple(programs))


class FileCheck:
    """The checks of one file: its imports, what each role says by itself, then each program."""

    def __init__(self, reading: parser.Reading, files: Files, report: Report) -> None:
        self.tree = reading.tree
        self.files = files
        self.damage = list(reading.damage)  # here and in the imported files
        self.problems: list[Diagnostic] = []  # of reading the imported files
        self._tokens_left = lexer.MAX_TOKENS - reading.tokens
        self._full = False
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
        checks = [ProgramCheck(node, self.roles, self.files, self.report) for node in self.tree.programs]
        programs = [check.run() for check in checks]
        self.report.problems += map(once, self.roles.missing.values())
        if programs:
            self._unused()
        names = [check.names for check in checks]
        check_tests(self.tree.tests, list(zip(programs, names, strict=True)), self.files, self.report)
        return programs

    # Imports and roles

    def _import(self, node: syntax.Import, top: syntax.Import, above: list[Path]) -> None:
        """Bring in a file's roles, and those that it imports. `top` is the import in the main file."""
        if self._full or not plain(node.path, self.report):
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
        reading = parser.read_on(Source(self.files.shown(target), text, target), self._tokens_left)
        self._tokens_left -= max(reading.tokens, LEAST)
        self._full = any(problem.code == "HW011" for problem in reading.problems)
        self.roles.complete &= reading.complete
        self.problems += reading.problems
        self.damage += reading.damage
        self._declare_roles(reading.tree, top)
        for inner in reading.tree.imports:
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
            if reserved(role.name, self.report):
                self.roles.complete = False  # it may be the one that a worker is
            ClauseCheck(self.report).body(role.body)
            if name in self._declared:
                first = self._declared[name].span
                message = f"there is a role {quoted(name)} already, {place(first, role.name.span)}"
                self.report.error("HW102", role.name.span, message, labels=first_here(first))
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
                first = seen[name.value].span
                message = f"there is a program {quoted(name.value)} already, {place(first, name.span)}"
                self.report.error("HW102", name.span, message, labels=first_here(first))
            seen.setdefault(name.value, name)

    def _unused(self) -> None:
        unknown = self.roles.used - self.roles.bodies.keys()  # a name that may have been meant for one of these
        for name, declared in self._declared.items() if not unknown else ():
            if name not in self.roles.used and name not in self._origin:
                self.report.warning("HW105", declared.span, f"no worker is a {quoted(name)}")
        useful = {id(self._origin[name]) for name in self.roles.used if name in self._origin}
        for node in self.tree.imports if self.roles.complete and not unknown else ():
            if id(node) not in useful:
                self.report.warning("HW105", node.span, f"no role of {quoted(node.path.literal)} is used")
