"""The fake model is a model: it can be played, and knows nothing that its script does not say."""

import hwlang as hw
from hwruntime.rows import Block, whole_row
from hwruntime.scripted import END, ScriptedModel
from hwruntime.session import Session


def test_it_says_its_lines_and_ends():
    model = ScriptedModel({"Ann": "a b"})
    program = hw.parse('program p { worker Ann { sees "x", self } worker Ben { sees "x", self } }').compiled
    result = model.play(Session(program, {}, model.tokenizer))
    assert [(w.text, w.tokens) for w in result.workers.values()] == [("a b", 3), ("", 0)]
    assert result.model == "scripted"


def test_it_chooses_by_a_word_of_the_question():
    model = ScriptedModel({}, {"ready": "no"})
    yes, no = model.tokenizer.encode("yes")[0], model.tokenizer.encode("no")[0]
    view = [Block("probe", "throw-away")]
    ready, other = ("Are you ready? ", "Is it late? ")
    picks = [
        model.reply(whole_row("Ann", view, model.tokenizer.encode(question), choices=(yes, no))).token
        for question in (ready, other)
    ]
    assert picks == [1, 0]


def test_rows_that_want_nothing_get_nothing():
    model = ScriptedModel({"Ann": "a"})
    assert model.reply(whole_row("Ann", [Block("Ann")], [1])).token == -1
    assert END in model.tokenizer.end_tokens
