"""A compiled program as plain data: all that the runtime knows of a `.hw` file.

The language writes this as JSON (`hwlang.lowering`), the runtime reads it (`Program.from_json`): neither imports the
other. Every node may carry the span of the source that it came from; spans never take part in comparisons.

    {"kind": "say", "text": {"kind": "text", "parts": ["I'm ", {"kind": "hole", "name": "name"}]}, "span": [3, 5, 3, 9]}
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeAlias, Union

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Value = str | int | float | bool


class ProgramError(Exception):
    """The JSON of a program is not one that this version can read."""


@dataclass(frozen=True)
class Span:
    """A stretch of source: 1-based lines and columns, the end column exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, kw_only=True)
class Node:
    span: Span | None = field(default=None, compare=False)


# --- Texts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hole(Node):
    """`{{name}}`: a parameter, `name`, `step`, `workers`, or a regex group."""

    name: str


@dataclass(frozen=True)
class Text(Node):
    """Literal text with holes. `text NAME` declarations are already written out into it."""

    parts: tuple[str | Hole, ...]

    def fill(self, values: Mapping[str, Value]) -> str:
        """The text with every hole filled. Booleans are written as in the language: `true`, `false`."""
        return "".join(part if isinstance(part, str) else show(values[part.name]) for part in self.parts)


def show(value: Value) -> str:
    """A parameter's value as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Views -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Node):
    """Text that is there from the start. `role` is a chat role, or `text` for text that is written as it is."""

    role: Literal["text", "system", "user", "assistant"]
    text: Text
    in_context: bool = False


@dataclass(frozen=True)
class PadEntry(Node):
    """A scratchpad's block: the worker's own where it declares one of that name, else the program's."""

    name: str


@dataclass(frozen=True)
class StreamEntry(Node):
    name: str


@dataclass(frozen=True)
class WorkerEntry(Node):
    """Another worker's block."""

    name: str


@dataclass(frozen=True)
class OthersEntry(Node):
    """The blocks of all other workers, in declaration order."""


@dataclass(frozen=True)
class SelfEntry(Node):
    """The worker's own block: where it writes. The last entry of its view."""


Entry = Constant | PadEntry | StreamEntry | WorkerEntry | OthersEntry | SelfEntry


# --- Triggers and actions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AtStep(Node):
    """`on step`: the worker has ended a step."""


@dataclass(frozen=True)
class Every(Node):
    """`on every N tokens|steps|passes [at step]`, counted from the last time the rule fired."""

    count: int
    unit: Literal["tokens", "steps", "passes"]
    at_step: bool = False


@dataclass(frozen=True)
class Seen(Node):
    """`on "..."`: the token just sampled completes this text."""

    text: Text


@dataclass(frozen=True)
class Matches(Node):
    """`on /.../`: the regex is found in the step that has just ended; once for each match."""

    regex: str


@dataclass(frozen=True)
class Arrives(Node):
    """`on STREAM`: text was fed to the stream."""

    stream: str


@dataclass(frozen=True)
class AtStart(Node):
    pass


@dataclass(frozen=True)
class AtEnd(Node):
    """`on end`: the worker has ended."""


Trigger = AtStep | Every | Seen | Matches | Arrives | AtStart | AtEnd


@dataclass(frozen=True)
class Say(Node):
    text: Text


@dataclass(frozen=True)
class Choice(Node):
    text: Text
    actions: tuple["Action", ...]


@dataclass(frozen=True)
class Ask(Node):
    text: Text
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Post(Node):
    text: Text
    pad: str


@dataclass(frozen=True)
class Move(Node):
    """`move self to PAD`."""

    pad: str


@dataclass(frozen=True)
class Clear(Node):
    pad: str


@dataclass(frozen=True)
class Pause(Node):
    """`worker` is a worker's name or `self`."""

    worker: str


@dataclass(frozen=True)
class Resume(Node):
    worker: str


@dataclass(frozen=True)
class Stop(Node):
    """`stop WORKER`, `stop self`; without a worker it ends the run."""

    worker: str | None = None


Action = Say | Ask | Post | Move | Clear | Pause | Resume | Stop


@dataclass(frozen=True)
class Rule(Node):
    """`on TRIGGER or TRIGGER { ACTIONS }`."""

    triggers: tuple[Trigger, ...]
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Sync(Node):
    """`sync every N tokens { ACTIONS }`: one counter for the whole program (design section 2, rule 6)."""

    every: int
    actions: tuple[Action, ...]


# --- Workers and programs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling(Node):
    """How tokens are drawn; `None` is "not said here". A worker's settings go before its program's."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Step(Node):
    """`step PREFIX until SEPARATORS [after sentence]`."""

    prefix: Text | None
    until: tuple[Text, ...]
    after_sentence: bool = False


@dataclass(frozen=True)
class Constraint(Node):
    """`match /regex/` or `json "schema.json"` (the schema's text): what a step may consist of."""

    form: Literal["regex", "json"]
    value: str


@dataclass(frozen=True)
class Worker(Node):
    name: str
    sees: tuple[Entry, ...]
    pads: tuple["Pad", ...] = ()
    step: Step | None = None
    begin: Text | None = None
    forbid: tuple[Text, ...] = ()
    stop_at: tuple[Text, ...] = ()
    max_tokens: int | None = None
    paused: bool = False
    sampling: Sampling | None = None
    constraint: Constraint | None = None
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Group(Node):
    """`workers COUNT of A, B, C`: only the first COUNT of these workers take part. A string is a parameter's name."""

    count: int | str
    workers: tuple[str, ...]


@dataclass(frozen=True)
class Pad(Node):
    """A scratchpad, with the text that it holds from the start."""

    name: str
    text: Text | None = None


@dataclass(frozen=True)
class Param(Node):
    name: str
    type: Literal["str", "int", "float", "bool"]
    default: Value | None = None


@dataclass(frozen=True)
class Answer(Node):
    """Where a run's answer comes from: the first group of a regex, a scratchpad, a worker, or a majority of matches."""

    source: Literal["regex", "pad", "worker", "vote"]
    value: str
    otherwise: Text | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Program(Node):
    """One compiled program. Workers are in declaration order; the names in it all resolve (the checker saw to that)."""

    name: str
    file: str
    params: tuple[Param, ...]
    workers: tuple[Worker, ...]
    groups: tuple[Group, ...] = ()
    pads: tuple[Pad, ...] = ()
    streams: tuple[str, ...] = ()
    syncs: tuple[Sync, ...] = ()
    model: str | None = None
    sampling: Sampling | None = None
    budget: int | None = None
    answer: Answer | None = None

    @property
    def seed(self) -> int:
        """The seed that the program sets for its runs."""
        return (self.sampling.seed if self.sampling else None) or 0

    def to_json(self) -> dict[str, Json]:
        data = encode(self)
        assert isinstance(data, dict)
        return data

    @classmethod
    def from_json(cls, data: Json) -> "Program":
        """Read what `to_json` or the language wrote. Raises `ProgramError` with the place where it does not fit."""
        program = decode(data, cls, "program")
        assert isinstance(program, Program)
        return program


# --- JSON ------------------------------------------------------------------------------------------------------------


def kind_of(node: type[Node]) -> str:
    """The tag of a node in JSON: its class name in snake case."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in node.__name__).lstrip("_")


def encode(value: object) -> Json:
    """A node as JSON. Fields that hold their default are left out."""
    if isinstance(value, Node):
        pairs = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {"kind": kind_of(type(value))} | {f.name: encode(v) for f, v in pairs if v != f.default}
    if isinstance(value, Span):
        return [value.line, value.column, value.end_line, value.end_column]
    if isinstance(value, tuple):
        return [encode(v) for v in value]
    assert value is None or isinstance(value, str | int | float), value
    return value


def decode(data: Json, want: object, where: str) -> object:
    """The inverse of `encode`, guided by the type `want`; `where` is the path for messages."""
    if want is Span:
        return Span(*typing.cast(list[int], data))
    if typing.get_origin(want) is tuple:
        if not isinstance(data, list):
            raise ProgramError(f"{where}: a list is needed, got {data!r}")
        item = typing.get_args(want)[0]
        return tuple(decode(d, item, f"{where}[{i}]") for i, d in enumerate(data))
    if typing.get_origin(want) is Literal:
        if data not in typing.get_args(want):
            raise ProgramError(f"{where}: {data!r} is not one of {', '.join(map(str, typing.get_args(want)))}")
        return data
    options = (
        typing.get_args(want) if isinstance(want, types.UnionType) or typing.get_origin(want) is Union else (want,)
    )
    if isinstance(data, dict):
        return _decode_node(data, options, where)
    if isinstance(data, list) and Span in options:
        return decode(data, Span, where)
    if isinstance(data, int) and not isinstance(data, bool) and float in options and int not in options:
        return float(data)
    if type(data) not in options:
        raise ProgramError(f"{where}: {data!r} does not fit here")
    return data


def _decode_node(data: dict[str, Json], options: tuple[object, ...], where: str) -> Node:
    nodes = {kind_of(o): o for o in options if isinstance(o, type) and issubclass(o, Node)}
    cls = nodes.get(str(data.get("kind")))
    if cls is None:
        raise ProgramError(f"{where}: {data.get('kind')!r} is not one of {', '.join(nodes) or 'the kinds known here'}")
    hints = _hints(cls)
    unknown = data.keys() - hints.keys() - {"kind"}
    if unknown:
        raise ProgramError(f"{where}: {cls.__name__} has no field {', '.join(sorted(unknown))}")
    values = {key: decode(value, hints[key], f"{where}.{key}") for key, value in data.items() if key != "kind"}
    try:
        return typing.cast(Callable[..., Node], cls)(**values)
    except TypeError as error:
        raise ProgramError(f"{where}: {error}") from None


_hints: Callable[..., Mapping[str, object]] = cache(typing.get_type_hints)
