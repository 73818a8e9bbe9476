"""Did you mean: the right word comes first."""

import random
import string

import pytest

from hwlang.checker import check_text
from hwlang.checks.names import RESERVED
from hwlang.diagnostics.suggestions import closest, distance, unlikeness
from hwlang.parsing.lexer import tokens
from tests.hwlang.programs import DESIGN

SOURCE = DESIGN.read_text()
WORDS = [token for token in tokens(SOURCE) if token.type == "NAME" and len(token) > 2]


@pytest.mark.parametrize(
    ("word", "candidates", "want"),
    [
        ("wroker", ["workers", "worker"], "worker"),
        ("histroy", ["board", "history"], "history"),
        ("Worker", ["worker"], "worker"),
        ("hist", ["board", "history"], "history"),
        ("slef", ["self", "others"], "self"),
        ("si", ["is"], "is"),
        ("ay", ["say", "ask"], "say"),
        ("ax", ["ay"], None),  # two letters: anything would be like it
        ("topic", ["board", "history"], None),
        ("note", ["node", "notes"], "node"),  # equally alike: the first
        ("", ["a", "abc"], None),
        ("x" * 100_000, ["x" * 100_000, "y"], "x" * 100_000),
    ],
)
def test_closest(word: str, candidates: list[str], want: str | None) -> None:
    assert closest(word, candidates) == want


def test_distance_counts_slips_of_the_fingers() -> None:
    others = ("step", "stpe", "stp", "steep", "stop", "pets")
    assert [distance("step", other, 3) for other in others] == [0, 1, 1, 1, 1, 3]
    assert distance("step", "worker", 3) is None
    assert unlikeness("STEP", "step") == 0.5


def typo(word: str, rng: random.Random) -> str:
    """The word with a letter left out, put in or replaced, or two of them exchanged."""
    at, letter = rng.randrange(len(word)), rng.choice(string.ascii_lowercase)
    return rng.choice(
        [
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :],
        ]
    )


def test_a_misspelt_word_of_a_program_is_one_diagnostic_with_the_right_suggestion() -> None:
    """Where a name is misspelt that is declared, its uses are told: then that one is suggested for them."""
    rng = random.Random(7)
    tried = suggested = alone = 0
    for token in WORDS:
        wrong = typo(token, rng)
        source = SOURCE[: token.start_pos] + wrong + SOURCE[token.end_pos :]
        found = check_text(source, folder=DESIGN.parent)
        if wrong in RESERVED or not found.errors:
            continue  # another keyword, or another name that fits
        helps = {d.help for d in found.diagnostics}
        tried += 1
        suggested += bool(helps & {f"did you mean `{token}`?", f"did you mean `{wrong}`?"})
        alone += len(found.diagnostics) == 1
    assert tried > 100
    assert suggested / tried > 0.95
    assert alone / tried > 0.95
