"""The regexes of a program: those of Python's `re`. They are made ready and looked at, never run on anything."""

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import cast

from hwlang.syntax import Regex

MAX_REGEX = 1000  # characters
NO_REGEX = 99  # groups of a regex that cannot be read: that is its one error
MAX_NESTING = 50  # groups in groups


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> "re.Pattern[str] | str":
    """A regex, or why it is none."""
    if len(pattern) > MAX_REGEX:
        return f"it is longer than {MAX_REGEX:,} characters"
    if nesting(pattern) > MAX_NESTING:
        return f"its groups are nested more than {MAX_NESTING} deep"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        return error.msg
    except (RecursionError, OverflowError):
        return "it is too complex"


def nesting(pattern: str) -> int:
    """How deep groups are nested, or a little more: parentheses in sets count too."""
    depth = deepest = 0
    for symbol in re.findall(r"\\.|[()]", pattern, re.DOTALL):
        depth += (symbol == "(") - (symbol == ")")
        deepest = max(deepest, depth)
    return deepest


def group_count(regex: Regex) -> int:
    found = compiled(regex.pattern)
    return found.groups if isinstance(found, re.Pattern) else NO_REGEX


def matches_nothing(regex: Regex) -> bool:
    """Whether a regex that can be read matches the empty text. It is not tried: that may take for ever."""
    from re import _parser  # Python's own, which `re.compile` uses

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return all_empty(_parser.parse(regex.pattern, re.MULTILINE))


def all_empty(items: object) -> bool:
    """Whether all items of a part of a regex do."""
    return all(empty(str(what), argument) for what, argument in cast(Iterable[tuple[object, object]], items))


def empty(what: str, argument: object) -> bool:
    """Whether one item of a regex matches the empty text, between the beginning and the end of all."""
    match what, argument:
        case "AT", where:
            return "BOUNDARY" not in str(where)
        case "BRANCH", (_, branches):
            return any(map(all_empty, cast(Iterable[object], branches)))
        case "ATOMIC_GROUP", inside:
            return all_empty(inside)
        case "SUBPATTERN" | "ASSERT", (*_, inside):
            return all_empty(inside)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT", (least, _, inside):
            return least == 0 or all_empty(inside)
        case "ASSERT_NOT", (_, inside):
            return not all_empty(inside)
    return False
