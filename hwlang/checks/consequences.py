"""One slip, one message: what the checker finds that may only follow from a slip in the syntax is not told.

Where tokens were left out or put in, a name may be missing or may have been declared, used or written there. Problems
elsewhere in the file, and those that do not depend on what was lost, are told.
"""

from collections.abc import Iterable, Iterator, Sequence

from hwlang import syntax
from hwlang.diagnostics import Diagnostic
from hwlang.diagnostics.source import Damage, Source, Span

# A name that is not what it should be: it may have been declared in what was lost.
NAMES = {"HW101", "HW106", "HW107", "HW202", "HW203"}
# About a value by itself.
VALUES = {"HW401", "HW402", "HW403", "HW404", "HW405", "HW406", "HW407", "HW408", "HW409"}
# About one declaration by itself: a worker, a role, ...; and about one clause by itself.
LOCAL = {"HW102", "HW103", "HW104"}
CLAUSES = {"HW201", "HW207", "HW303", "HW304", "HW305", "HW306", "HW307", "HW308"}
# All others are about the program as a whole.


def independent(
    problems: Iterable[Diagnostic], damage: Sequence[Damage], tree: syntax.File, source: Source
) -> list[Diagnostic]:
    """The problems that are none of the consequences of the damage."""
    if not damage:
        return list(problems)
    return [problem for problem in problems if not _follows(problem, damage, tree, source)]


def _follows(problem: Diagnostic, damage: Sequence[Damage], tree: syntax.File, source: Source) -> bool:
    """Whether a problem may be a consequence of the damage."""
    if any(problem.span.touches(each.span) for each in damage):
        return True
    if problem.code in VALUES:
        return False
    near = [each for each in damage if _may_matter(each.span, problem.span, tree, source)]
    if problem.code in NAMES:
        name = problem.span.text.strip("{} ")
        misspelt = (problem.help or "").startswith("did you mean")
        return any((each.unnamed and not misspelt) or name in each.words for each in near)
    if problem.code in LOCAL | CLAUSES:
        spans = [problem.span, *(label.span for label in problem.labels)]
        around = [node for span in spans for node in _around(span, tree, clauses=problem.code in CLAUSES)]
        around += _with_role(problem.span, tree) if problem.code == "HW201" else ()
        return any(node.touches(each.span) for node in around for each in near)
    return bool(near)


def _may_matter(damage: Span, problem: Span, tree: syntax.File, source: Source) -> bool:
    """Whether damage and problem can be of one program: not where they lie in different programs of the file. Nothing
    depends on what is in a test."""
    test = _test(damage, tree, source)
    if test is not None:
        return _test(problem, tree, source) is test
    one, other = _program(damage, tree, source), _program(problem, tree, source)
    return one is None or other is None or one is other


def _program(span: Span, tree: syntax.File, source: Source) -> syntax.Program | None:
    if span.source is not source:
        return None
    return next((program for program in tree.programs if program.span.touches(span)), None)


def _test(span: Span, tree: syntax.File, source: Source) -> syntax.Test | None:
    return next((test for test in tree.tests if span.source is source and test.span.touches(span)), None)


def _with_role(problem: Span, tree: syntax.File) -> Iterator[Span]:
    """The workers that have the role in which a problem lies: what they say changes its view."""
    role = next((role.name.value for role in tree.roles if role.span.touches(problem)), None)
    for program in tree.programs:
        for node in program.declarations:
            if role and isinstance(node, syntax.Worker | syntax.Workers) and node.role and node.role.value == role:
                yield node.span


def _around(problem: Span, tree: syntax.File, clauses: bool) -> Iterator[Span]:
    """The declarations, or the clauses, in which a problem lies."""
    nodes: list[syntax.Node] = [each for program in tree.programs for each in program.declarations]
    nodes += tree.roles
    if clauses:
        bodies = [node.body for node in nodes if isinstance(node, syntax.Role | syntax.Worker | syntax.Workers)]
        nodes = [clause for body in bodies for clause in body.clauses]
    return (node.span for node in nodes if node.span.touches(problem))
