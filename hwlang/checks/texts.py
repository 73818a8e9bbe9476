"""The texts of a program: named texts written out, and what fills the holes of all others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from hwlang import syntax
from hwlang.checks.files import Files, Unreadable
from hwlang.checks.names import Kind, Names
from hwlang.diagnostics import Diagnostic, Report, Span, quoted
from hwlang.syntax import Hole, Parts, String

MAX_TEXT = 10_000  # parts of a text with the texts in it written out
MAX_SIZE = 1_000_000  # nodes of a program with all roles and texts written out


@dataclass(frozen=True)
class Fill:
    """What fills the holes of a text, beside parameters and texts."""

    name: bool = True
    step: bool = False
    groups: int = 0
    stepless: object = None  # the body without steps that the text belongs to


class Texts:
    """The texts of one program. `written` has those with a name, without any holes for other texts."""

    def __init__(self, program: syntax.Program, names: Names, files: Files, report: Report) -> None:
        self.names = names
        self.files = files
        self.report = report
        self.written: dict[str, Parts] = {}
        self.size = 0  # nodes of the program so far, with all roles and texts written out
        self._named = named_texts(program)
        self._holes: dict[str, dict[str, Hole]] = {}  # those that are left in a named text, each once

    @property
    def too_large(self) -> bool:
        return self.size > MAX_SIZE

    # Named texts

    def write_out(self) -> None:
        for text in self._named.values():
            if isinstance(text.value, syntax.Included):
                self.written[text.name.value] = (self._included(text.value.path),)
        for name in self._named:
            if name not in self.written:
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
        open_ = {first: self._texts_in(first)}
        while open_:
            name, holes = next(reversed(open_.items()))
            hole = next(holes, None)
            if hole is None:
                self.written[name] = self._expansion(name)
                open_.popitem()
            elif hole.name in open_:
                self.report.error("HW108", hole.span, f"the text {quoted(hole.name)} contains itself")
            elif hole.name not in self.written:
                open_[hole.name] = self._texts_in(hole.name)

    def _texts_in(self, name: str) -> Iterator[Hole]:
        """The holes of a text that stand for other texts."""
        value = self._named[name].value
        holes = value.holes if isinstance(value, String) else ()
        return (hole for hole in holes if hole.name in self._named)

    def _expansion(self, name: str) -> Parts:
        value = self._named[name].value
        assert isinstance(value, String)
        self.names.used.update(hole.name for hole in value.holes if hole.name in self._named)
        if sum(len(self.written.get(hole.name, ())) for hole in value.holes) > MAX_TEXT:
            self.report.error("HW008", value.span, f"the text {quoted(name)} is too long when it is written out")
            return ()
        return written_out(value, self.written)

    # Holes

    def check(self, text: String, fill: Fill) -> None:
        """Check that something fills every hole of a text."""
        self.size += 1 + len(text.parts)
        for hole in text.holes:
            if hole.name in self.written:
                self.names.used.add(hole.name)
                self.check_named(hole.name, hole.span, fill)
            else:
                self._hole(hole, fill)

    def check_named(self, name: str, span: Span, fill: Fill) -> None:
        """Check that something fills the holes of a named text where it is used, at `span`."""
        parts = self.written[name]
        self.size += len(parts)
        if name not in self._holes:
            self._holes[name] = {part.name: part for part in parts if isinstance(part, Hole)}
        for hole in self._holes[name].values():
            self._hole(hole, fill, span, f" of the text {quoted(name)}")

    def _hole(self, hole: Hole, fill: Fill, span: Span | None = None, within: str = "") -> None:
        """Check one hole. `span` is where a named text that contains it is used, `within` says which."""
        span = hole.span if span is None else span
        kind = self.names.kind_of(hole.name)
        if kind == "parameter":
            self.names.used.add(hole.name)
        elif hole.name.isdecimal():
            self._group(hole, fill, span, within)
        elif hole.name == "step" and not fill.step:
            help = "`{{step}}` is filled in the texts of a worker with `step`, but not in its view"
            problem = Diagnostic("HW107", f"nothing fills {braces(hole)}{within} here", span, help)
            self.names.needs_steps(fill.stepless, problem)
        elif hole.name == "name" and not fill.name:
            help = "`{{name}}` is a worker's name, and this text belongs to no worker"
            self.report.error("HW107", span, f"nothing fills {braces(hole)}{within} here", help)
        elif hole.name not in ("step", "name", "workers"):
            self._unfilled(hole, kind)

    def _group(self, hole: Hole, fill: Fill, span: Span, within: str) -> None:
        if 1 <= int(hole.name[:9]) <= fill.groups:
            return
        if fill.groups:
            message = f"nothing fills {braces(hole)}{within}: not every regex of this rule has that many groups"
            help = f"the groups here are 1 to {fill.groups}"
        else:
            message = f"nothing fills {braces(hole)}{within}: it stands for a group of a regex"
            help = 'all triggers of a rule must be regexes with groups, as in `on /(.+)/ { say "{{1}}" }`'
        self.report.error("HW307", span, message, help)

    def _unfilled(self, hole: Hole, kind: Kind | None) -> None:
        self.names.used.add(hole.name)
        if kind == "text":
            return  # a text that contains itself: reported already
        if kind:
            message = f"{braces(hole)} is a {kind}: a hole takes a parameter or a text"
            self.report.error("HW107", hole.span, message, f"a view has {quoted(hole.name)} as an entry of its own")
            return
        self.names.unknown.add("hole")
        known = chain(self.names.of_kinds(("parameter", "text")), ("name", "step", "workers"))
        help = self.report.suggestion(hole.name, known)
        if help is None and not self.names.misnamed.isdisjoint(("parameter", "text")):
            return
        self.names.missing(hole.name, Diagnostic("HW107", f"nothing fills {braces(hole)}", hole.span, help))


def named_texts(program: syntax.Program) -> dict[str, syntax.Text]:
    """The `text` declarations; of two with one name (an error) the first."""
    named: dict[str, syntax.Text] = {}
    for node in program.declarations:
        if isinstance(node, syntax.Text):
            named.setdefault(node.name.value, node)
    return named


def written_out(text: String, texts: Mapping[str, Parts]) -> Parts:
    """The parts of a string, with the texts in its holes in their place."""
    made: list[str | Hole] = []
    for part in text.parts:
        if isinstance(part, Hole) and part.name in texts:
            made += texts[part.name]
        else:
            made.append(part)
    return tuple(made)


def plain(text: String, report: Report) -> bool:
    """Whether a text has no holes, where it is needed before there are any values."""
    for hole in text.holes[:1]:
        report.error("HW107", hole.span, f"nothing fills {braces(hole)} here: this text is read before the run")
    return not text.holes


def braces(hole: Hole) -> str:
    return quoted("{{" + hole.name + "}}")
