"""The pieces of a worker that stand by themselves; the rest is in test_session.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwruntime.worker import SENTENCE_END, completes

LETTERS = st.text("ab", max_size=8)


@pytest.mark.parametrize(
    ("before", "delta", "needle", "start"),
    [
        ("", "x.", ".", 1),
        ("a", "\n\nb", "\n\n", 1),
        ("a\n", "\nb", "\n\n", 1),
        ("PLAN DO", "NE", "PLAN DONE", 0),
        ("done.", " more", "done.", None),
        ("a", "b", "", None),
    ],
)
def test_a_text_is_completed_by_its_last_character(before, delta, needle, start):
    assert completes(before, delta, needle) == start


@given(LETTERS, LETTERS, st.text("ab", min_size=1, max_size=4))
def test_completed_means_found_and_ending_in_the_new_text(before, delta, needle):
    whole = before + delta
    ends = [i for i in range(len(whole)) if whole.startswith(needle, i) and i + len(needle) > len(before)]
    assert completes(before, delta, needle) == (ends[0] if ends else None)


@pytest.mark.parametrize(
    "text", ["Done.", "Is it?", 'He said "no."', "So **it is.**", "Schluss!\n", "完了。", "(See.)"]
)
def test_ends_of_sentences(text):
    assert SENTENCE_END.search(text)


@pytest.mark.parametrize("text", ["and then", "x = 3,", "see:", "", "1. a list of"])
def test_what_ends_no_sentence(text):
    assert not SENTENCE_END.search(text)
