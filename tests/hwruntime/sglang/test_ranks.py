"""The ranks' processes: calls reach all of them, who has died is named, and nothing is left behind.

Ranks are `fake_rank.py` here; those with a model are in `test_engine.py`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread, Timer

import pytest

from hwruntime.errors import HwError, InputError, ModelError, RunError
from hwruntime.sglang.model import free_port
from hwruntime.sglang.ranks import Layout, Ranks, follow
from hwruntime.sglang.wire import Logits

ONES = Logits((1, 2), b"\0\0\x80?" * 2)
FAKE = (str(Path(__file__).with_name("fake_rank.py")),)


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks(Layout(3), FAKE)
    yield made
    made.close()


def pids(ranks: Ranks) -> list[int]:
    return [value["pid"] for value in ranks.call("who").values]


def gone(pid: int) -> bool:
    """Whether a process has ended, or does so soon; others than our own children are not collected by us."""
    for _ in range(600):
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_call_reaches_all_ranks(ranks):
    values = ranks.call("who").values
    assert [(value["rank"], value["local"]) for value in values] == [(0, 0), (1, 1), (2, 2)]
    assert len({value["pid"] for value in values}) == 3


def test_logits_are_those_of_rank_0(ranks):
    assert ranks.call("add").logits == ONES


def test_an_error_of_a_rank_is_raised_and_ends_all(ranks):
    processes = pids(ranks)
    with pytest.raises(ModelError, match=r"^no$") as caught:
        ranks.call("refuse", rank=1)
    assert caught.value.help == "h"
    assert all(map(gone, processes))
    with pytest.raises(RunError, match="the engine has ended: no"):
        ranks.call("who")


def test_a_rank_that_is_killed_is_named_and_ends_all(ranks):
    """The others wait for it, as in a collective."""
    processes = pids(ranks)
    Timer(0.3, os.kill, (processes[1], signal.SIGKILL)).start()
    with pytest.raises(RunError, match=rf"rank 1 of 3 \(process {processes[1]}\) was killed by SIGKILL"):
        ranks.call("wait")
    assert all(map(gone, processes))


def test_a_rank_that_was_killed_between_calls_is_named(ranks):
    processes = pids(ranks)
    os.kill(processes[2], signal.SIGKILL)
    with pytest.raises(RunError, match=r"rank 2 of 3 .* was killed by SIGKILL"):
        ranks.call("wait")
    assert all(map(gone, processes))


def test_who_was_killed_is_named_not_who_failed_for_it(ranks):
    with pytest.raises(RunError, match=r"rank 2 of 3 .* was killed by SIGKILL"):
        ranks.call("break", rank=2)


def test_a_rank_that_fails_says_why(ranks):
    with pytest.raises(RunError, match=r"rank 0 of 3 .* ended with exit code 1: out of luck"):
        ranks.call("fail", rank=0)


def test_a_rank_that_cannot_be_started_says_why():
    ranks = Ranks(Layout(1), ("-m", "no_such_module"))
    with pytest.raises(RunError, match=r"rank 0 of 1 .* ended with exit code 1: .*No module named no_such_module"):
        ranks.call("who")


def test_late_replies_are_not_taken_for_others(ranks):
    """Ctrl-C in the middle of a call: the engine goes on."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        ranks.call("late", seconds=1)
    assert ranks.call("add").logits == ONES


def test_ranks_that_nobody_holds_any_more_end():
    ranks = Ranks(Layout(2), FAKE)
    processes = pids(ranks)
    del ranks
    assert all(map(gone, processes))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ranks_end_with_whoever_started_them(how):
    code = f"""
import signal
from hwruntime.sglang.ranks import Layout, Ranks
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
ranks = Ranks(Layout(2), {FAKE!r})
print(*[value["pid"] for value in ranks.call("who").values], flush=True)
ranks.call("wait")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        processes = list(map(int, parent.stdout.readline().split()))
        time.sleep(0.3)  # until it waits
        parent.send_signal(how)
    assert len(processes) == 2
    assert all(map(gone, processes))


# --- Nodes -----------------------------------------------------------------------------------------------------------


class Node(Thread):
    """Another node, in a thread of this process. `error`: what it ended with."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(daemon=True)
        self.layout = layout
        self.error: HwError | None = None

    def run(self) -> None:
        try:
            follow(self.layout, FAKE)
        except HwError as error:
            self.error = error


@pytest.fixture
def two_nodes() -> Iterator[tuple[Ranks, Node]]:
    address = f"127.0.0.1:{free_port()}"
    node = Node(Layout(4, 2, 1, address))
    node.start()
    ranks = Ranks(Layout(4, 2, 0, address), FAKE)
    yield ranks, node
    ranks.close()
    node.join()


def test_a_call_reaches_the_ranks_of_all_nodes(two_nodes):
    values = two_nodes[0].call("who").values
    assert [(value["rank"], value["local"]) for value in values] == [(0, 0), (1, 1), (2, 0), (3, 1)]


def test_other_nodes_end_without_an_error_when_node_0_is_done(two_nodes):
    ranks, node = two_nodes
    processes = pids(ranks)
    ranks.close()
    node.join()
    assert node.error is None
    assert all(map(gone, processes))


@pytest.mark.parametrize("rank", [1, 3])
def test_a_rank_of_any_node_is_named(two_nodes, rank):
    ranks, node = two_nodes
    processes = pids(ranks)
    Timer(0.3, os.kill, (processes[rank], signal.SIGKILL)).start()
    with pytest.raises(RunError, match=f"rank {rank} of 4 .* was killed by SIGKILL"):
        ranks.call("wait")
    node.join()
    assert all(map(gone, processes))


def test_who_was_killed_on_another_node_is_named_not_who_failed_for_it(two_nodes):
    with pytest.raises(RunError, match=r"rank 3 of 4 .* was killed by SIGKILL"):
        two_nodes[0].call("break", rank=3)


def test_a_node_that_is_gone_is_named():
    address = f"127.0.0.1:{free_port()}"
    code = f"from hwruntime.sglang.ranks import *\nfollow(Layout(2, 2, 1, {address!r}), {FAKE!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        ranks = Ranks(Layout(2, 2, 0, address), FAKE)
        processes = pids(ranks)
        other.kill()
        with pytest.raises(RunError, match=r"node 1 \(ranks 1 to 1\) is gone"):
            ranks.call("wait")
    assert all(map(gone, processes))


def test_node_0_that_is_gone_is_told():
    address = f"127.0.0.1:{free_port()}"
    code = f"""
from hwruntime.sglang.ranks import *
ranks = Ranks(Layout(2, 2, 0, {address!r}), {FAKE!r})
print("there", flush=True)
ranks.call("wait")
"""
    node = Node(Layout(2, 2, 1, address))
    node.start()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as head:
        head.stdout.readline()
        head.kill()
        node.join()
    assert node.error.message == "node 0 is gone"


def test_strangers_are_sent_away():
    address = f"127.0.0.1:{free_port()}"
    layout = Layout(2, 2, 0, address)

    def disturb() -> None:
        for said in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\2[]"):
            while True:
                try:
                    with socket.create_connection(layout.meeting_point) as stranger:
                        stranger.sendall(said)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        node.start()

    node = Node(Layout(2, 2, 1, address))
    Thread(target=disturb).start()
    ranks = Ranks(layout, FAKE)
    assert len(ranks.call("who").values) == 2
    ranks.close()
    node.join()


def test_a_node_with_other_options_is_refused():
    address = f"127.0.0.1:{free_port()}"
    node = Node(Layout(6, 2, 1, address))
    node.start()
    with pytest.raises(RunError, match="a node came as number 1 with ranks 6, nodes 2"):
        Ranks(Layout(4, 2, 0, address), FAKE)
    node.join()
    assert node.error is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "0 ranks cannot be shared out evenly to 1 nodes"),
        ((3, 2), "3 ranks cannot be shared out evenly to 2 nodes"),
        ((2, 2, 2, "localhost:5000"), "there is no node 2 of 2"),
        ((2, 2), "several nodes need an address"),
        ((2, 2, 0, "localhost"), "`localhost` is no address"),
        ((2, 2, 0, "localhost:65535"), "`localhost:65535` is no address"),
    ],
)
def test_layouts_that_do_not_fit_together(arguments, message):
    with pytest.raises(InputError, match=message):
        Layout(*arguments)
