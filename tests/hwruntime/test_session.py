"""The memory model and every trigger and action, on the scripted model (a word, a space or a sign is one token)."""

import pytest

import hwlang as hw
from hwruntime.errors import InputError, RunError
from hwruntime.scripted import ScriptedModel
from hwruntime.session import Session
from tests.play import Play, play

PAIR = """
program pair {
  scratchpad history
  worker Alice, Bob {
    sees "Go.", history, others, self
    step "{{name}} {{step}}:" until "\\n"
    on step { move self to history }
  }
}
"""


def solo(body: str, declarations: str = "", sees: str = '"Go. "') -> str:
    return f"program solo {{ {declarations} worker Ann {{ sees {sees}, self {body} }} }}"


# --- The memory model ---


def test_the_first_pass_feeds_prefix_and_begin_together_and_the_next_ones_a_token_each():
    game = Play(solo('step "> " until "\\n" begin "Well"'), {"Ann": " then\nx"})
    game.run()
    assert game.texts(0) == [("Ann", "> Well")]
    assert game.texts(1) == [("Ann", " ")]
    assert game.texts(2) == [("Ann", "then")]


def test_the_token_that_ends_a_step_opens_the_next_block_with_the_next_prefix():
    game = Play(PAIR, {"Alice": "one\ntwo", "Bob": "a b c"})
    assert game.step()
    assert game.step()  # Alice has ended her first step in this pass
    assert game.step()
    assert game.texts(2)[0] == ("Alice", "\nAlice 2:")
    result = game.run()
    assert result.scratchpads["history"] == "Alice 1:one\nAlice 2:twoBob 1:a b c"


def test_a_move_appends_the_whole_block_and_empties_it():
    game = Play(PAIR, {"Alice": "x\ny", "Bob": "1 2 3 4 5 6"})
    for _ in range(3):
        game.step()
    alice = game.session.next_pass().rows[0]
    history, own = alice.view[1], alice.view[-1]
    assert game.model.tokenizer.decode(history.tokens) == "Alice 1:x"
    assert game.model.tokenizer.decode(own.tokens) == "\nAlice 2:"


def test_equal_openings_and_separators_are_one_block():
    source = """program p {
      worker Ann { sees "Same.", others, "mid", self begin "a" }
      worker Ben { sees "Same.", others, "mid", self begin "b" }
      worker Cid { sees "Other.", others, "mid", self begin "c" }
    }"""
    game = Play(source, {})
    decode = game.model.tokenizer.decode
    assert [decode(row.tokens) for row in game.session.openings] == ["Same.", "mid", "Other."]
    ann, ben, cid = game.session.next_pass().rows
    assert ann.view[0] is ben.view[0] is not cid.view[0]
    assert ann.view[3] is ben.view[3] is cid.view[3]


def test_constants_in_context_are_encoded_in_the_view_of_the_first_worker_that_lists_them():
    source = 'program p { worker Ann, Ben { sees "Start.", others, in context "there", self begin "x" } }'
    opening, inner = Play(source, {}).session.openings
    assert [block.name for block in opening.view] == ["text"]
    assert [block.name for block in inner.view] == ["text", "Ben", "text"]


def test_neighbouring_constants_are_one_block():
    source = 'program p(q: str = "two") { worker Ann { sees "one ", "{{q}}", " three", self } }'
    game = Play(source, {})
    assert [game.model.tokenizer.decode(r.tokens) for r in game.session.openings] == ["one two three"]


def test_a_worker_with_nothing_to_say_first_reads_the_last_token_once_more():
    game = Play(solo(""), {"Ann": "hi"})
    game.step()
    row = game.passes[0][0]
    assert game.texts(0) == [("Ann", " ")]
    assert row.seen == (len(row.view[0].tokens) - 1, None)
    assert game.run().workers["Ann"].text == "hi"


def test_a_worker_without_any_text_is_an_error():
    with pytest.raises(RunError, match="no text to start from"):
        play('program p(q: str) { worker Ann { sees "{{q}}", self } }', {}, inputs={"q": ""})


def test_text_keeps_what_was_handed_out_for_a_pass_that_the_budget_no_longer_allowed():
    result = play(solo('step "> " until "\\n"'), {"Ann": "a\nb"}, budget=2)
    assert (result.reason, result.passes) == ("budget", 2)
    assert result.workers["Ann"].text == "> a\n> "


def test_an_ended_worker_still_writes_its_last_token():
    source = (
        'program p { worker Ann { sees "A", self begin "x" max 1 tokens } worker Ben { sees Ann, self begin "y" } }'
    )
    game = Play(source, {"Ann": "last", "Ben": "1 2 3"})
    game.run()
    assert game.texts(1)[0] == ("Ann", "last")
    assert [writer for writer, _ in game.texts(2)] == ["Ben"]


def test_after_sentence_waits_for_the_end_of_a_sentence_outside_code_and_formulas():
    body = 'step until "\\n" after sentence'
    result = play(solo(body), {"Ann": "no end\nstill. \nnew ```code.\n``` $$ x.\n$$ done!\nlast"})
    assert result.workers["Ann"].steps == 3
    game = Play(solo(body), {"Ann": "no end\nstill. \nnew ```code.\n``` $$ x.\n$$ done!\nlast"})
    game.run()
    steps = [text for _, _, _, text in game.kinds("step")]
    assert steps == ["no end\nstill. ", "new ```code.\n``` $$ x.\n$$ done!", "last"]


def test_a_separator_may_be_spread_over_several_tokens():
    result = play(solo('step until "END."'), {"Ann": "a END. b END . c END."})
    assert result.workers["Ann"].steps == 2
    assert result.workers["Ann"].text == "a END. b END . c END."


# --- Sync ---

SYNC = """program s {
  worker Ann, Ben { sees "Go.", others, self step until "\\n" begin "x" }
  sync every 8 tokens { say "sync? " }
}"""


def test_sync_is_said_at_a_step_end_once_the_counter_is_above_n():
    game = Play(SYNC, {"Ann": "a b\nc\nd\ne", "Ben": "f g h i j k l"})
    game.run()
    # The counter before Ann's step ends: 6 in pass 4, 10 in pass 6, which restarts it, and 7 in pass 8.
    assert game.kinds("sync") == [("sync", 6, "Ann", "")]
    assert game.texts(6)[0] == ("Ann", "\nsync? ")


def test_sync_counts_what_other_workers_are_handed():
    assert "sync? " in play(SYNC, {"Ann": "a b c d e f", "Ben": "g h i\nj"}).workers["Ben"].text
    assert "sync? " not in play(SYNC, {"Ann": "a\nb", "Ben": "g\nh"}).workers["Ben"].text


# --- Triggers ---


def test_on_start_and_on_end():
    body = 'begin "b" on start { say " started" } on end { post "bye" to log }'
    result = play(solo(body, "scratchpad log"), {"Ann": " x"})
    assert result.workers["Ann"].text == "b started x"
    assert result.scratchpads["log"] == "bye"


def test_every_n_tokens_counts_sampled_tokens_and_says_at_once():
    result = play(solo('begin "b" on every 3 tokens { say "!" }'), {"Ann": "1 2 3 4"})
    assert result.workers["Ann"].text == "b1 2! 3 !4"


def test_every_n_tokens_at_step_waits_for_a_step_end():
    body = 'step until "\\n" on every 3 tokens at step { say "!" }'
    assert play(solo(body), {"Ann": "a\nb c\nd"}).workers["Ann"].text == "a\nb c\n!d"


def test_every_n_steps_and_passes():
    body = 'step until "\\n" on every 2 steps { say "S" } on every 4 passes { say "P" }'
    assert play(solo(body), {"Ann": "a\nb\nc\nd"}).workers["Ann"].text == "a\nb\nSPc\nd"


def test_a_rule_with_several_triggers_fires_once_a_token_and_counts_from_then():
    game = Play(
        solo('step until "\\n" on step or every 2 tokens { post "." to log }', "scratchpad log"), {"Ann": "a b c\nd"}
    )
    game.run()
    assert [at for _, at, _, _ in game.kinds("post")] == [2, 4, 6, 8]


def test_a_text_is_seen_however_it_is_split_and_only_when_sampled():
    body = 'begin "PLAN DONE" on "PLAN DONE" { post "seen" to log }'
    game = Play(solo(body, "scratchpad log"), {"Ann": " x PLAN DONE y"})
    game.run()
    assert [at for _, at, _, _ in game.kinds("post")] == [6]


def test_a_regex_fires_for_each_match_in_a_finished_step_with_its_groups():
    body = 'step "> " until ";" on /^PUBLISH: (.+)$/ { post "{{name}} {{step}} {{1}}." to board }'
    result = play(solo(body, "scratchpad board"), {"Ann": "hm\nPUBLISH: one\nPUBLISH: two;PUBLISH: three"})
    assert result.scratchpads["board"] == "Ann 2 one.Ann 2 two.Ann 2 three."


def test_a_worker_without_steps_is_one_step_that_ends_with_it():
    body = 'on /x(.)/ { post "{{1}}" to log }'
    assert play(solo(body, "scratchpad log"), {"Ann": "a x- b x+"}).scratchpads["log"] == "-+"


def test_a_stream_wakes_its_readers_and_is_encoded_in_the_next_pass():
    source = """program live {
      stream user
      worker Ann { sees "Go.", user, self begin "b" on user { say "[heard]" } }
    }"""
    game = Play(source, {"Ann": "1 2 3"}, feeds={2: ("user", "more!")})
    result = game.run()
    assert result.workers["Ann"].text == "b1 [heard]2 3"
    assert game.texts(2) == [("user", "more!"), ("Ann", " [heard]")]
    stream_row = game.passes[2][0]
    assert [block.name for block in stream_row.view] == ["text", "user"]


def test_feeding_an_unknown_stream_is_an_error():
    game = Play(solo(""), {})
    with pytest.raises(InputError, match="no stream `user`"):
        game.session.feed("user", "hi")


# --- Actions ---


def test_a_post_is_encoded_in_the_posters_view_with_the_pad_last():
    source = """program p {
      scratchpad board
      worker Ann { sees "Go.", board, self begin "b" on "x" { post "news" to board } }
    }"""
    game = Play(source, {"Ann": "x y z"})
    game.run()
    assert game.texts(1) == [("Ann", "news"), ("Ann", "x")]
    assert [block.name for block in game.passes[1][0].view] == ["text", "Ann", "board"]


def test_two_posts_in_one_pass_go_in_declaration_order_and_a_post_at_the_end_is_kept():
    source = """program p {
      scratchpad board
      worker Ann, Ben { sees "Go.", board, self begin "b" on "x" { post "{{name}};" to board stop } }
      answer board
    }"""
    result = play(source, {"Ann": "x", "Ben": "x"})
    assert (result.reason, result.answer, result.passes) == ("stopped", "Ann;Ben;", 1)


def test_clear_empties_a_pad():
    body = 'begin "b" on "x" { post "one" to log } on "y" { clear log }'
    assert play(solo(body, "scratchpad log"), {"Ann": "x"}).scratchpads["log"] == "one"
    assert play(solo(body, "scratchpad log"), {"Ann": "x y"}).scratchpads["log"] == ""


def test_pause_and_resume_keep_what_was_handed_out():
    source = """program p {
      worker Ann { sees "Go.", self begin "b" on "x" { resume Ben } on "y" { pause Ben } }
      worker Ben paused { sees Ann, self begin "hi" }
    }"""
    game = Play(source, {"Ann": "- x - y - - -", "Ben": "1 2 3 4 5 6 7"})
    result = game.run()
    assert game.kinds("resume", "pause") == [("resume", 3, "Ben", ""), ("pause", 7, "Ben", "")]
    assert result.workers["Ben"].text == "hi1 2 "


def test_a_run_in_which_every_worker_is_paused_has_stalled():
    result = play(solo('begin "b" on "x" { pause self }'), {"Ann": "x y"})
    assert (result.reason, result.workers["Ann"].text) == ("stalled", "bx")


def test_stop_ends_a_worker_without_ending_its_step():
    body = 'step until "\\n" on step { move self to log } on "x" { stop self }'
    result = play(solo(body, "scratchpad log"), {"Ann": "a\nb x c"})
    assert (result.reason, result.workers["Ann"].text, result.scratchpads["log"]) == ("done", "a\nb x", "a")


def test_stop_at_and_max_end_a_worker_and_its_step():
    assert play(solo('stop at "fin" max 9 tokens'), {"Ann": "a fin b"}).workers["Ann"].text == "a fin"
    assert play(solo('stop at "fin" max 3 tokens'), {"Ann": "a b c"}).workers["Ann"].text == "a b"


ASK = """program p {
  scratchpad log
  worker Ann {
    sees "Go.", self
    step until "\\n"
    on step { ask "ahead? " { "yes" { post "Y" to log } "no" { say "then. " } } }
  }
}"""


def test_ask_rides_along_in_the_next_pass_and_leaves_nothing_behind():
    game = Play(ASK, {"Ann": "a\nb c"}, {"ahead": "yes"})
    result = game.run()
    assert result.scratchpads["log"] == "YY"
    probe = next(row for rows in game.passes for row in rows if row.choices)
    assert [block.name for block in probe.view] == ["text", "Ann", "probe"]
    assert game.kinds("ask")[0][:2] == ("ask", 3)
    assert "ahead" not in result.workers["Ann"].text


def test_what_a_choice_says_comes_after_the_next_inputs():
    assert play(ASK, {"Ann": "a\nb c"}, {"ahead": "no"}).workers["Ann"].text == "a\nbthen.  c"


def test_choices_that_start_with_the_same_token_are_refused():
    source = solo('step until "\\n" on step { ask "q" { "no way" { stop } "no" { stop self } } }')
    with pytest.raises(RunError, match="start with the same token"):
        play(source, {})


# --- Answers ---


def test_a_regex_answer_ends_the_run_at_the_first_finished_step_that_has_it():
    source = """program p {
      worker Ann, Ben { sees "Go.", self step until "\\n" }
      answer /= (\\d+)/
    }"""
    result = play(source, {"Ann": "x = 1 ...\nz", "Ben": "y = 2\nz"})
    assert (result.reason, result.answer, result.passes) == ("answer", "2", 6)


def test_pad_and_worker_answers():
    source = """program p {{
      scratchpad log = "start;"
      worker Ann {{ sees log, self on "x" {{ post "x;" to log }} }}
      answer {}
    }}"""
    assert play(source.format("log"), {"Ann": "x"}).answer == "start;x;"
    assert play(source.format("Ann"), {"Ann": "x"}).answer == "x"


def test_the_majority_of_votes_wins_and_ties_go_to_the_worker_declared_first():
    source = 'program v { worker A, B, C { sees "Go.", self step until "." } answer vote /is (\\w+)/ }'
    result = play(source, {"A": "it is one. more.", "B": "is two.", "C": "is two. x."})
    assert (result.reason, result.answer) == ("done", "two")
    assert result.workers["A"].text == "it is one."
    assert play(source, {"A": "is one.", "B": "is two.", "C": "dunno"}).answer == "one"


def test_else_finishes_greedily_over_everything_when_the_budget_ends():
    source = """program p {
      scratchpad log
      worker Ann { sees "Go.", self step until "\\n" on step { move self to log } }
      worker Ben { sees "Go.", self }
      answer /<(\\d+)>/ else "So: <" max 4 tokens
    }"""
    game = Play(source, {"Ann": "a\nb c d", "Ben": "x y z u v", "answer": "42> and more"}, budget=3)
    result = game.run()
    assert (result.reason, result.answer, result.passes) == ("budget", "42", 3)
    assert result.usage.finisher_passes == 2
    assert [block.name for block in game.passes[3][0].view] == ["text", "Ann", "log", "Ben", "answer"]
    assert play(source, {"Ann": "a", "Ben": "b", "answer": "no number at all"}, budget=1).answer is None


def test_else_completes_an_empty_pad():
    source = """program p {
      scratchpad log
      worker Ann { sees log, self begin "b" on "x" { post "x" to log } }
      answer log else "In short:"
    }"""
    assert play(source, {"Ann": "x"}).answer == "x"
    assert play(source, {"Ann": "y", "answer": " nothing."}).answer == "nothing."


# --- Workers, inputs, limits ---

GROUP = 'program g(n: int = 2) { workers n of Ann, Ben, Cid { sees "We are {{workers}}.", others, self begin "x" } }'


def test_the_number_of_workers_is_a_parameter_or_comes_from_outside():
    assert list(play(GROUP, {}).workers) == ["Ann", "Ben"]
    assert list(play(GROUP, {}, inputs={"n": 1}).workers) == ["Ann"]
    game = Play(GROUP, {}, workers=3)
    assert game.model.tokenizer.decode(game.session.openings[0].tokens) == "We are Ann, Ben, Cid."


@pytest.mark.parametrize("count", [0, -1, 4])
def test_an_impossible_number_of_workers_is_refused(count):
    with pytest.raises(InputError, match=f"cannot run with {count} workers"):
        play(GROUP, {}, inputs={"n": count})
    with pytest.raises(InputError, match=f"cannot run with {count} workers"):
        play(GROUP, {}, workers=count)


def test_workers_cannot_be_set_where_the_program_has_no_group():
    with pytest.raises(InputError, match="cannot be set from outside"):
        play(solo(""), {}, workers=2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "needs `q: str`"),
        ({"q": "x", "r": "y"}, "no parameter `r`"),
        ({"q": 3}, "`q` is of type str, got 3"),
        ({"q": "x", "k": "3"}, "`k` is of type int, got '3'"),
        ({"q": "x", "k": True}, "`k` is of type int, got True"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    source = 'program p(q: str, k: int = 1) { worker Ann { sees "{{q}} {{k}}", self } }'
    with pytest.raises(InputError, match=message):
        play(source, {}, inputs=inputs)


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_of_no_pass_is_refused(budget):
    with pytest.raises(InputError, match=f"a budget of {budget} passes"):
        play(solo(""), {}, budget=budget)


def test_a_prompt_longer_than_the_context_is_refused_with_numbers():
    with pytest.raises(RunError, match="worker `Ann` starts with 400 tokens, the model's context is 64"):
        play(solo("", sees=f'"{"x " * 200}"'), {}, context=64)


def test_a_run_that_reaches_the_context_ends_there_and_keeps_its_text():
    result = play(solo(""), {"Ann": "1 2 3 4 5 6 7 8"}, context=8)
    assert result.reason == "context"
    assert result.workers["Ann"].text == "1 2 3 "


def test_forbidden_texts_are_banned_however_they_are_split():
    game = Play(solo('forbid "#", "ab cd"'), {"Ann": "x ab y"})
    encode = game.model.tokenizer.encode
    encode("ab cd")
    game.run()
    banned = [rows[0].draw.banned for rows in game.passes if rows[0].draw]
    hash_sign, cd = encode("#")[0], encode("cd")[0]
    assert all(hash_sign in tokens for tokens in banned)
    assert [cd in tokens for tokens in banned] == [False, False, False, False, True, False]


def test_results_are_json():
    data = play(solo(""), {"Ann": "hi"}).to_json()
    assert data["workers"] == {"Ann": {"text": "hi", "tokens": 1, "steps": 1}}
    keys = "program model seed answer reason passes workers scratchpads usage".split()
    assert list(data) == keys


# --- Limits ---


def test_a_budget_of_tokens_ends_a_run_after_the_pass_that_reaches_it():
    source = 'program p { worker Ann, Ben { sees "Go.", self } answer Ann }'
    model = ScriptedModel({"Ann": "a b c d e", "Ben": "f g h i j", "answer": "x"})
    session = Session(hw.parse(source).compiled, {}, model.tokenizer, max_tokens=5)
    result = model.play(session)
    assert (result.reason, result.passes, result.usage.sampled_tokens) == ("budget", 3, 6)


def test_a_budget_of_seconds_ends_a_run():
    source = 'program p { worker Ann { sees "Go.", self } }'
    model = ScriptedModel({"Ann": "a b c d e"})
    session = Session(hw.parse(source).compiled, {}, model.tokenizer, max_seconds=1000)
    session.advance([model.reply(row) for row in session.next_pass().rows])
    session.began -= 2000
    assert not session.next_pass().rows
    assert (session.reason, session.passes) == ("budget", 1)


@pytest.mark.parametrize("limit", [{"budget": 0}, {"max_tokens": 0}, {"max_seconds": 0.0}, {"max_seconds": -1.0}])
def test_a_limit_that_leaves_nothing_is_refused(limit):
    with pytest.raises(InputError, match="leaves nothing to run"):
        Session(hw.parse(solo("")).compiled, {}, ScriptedModel({}).tokenizer, **limit)


def test_events_tell_when_they_happened():
    game = Play('program p { worker Ann { sees "Go.", self max 3 tokens } }', {"Ann": "a b c"})
    game.run()
    times = [event.time for event in game.events]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 60
