"""What the session's process and the ranks say to each other: JSON, and behind it the bytes of a tensor, if any.

Nothing that is read can run code (no pickles), so a reply of another machine is as harmless as a wrong one. torch is
not imported here: a rank listens before it does so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection

from hwruntime.errors import DeviceError, HwError, InputError, ModelError, RunError
from hwruntime.plan import Plan
from hwruntime.program import Json

ERRORS: dict[str, type[HwError]] = {kind.__name__: kind for kind in (ModelError, DeviceError, InputError, RunError)}


@dataclass(frozen=True)
class Call:
    """What every rank is to do. `number`: which call it is, so that its replies are known."""

    number: int
    name: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True)
class Logits:
    """`data`: float32, row by row."""

    shape: tuple[int, int]
    data: bytes


@dataclass(frozen=True)
class Reply:
    """What came of a call: `values`, one of each rank that the sender answers for, in their order; or an error that
    ended it. `logits`: of rank 0."""

    number: int
    values: tuple[Json, ...] = ()
    error: HwError | None = None
    logits: Logits | None = None


def send_call(connection: Connection, call: Call) -> None:
    told = {"number": call.number, "name": call.name, "arguments": dict(call.arguments)}
    connection.send_bytes(json.dumps(told).encode())


def read_call(connection: Connection) -> Call:
    """Raises `EOFError` or `OSError` where nobody is there any more."""
    told = json.loads(connection.recv_bytes())
    return Call(told["number"], told["name"], told["arguments"])


def send_reply(connection: Connection, reply: Reply) -> None:
    error, logits = reply.error, reply.logits
    told: dict[str, Json] = {"number": reply.number, "values": list(reply.values)}
    if error is not None:
        told["error"] = {"kind": type(error).__name__, "message": error.message, "help": error.help}
    if logits is not None:
        told["shape"] = list(logits.shape)
    connection.send_bytes(json.dumps(told).encode())
    if logits is not None:
        connection.send_bytes(logits.data)


def read_reply(connection: Connection) -> Reply:
    """Raises `EOFError` or `OSError` where nobody is there any more."""
    told = json.loads(connection.recv_bytes())
    logits = Logits((told["shape"][0], told["shape"][1]), connection.recv_bytes()) if "shape" in told else None
    error = told.get("error")
    made = None if error is None else ERRORS.get(error["kind"], RunError)(error["message"], help=error["help"])
    return Reply(told["number"], tuple(told["values"]), made, logits)


def plan_to_json(plan: Plan) -> Json:
    return {field.name: getattr(plan, field.name) for field in fields(plan)}


def plan_from_json(told: Mapping[str, Json]) -> Plan:
    return Plan(**told)  # type: ignore[arg-type]
