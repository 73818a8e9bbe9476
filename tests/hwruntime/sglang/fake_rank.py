"""A rank without a model, and without torch: what it does with a call is the call's name."""

import os
import signal
import sys
import time
from multiprocessing.connection import Connection

from hwruntime.errors import ModelError
from hwruntime.sglang.rank import serve
from hwruntime.sglang.wire import Call, Logits, Reply


class FakeRank:
    def __init__(self, number: int, local: int) -> None:
        self._number = number
        self._local = local

    def answer(self, call: Call) -> Reply:
        mine = call.arguments.get("rank") == self._number
        match call.name:
            case "add" if self._number == 0:
                return Reply(call.number, (None,), logits=Logits((1, 2), b"\0\0\x80?" * 2))  # ones, in float32
            case "refuse" if mine:
                return Reply(call.number, error=ModelError("no", help="h"))
            case "fail" if mine:
                sys.exit("out of luck")
            case "break":  # as in a collective, one is killed, rank 0 fails for it, and the others hang
                if mine:
                    os.kill(os.getpid(), signal.SIGKILL)
                if self._number == 0:
                    sys.exit("connection closed by peer")
                time.sleep(600)
            case "wait":  # for another one's end, as ranks in a collective do
                time.sleep(600)
            case "late":
                time.sleep(float(str(call.arguments["seconds"])))
        return Reply(call.number, ({"rank": self._number, "local": self._local, "pid": os.getpid()},))


descriptor, number, local = map(int, sys.argv[1:])
serve(Connection(descriptor), FakeRank(number, local))
