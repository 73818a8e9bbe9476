"""Where a call stands in a Python file: the spans of nodes that are built in Python.

`here` finds the call that led into this package; its arguments are looked up in the file, so that a message points at
the one that it is about.
"""

import ast
import linecache
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType

from hwlang.diagnostics import Source, Span

PACKAGE = str(Path(__file__).parent / "x")[:-1]  # with the separator at its end
Def = ast.FunctionDef | ast.AsyncFunctionDef
Located = ast.expr | ast.arg | Def


@dataclass(frozen=True)
class Script:
    """A Python file. Where it cannot be read or parsed, places are as precise as what was compiled."""

    source: Source

    @cached_property
    def _nodes(self) -> tuple[ast.AST, ...]:
        try:
            return tuple(ast.walk(ast.parse(self.source.text)))
        except (SyntaxError, ValueError, RecursionError):
            return ()

    @property
    def file(self) -> Source:
        """The source as a file, in a folder; without one where there is no such file, as in a prompt."""
        path = Path(self.source.file)
        return replace(self.source, path=path if path.is_file() else None)

    @cached_property
    def calls(self) -> Mapping[tuple[int, int], ast.Call]:
        """The calls by line and byte of their last bracket: no two end at the same place."""
        calls = (node for node in self._nodes if isinstance(node, ast.Call))
        return {(node.end_lineno or 0, node.end_col_offset or 0): node for node in calls}

    def function(self, code: CodeType) -> Def | None:
        """The definition of a function. The code of one with decorators begins at the first of them."""
        named = (node for node in self._nodes if isinstance(node, Def) and node.name == code.co_name)
        return next((node for node in named if first_line(node) == code.co_firstlineno), None)

    def span(self, node: Located) -> Span:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.stretch(node.lineno, node.col_offset, end_line, end_column)

    def name(self, node: Def) -> Span:
        """The name in a definition."""
        words = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
        line, column = self.span(node).start
        start = column + len(words)
        return Span(line, start, line, start + len(node.name), self.source)

    def stretch(self, line: int, start: int, end_line: int, end: int) -> Span:
        """The span between two places, given by their lines and how many bytes are before them there."""
        return Span(line, self._column(line, start), end_line, self._column(end_line, end), self.source)

    def _column(self, line: int, byte: int) -> int:
        text = self.source.line(line)
        return (byte if text.isascii() else len(text.encode()[:byte].decode(errors="replace"))) + 1


@dataclass(frozen=True)
class Call:
    """A call in a Python file."""

    script: Script
    span: Span
    node: ast.Call | None

    def at(self, position: int, keyword: str = "", item: int | None = None) -> Span:
        """The span of an argument, or of an item in it if it is a list, a tuple or the keys of a dictionary.

        The whole call where it cannot be told, as in `f(*texts)`.
        """
        node = self._argument(position, keyword)
        if item is not None:
            node = element(node, item)
        return self.script.span(node) if node else self.span

    def _argument(self, position: int, keyword: str) -> ast.expr | None:
        if self.node is None:
            return None
        named = next((each.value for each in self.node.keywords if keyword and each.arg == keyword), None)
        before = self.node.args[: position + 1]
        if named or len(before) <= position or any(isinstance(each, ast.Starred) for each in before):
            return named
        return before[position]


def first_line(node: Def) -> int:
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno


def element(node: ast.expr | None, item: int) -> ast.expr | None:
    """An item of a list, a tuple or a dictionary (its key) that is written out; else the node itself."""
    listed: list[ast.expr | None] = []
    if isinstance(node, ast.List | ast.Tuple):
        listed = [*node.elts]
    elif isinstance(node, ast.Dict):
        listed = [*node.keys]
    if any(each is None or isinstance(each, ast.Starred) for each in listed) or item >= len(listed):
        return node
    return listed[item]


def here() -> Call:
    """The call that led into this package: the innermost one outside of it."""
    frame = next(frame for frame in frames() if not frame.f_code.co_filename.startswith(PACKAGE))
    script = script_of(frame)
    positions = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    line, end_line, start, end = (each if each is not None else -1 for each in positions)
    if min(line, end_line, start, end) < 0:  # compiled without places
        line, text = frame.f_lineno, script.source.line(frame.f_lineno)
        return Call(script, Span(line, len(text) - len(text.lstrip()) + 1, line, len(text) + 1, script.source), None)
    return Call(script, script.stretch(line, start, end_line, end), script.calls.get((end_line, end)))


def frames() -> Iterator[FrameType]:
    """The callers, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back


def script_of(place: FrameType | CodeType, names: dict[str, object] | None = None) -> Script:
    """The file that a frame or a function is in. `names` are the globals of the function."""
    code = place.f_code if isinstance(place, FrameType) else place
    names = place.f_globals if isinstance(place, FrameType) else names
    linecache.checkcache(code.co_filename)
    return script(code.co_filename, "".join(linecache.getlines(code.co_filename, names)))


@lru_cache(maxsize=64)
def script(file: str, text: str) -> Script:
    """One script for each text of a file. It has no folder: paths are looked up below the program's, whoever calls."""
    return Script(Source(file, text))


def within(span: Span, pattern: str) -> Span:
    """The first place of a regex in what is written at a span; the span itself where it is not found."""
    source = span.source
    for number in range(span.line, span.end_line + 1):
        start = span.column - 1 if number == span.line else 0
        end = span.end_column - 1 if number == span.end_line else len(source.line(number))
        found = re.compile(pattern).search(source.line(number), start, end)
        if found:
            return Span(number, found.start() + 1, number, found.end() + 1, source)
    return span
