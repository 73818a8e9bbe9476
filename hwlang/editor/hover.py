"""What is said of a place when somebody points at it, in Markdown: of a name, a word of the language, a problem."""

from collections.abc import Iterator
from dataclasses import dataclass

from hwlang.diagnostics import Diagnostic, Source
from hwlang.diagnostics.codes import MESSAGES
from hwlang.diagnostics.explanations import EXPLANATIONS
from hwlang.editor.index import Index
from hwlang.editor.symbols import Symbol
from hwlang.keywords import HOLES, about
from hwlang.parsing import lexer
from hwlang.parsing.lexer import lexicon

MOST = 5  # declarations and problems that are told


@dataclass(frozen=True)
class Hover:
    """Markdown about what is between two offsets."""

    text: str
    start: int
    end: int


def hover(index: Index, offset: int) -> Hover | None:
    """What there is to say of a place; None where there is nothing."""
    found = of_name(index, offset) or of_word(index.source.text, offset)
    problems = list(problems_at(index, offset))[:MOST]
    told = [found.text] if found else []
    told += [of_problem(problem) for problem in problems]
    if not told:
        return None
    start, end = (found.start, found.end) if found else index.positions.bounds(problems[0].span)
    return Hover("\n\n---\n\n".join(told), start, end)


def of_name(index: Index, offset: int) -> Hover | None:
    use = index.at(offset)
    if use is None:
        return None
    told = [declared(symbol, index.source) for symbol in use.symbols[:MOST]]
    name = use.span.text
    if not told and name in HOLES and index.source.line(use.span.line)[: use.span.column - 1].rstrip().endswith("{{"):
        told = [f"`{{{{{name}}}}}` — {HOLES[name]}"]
    return Hover("\n\n".join(told), *index.positions.bounds(use.span)) if told else None


def declared(symbol: Symbol, here: Source) -> str:
    """A declaration: its first line, its kind, and what it is in."""
    where = f" of {symbol.inside}" if symbol.inside else ""
    file = "" if symbol.span.source is here else f", in `{symbol.span.source.file}`"
    return f"```hw\n{symbol.whole.text}\n```\n\n{symbol.kind} `{symbol.name}`{where}{file}, line {symbol.span.line}"


def of_word(text: str, offset: int) -> Hover | None:
    """A word of the language, where it is no name."""
    try:
        tokens = lexer.tokens(text)
    except lexer.TooManyTokens:
        return None
    for token in tokens:
        start, end = token.start_pos or 0, token.end_pos or 0
        if start <= offset <= end and token.type == "NAME" and token in lexicon().words:
            said = about(token)
            return Hover(said, start, end) if said else None
    return None


def problems_at(index: Index, offset: int) -> Iterator[Diagnostic]:
    for problem in index.checked.diagnostics:
        if problem.span.source is index.source and problem.span:
            start, end = index.positions.bounds(problem.span)
            if start <= offset <= end:
                yield problem


def of_problem(problem: Diagnostic) -> str:
    """What a diagnostic's code means; `hw explain` has examples, too."""
    title, text = MESSAGES[problem.code].title, EXPLANATIONS[problem.code].text
    return f"**{problem.code}** {title}\n\n{text}\n\nMore: `hw explain {problem.code}`"
