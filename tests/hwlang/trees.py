"""Hypothesis strategies for syntax trees: every node of the language, with texts that are hard to write down.

The trees are valid for the parser: text can say them, and parsing it gives an equal tree. Their names are not looked
up, so the checker has something to say about most of them.
"""

from random import Random

from hypothesis import strategies as st

from hwlang import syntax
from hwlang.checks.names import RESERVED
from hwlang.formatting.printer import to_hw
from hwlang.formatting.trivia import pieces_of
from hwlang.syntax import Hole, Name, String

# --- Names, numbers, texts -------------------------------------------------------------------------------------------

# Words that are keywords elsewhere, and words in other scripts.
WORDS = [
    "a",
    "Ann",
    "_",
    "x1",
    "tokens",
    "text",
    "file",
    "model",
    "user",
    "system",
    "or",
    "is",
    "to",
    "of",
    "true",
    "hw",
]
WORDS += ["str", "program", "role", "else", "until", "combined", "temperature", "nombre_é", "x中"]
names = st.sampled_from([Name(word) for word in WORDS if word not in RESERVED])
targets = names | st.just(Name("self"))

whole = st.builds(syntax.Number, st.integers(-(10**16), 10**17))
fractions = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: len(repr(value)) <= 18)
numbers = whole | st.builds(syntax.Number, fractions)

# What strings are cut and glued from: quotes, braces, escapes, line ends, indentation, characters that are not seen.
BITS = ['"', '"""', "\\", "\\n", "{", "{{", "{{{", "}", "}}", "{{x}}", "\n", "\n\n", "\r", "\r\n", "\t", " ", "  ", "#"]
BITS += ["a", "word", "Two words.", "\n  indented", "\nline", "line\n", "\0", "\x85", "\u2028", "\ufeff", "\u00a0", "é"]
BITS += ["中", "😀", "e\u0301", "/", "\\/", "'", ",", "end\\"]
literals = st.lists(st.sampled_from(BITS), max_size=6).map("".join) | st.text(max_size=6)
lines = st.lists(st.sampled_from(["", "a", "  b", "c d", "- {{", "\\d", '"q"', "x{"]), max_size=6).map("\n".join)
holes = st.builds(Hole, st.sampled_from(["name", "x", "_y", "1", "22", "é".join("aa")]))


def parts_of(bits: list[str | Hole]) -> String:
    """A string of these parts; neighbouring texts are one part, as the parser makes them."""
    parts: list[str | Hole] = []
    for bit in bits:
        if isinstance(bit, str) and parts and isinstance(parts[-1], str):
            parts[-1] += bit
        elif bit:
            parts.append(bit)
    return String(tuple(parts))


strings = st.lists(literals | lines | holes, max_size=3).map(parts_of)

# A regex is on one line, and a slash in it has no backslash (the text has one).
REGEX_BITS = ["a", "/", "\\\\", "\\d", "[^}]*", "(.+)", "\\{", '"', "#", " ", "^", "$", "é", "'"]
regexes = st.builds(syntax.Regex, st.lists(st.sampled_from(REGEX_BITS), max_size=6).map("".join))


def some(items: st.SearchStrategy, least: int = 0, most: int = 4) -> st.SearchStrategy:
    return st.lists(items, min_size=least, max_size=most).map(tuple)


texts = some(strings, 1)
maybe = st.none() | strings

# --- Actions and triggers --------------------------------------------------------------------------------------------

simple_actions = st.one_of(
    st.builds(syntax.Say, strings),
    st.builds(syntax.Post, strings, names),
    st.builds(syntax.Move, names),
    st.builds(syntax.Clear, names),
    st.builds(syntax.Pause, targets),
    st.builds(syntax.Resume, targets),
    st.builds(syntax.Stop, st.none() | targets),
)


def asks(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(syntax.Ask, strings, some(st.builds(syntax.Choice, strings, some(inner, most=3)), most=3))


actions = simple_actions | asks(simple_actions | asks(simple_actions))
triggers = st.one_of(
    st.just(syntax.AtStep()),
    st.builds(syntax.Every, whole, st.sampled_from(["tokens", "steps", "passes"]), st.booleans()),
    st.builds(syntax.Seen, strings),
    st.builds(syntax.Matches, regexes),
    st.builds(syntax.Arrives, names),
    st.just(syntax.AtStart()),
    st.just(syntax.AtEnd()),
)

# --- Clauses ---------------------------------------------------------------------------------------------------------

options = st.one_of(
    st.builds(syntax.Option, st.sampled_from(["temperature", "top_p", "min_p"]), numbers),
    st.builds(syntax.Option, st.sampled_from(["top_k", "seed"]), whole),
)
samplings = st.builds(syntax.Sampling, some(options))
scratchpads = st.builds(syntax.Scratchpad, names, maybe)
entries = st.one_of(
    st.builds(syntax.Constant, strings, st.sampled_from(["text", "system", "user", "assistant"])),
    st.builds(syntax.Constant, strings, in_context=st.just(True)),
    names,
    st.just(syntax.Others()),
    st.just(syntax.Own()),
)
clauses = st.one_of(
    scratchpads,
    st.builds(syntax.Sees, some(entries, 1, 7)),
    st.builds(syntax.Layout, st.sampled_from(["contiguous", "interleaved", "combined"]), maybe, maybe),
    st.builds(syntax.Begin, strings),
    st.builds(syntax.Step, maybe, texts, st.booleans()),
    st.builds(syntax.Forbid, texts),
    st.builds(syntax.StopAt, texts),
    st.builds(syntax.MaxTokens, whole),
    st.just(syntax.Paused()),
    samplings,
    st.builds(syntax.Match, regexes),
    st.builds(syntax.Json, strings),
    st.builds(syntax.On, some(triggers, 1), some(actions)),
)
bodies = st.builds(syntax.Body, some(clauses, most=5))

# --- Declarations and files ------------------------------------------------------------------------------------------

answers = st.builds(
    syntax.Answer,
    st.one_of(names, regexes, st.builds(syntax.Vote, regexes)),
    st.none() | st.builds(syntax.Otherwise, strings, st.none() | whole),
)
crews = {"names": some(names, 1), "paused": st.booleans(), "role": st.none() | names, "body": bodies}
declarations = st.one_of(
    st.builds(syntax.Model, strings),
    samplings,
    st.builds(syntax.Budget, whole),
    st.builds(syntax.Text, names, strings | st.builds(syntax.Included, strings)),
    scratchpads,
    st.builds(syntax.Stream, names),
    st.builds(syntax.Worker, **crews),
    st.builds(syntax.Workers, whole | names, **crews),
    st.builds(syntax.Sync, whole, some(actions)),
    answers,
)
values = st.builds(syntax.Value, st.one_of(strings, numbers, st.booleans()))
params = st.builds(syntax.Param, names, st.sampled_from(["str", "int", "float", "bool"]), st.none() | values)
expects = st.one_of(
    st.builds(syntax.Expect, names, st.none() | names, st.sampled_from(["is", "lacks"]), strings | regexes),
    st.builds(syntax.Expect, names, st.none() | names, st.just("contains"), strings),
    st.builds(syntax.ExpectPasses, whole),
)
settings = st.builds(syntax.Setting, names, values | st.builds(syntax.Included, strings))
test_clauses = st.one_of(
    st.builds(syntax.Given, some(settings, 1)),
    st.builds(syntax.Model, strings),
    st.builds(syntax.Budget, whole),
    options,
    st.builds(syntax.Says, names, texts),
    st.builds(syntax.Picks, strings, strings),
    st.builds(syntax.Feed, names, strings, whole),
    expects,
)
items = st.one_of(
    st.builds(syntax.Test, names, strings, some(test_clauses)),
    st.builds(syntax.Import, strings),
    st.builds(syntax.Role, names, bodies),
    st.builds(syntax.Program, names, some(params), some(declarations, most=6)),
)
versions = st.sampled_from([(), (syntax.Version(syntax.Number(1)),)])
files = st.builds(lambda version, rest: syntax.File((*version, *rest)), versions, some(items))

# --- Texts of programs, spaced as nobody would -----------------------------------------------------------------------

COMMENTS = ["# why", "#", '# "quoted" {', "#   spaces  ", "# /* é 中 */\t", "## two", "# }", "#\u2028x"]
SPACES = [" ", "  ", "\t", "\n", "\n", "\n  ", "\n\n", "\r\n", "\n \t\n\n\n", "\f", " \r "]


def respaced(text: str, random: Random, wild: float) -> str:
    """The tokens of a program with other spaces and comments between them; `wild`: how many of them, from 0 to 1."""
    made: list[str] = []
    for piece in pieces_of(text):
        if random.random() >= wild:
            made.append(" ")
        elif random.random() < 0.5:
            made.append(random.choice(SPACES))
        else:
            made.append(
                random.choice(["", "\n", "\n\n", "   "]) + random.choice(COMMENTS) + random.choice(["\n", "\n\n"])
            )
        if piece.text in ("{", "}", ",", "(", ")", ":", "=") and random.random() < 0.1:
            made.pop()
        made.append(piece.text)
    return "".join(made)


sources = st.builds(
    lambda tree, seed, wild: respaced(to_hw(tree), Random(seed), wild),
    files,
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.02, 0.2, 0.8]),
)
