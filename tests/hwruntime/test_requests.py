"""What coroutines ask of the passes, played without them: requests in, rows of the engine, outcomes out."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from hwruntime.batch import Visit
from hwruntime.cache import Pool
from hwruntime.engine import Engine
from hwruntime.errors import InputError, PoolFull, RunError
from hwruntime.requests import OpenBlock, Request, Requests
from hwruntime.rows import Row
from tests.hwruntime.fake_model import Flat, Remembering
from tests.hwruntime.test_room import crew


class Scene:
    """One event loop's requests on an engine, asked for by hand."""

    def __init__(self, tokens: int | None = None, chunk: int = 256, context: int = 100_000, flat: bool = False) -> None:
        model = Flat if flat else Remembering
        self.engine = Engine(model(Pool(tokens, page_size=4), ends=0))
        self.requests = Requests(self.engine.model.tokenizer, context, chunk)
        self.visit = Visit(self.requests)
        self.engine.join(self.visit)
        self.rows: list[tuple[Row, ...]] = []  # of each pass

    @property
    def used(self) -> int:
        return self.engine.model.pool.used

    def block(self, text: str = "", name: str = "b") -> OpenBlock:
        block = self.requests.block(name)
        self.say(block, text)
        return block

    def say(self, block: OpenBlock, text: str) -> None:
        self.requests.say(block, self.requests.tokenizer.encode(text))

    def make(self, *asked: Request) -> list[Request]:
        """One pass with these, too; who waits no longer."""
        for request in asked:
            self.requests.ask(request)
        if self.requests.begin():
            self.rows.append(self.requests.rows)
            self.engine.step([self.visit])
            self.engine.settle(self.visit)
        return self.requests.end()

    def write(self, view: Sequence[OpenBlock], tokens: int, **sampling: float) -> str:
        writing = self.requests.writing(view, None, [], tokens, None, sampling)
        while not writing.ending:
            (done,) = self.make(writing.request())
            assert done.outcome
            writing.hear(done.outcome.token)
        return writing.text

    def text(self, block: OpenBlock) -> str:
        return self.requests.tokenizer.decode(block.tokens)


def test_a_token_that_was_sampled_is_in_the_cache_with_the_next_pass():
    scene = Scene()
    own = scene.block("Go: ")
    written = scene.write([own], 3)
    assert scene.text(own) == "Go: " + written[:-1]
    assert scene.make(Request((own,)))[0].error is None
    assert scene.text(own) == "Go: " + written


def test_what_is_said_is_fed_with_the_token_before_it():
    scene = Scene()
    own = scene.block("Go: ")
    scene.write([own], 1)
    scene.say(own, "wait")
    scene.make(scene.requests.writing([own], None, [], None, None, {}).request())
    (done,) = scene.rows[-1]
    assert len(done.tokens) == 2  # the token, and `wait`
    assert scene.text(own).endswith("wait")


def test_what_is_said_while_a_pass_is_under_way_comes_after_its_token():
    scene = Scene()
    own = scene.block("Go")
    scene.requests.ask(scene.requests.writing([own], None, [], None, None, {}).request())
    scene.requests.begin()
    scene.engine.step([scene.visit])
    scene.say(own, "wait")
    (done,) = scene.requests.end()
    assert done.outcome
    assert own.waiting == [done.outcome.token, *scene.requests.tokenizer.encode("wait")]


def test_a_block_that_has_nothing_reads_the_last_token_of_its_view_once_more():
    scene = Scene()
    prompt, own = scene.block("Go."), scene.block()
    scene.make(Request((prompt,)))
    (done,) = scene.make(scene.requests.writing([prompt, own], None, [], None, None, {}).request())
    assert (own.tokens, scene.text(prompt), done.error) == ([], "Go.", None)
    scene.make()
    assert [block for block in scene.visit.blocks if block.kind == "throw-away"] == []


def test_a_long_text_is_encoded_in_chunks_and_sampled_from_at_its_end():
    scene = Scene(chunk=4)
    own = scene.block("a b c d e ")  # ten tokens
    request = scene.requests.writing([own], None, [], None, None, {}).request()
    assert [len(scene.make(*asked)) for asked in ([request], [], [])] == [0, 0, 1]
    assert [[(len(row.tokens), bool(row.draw)) for row in rows] for rows in scene.rows] == [
        [(4, False)],
        [(4, False)],
        [(2, True)],
    ]
    assert (scene.text(own), own.drawn) == ("a b c d e ", 1)


def test_rows_are_in_the_order_of_the_blocks_whoever_asks_first():
    scene = Scene()
    a, b = scene.block("a", "a"), scene.block("b", "b")
    writing = [scene.requests.writing([block], None, [], None, None, {}).request() for block in (a, b)]
    question = scene.requests.question([a], "x", ["y", "z"])
    late = scene.block("c", "c")
    for request in (question, writing[1], writing[0], Request((late,))):
        scene.requests.ask(request)
    scene.requests.begin()
    assert [(row.writer, bool(row.choices)) for row in scene.requests.rows] == [
        ("c", False),
        ("a", False),
        ("b", False),
        ("a", True),
    ]


def test_a_question_leaves_nothing():
    scene = Scene()
    own = scene.block("Go: ")
    scene.make(Request((own,)))
    before = scene.used
    (done,) = scene.make(scene.requests.question([own], "ahead? ", ["yes", "no"]))
    assert done.outcome
    assert len(done.outcome.logits) == 2
    assert (scene.used, own.writer, list(scene.visit.blocks)) == (before, None, [own])


@pytest.mark.parametrize("held", ["", "some text "])
def test_a_move_appends_what_the_cache_has(held):
    scene = Scene()
    pad, own = scene.block(held, "pad"), scene.block("Go: ", "own")
    if held:
        scene.make(Request((pad,)))
    written = scene.write([pad, own], 2)
    scene.requests.move(own, pad)
    assert (scene.text(pad), scene.text(own), len(own.waiting)) == (held + "Go: " + written[:-1], "", 1)
    scene.make(Request((pad, own)))  # the token that was waiting opens the block
    assert (scene.visit.held(pad).length, scene.visit.held(own).length) == (len(pad.tokens), 1)
    assert scene.text(own) == written[-1:]


def test_a_cleared_block_can_be_written_again():
    scene = Scene()
    own = scene.block("Go")
    scene.make(Request((own,)))
    scene.requests.clear(own)
    scene.say(own, "On")
    scene.make(Request((own,)))
    assert (scene.text(own), scene.visit.held(own).length) == ("On", 1)


def test_who_withdraws_while_a_pass_is_under_way_has_written_but_drawn_nothing():
    scene = Scene()
    own = scene.block("Go")
    request = scene.requests.writing([own], None, [], None, None, {}).request()
    scene.requests.ask(request)
    scene.requests.begin()
    scene.engine.step([scene.visit])
    scene.requests.withdraw(request)
    assert scene.requests.end() == []
    assert (scene.text(own), own.waiting, own.drawn, own.writer) == ("Go", [], 0, None)
    scene.make(scene.requests.writing([own], None, [], None, None, {}).request())
    assert own.drawn == 1


# --- Random streams ---


def counters(scene: Scene) -> Mapping[str, tuple[int, int]]:
    return {row.writer: (row.draw.stream, row.draw.counter) for row in scene.requests.rows if row.draw}


def test_a_block_goes_on_in_its_stream():
    scene = Scene()
    own = scene.block("Go: ")
    scene.write([own], 3)
    scene.requests.ask(scene.requests.writing([own], None, [], None, 7, {"temperature": 1, "seed": 3}).request())
    scene.requests.begin()
    assert counters(scene) == {"b": (7, 3)}


@pytest.mark.parametrize("neighbours", [0, 3])
def test_workers_that_see_each_other_have_streams_of_their_own_whoever_else_is_there(neighbours):
    scene = Scene()
    for _ in range(neighbours):
        scene.block("x")
    prompt, a, b = (scene.block(name, name) for name in ("prompt", "a", "b"))
    for view in ([prompt, b, a], [prompt, a, b]):
        scene.requests.ask(scene.requests.writing(view, None, [], None, None, {}).request())
    scene.requests.begin()
    assert counters(scene) == {"a": (1, 0), "b": (2, 0)}


@pytest.mark.parametrize(
    ("sampling", "temperature"),
    [({}, 0), ({"seed": 4}, 0), ({"top_p": 0.9}, 1), ({"temperature": 0.6, "top_k": 3, "min_p": 0.1}, 0.6)],
)
def test_sampling_is_greedy_unless_it_is_said_how(sampling, temperature):
    scene = Scene()
    assert scene.requests.writing([scene.block("x")], None, [], None, None, sampling).draw.temperature == temperature


# --- Errors ---


def writing(scene: Scene, block: OpenBlock, **wrong: object) -> object:
    given: dict[str, object] = {"into": None, "stop": [], "most": None, "stream": None, "sampling": {}, **wrong}
    return scene.requests.writing([block], **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stop": ["a", ""]}, "a text to stop at is empty"),
        ({"most": 0}, "max_tokens is 0"),
        ({"sampling": {"temperature": -1}}, "`temperature` is 0 or more, not -1"),
        ({"sampling": {"top_p": 0}}, "`top_p` is more than 0 and at most 1, not 0"),
        ({"sampling": {"top_k": "x"}}, "`top_k` is 1 or more, not 'x'"),
        ({"sampling": {"heat": 1}}, "there is no `heat` in sampling"),
    ],
)
def test_what_cannot_be_written_so_is_refused(wrong, message):
    scene = Scene()
    with pytest.raises(InputError, match=message):
        writing(scene, scene.block("x"), **wrong)


def test_the_last_block_of_a_view_is_the_one_that_is_written():
    scene = Scene()
    a, b = scene.block("a"), scene.block("b")
    assert scene.requests.writing([a, b], b, [], None, None, {})
    with pytest.raises(InputError, match="`into` is not the last block of the view"):
        scene.requests.writing([a, b], a, [], None, None, {})
    with pytest.raises(InputError, match="the view is empty"):
        scene.requests.writing([], None, [], None, None, {})


@pytest.mark.parametrize(
    ("text", "choices", "message"),
    [
        ("", ["yes", "no"], "the question is empty"),
        ("x", ["yes"], "two choices or more"),
        ("x", ["yes", ""], "none is empty"),
        ("x", ["no way", "no"], "start with the same token"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(text, choices, message):
    scene = Scene()
    with pytest.raises(InputError, match=message):
        scene.requests.question([scene.block("x")], text, choices)


def test_blocks_that_cannot_be_used_are_refused():
    scene, other = Scene(), Scene()
    own, foreign, closed = scene.block("x", "own"), other.block("x", "foreign"), scene.block("x", "closed")
    closed.closed = True
    with pytest.raises(InputError, match="`foreign` is of another engine or event loop"):
        scene.requests.ask(Request((foreign, own)))
    with pytest.raises(InputError, match="`closed` is closed"):
        scene.requests.ask(Request((own, closed)))
    with pytest.raises(InputError, match="`own` is moved to itself"):
        scene.requests.check_move(own, own)
    scene.requests.ask(Request((own,)))
    with pytest.raises(InputError, match="`own` is being written by another coroutine"):
        scene.requests.ask(Request((own,)))
    with pytest.raises(RunError, match="no text to start from"):
        scene.requests.ask(Request((scene.block(),)))


def test_a_block_that_is_closed_while_it_is_waited_for_is_an_error_of_who_waits():
    scene = Scene()
    prompt, own, free = scene.block("x"), scene.block("y"), scene.block("z")
    scene.requests.ask(Request((prompt, own)))
    prompt.closed = True
    done = scene.make(Request((free,)))
    assert [(type(each.error), bool(each.outcome)) for each in done] == [(InputError, False), (type(None), True)]


def test_a_view_that_outgrows_the_context_is_an_error_of_its_own():
    scene = Scene(context=6)
    long, short = scene.block("a b c d"), scene.block("a")
    failed, fine = scene.make(Request((long,)), Request((short,)))
    assert "has 7 tokens, the model's context is 6" in str(failed.error)
    assert fine.error is None


# --- The pool ---


def test_where_there_is_no_room_only_who_asked_last_gets_an_error():
    scene = Scene(tokens=16)
    first, last = scene.block("a b c d "), scene.block("a b c d e f ")  # 8 and 12 tokens, of 16
    asked = Request((last,)), Request((first,))
    (failed,) = scene.make(*asked)
    assert (failed is asked[1], type(failed.error)) == (True, PoolFull)
    (done,) = scene.make()
    assert (done is asked[0], done.error, scene.used) == (True, None, 12)


def test_a_move_for_which_there_is_no_room_closes_its_blocks():
    scene = Scene(tokens=16)
    pad, own, other = scene.block("a b "), scene.block("a b c d ", "own"), scene.block("x")
    scene.make(Request((pad,)), Request((own,)))
    scene.requests.move(own, pad)
    assert scene.make(Request((other,))) == []
    done = scene.make()
    assert [each.error for each in done] == [None]
    for block in (pad, own):
        with pytest.raises(PoolFull):
            scene.requests.check(block)
    assert scene.used == 4


def test_coroutines_that_make_room_for_an_older_run_lose_nothing():
    scene = Scene(tokens=72)
    own = scene.block("Go: ")
    scene.make(Request((own,)))
    run = scene.engine.start(crew(2, budget=24), {})
    run.number = 0  # as if it had begun first
    stages = set()
    writing = scene.requests.writing([own], None, [], 30, None, {})
    while not writing.ending:
        if not own.writer:
            scene.requests.ask(writing.request())
        scene.requests.begin()
        scene.engine.step([run, scene.visit])
        stages.add(scene.visit.stage)
        for done in scene.requests.end():
            assert done.outcome
            writing.hear(done.outcome.token)
    assert stages == {"here", "away"}
    alone = Scene()
    own = alone.block("Go: ")
    alone.make(Request((own,)))
    assert writing.text == alone.write([own], 30)


def test_dropped_blocks_give_their_pages_back_also_while_they_are_away():
    scene = Scene()
    own, other = scene.block("Go: "), scene.block("On: ")
    scene.make(Request((own,)), Request((other,)))
    scene.engine._room.suspend(scene.visit)
    scene.requests.drop(own)
    scene.make(scene.requests.writing([other], None, [], None, None, {}).request())
    assert list(scene.visit.blocks) == [other]
    scene.engine.finish(scene.visit)
    assert scene.used == 0


def test_an_error_of_all_is_told_to_all():
    scene = Scene()
    own = scene.block("x")
    scene.requests.ask(Request((own,)))
    scene.requests.fail(ZeroDivisionError("boom"))
    assert [type(each.error) for each in scene.requests.end()] == [ZeroDivisionError]
    with pytest.raises(ZeroDivisionError):
        scene.requests.check(own)


def test_bookkeeping_needs_no_torch():
    code = "import sys, hwruntime.requests; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tokens_are_scored_in_chunks_as_at_once():
    def scores(chunk: int, start: int) -> tuple[list[float], float | None]:
        scene = Scene(chunk=chunk, flat=True)
        own = scene.block("one two three four five six")
        draw = replace(scene.requests.writing([own], None, [], 1, None, {}).draw, scored=True)
        request = Request((own,), draw, score_from=start)
        while not request.done:
            scene.make(*([] if scene.rows else [request]))
        assert request.outcome
        return request.scores, request.outcome.score

    whole, sampled = scores(256, 0)
    assert len(whole) == 10  # of 11 tokens, spaces too, the first follows nothing
    assert all(score < 0 for score in whole)
    assert sampled is not None
    assert sampled < 0
    assert scores(4, 0) == (pytest.approx(whole), pytest.approx(sampled))
    assert scores(4, 6) == (pytest.approx(whole[6:]), pytest.approx(sampled))


def test_a_request_sees_as_much_of_a_block_as_it_says():
    def drawn(*texts: str, seen: tuple[int | None, ...] | None = None) -> int:
        scene = Scene()
        view = tuple(map(scene.block, texts))
        for block in view[:-1]:
            scene.make(Request((block,)))
        draw = scene.requests.writing(view, None, [], 1, None, {"temperature": 1}).draw
        (request,) = scene.make(Request(view, draw, seen))
        assert request.outcome
        return request.outcome.token

    assert drawn("one two three", "go", seen=(3, None)) == drawn("one two", "go")


def test_parts_of_blocks_are_copied_to_where_they_come_to_stand():
    scene = Scene()
    source, target = scene.block("one two three"), scene.block("first ")
    scene.make(Request((source,)), Request((target,)))
    scene.requests.copy(source, range(2, 4), target)
    scene.requests.copy(source, range(4, 5), target)
    scene.engine.settle(scene.visit)
    assert scene.text(target) == "first two three"
    assert scene.text(source) == "one two three"
    held = scene.visit.blocks[target]
    assert held.length == len(target.tokens) == 5


def test_a_copy_that_has_no_room_ends_its_target_alone():
    scene = Scene(tokens=16)
    source, target = scene.block("a b c d e"), scene.block("x ")
    scene.make(Request((source,)), Request((target,)))
    scene.requests.copy(source, range(9), target)
    other = scene.block("y")
    scene.make(Request((other,)))
    scene.make()
    with pytest.raises(PoolFull):
        scene.requests.check(target)
    scene.requests.check(source, other)
