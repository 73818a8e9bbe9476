"""Whether what a run answered is the right answer: extractors for answers of every form.

An extractor takes what a text gives as its answer: the last match in it. It is used on both, the right answer of a file
(GSM8K's end in `#### 18`) and the answer of a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Protocol

from hwlang.evaluation import countdown
from hwruntime.errors import InputError

NUMBER = re.compile(r"(?<![\d.])[-−]?\d[\d,]*(?:\.\d+)?")
MARKED = re.compile(r"\$|\\boxed|\\\(|\\\[")  # where a text says itself which part of it is LaTeX
INSTALL = "pip install 'hwlang[eval]'"


class Extractor(Protocol):
    """Compares answers. `expected` is the right one, `told` what a run answered."""

    def right(self, expected: str, told: str) -> bool: ...


@dataclass(frozen=True)
class Exact:
    """The same text, apart from space around it."""

    def right(self, expected: str, told: str) -> bool:
        return bool(told.strip()) and told.strip() == expected.strip()


@dataclass(frozen=True)
class Number:
    """The last number of each text is the same: `1,234.50` is `1234.5`."""

    def right(self, expected: str, told: str) -> bool:
        value = last_number(told)
        return value is not None and value == last_number(expected)


@dataclass(frozen=True)
class Pattern:
    """The last match of a regex, or its first group where it has one, is the same text. A right answer in which the
    regex does not match is taken as it is."""

    regex: re.Pattern[str]

    def right(self, expected: str, told: str) -> bool:
        found = self._last(told)
        wanted = self._last(expected)
        return found is not None and found == (expected.strip() if wanted is None else wanted)

    def _last(self, text: str) -> str | None:
        matches = list(self.regex.finditer(text))
        return (matches[-1][1 if self.regex.groups else 0] or "").strip() if matches else None


@dataclass(frozen=True)
class Latex:
    """Equal as mathematics, as math-verify sees it: `\\frac{1}{2}`, `0.5` and `1/2` are the same."""

    def right(self, expected: str, told: str) -> bool:
        return equal_latex(expected, told)


@dataclass(frozen=True)
class Expression:
    """An arithmetic expression of given numbers that comes to a target (`countdown`)."""

    def right(self, expected: str, told: str) -> bool:
        return countdown.right(expected, told)


FORMS: Mapping[str, Extractor] = {"exact": Exact(), "number": Number(), "latex": Latex(), "expression": Expression()}


def make_extractor(form: str) -> Extractor:
    """The extractor of this name, or of `regex:REGEX`. Raises `InputError`."""
    if form.startswith("regex:"):
        try:
            return Pattern(re.compile(form.removeprefix("regex:"), re.MULTILINE))
        except re.error as error:
            raise InputError(f"`{form}` is no regex: {error}") from None
    if form not in FORMS:
        raise InputError(f"there is no extractor `{form}`", help=f"one of {', '.join(FORMS)} and regex:REGEX")
    if form == "latex":
        require_math_verify()
    return FORMS[form]


def require_math_verify() -> None:
    """Raises `InputError` where the library is missing: before anything is run, not after."""
    try:
        import math_verify  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        raise InputError("LaTeX answers are compared with math-verify, which is not installed", help=INSTALL) from None


def last_number(text: str) -> Decimal | None:
    found = NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None


@lru_cache(maxsize=4096)  # the same few answers are compared once for every configuration and table
def equal_latex(expected: str, told: str) -> bool:
    from math_verify import parse, verify

    if not told.strip():
        return False
    return bool(verify(parse(as_latex(expected)), parse(as_latex(told))))


def as_latex(text: str) -> str:
    """From the last `\\boxed` on; a bare answer such as `\\frac{1}{2}` put between dollars, to be read as LaTeX."""
    text = text[max(text.rfind("\\boxed"), 0) :]
    return text if MARKED.search(text) else f"${text}$"


def split_group(told: str, count: int) -> Sequence[str]:
    """The answers of a group of problems: a list, parted by commas or semicolons outside of brackets."""
    if count == 1:
        return [told]
    pieces, depth = [""], 0
    for character in told.strip().removeprefix("[").removesuffix("]"):
        depth += (character in "([{") - (character in ")]}")
        if character in ",;" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [*pieces, *[""] * count][:count]
