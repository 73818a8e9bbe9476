"""Requests on an engine: what is cached is not encoded again, joins move, room is made, nothing leaks."""

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest
import torch

from hwlang.serving.generation import Generator, Stopped
from hwlang.serving.sglang_api import Join
from hwruntime.errors import InputError, RunError
from tests.hwlang.serving.asked import Fake, prompt, wait

OPENING = "What two sorts found out: "  # 26 letters, each a token


# --- Prefixes ---


def test_a_text_that_begins_as_another_did_encodes_its_rest():
    async def write() -> None:
        fake = Fake()
        first = await fake.ask(OPENING, 0)
        assert (first.text, first.completion_tokens, first.cached_tokens, fake.encoded) == ("", 0, 0, 26)
        again = await fake.ask(OPENING, 0)
        assert (again.cached_tokens, fake.encoded) == (26, 26)
        more = await fake.ask(OPENING + "Ann", 5)
        assert (more.prompt_tokens, more.cached_tokens, more.completion_tokens) == (29, 26, 5)
        assert fake.encoded == 26 + 3 + 4  # the last token was sampled, and nobody has needed it yet
        on = await fake.ask(OPENING + "Ann" + more.text + "!", 1)
        assert (on.cached_tokens, fake.encoded) == (33, 35)

    wait(write())


def test_what_is_cached_changes_no_text():
    async def texts(*prompts: str) -> list[str]:
        fake = Fake()
        return [(await fake.ask(text, 9)).text for text in prompts]

    async def alone(text: str) -> str:
        return (await Fake().ask(text, 9)).text

    prompts = [OPENING, OPENING[:7], OPENING[:7] + "else", OPENING + "more", OPENING[:7] + "else, too", OPENING]
    assert wait(texts(*prompts)) == [wait(alone(text)) for text in prompts]


def test_branches_share_their_opening():
    async def fork() -> None:
        fake = Fake()
        await fake.ask(OPENING, 0)
        replies = await asyncio.gather(*(fake.ask(f"{OPENING}{name}: ", 4) for name in "ABCD"))
        assert [reply.cached_tokens for reply in replies] == [26] * 4
        assert fake.encoded == 26 + 4 * (3 + 3)
        held = fake.cache.prefixes.pieces
        roots = {held(prefix, prefix.end)[0].prefix for prefix in fake.cache.prefixes._all}
        assert len(roots) == 1

    wait(fork())


def test_a_text_that_is_being_written_is_waited_for():
    async def beside() -> None:
        fake = Fake()
        replies = await asyncio.gather(*(fake.ask(f"{OPENING}{name}: ", 4) for name in "ABCD"))
        assert [reply.cached_tokens for reply in replies] == [0, 26, 26, 26]
        assert fake.encoded == 26 + 4 * (3 + 3)
        task = asyncio.ensure_future(fake.ask("a text that never comes to be written: ", 4))
        other = asyncio.ensure_future(fake.ask("a text that never comes to be written: so", 4))
        await asyncio.sleep(0)
        task.cancel()
        assert (await other).completion_tokens == 4

    wait(beside())


# --- Joins ---


@pytest.mark.parametrize("ids", [False, True])
def test_a_join_moves_what_branches_wrote(ids):
    async def joined() -> None:
        fake = Fake()
        rid = {"rid": "t"} if ids else {}
        await fake.ask(OPENING, 0, **rid)
        branches = [await fake.write(f"{OPENING}{name}: ", 4) for name in "AB"]
        for branch in branches:
            await fake.ask(branch, 0, **({"rid": branch[26]} if ids else {}))
        before = fake.encoded
        due = fake.cache.joins.ask(Join(("A", "B"), "t"))
        assert (due is not None) == ids
        if due:
            assert await fake.join(due) == 7
        text = branches[0] + branches[1][26:]
        reply = await fake.ask(text + "So", 1)
        assert reply.prompt_tokens == len(text) + 2
        assert reply.cached_tokens == len(text)
        assert fake.encoded == before + 2
        on = await fake.ask(text + "So" + reply.text, 0)  # a text that begins with a joined one goes on as any other
        assert on.cached_tokens == len(text) + 2

    wait(joined())


def test_a_joined_text_that_had_to_go_is_a_plain_one():
    async def joined() -> None:
        fake = Fake()
        branches = [await fake.write(f"{OPENING}{name}: ", 4) for name in "AB"]
        for branch in branches:
            await fake.ask(branch, 0)
        text = branches[0] + branches[1][26:]
        fake.cache.joins.ask(Join(("x", "y"), "z"))
        assert (await fake.ask(text, 0)).cached_tokens == len(text)
        fake.flush()
        assert (await fake.ask(text, 0)).cached_tokens == 0
        assert (await fake.ask(text, 9)).text == (await Fake().ask(text, 9)).text

    wait(joined())


# --- Room ---


def test_many_requests_fit_into_a_small_cache():
    async def many() -> None:
        fake = Fake(tokens=128)
        replies = await asyncio.gather(*(fake.ask(f"Request {number}: ", 9 + number % 5) for number in range(40)))
        assert [len(reply.text) for reply in replies] == [9 + number % 5 for number in range(40)]
        texts = [reply.text for reply in replies]
        assert texts == [(await Fake().ask(f"Request {n}: ", 9 + n % 5)).text for n in range(40)]
        assert 0 < fake.used <= 128
        assert fake.going == 0
        fake.flush()
        assert fake.used == 0
        assert not fake.cache.prefixes._all

    wait(many())


def test_the_least_recently_used_goes_first():
    async def kept() -> list[int]:
        fake = Fake(tokens=112)
        old, used, new = (letter * 28 for letter in "abc")
        for text in (old, used, old, used, new, used):
            await fake.ask(text, 0)
        await fake.ask("d" * 28, 8)
        return [(await fake.ask(text, 0)).cached_tokens for text in (used, new, old)]

    assert wait(kept()) == [28, 28, 0]


def test_what_never_fits_is_refused():
    async def asked(tokens: int | None, text: str, new: int) -> None:
        await Fake(tokens).ask(text, new)

    with pytest.raises(InputError, match="28 tokens and 200 new ones do not fit into a cache of 128"):
        wait(asked(128, "a" * 28, 200))
    with pytest.raises(InputError, match="the prompt has 5 tokens, and `max_new_tokens` is 99999"):
        wait(asked(None, "a" * 5, 99_999))
    with pytest.raises(InputError, match="the prompt is empty"):
        wait(asked(None, "", 3))


def test_requests_that_are_closed_free_their_pages():
    async def closed() -> None:
        fake = Fake(tokens=128)
        for number in range(12):
            async with aclosing(fake.replies(prompt(f"Request {number}: ", 60))) as replies:
                async for reply in replies:
                    if reply.completion_tokens == 3:
                        break
        task = asyncio.ensure_future(fake.ask("Request x: ", 60))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert (await fake.ask("Request 0: ", 60)).completion_tokens == 60
        assert fake.going == 0
        fake.flush()
        assert fake.used == 0

    wait(closed())


def test_a_server_that_ends_ends_its_requests():
    async def stopped() -> None:
        fake = Fake()
        async with aclosing(fake.replies(prompt(OPENING, 60))) as replies:
            await anext(replies)
            fake.stopping.set()
            with pytest.raises(Stopped, match="the server was stopped"):
                await anext(replies)
        fake.flush()
        assert fake.used == 0

    wait(stopped())


def test_requests_share_passes():
    async def together() -> None:
        fake = Fake()
        await asyncio.gather(*(fake.ask(f"Request {number}: ", 20) for number in range(8)))
        assert fake.fake.runtime.counters.rows == 8 * 20
        assert fake.fake.runtime.counters.passes < 2 * 20

    wait(together())


# --- Sampling ---


def test_requests_without_a_seed_draw_differently_and_servers_alike():
    async def drawn(fake: Fake, **sampling: object) -> str:
        return (await fake.ask(OPENING, 12, temperature=1, top_k=4, **sampling)).text

    async def texts(**sampling: object) -> list[str]:
        fake = Fake()
        return [await drawn(fake, **sampling) for _ in range(3)]

    assert len(set(wait(texts()))) == 3
    assert wait(texts()) == wait(texts())
    assert len(set(wait(texts(sampling_seed=4)))) == 1


def test_ends_of_a_text():
    async def ended(**sampling: object):
        return await Fake(ends=0.3).ask(OPENING, 30, **sampling)

    plain = wait(ended())
    assert plain.finish
    assert (plain.finish.type, plain.finish.matched) == ("stop", 0)
    assert plain.completion_tokens == len(plain.text) + 1
    least = wait(ended(min_new_tokens=20))
    assert least.completion_tokens >= 20
    assert least.text.startswith(plain.text)
    ignored = wait(ended(ignore_eos=True))
    assert ignored.completion_tokens == 30
    assert ignored.text.startswith(plain.text)
    letter = plain.text[-1]
    stopped = wait(ended(stop=[letter]))
    assert stopped.finish
    assert stopped.finish.matched == letter
    assert stopped.text == plain.text.partition(letter)[0]


def test_a_stream_only_grows():
    async def shown() -> list[str]:
        return [reply.text async for reply in Fake().replies(prompt(OPENING, 30, stop=["no such text"]))]

    texts = wait(shown())
    assert len(texts) == 30
    assert all(after.startswith(before) for before, after in pairwise(texts))


# --- Log probabilities, and constraints: on the embedded model ---


def test_log_probabilities_are_those_of_transformers(tiny):
    from transformers import AutoModelForCausalLM

    text = "1) reverse abc\n2) 47+38\nAlice: 1) reverse abc"
    folder = tiny.runtime.model.hf.name_or_path
    flat = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = tiny.runtime.model.tokenizer.encode(text)

    async def scored(start: int, new: int):
        generator = Generator(tiny)
        await generator.reply(prompt(text[:30], 0))
        asked = prompt(text, new, return_logprob=True, logprob_start_len=start, return_text_in_logprobs=True)
        return await generator.reply(asked)

    reply = wait(scored(0, 6))
    with torch.no_grad():
        logits = flat(torch.tensor([[*tokens, *reply.tokens]])).logits[0].log_softmax(-1)
    expected = [logits[at, token].item() for at, token in enumerate([*tokens, *reply.tokens][1:])]
    assert reply.input_scores
    assert reply.output_scores
    assert reply.input_scores[0].logprob is None
    ours = [score.logprob for score in (*reply.input_scores[1:], *reply.output_scores)]
    assert ours == pytest.approx(expected, abs=2e-4)
    assert "".join(str(score.text) for score in reply.input_scores) == text
    late = wait(scored(len(tokens) - 2, 0))
    assert late.input_scores
    assert [score.token for score in late.input_scores] == tokens[-2:]
    assert late.input_scores[1].logprob == pytest.approx(expected[len(tokens) - 2], abs=2e-4)
    with pytest.raises(InputError, match="the prompt has 23 tokens"):
        wait(scored(99, 0))


def test_what_follows_a_join_sees_the_branches_as_a_view_does(tiny):
    opening, parts = "1) reverse lemon\n2) 47+38\n", ["Alice: 1) reverse le", "Bob: 2) 47+38: 7+8=1"]

    async def in_a_view() -> str:
        with tiny.block() as seen, tiny.block() as a, tiny.block() as b, tiny.block() as own:
            await tiny.prefill(seen, opening)
            for block, part in zip((a, b), parts, strict=True):
                await tiny.prefill(block, part, context=[seen])
            own.say("\nAlice: ")
            return "".join([token.text async for token in tiny.generate([seen, a, b, own], max_tokens=24)])

    async def joined() -> str:
        generator = Generator(tiny)
        await generator.reply(prompt(opening + parts[1] + "5, and more", 0))  # a branch can be inside of a block
        for part in parts:
            await generator.reply(prompt(opening + part, 0))
        generator.cache.joins.ask(Join(("x", "y"), "z"))
        reply = await generator.reply(prompt(opening + "".join(parts) + "\nAlice: ", 24))
        assert reply.cached_tokens == reply.prompt_tokens - 3
        return reply.text

    assert wait(joined()) == wait(in_a_view())


def test_a_text_is_held_to_a_regex_or_a_schema(tiny):
    async def held(**sampling: object):
        return await Generator(tiny).reply(prompt("1) 47+38\nAlice: ", 40, **sampling))

    assert wait(held(regex=r"[0-9]{3}-[0-9]{2}/x", ignore_eos=True)).text[3::3] == "-/"
    schema = (
        '{"type": "object", "properties": {"a": {"enum": [12, 34]}}, "required": ["a"], "additionalProperties": false}'
    )
    assert wait(held(json_schema=schema)).text in ('{"a": 12}', '{"a": 34}')
    with pytest.raises(RunError, match="the constraint on a step cannot be followed"):
        wait(held(regex="(("))
