"""A rank: a process that makes the calls that the session's process sends, one after the other.

`python -m hwruntime.sglang.rank FD RANK LOCAL`: FD is the socket to whoever started it, RANK its number of all,
LOCAL that on its node. Errors that are none of ours end the process: its last words are in its log.
"""

import os
import queue
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from threading import Thread
from typing import TYPE_CHECKING, Protocol, cast

from hwruntime.errors import HwError
from hwruntime.program import Json
from hwruntime.sglang.wire import Call, Logits, Reply, plan_from_json, read_call, send_reply

if TYPE_CHECKING:
    from torch import Tensor

    from hwruntime.sglang.shard import Shard


class Rank:
    """`number` of all ranks, `local` on its node."""

    def __init__(self, number: int, local: int) -> None:
        self._number = number
        self._local = local
        self._shard: "Shard | None" = None  # noqa: UP037  not imported before the first call

    def answer(self, call: Call) -> Reply:
        """Do what a call says."""
        try:
            if call.name == "load":
                return Reply(call.number, (self._load(call.arguments),))
            logits = self._do(call.name, call.arguments)
        except HwError as error:
            return Reply(call.number, error=error)
        if logits is None or self._number:
            return Reply(call.number, (None,))
        rows, vocabulary = logits.shape
        return Reply(call.number, (None,), logits=Logits((rows, vocabulary), logits.cpu().numpy().tobytes()))

    def _load(self, told: Mapping[str, Json]) -> Json:
        from hwruntime.sglang.runner import Settings
        from hwruntime.sglang.shard import Shard
        from hwruntime.source import find_source

        arguments = dict(told)
        attention, model = str(arguments.pop("attention")), str(arguments.pop("model"))
        place = find_source(model, bool(arguments["trust"])).place
        settings = Settings(**arguments, place=place, rank=self._number, local=self._local)  # type: ignore[arg-type]
        self._shard = Shard(settings, attention)
        chosen = self._shard.attention
        return {
            "capacity": self._shard.pool.capacity,
            "vocabulary": self._shard.vocabulary,
            "attention": chosen.name,
            "why": chosen.why,
        }

    def _do(self, name: str, told: Mapping[str, Json]) -> "Tensor | None":
        shard = self._shard
        assert shard is not None, "the first call loads"
        match name:
            case "forward":
                arguments = {**told, "plan": plan_from_json(cast(Mapping[str, Json], told["plan"]))}
                return shard.forward(**arguments)  # type: ignore[arg-type]
            case "expect":
                shard.executor.expect(**told)  # type: ignore[arg-type]
            case "move" | "keep" | "restore" | "forget":
                getattr(shard, name)(**told)
        return None


class Answers(Protocol):
    """What calls are made to. Real: `Rank`."""

    def answer(self, call: Call) -> Reply: ...


def serve(connection: Connection, rank: Answers) -> None:
    """Answer calls until whoever makes them has gone; then this process ends with all that it has started, also in the
    middle of a call, as other ranks may never come to do their part of it."""
    calls: queue.SimpleQueue[Call] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                calls.put(read_call(connection))
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    Thread(target=listen, daemon=True).start()
    while True:
        send_reply(connection, rank.answer(calls.get()))


if __name__ == "__main__":
    descriptor, number, local = map(int, sys.argv[1:])
    os.set_inheritable(descriptor, False)
    serve(Connection(descriptor), Rank(number, local))
