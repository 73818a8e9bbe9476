"""The model as the engine sees it, over ranks that only remember what they were asked."""

from typing import Any

import pytest
import torch

from hwruntime.cache import Block
from hwruntime.engine import Engine
from hwruntime.errors import DeviceError, InputError
from hwruntime.plan import Block as PlanBlock
from hwruntime.plan import Piece, Row, build_plan
from hwruntime.scripted import WordTokenizer
from hwruntime.sglang.model import SglangModel, check_device, environment, refuse_options
from hwruntime.sglang.ranks import Layout
from hwruntime.sglang.wire import Logits, Reply

CAPACITIES = (64, 48)


class FakeRanks:
    """Two ranks. `calls`: names and arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(self, name: str, **arguments: Any) -> Reply:
        self.calls.append((name, arguments))
        if name == "load":
            told = [{"capacity": n, "vocabulary": 9, "attention": "torch", "why": "a test"} for n in CAPACITIES]
            return Reply(1, tuple(told))
        rows = len(arguments.get("wanted", ()))
        return Reply(1, (None, None), logits=Logits((rows, 9), torch.ones(rows, 9).numpy().tobytes()))

    def asked(self, name: str) -> list[dict[str, Any]]:
        return [arguments for each, arguments in self.calls if each == name]


@pytest.fixture
def model() -> SglangModel:
    return SglangModel("fake", WordTokenizer(), 100, FakeRanks(), {"model": "fake"})


def test_the_pool_is_as_large_as_that_of_the_smallest_rank(model):
    assert model.pool.capacity == min(CAPACITIES)
    assert not model.pool.grows
    assert model._ranks.asked("load") == [{"model": "fake"}]


def test_every_rank_runs_a_pass(model):
    plan = build_plan([Row((Piece(0, 2),), 2)], {0: PlanBlock(2, [1])}, 16)
    logits = model.forward((5, 6), plan, [16, 17], (1,))
    assert torch.equal(logits, torch.ones(1, 9))
    assert model.forward((5, 6), plan, [16, 17], ()).shape == (0, 9)
    asked = model._ranks.asked("forward")[0]
    assert (asked["tokens"], asked["slots"], asked["wanted"]) == ([5, 6], [16, 17], [1])


def test_what_is_read_stays_with_the_ranks_until_nobody_holds_it(model):
    first, second = model.read([1, 2]), model.read([3])
    model.write(second, [7])
    del first
    model.move([1], [2], 5)
    names = [name for name, _ in model._ranks.calls]
    assert names == ["load", "keep", "keep", "restore", "forget", "move"]
    assert [asked["number"] for asked in model._ranks.asked("keep")] == [1, 2]
    assert model._ranks.asked("restore") == [{"number": 2, "slots": [7]}]
    assert model._ranks.asked("forget") == [{"numbers": [1]}]
    assert len(second) == 0


def test_an_engine_suspends_runs_on_ranks(model):
    """What `Room` reads and writes is passed on."""
    engine = Engine(model)
    block = Block()
    engine._pool.extend(block, 5)
    stored = engine.model.read(engine._slots(block))
    engine.model.write(stored, engine._slots(block))
    assert model._ranks.asked("keep")[0]["slots"] == model._ranks.asked("restore")[0]["slots"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("int8", "auto", None), "no --weights"),
        (("auto", "fp8", None), "no --kv-dtype"),
        (("auto", "auto", "there"), "no --opening-cache"),
    ],
)
def test_what_only_our_own_engine_does(options, message):
    with pytest.raises(InputError, match=message):
        refuse_options(*options)


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("mps", 0, "does not run on mps"),
        ("cuda:1", 2, "takes GPUs from number 0 on"),
        ("cuda", 1, "2 ranks need a GPU each, and this machine has 1"),
    ],
)
def test_devices_that_ranks_cannot_have(device, gpus, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(DeviceError, match=message):
        check_device(torch.device(device), Layout(2))


def test_ranks_of_a_cpu_share_its_cores_unless_the_user_says_how(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("SGLANG_CPU_OMP_THREADS_BIND", raising=False)
    assert environment(torch.device("cpu"), Layout(2))["SGLANG_CPU_OMP_THREADS_BIND"] == "0-7|0-7"
    monkeypatch.setenv("SGLANG_CPU_OMP_THREADS_BIND", "0-3|4-7")
    assert environment(torch.device("cpu"), Layout(2))["SGLANG_CPU_OMP_THREADS_BIND"] == "0-3|4-7"
    assert environment(torch.device("cuda"), Layout(2)) == {}
