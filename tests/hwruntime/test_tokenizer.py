"""Tokenizers as models have them: bytes as tokens, start tokens, chat templates; and what forbids a text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hwruntime.errors import RunError
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.program import Sampling, Worker
from hwruntime.scripted import WordTokenizer
from hwruntime.tokenizer import Detokenizer, Forbidden, Message
from hwruntime.worker import WorkerState

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def bytes_tokenizer(chat: bool = False) -> ModelTokenizer:
    """Byte-level BPE, as of GPT-2, Llama 3 and Qwen, with a start token."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["the plan is done. the plan is new.\n\nPLAN DONE"] * 50, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    hf = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    if chat:
        hf.chat_template = CHAT
    return ModelTokenizer(hf, frozenset({1}))


TOKENIZER = bytes_tokenizer()


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from('the plan\n é漢字🙂👩‍👩‍👧 \t."')), st.integers(1, 5))
def test_text_comes_out_whole_token_by_token(text, size):
    tokens = TOKENIZER.encode(text)
    detokenizer = Detokenizer(TOKENIZER)
    pieces = [detokenizer.add(tokens[i : i + size]) for i in range(0, len(tokens), size)]
    assert "".join(pieces) + detokenizer.flush() == text
    assert "\ufffd" not in "".join(pieces)


def test_a_cut_character_comes_out_in_the_end():
    detokenizer = Detokenizer(TOKENIZER)
    assert detokenizer.add(TOKENIZER.encode("🙂")[:-1]) == ""
    assert detokenizer.flush().count("\ufffd") >= 1


def test_events_tell_what_was_held_back_when_a_worker_ends():
    """The text of a worker's events is its voice, the cut character at its end included."""
    told: list[str] = []
    worker = WorkerState(
        Worker("Ann", sees=()), 0, Sampling(temperature=0.0), {}, TOKENIZER, lambda kind, name, text: told.append(text)
    )
    for token in TOKENIZER.encode("the 🙂")[:-1]:
        worker.hear(token)
    worker.close(by_itself=True)
    assert "".join(told) == worker.voice
    assert worker.voice.startswith("the \ufffd")


def test_the_vocabulary_tells_what_a_token_adds_to_a_text():
    token = TOKENIZER.encode("the plan")[-1]
    assert TOKENIZER.vocabulary[token] == b" plan"


def test_a_start_token_goes_before_a_plain_opening_and_nowhere_else():
    plain = [Message("text", "the plan")]
    assert TOKENIZER.encode_constants(plain, opening=True) == [0, *TOKENIZER.encode("the plan")]
    assert TOKENIZER.encode_constants(plain, opening=False) == TOKENIZER.encode("the plan")
    assert TOKENIZER.encode_constants([Message("text", "")], opening=True) == []


def test_chat_messages_go_through_the_template_with_the_generation_prompt():
    chat = bytes_tokenizer(chat=True)
    messages = [Message("system", "Be brief."), Message("user", "Hi"), Message("text", "\n### Work\n")]
    text = "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>\n### Work\n"
    assert chat.decode(chat.encode_constants(messages, opening=True)) == text


def test_a_last_message_of_the_assistants_is_left_open():
    chat = bytes_tokenizer(chat=True)
    tokens = chat.encode_constants([Message("user", "Hi"), Message("assistant", "Well,")], opening=True)
    assert chat.decode(tokens) == "<|user|>Hi<|end|><|assistant|>Well,"


def test_chat_text_without_a_template_is_an_error():
    with pytest.raises(RunError, match="no chat template"):
        TOKENIZER.encode_constants([Message("user", "Hi")], opening=True)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(3, len(TOKENIZER.vocabulary) - 1), max_size=12),
    st.sampled_from(["plan", "the plan", "PLAN DONE", "\n\n", "é"]),
)
def test_a_forbidden_text_cannot_be_written(tokens, text):
    """Write any tokens that are not banned: the text never comes up."""
    forbidden = Forbidden([text], TOKENIZER)
    written: list[int] = []
    for token in [*tokens, *TOKENIZER.encode(text)]:
        if token not in forbidden.after(written):
            written.append(token)
    assert text not in TOKENIZER.decode(written)


def test_nothing_is_forbidden_without_need():
    forbidden = Forbidden(["the plan"], TOKENIZER)
    plan = TOKENIZER.encode("the plan")[-1]
    assert plan not in forbidden.after(TOKENIZER.encode("a "))
    assert plan in forbidden.after(TOKENIZER.encode("so the"))


def test_the_word_tokenizer_splits_words_spaces_and_signs():
    words = WordTokenizer()
    assert [words.decode([t]) for t in words.encode("Hi, you  two\n")] == ["Hi", ",", " ", "you", " ", " ", "two", "\n"]
    assert words.decode(words.encode("a\n\nb — c")) == "a\n\nb — c"
