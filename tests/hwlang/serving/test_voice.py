"""The text of sampled tokens: where it ends, what is shown on the way."""

import pytest

from hwlang.serving.sglang_api import Finish, Sampling
from hwlang.serving.voice import Voice
from hwruntime.scripted import END, WordTokenizer


def heard(text: str, *ends: int, **sampling: object) -> tuple[Voice, list[str]]:
    """A voice that has heard a text, and tokens; what was shown after each."""
    tokenizer = WordTokenizer()
    voice = Voice(tokenizer, Sampling(**sampling), tokenizer.encode("Go: "))  # type: ignore[arg-type]
    shown = []
    for token in [*tokenizer.encode(text), *ends]:
        if voice.finish:
            break
        voice.hear(token)
        shown.append(voice.shown)
    return voice, shown


def test_a_stop_text_ends_it_and_is_not_said():
    voice, shown = heard("one two. three", stop=(". th", "two", ". "))
    assert (voice.text, voice.finish) == ("one ", Finish("stop", "two"))
    voice, shown = heard("one two. three", stop=(". th", ". "))
    assert (voice.text, voice.finish) == ("one two", Finish("stop", ". "))
    assert shown == ["one", "one ", "one two", "one two", "one two"]  # the point waits for what follows
    assert heard("one two", stop=("two",), no_stop_trim=True)[0].text == "one two"


def test_what_waits_is_shown_where_nothing_was_to_end_it():
    voice, shown = heard("a. b", stop=(". c",))
    assert shown == ["a", "a", "a", "a. b"]
    assert voice.finish is None


def test_tokens_end_it():
    voice, _ = heard("one", END)
    assert (voice.text, voice.finish, len(voice.tokens)) == ("one", Finish("stop", END), 2)
    token = WordTokenizer().encode("!")[0]
    assert heard("one!", stop_token_ids=frozenset({token}))[0].finish == Finish("stop", token)


def test_an_end_can_be_ignored():
    voice, _ = heard("one", END, ignore_eos=True)
    assert (voice.text, voice.finish) == ("one", None)
    assert heard("one", END, ignore_eos=True, skip_special_tokens=False)[0].text == "one<end>"


@pytest.mark.parametrize("most", [1, 3])
def test_it_is_not_longer_than_asked_for(most):
    voice, _ = heard("a b c d", max_new_tokens=most)
    assert (len(voice.tokens), voice.finish) == (most, Finish("length", length=most))
