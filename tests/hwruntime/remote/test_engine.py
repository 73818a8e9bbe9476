"""The loop, on a server that is none: which requests are made, and what a session makes of the replies."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwlang as hw
from hwruntime.errors import RunError, ServerError
from hwruntime.remote.engine import RemoteEngine
from hwruntime.remote.fake import FakeServer, PrefixCache
from hwruntime.remote.model import RemoteModel
from hwruntime.remote.server import Reply, Request
from hwruntime.result import Remote, Result
from hwruntime.scripted import END, WordTokenizer
from tests.hwruntime.remote.stub import lettered

SOLO = """program solo(n: int = 1) {
  budget 60 passes
  scratchpad done = "Notes: "
  stream news
  workers n of Ann, Ben {
    scratchpad own
    sees "Go. ", news, done, own, others, self
    step "{{name}} {{step}}: " until "." after sentence
    begin "Hm, "
    forbid "a", "bc"
    stop at "c c"
    max 40 tokens
    on every 7 tokens { say "[a]" post "{{name}}!" to own }
    on step { move self to done }
    on "b" { ask "Well? " { "yes" { say " so" } "no" { clear own } } }
    on news { say "!" }
  }
  sync every 20 tokens { say " (sync) " }
  answer /zzz/ else "So: " max 6 tokens
}"""
PAIR = """program pair {
  budget 40 passes
  scratchpad done
  worker Ann, Ben { sees "Go. ", done, others, self  step "{{name}}: " until "."  on step { move self to done } }
}"""


class Alone:
    """An engine of a fake server, with what was asked of that."""

    def __init__(self, interval: int, server: FakeServer | None = None) -> None:
        self.tokenizer = WordTokenizer()
        self.server = server or lettered(self.tokenizer)
        model = RemoteModel("fake", self.tokenizer, 10**6, 10**5)
        self.engine = RemoteEngine(self.server, model, interval)

    def run(self, source: str, **inputs: object) -> Result:
        return self.engine.run(hw.parse(source).compiled, inputs)  # type: ignore[arg-type]

    @property
    def texts(self) -> list[list[str]]:
        """What was asked, as texts, batch by batch."""
        return [[self.tokenizer.decode(each.tokens) for each in batch] for batch in self.server.requests]


def scripted(alone: WordTokenizer, lines: dict[str, str]) -> FakeServer:
    """Says what `lines` have behind the last text that ends in a key."""

    def following(tokens: Sequence[int], banned: frozenset[int]) -> int:
        text = alone.decode(tokens)
        for key, line in lines.items():
            place = text.rfind(key)
            said = text[place + len(key) :]
            if place >= 0 and line.startswith(said):
                left = alone.encode(line[len(said) :])
                return next((token for token in left if token not in banned), END)
        return alone.encode("x")[0] if END in banned else END

    return FakeServer(following, alone.decode)


def test_workers_write_ahead_and_then_see_each_other():
    alone = Alone(3)
    alone.server = scripted(alone.tokenizer, {"Ann: ": "one two three", "Ben: ": "four five six"})
    alone.engine = RemoteEngine(alone.server, alone.engine.model, 3)
    source = 'program p { budget 7 passes worker Ann, Ben { sees "Go. ", others, self step "{{name}}: " until "." } }'
    result = alone.run(source)
    assert result.workers["Ann"].text == "Ann: one two three"
    assert alone.texts == [
        ["Go. Ben: Ann: ", "Go. Ann: Ben: "],
        ["Go. Ben: four fiveAnn: one two", "Go. Ann: one twoBen: four five"],
    ]
    assert [[each.most for each in batch] for batch in alone.server.requests] == [[3, 3], [3, 3]]


@pytest.mark.parametrize("interval", [2, 3, 16, 64])
def test_alone_the_interval_changes_nothing(interval):
    one, many = Alone(1), Alone(interval)
    first, second = (replace(each.run(SOLO), remote=None) for each in (one, many))
    assert first == second
    assert first.usage.probe_tokens > 0  # it asks,
    assert first.usage.posted_tokens > 0  # posts,
    assert first.usage.handed_tokens > 20  # is told things,
    assert first.usage.finisher_passes == 6  # and is finished
    assert len(many.server.requests) < len(one.server.requests)


@settings(max_examples=25)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**16))
def test_alone_no_interval_changes_anything(some, other, salt):
    def result(interval: int) -> Result:
        source = SOLO.replace("Go. ", f"Go {salt}. ")
        return replace(Alone(interval).run(source), remote=None)

    assert result(some) == result(other)


def test_what_is_used_and_what_not_is_counted():
    alone = Alone(8)
    result = alone.run(SOLO, n=2)
    requests = [each for batch in alone.server.requests for each in batch]
    tried = 3  # whether it tells probabilities, and takes bans
    cost = result.remote
    assert cost is not None
    assert (cost.requests, cost.sync_interval, cost.approximate) == (len(requests) - tried, 8, True)
    assert cost.prompt_tokens == sum(len(each.tokens) for each in requests[tried:])
    assert 0 < cost.cached_tokens < cost.prompt_tokens
    asked = sum(bool(each.choices) for each in requests[tried:])
    used = result.usage.sampled_tokens + result.usage.finisher_passes + asked
    assert cost.generated_tokens - cost.unused_tokens == used
    assert cost.unused_tokens > 0


def test_a_banned_token_is_drawn_anew_and_what_came_behind_it_is_dropped():
    alone = Alone(6)
    alone.server = scripted(alone.tokenizer, {"Go. ": "x y z ok"})
    alone.engine = RemoteEngine(alone.server, alone.engine.model, 6)
    result = alone.run('program p { worker Ann { sees "Go. ", self forbid "z" max 5 tokens } }')
    banned = [each for batch in alone.server.requests for each in batch if each.banned]
    assert "z" not in result.workers["Ann"].text
    assert [each.most for each in banned[1:]] == [1] * len(banned[1:])  # the first is whether it takes bans


def test_a_server_that_bans_nothing_after_all_ends_the_run():
    alone = Alone(4)
    run = alone.engine.start(hw.parse('program p { worker Ann { sees "Go. ", self forbid "a", "b" } }').compiled, {})
    alone.server.bans = False
    while alone.engine.step([run]):
        pass
    assert isinstance(run.error, RunError)
    assert "`forbid` keeps tokens from being drawn" in str(run.error)


def test_the_servers_own_end_ends_a_worker():
    alone = Alone(5)
    own_end = alone.tokenizer.encode("b")[0]
    alone.server.ends = frozenset({own_end})  # not one that the tokenizer has
    result = alone.run('program p { budget 50 passes worker Ann { sees "Go. ", self } }')
    assert result.reason == "done"
    assert "b" not in result.workers["Ann"].text


def test_a_token_beyond_the_tokenizer_ends_the_run():
    alone = Alone(5)
    alone.engine.model = replace(alone.engine.model, size=10)
    with pytest.raises(
        ServerError, match=r"has written token \d+, and the tokenizer here knows 10: .*different models"
    ):
        alone.run('program p { worker Ann { sees "Go. ", self } }')


def test_a_request_that_fails_ends_its_run_and_no_other():
    alone = Alone(4)
    bad = ServerError("no more")
    alone.server.fails = lambda request: bad if "bad" in alone.tokenizer.decode(request.tokens) else None
    program = hw.parse('program p(q: str) { budget 9 passes worker Ann, Ben { sees "{{q}} ", others, self } }').compiled
    runs = [alone.engine.start(program, {"q": q}) for q in ("good", "bad", "fine")]
    while alone.engine.step(runs):
        pass
    assert [run.error for run in runs] == [None, bad, None]
    assert [run.session.passes for run in runs] == [9, 0, 9]
    assert alone.engine.counters.runs_ended == {"budget": 2, "error": 1}
    assert len(alone.server.requests[0]) == 6  # all go out together


def test_a_paused_worker_goes_on_with_what_is_there_then():
    source = """program p {
      budget 12 passes
      worker Ann { sees "Go. ", self on every 3 passes { pause Ben } on every 5 passes { resume Ben } }
      worker Ben { sees "Go. ", Ann, self }
    }"""
    alone = Alone(64)
    alone.run(source)
    asked = [text for batch in alone.texts[1:] for text in batch]
    ann = alone.run(source).workers["Ann"].text
    assert any(len(text) > len("Go. ") and ann[:4] in text for text in asked)


def test_known_passes_ask_the_server_nothing():
    class Kept:
        def __init__(self) -> None:
            self.made: list = []

        def begin(self, session, events) -> None: ...

        def add(self, made) -> None:
            self.made.append(made)

        def end(self, session, edits, events, error) -> None: ...

    from hwruntime.session import Known

    log, first = Kept(), Alone(4)
    program = hw.parse(PAIR).compiled
    result = first.engine.run(program, {}, log=log)
    known = [Known((), tuple(row.tokens for row in each.rows), each.seconds, each.outcomes) for each in log.made]
    second = Alone(4)
    again = second.engine.run(program, {}, known=known)
    assert replace(again, remote=None) == replace(result, remote=None)
    assert second.server.requests == []


def test_coroutines_are_refused_by_name():
    alone = Alone(4)
    with pytest.raises(RunError, match=r"blocks and coroutines .*`generate`.* in the same pass") as caught:
        alone.engine.visit()
    assert caught.value.help


def test_a_result_is_the_same_behind_json():
    result = Alone(4).run(PAIR)
    assert Result.from_json(result.to_json()) == result
    assert isinstance(result.remote, Remote)
    local = replace(result, remote=None)
    assert "remote" not in local.to_json()
    assert Result.from_json(local.to_json()) == local


def test_the_prefix_cache_knows_what_was_read():
    cache = PrefixCache()
    cache.add((1, 2, 3))
    assert [cache.known(text) for text in ((1, 2, 3, 4), (1, 2), (2, 1), ())] == [3, 2, 0, 0]


def test_the_fake_counts_what_it_has_read():
    server = lettered(WordTokenizer(), ends=0.0)
    first, second = (server.generate([Request((5, 6, 7), 2)])[0] for _ in range(2))
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.cached, second.cached) == (0, 2)
    assert first.tokens == second.tokens
