"""The ranks of a model: started here, asked all together, watched, and ended with whoever started them.

A rank is a process of its own (`rank`), also where there is only one. The session's process makes none of SGLang's
calls, so it cannot be stuck in one when a rank dies: it sees that rank's socket close, ends the others, and says who it
was. A rank sees the socket close when the session's process dies, however that comes.

On several nodes the session is on node 0. A process on each other node (`follow`) has the ranks there, and takes part
in every call as if it were one of node 0's ranks. It talks to node 0 by the port above that of the process group.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from weakref import finalize

from hwruntime.errors import HwError, InputError, RunError
from hwruntime.program import Json
from hwruntime.sglang.wire import Call, Reply, read_call, read_reply, send_call, send_reply

RANK = ("-m", "hwruntime.sglang.rank")
POLL = 0.5  # seconds between looks at processes whose sockets others may hold open
GRACE = 1.0  # seconds that are waited after a failure for the death that caused it
KEEPALIVE = 8  # seconds
PATIENCE_WITH_STRANGERS = 5.0  # seconds
PATIENCE = 600.0  # seconds that nodes wait for one another


@dataclass(frozen=True)
class Layout:
    """`ranks` on `nodes`, as many on each. This is node `node`; `address` is HOST:PORT of node 0, where there are
    several. Raises `InputError` for what does not fit together."""

    ranks: int = 1
    nodes: int = 1
    node: int = 0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.nodes < 1 or self.ranks % self.nodes:
            raise InputError(
                f"{self.ranks} ranks cannot be shared out evenly to {self.nodes} nodes",
                help="--tp is the number of ranks on all nodes together: a multiple of --nodes",
            )
        if not 0 <= self.node < self.nodes:
            raise InputError(f"there is no node {self.node} of {self.nodes}", help="--node-rank counts from 0")
        if self.nodes > 1 and self.address is None:
            raise InputError(
                "several nodes need an address where they meet", help="give all of them --dist-init-addr HOST:PORT"
            )
        if self.address is not None:
            self.meeting_point  # noqa: B018  it checks

    @property
    def local(self) -> range:
        """The ranks on this node."""
        each = self.ranks // self.nodes
        return range(self.node * each, (self.node + 1) * each)

    @property
    def meeting_point(self) -> tuple[str, int]:
        """Where nodes talk to node 0: the port above the process group's."""
        host, _, port = (self.address or "").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65535:
            raise InputError(f"`{self.address}` is no address: it must be HOST:PORT", help="as in 10.0.0.1:5000")
        return host.strip("[]"), int(port) + 1


@dataclass(eq=False)
class Member:
    """Who takes part in calls: a rank's process, or another node (then `process` and `log` are None)."""

    name: str
    connection: Connection
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None

    @property
    def killed(self) -> bool:
        """Whether a signal has ended it."""
        return self.process is not None and (self.process.poll() or 0) < 0

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def obituary(self) -> RunError:
        """What to say of one that is gone."""
        if self.process is None:
            return RunError(f"{self.name} is gone", help="its own output says why")
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        code = self.process.poll() or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = self.log.read_text(errors="replace").strip().splitlines() if self.log and code >= 0 else []
        last = f": {said[-1].strip()}" if said else ""
        return RunError(
            f"{self.name} (process {self.process.pid}) {how}{last}",
            help="the run cannot go on without it; SIGKILL often means that the machine is out of memory",
        )


class Ranks:
    """The ranks of a layout, as far as they are this node's to start. `call` has all of them do something."""

    def __init__(self, layout: Layout, program: Sequence[str] = RANK, env: Mapping[str, str] | None = None) -> None:
        """`program`: arguments of Python that start a rank; `env`: beside the environment of this process.

        On node 0 this waits for the other nodes. Raises `RunError` where they do not come.
        """
        self.layout = layout
        self._members: list[Member] = []
        self._number = 0
        self._over: HwError | None = None
        self._logs = Path(tempfile.mkdtemp(prefix="hw-ranks-"))
        self.close: Callable[[], object] = finalize(self, _end, self._members, self._logs)
        try:
            for rank in layout.local:
                self._members.append(self._start(rank, program, {**os.environ, **(env or {})}))
            if layout.nodes > 1 and layout.node == 0:
                self._members += _meet(layout)
        except BaseException:
            self.close()
            raise

    def call(self, name: str, **arguments: Json) -> Reply:
        """Have all ranks do a call. The reply has the values of all, in their order.

        Raises what a rank raises of our errors, and `RunError`, which names it, where one has died. The ranks are over
        then: so is every later call.
        """
        return self.make(name, arguments, {})

    def make(self, name: str, arguments: Mapping[str, Json], heard: Mapping[Connection, Callable[[], object]]) -> Reply:
        """`call`, which meanwhile also listens to others: what there is to be done when they say something."""
        if self._over is not None:
            raise RunError(f"the engine has ended: {self._over.message}", help="make another one")
        self._number += 1  # replies to a call that was interrupted are told by theirs
        call = Call(self._number, name, arguments)
        waiting = {member.connection: member for member in self._members}
        replies: dict[Member, Reply] = {}
        for member in self._members:
            try:
                send_call(member.connection, call)
            except OSError:
                raise self._end_with(member) from None
        while waiting:
            for connection in wait([*waiting, *heard], POLL):
                assert isinstance(connection, Connection)
                if connection in heard:
                    heard[connection]()
                    continue
                member = waiting[connection]
                try:
                    reply = read_reply(connection)
                except (EOFError, OSError):
                    raise self._end_with(member) from None
                if reply.number != call.number:
                    continue
                if reply.error is not None:
                    raise self._end_with(member, reply.error)
                replies[member] = reply
                del waiting[connection]
            if gone := next((member for member in waiting.values() if member.ended), None):
                raise self._end_with(gone)
        values = tuple(value for member in self._members for value in replies[member].values)
        return Reply(call.number, values, logits=replies[self._members[0]].logits)

    def _end_with(self, member: Member, error: HwError | None = None) -> HwError:
        """End all ranks, as this one has failed; what to raise. One that was killed meanwhile is what the others failed
        of."""
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and error is None and not any(each.killed for each in self._members):
            time.sleep(0.05)
            error = self._said_by_nodes()
        blamed = next((each for each in self._members if each.killed), member)
        over = error if error is not None and not blamed.killed else blamed.obituary()
        self._over = over
        self.close()
        return over

    def _said_by_nodes(self) -> HwError | None:
        """What another node says of a rank there that has died."""
        for member in self._members:
            if member.process is None and not member.connection.closed and member.connection.poll():
                with suppress(EOFError, OSError):
                    return read_reply(member.connection).error
        return None

    def _start(self, rank: int, program: Sequence[str], env: Mapping[str, str]) -> Member:
        """Start a rank, in a session of its own: Ctrl-C does not reach it, and what it starts ends with it."""
        ours, its = socket.socketpair()
        log = self._logs / f"rank{rank}.log"
        local = rank - self.layout.local.start
        with its, log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", *program, str(its.fileno()), str(rank), str(local)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        return Member(f"rank {rank} of {self.layout.ranks}", Connection(ours.detach()), process, log)


def follow(layout: Layout, program: Sequence[str] = RANK, env: Mapping[str, str] | None = None) -> None:
    """Be a node other than 0: start its ranks, and have them do what node 0 says until that ends.

    Raises `RunError` where node 0 is not to be found, ends without a word, or a rank here has died.
    """
    ranks = Ranks(layout, program, env)
    try:
        head = _find_head(layout)
        calls: deque[Call] = deque()

        def hear() -> None:
            calls.append(_hear(head))

        while True:
            if not calls:
                hear()
            call = calls.popleft()
            try:  # node 0 may end in the middle of it, and our ranks then wait for ranks that are no more
                reply = ranks.make(call.name, call.arguments, {head: hear})
            except HwError as error:
                with suppress(OSError):
                    send_reply(head, Reply(call.number, error=error))
                raise
            send_reply(head, Reply(call.number, reply.values))
    except Done:
        return
    finally:
        ranks.close()


class Done(Exception):
    """Node 0 has said that this was the end."""


def _hear(head: Connection) -> Call:
    """The next call of node 0. Raises `Done`, and `RunError` where it is gone without a word."""
    try:
        call = read_call(head)
    except (EOFError, OSError):
        raise RunError("node 0 is gone", help="its own output says why") from None
    if call.name == "end":
        raise Done
    return call


def _meet(layout: Layout) -> list[Member]:
    """On node 0: wait for the other nodes, each of which says who it is; in their order."""
    came: dict[int, Connection] = {}
    host, port = layout.meeting_point
    deadline = time.monotonic() + PATIENCE
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as server:
            while len(came) < layout.nodes - 1:
                server.settimeout(max(0.1, deadline - time.monotonic()))
                connection = _connection(server.accept()[0])
                hello = _hello_of(connection)
                if hello is None:
                    connection.close()
                    continue
                node = hello.number
                if hello.arguments != _hello(layout) or node in came or not 0 < node < layout.nodes:
                    said = ", ".join(f"{name} {value}" for name, value in hello.arguments.items())
                    raise RunError(
                        f"a node came as number {node} with {said}", help="start all nodes with the same options"
                    )
                came[node] = connection
    except TimeoutError:
        missing = [str(node) for node in range(1, layout.nodes) if node not in came]
        raise RunError(f"node {', '.join(missing)} has not come", help=_how(layout)) from None
    except OSError as error:
        raise RunError(f"nodes cannot meet at port {port} of {host}: {error.strerror}", help=_how(layout)) from error
    each = layout.ranks // layout.nodes
    return [
        Member(f"node {node} (ranks {node * each} to {(node + 1) * each - 1})", came[node]) for node in sorted(came)
    ]


def _find_head(layout: Layout) -> Connection:
    """On another node: the connection to node 0, which may not have started yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found = _connection(socket.create_connection(layout.meeting_point, timeout=POLL))
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise RunError(f"node 0 is not to be found: {error.strerror}", help=_how(layout)) from error
            time.sleep(POLL)
    send_call(found, Call(layout.node, "hello", _hello(layout)))
    return found


def _connection(made: socket.socket) -> Connection:
    """A connection to another machine: small messages go at once, and a machine that has lost its power is found to be
    gone within about `KEEPALIVE` seconds, as one is that says so."""
    made.settimeout(None)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", KEEPALIVE // 2), ("TCP_KEEPINTVL", KEEPALIVE // 4), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, name):  # not everywhere
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(made.detach())


def _hello_of(connection: Connection) -> Call | None:
    """What somebody who has connected says first; None for strangers, who are sent away."""
    try:
        return read_call(connection) if connection.poll(PATIENCE_WITH_STRANGERS) else None
    except (EOFError, OSError, ValueError, LookupError, TypeError):
        return None


def _hello(layout: Layout) -> dict[str, Json]:
    return {"ranks": layout.ranks, "nodes": layout.nodes}


def _how(layout: Layout) -> str:
    return f"start each of the {layout.nodes} nodes with its own --node-rank and the address of node 0"


def _end(members: Sequence[Member], logs: Path) -> None:
    """Leave no process behind, and no file. Other nodes are told that this was the end."""
    for member in members:
        with suppress(OSError):
            if member.process is None:
                send_call(member.connection, Call(0, "end", {}))
        member.connection.close()
    for process in [member.process for member in members if member.process is not None]:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it has started, where it is gone itself
        process.wait()
    shutil.rmtree(logs, ignore_errors=True)
