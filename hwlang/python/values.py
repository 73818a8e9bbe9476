"""Python values -> the nodes that they stand for. What does not fit raises `CompileError` at the argument."""

import math
import re
from collections.abc import Sequence

from hwlang import syntax
from hwlang.diagnostics import CompileError, Diagnostic, Span, quoted
from hwlang.parsing.builder import MAX_DIGITS
from hwlang.parsing.literals import PIECE, joined
from hwlang.python.handles import Named
from hwlang.python.places import within

SPECIAL = {re.ASCII: "a", re.IGNORECASE: "i", re.DOTALL: "s", re.VERBOSE: "x"}  # how flags are written in a regex
NO_HOLE = r"(?<!\{)\{\{(?!\{| *(?:[A-Za-z_]\w*|[0-9]+) *\}\})"
ESCAPE_HELP = "write `{{name}}` for a hole, `{{{{` for two braces; `hw.literal(text)` does that for a whole text"


def misfit(message: str, span: Span, help: str | None = None, code: str = "HW001") -> CompileError:
    return CompileError([Diagnostic(code, message, span, help)])


def shown_type(value: object) -> str:
    """What a value is, for a message: `a list`, `an int`, `None`."""
    if value is None:
        return "None"
    name = "function" if callable(value) and not isinstance(value, type) else type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


# --- Texts -----------------------------------------------------------------------------------------------------------


def string(value: object, span: Span) -> syntax.String:
    """A text with its holes. A parameter or a named text stands for the hole of its name."""
    if isinstance(value, Named):
        return syntax.String((syntax.Hole(value.name, span=span),), span=span)
    return syntax.String(parts(plain(value, span), span), span=span)


def literal_string(value: object, span: Span) -> syntax.String:
    """A text as it is, in which nothing is a hole."""
    text = plain(value, span)
    return syntax.String((text,) if text else (), span=span)


def plain(value: object, span: Span) -> str:
    if not isinstance(value, str):
        raise misfit(f"a text is needed here, not {shown_type(value)}", span)
    if re.search("[\ud800-\udfff]", value):
        raise misfit("the text has half of a surrogate pair", span, code="HW009")
    return str(value)


def parts(text: str, span: Span) -> syntax.Parts:
    """The pieces of a text, as in a text block of the language: holes, `{{{{` for two braces, no escapes."""
    made: list[str | syntax.Hole] = []
    end = 0
    for found in PIECE.finditer(text):
        made.append(text[end : found.start()])
        end = found.end()
        if found["name"]:
            made.append(syntax.Hole(found["name"].strip(), span=within(span, re.escape(found[0]))))
        elif found["open"]:
            raise misfit("this `{{` does not open a hole", within(span, NO_HOLE), ESCAPE_HELP, "HW006")
        else:
            made.append(found[0][:2])
    return joined([*made, text[end:]])


# --- Names, numbers, regexes -----------------------------------------------------------------------------------------


def name(value: object, span: Span) -> syntax.Name:
    """A name that is declared, or that is referred to."""
    if not isinstance(value, str):
        raise misfit(f"a name is needed here, not {shown_type(value)}", span)
    if not re.fullmatch(r"[A-Za-z_]\w*", value):
        raise misfit(f"{quoted(value)} is no name: names are like `history` or `step_2`", span)
    return syntax.Name(value, span=span)


def reference(value: object, span: Span) -> syntax.Name:
    """The name of what a handle stands for. The checker looks at whether it is of the right kind."""
    return name(value.sole(span) if isinstance(value, Named) else value, span)


def number(value: object, span: Span) -> syntax.Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise misfit(f"a number is needed here, not {shown_type(value)}", span)
    if isinstance(value, float) and not math.isfinite(value):
        raise misfit(f"{value} is no number that a program can have", span, code="HW007")
    if len(repr(value)) > MAX_DIGITS:
        raise misfit(f"the number {quoted(repr(value), 24)} is too long", span, "round it", "HW007")
    return syntax.Number(value, span=span)


def whole(value: object, span: Span) -> syntax.Number:
    made = number(value, span)
    if isinstance(made.value, float):
        raise misfit(f"a whole number is needed here, not {made.value}", span, code="HW007")
    return made


def one_of(value: object, known: Sequence[str], span: Span) -> str:
    if not isinstance(value, str) or value not in known:
        listed = ", ".join(f'"{each}"' for each in known)
        raise misfit(f"one of {listed} is needed here, not {quoted(repr(value))}", span)
    return value


def flag(value: object, span: Span) -> bool:
    if not isinstance(value, bool):
        raise misfit(f"True or False is needed here, not {shown_type(value)}", span)
    return value


def pattern(value: object, span: Span) -> syntax.Regex:
    """A regex: its text, or what `re.compile` made of it."""
    flags = ""
    if isinstance(value, re.Pattern):
        flags = "".join(letter for special, letter in SPECIAL.items() if value.flags & special)
        value = value.pattern
    text = plain(value, span)
    if "x" in flags and "\n" in text:
        raise misfit("a regex is on one line", span, "write it without `re.VERBOSE`", "HW408")
    return syntax.Regex((f"(?{flags})" if flags else "") + one_line(text), span=span)


def one_line(text: str) -> str:
    """A regex as the language has it: line ends written as `\\n`, slashes without their backslash."""
    spelt = {"\n": r"\n", "\\\n": r"\n", r"\/": "/"}
    return re.sub(r"\\.|\n", lambda found: spelt.get(found[0], found[0]), text, flags=re.DOTALL)
