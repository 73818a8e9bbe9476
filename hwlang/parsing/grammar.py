"""The grammar as plain data: what Lark makes of `grammar/hw.lark`, kept beside it as `hw.tables.json`.

Lark needs 0.1 s for it, a good part of a check. The file is used where it was made of this very grammar, else Lark is
asked anew. A test holds it up to date; after a change of the grammar write it with

    python -c "from hwlang import grammar; grammar.write()"
"""

import json
import re
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, TypedDict, cast

if TYPE_CHECKING:
    from lark import Lark
    from lark.grammar import Rule

NAME = "hw.tables.json"
DROP, KEEP, SPLICE = range(3)  # what becomes of a value when a rule is reduced


class Rules(TypedDict):
    """A rule of the grammar; see `lalr.Reduction`."""

    size: int
    origin: str
    name: str | None
    single: bool
    keep: list[int]


class Tables(TypedDict):
    """The patterns of the lexer and the LALR table. In `states` 0 and above are states, -1 is the first rule, ..."""

    made_of: str
    patterns: dict[str, str]
    words: dict[str, str]
    symbols: dict[str, str]
    rules: list[Rules]
    states: dict[str, dict[str, int]]
    start: int
    end: int


@cache
def tables() -> Tables:
    try:
        kept = json.loads(files("hwgrammar").joinpath(NAME).read_text(encoding="utf-8"))
        if kept["made_of"] == fingerprint() and kept.keys() == Tables.__annotations__.keys():
            return cast(Tables, kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not ours
    return made()


def fingerprint() -> str:
    return sha256(files("hwgrammar").joinpath("hw.lark").read_bytes().replace(b"\r\n", b"\n")).hexdigest()


# --- Made by Lark ----------------------------------------------------------------------------------------------------


@cache
def grammar() -> "Lark":
    """Lark's parser. It is handed no text: its tables are what is used."""
    from lark import Lark

    return Lark.open_from_package("hwgrammar", "hw.lark", parser="lalr", start="file")


def made() -> Tables:
    from lark.grammar import Rule
    from lark.parsers.lalr_analysis import Shift

    table = grammar().parser.parser._parse_table
    rules: dict[Rule, int] = {}
    states: dict[str, dict[str, int]] = {}
    for state, actions in table.states.items():
        row = states[str(state)] = {}
        for symbol, (action, argument) in actions.items():
            row[symbol] = int(argument) if action is Shift else -1 - rules.setdefault(argument, len(rules))
    words, symbols, patterns = terminals()
    return Tables(
        made_of=fingerprint(),
        patterns=patterns,
        words=words,
        symbols=symbols,
        rules=[described(rule) for rule in rules],
        states=states,
        start=int(table.start_states["file"]),
        end=int(table.end_states["file"]),
    )


def described(rule: "Rule") -> Rules:
    from lark.grammar import Terminal

    origin = str(rule.origin.name)
    keep = [
        (DROP if symbol.filter_out else KEEP)
        if isinstance(symbol, Terminal)
        else (SPLICE if symbol.name.startswith("_") else KEEP)
        for symbol in rule.expansion
    ]
    name = None if origin.startswith("_") else str(rule.alias or origin)
    return Rules(size=len(keep), origin=origin, name=name, single=bool(rule.options.expand1), keep=keep)


def terminals() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The keywords, the symbols (each with its terminal), and the patterns of the other terminals."""
    words: dict[str, str] = {}
    symbols: dict[str, str] = {}
    patterns: dict[str, str] = {}
    for terminal in grammar().terminals:
        if terminal.priority == 2:
            words |= dict.fromkeys(re.findall(r"\w{2,}", terminal.pattern.value.replace(r"\b", "")), terminal.name)
        elif terminal.pattern.type == "str":
            symbols[terminal.pattern.value] = terminal.name
        else:
            patterns[terminal.name] = terminal.pattern.value
    return words, symbols, patterns


def write() -> None:
    """Write the file."""
    from pathlib import Path

    path = Path(str(files("hwgrammar").joinpath(NAME)))
    path.write_text(json.dumps(made(), separators=(",", ":")) + "\n", encoding="utf-8")
