"""Every word of the language is explained, with an example from the reference."""

from pathlib import Path

import pytest

from hwlang.keywords import WORDS
from hwlang.parsing.lexer import lexicon

REFERENCE = (Path(__file__).parents[2] / "grammar" / "README.md").read_text()


def test_every_word_of_the_grammar_has_a_text() -> None:
    assert set(WORDS) == set(lexicon().words)


@pytest.mark.parametrize("word", WORDS)
def test_the_example_has_the_word_and_is_in_the_reference(word: str) -> None:
    assert word in WORDS[word].example
    assert WORDS[word].example in REFERENCE
