"""Terminals of the grammar in words: what was expected, and what a keyword is called."""

from collections.abc import Iterable

from hwlang.parsing.lalr import table
from hwlang.parsing.lexer import END

# What a group of terminals is called where all of them could follow.
GROUPS = (
    ({"_IMPORT", "_ROLE", "_PROGRAM", "_TEST"}, "`program`, `role`, `test` or `import`"),
    (
        {"_GIVEN", "_MODEL", "_BUDGET", "OPTION", "_SAYS", "_PICKS", "_FEED", "_EXPECT"},
        "a clause of a test (`given`, `model`, `budget`, `seed`, `says`, `picks`, `feed`, `expect`)",
    ),
    (
        {"_MODEL", "_SAMPLING", "_BUDGET", "_TEXT", "_SCRATCHPAD", "_STREAM", "_WORKER", "_WORKERS", "_SYNC"}
        | {"_ANSWER"},
        "a declaration (`worker`, `scratchpad`, `text`, `sync`, `answer`, ...)",
    ),
    (
        {"_SCRATCHPAD", "_SEES", "_LAYOUT", "_BEGIN", "_STEP", "_FORBID", "_STOP", "_MAX", "_PAUSED", "_SAMPLING"}
        | {"_MATCH", "_JSON", "_ON"},
        "a worker's clause (`sees`, `step`, `on`, ...)",
    ),
    (
        {"_SAY", "_ASK", "_POST", "_MOVE", "_CLEAR", "_PAUSE", "_RESUME", "_STOP"},
        "an action (`say`, `ask`, `post`, `move`, `clear`, `pause`, `resume`, `stop`)",
    ),
    (
        {"STRING", "TEXT_BLOCK", "REGEX", "_STEP", "_EVERY", "_START", "_END", "NAME"},
        "a trigger (`step`, `every`, a string, a /regex/, a stream's name, `start`, `end`)",
    ),
    (
        {"STRING", "TEXT_BLOCK", "NAME", "CHAT_ROLE", "SELF", "OTHERS", "_IN"},
        "an entry of the view (a string, a name, `others`, `self`, ...)",
    ),
    ({"_TOKENS", "_STEPS", "_PASSES"}, "`tokens`, `steps` or `passes`"),
    ({"STRING", "TEXT_BLOCK"}, "a string"),
)
PHRASES = {
    "NAME": "a name",
    "NUMBER": "a number",
    "REGEX": "a /regex/",
    "CHAT_ROLE": "`system`, `user` or `assistant`",
    "LAYOUT_KIND": "`contiguous`, `interleaved` or `combined`",
    "OPTION": "`temperature`, `top_p`, `top_k`, `min_p` or `seed`",
    "TYPE": "a type (`str`, `int`, `float` or `bool`)",
    "BOOL": "`true` or `false`",
    END: "the end of the file",
}


def wanted(accepts: Iterable[str]) -> str:
    """A set of terminals in words."""
    phrases: list[str] = []
    rest = set(accepts)
    rest -= {"_HW", END} if len(rest) > 2 else set()
    for group, phrase in GROUPS:
        if group <= rest:
            rest -= group
            phrases.append(phrase)
    phrases += [PHRASES.get(terminal) or f"`{spelled(terminal)}`" for terminal in sorted(rest)]
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " or " + phrases[-1]


def alike(terminal: str) -> set[str]:
    """The group of a terminal, or itself where it is in none."""
    return next((group for group, _ in GROUPS if terminal in group), {terminal})


def spelled(terminal: str) -> str:
    """How a keyword or a symbol is written."""
    lexicon = table().lexicon
    symbol = next((symbol for symbol, name in lexicon.symbols.items() if name == terminal), None)
    return symbol or (lexicon.spellings(terminal) or [terminal.strip("_").lower()])[0]
