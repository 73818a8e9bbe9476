"""What is said between processes comes out as it went in."""

from multiprocessing import Pipe

import pytest

from hwruntime.errors import DeviceError, InputError, ModelError, RunError
from hwruntime.plan import Block, Piece, Row, build_plan
from hwruntime.sglang.wire import (
    Call,
    Logits,
    Reply,
    plan_from_json,
    plan_to_json,
    read_call,
    read_reply,
    send_call,
    send_reply,
)


def through(reply: Reply) -> Reply:
    here, there = Pipe()
    send_reply(here, reply)
    return read_reply(there)


def test_a_call_and_its_plan():
    plan = build_plan(
        [Row((Piece(0, 20), Piece(1, 3)), 2), Row((Piece(1, 3), Piece(0, 20)), 1)],
        {0: Block(20, [4, 7]), 1: Block(3, [2])},
        page_size=16,
    )
    here, there = Pipe()
    call = Call(7, "forward", {"tokens": [1, 2, 3], "plan": plan_to_json(plan)})
    send_call(here, call)
    came = read_call(there)
    assert came == call
    assert plan_from_json(came.arguments["plan"]) == plan


@pytest.mark.parametrize("rows", [0, 3])
def test_logits_are_the_same_bits(rows):
    logits = Logits((rows, 2), bytes(range(8 * rows)))
    assert through(Reply(1, (None,), logits=logits)) == Reply(1, (None,), logits=logits)


@pytest.mark.parametrize("kind", [ModelError, DeviceError, InputError, RunError])
def test_errors_keep_their_kind(kind):
    error = through(Reply(1, error=kind("what", help="how"))).error
    assert (type(error), error.message, error.help) == (kind, "what", "how")


def test_an_error_of_a_kind_that_is_not_known_ends_the_run():
    class Odd(ModelError):
        pass

    assert type(through(Reply(1, error=Odd("what"))).error) is RunError
