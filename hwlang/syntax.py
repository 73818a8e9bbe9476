"""The syntax tree of a `.hw` file: frozen data, one class for each rule of `grammar/hw.lark`, under the same name.

Every node keeps the span of its source; spans never take part in comparisons, so that a tree that was built in Python
equals the tree of the same program in a file.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from hwlang.diagnostics import NOWHERE, Span


@dataclass(frozen=True, kw_only=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Name(Node):
    """A name, where it is declared and where it is used. `self` is one of them."""

    value: str


# --- Texts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hole(Node):
    """`{{name}}` in a string. The name of a regex group is its number."""

    name: str


@dataclass(frozen=True)
class String(Node):
    """`"..."` or a text block, with escapes resolved. Neighbouring pieces of literal text are one part."""

    parts: tuple[str | Hole, ...]

    @property
    def literal(self) -> str:
        """The text without its holes: all of it where the checker saw to it that there are none."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(part for part in self.parts if isinstance(part, Hole))


@dataclass(frozen=True)
class Regex(Node):
    pattern: str


@dataclass(frozen=True)
class Number(Node):
    value: int | float


# --- Files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version(Node):
    """`hw 1`"""

    number: Number


@dataclass(frozen=True)
class Import(Node):
    """`import "roles.hw"`"""

    path: String


@dataclass(frozen=True)
class Body(Node):
    """`{ CLAUSES }` of a role or a worker."""

    clauses: tuple["Clause", ...] = ()


@dataclass(frozen=True)
class Role(Node):
    """`role NAME { CLAUSES }`: a body for workers to share."""

    name: Name
    body: Body


@dataclass(frozen=True)
class Value(Node):
    """The default of a parameter: a string, a number, `true` or `false`."""

    value: String | Number | bool


@dataclass(frozen=True)
class Param(Node):
    """`NAME: TYPE = DEFAULT`"""

    name: Name
    type: Literal["str", "int", "float", "bool"]
    default: Value | None = None


@dataclass(frozen=True)
class Program(Node):
    """`program NAME(PARAMS) { DECLARATIONS }`"""

    name: Name
    params: tuple[Param, ...] = ()
    declarations: tuple["Declaration", ...] = ()


Item: TypeAlias = Version | Import | Role | Program


@dataclass(frozen=True)
class File(Node):
    items: tuple[Item, ...] = ()

    @property
    def imports(self) -> tuple[Import, ...]:
        return tuple(item for item in self.items if isinstance(item, Import))

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(item for item in self.items if isinstance(item, Role))

    @property
    def programs(self) -> tuple[Program, ...]:
        return tuple(item for item in self.items if isinstance(item, Program))


# --- Declarations of a program ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model(Node):
    """`model "Qwen/Qwen3-8B"`"""

    name: String


@dataclass(frozen=True)
class Option(Node):
    """`temperature 0.6`"""

    name: Literal["temperature", "top_p", "top_k", "min_p", "seed"]
    value: Number


@dataclass(frozen=True)
class Sampling(Node):
    """`sampling { OPTIONS }`, of a program or of a worker."""

    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Budget(Node):
    """`budget 4096 passes`"""

    passes: Number


@dataclass(frozen=True)
class Included(Node):
    """`file "rules.md"`: the contents of a file, as they are."""

    path: String


@dataclass(frozen=True)
class Text(Node):
    """`text NAME = "..."` or `text NAME = file "..."`"""

    name: Name
    value: String | Included


@dataclass(frozen=True)
class Scratchpad(Node):
    """`scratchpad NAME = "..."`: shared in a program, private in a worker. The text is what it holds at the start."""

    name: Name
    text: String | None = None


@dataclass(frozen=True)
class Stream(Node):
    """`stream NAME`: text that comes from outside while the run goes on."""

    name: Name


@dataclass(frozen=True)
class Worker(Node):
    """`worker A, B paused is ROLE { CLAUSES }`: one worker for each name."""

    names: tuple[Name, ...]
    paused: bool = False
    role: Name | None = None
    body: Body = Body()


@dataclass(frozen=True)
class Workers(Node):
    """`workers COUNT of A, B, C is ROLE { CLAUSES }`: the first COUNT of the names. A name is an `int` parameter's."""

    count: Number | Name
    names: tuple[Name, ...]
    paused: bool = False
    role: Name | None = None
    body: Body = Body()


@dataclass(frozen=True)
class Sync(Node):
    """`sync every N tokens { ACTIONS }`"""

    every: Number
    actions: tuple["Action", ...] = ()


@dataclass(frozen=True)
class Vote(Node):
    """`vote /regex/`"""

    regex: Regex


@dataclass(frozen=True)
class Otherwise(Node):
    """`else TEXT max N tokens`"""

    text: String
    max_tokens: Number | None = None


@dataclass(frozen=True)
class Answer(Node):
    """`answer SOURCE else TEXT`: where a run's answer comes from. A name is a scratchpad's or a worker's."""

    source: Name | Regex | Vote
    otherwise: Otherwise | None = None


Declaration: TypeAlias = Model | Sampling | Budget | Text | Scratchpad | Stream | Worker | Workers | Sync | Answer


# --- Clauses of a worker or a role -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Node):
    """Text in a view that is there from the start. `text` is the role of text that no chat template touches."""

    text: String
    role: Literal["text", "system", "user", "assistant"] = "text"
    in_context: bool = False


@dataclass(frozen=True)
class Others(Node):
    """`others`: the blocks of all other workers, in declaration order."""


@dataclass(frozen=True)
class Own(Node):
    """`self`: the worker's own block."""


Entry: TypeAlias = Constant | Name | Others | Own


@dataclass(frozen=True)
class Sees(Node):
    """`sees ENTRIES`: the cache layout, in order."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Layout(Node):
    """`layout KIND before others TEXT before self TEXT`: one of the three views of the Hogwild! paper."""

    kind: Literal["contiguous", "interleaved", "combined"]
    before_others: String | None = None
    before_self: String | None = None


@dataclass(frozen=True)
class Begin(Node):
    """`begin TEXT`: follows the first step prefix."""

    text: String


@dataclass(frozen=True)
class Step(Node):
    """`step PREFIX until SEPARATORS after sentence`"""

    prefix: String | None
    until: tuple[String, ...]
    after_sentence: bool = False


@dataclass(frozen=True)
class Forbid(Node):
    """`forbid TEXTS`: never sampled, however they are split into tokens."""

    texts: tuple[String, ...]


@dataclass(frozen=True)
class StopAt(Node):
    """`stop at TEXTS`: any of them ends the worker."""

    texts: tuple[String, ...]


@dataclass(frozen=True)
class MaxTokens(Node):
    """`max N tokens`"""

    count: Number


@dataclass(frozen=True)
class Paused(Node):
    """`paused`: the worker waits until it is resumed."""


@dataclass(frozen=True)
class Match(Node):
    """`match /regex/`: what a step may consist of."""

    regex: Regex


@dataclass(frozen=True)
class Json(Node):
    """`json "schema.json"`: every step is one value that fits the schema in this file."""

    path: String


# --- Triggers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AtStep(Node):
    """`step`"""


@dataclass(frozen=True)
class Every(Node):
    """`every N tokens|steps|passes at step`"""

    count: Number
    unit: Literal["tokens", "steps", "passes"]
    at_step: bool = False


@dataclass(frozen=True)
class Seen(Node):
    """A string: the worker has written it."""

    text: String


@dataclass(frozen=True)
class Matches(Node):
    """A regex: it is found in the step that has just ended."""

    regex: Regex


@dataclass(frozen=True)
class Arrives(Node):
    """A stream's name: text has come in."""

    stream: Name


@dataclass(frozen=True)
class AtStart(Node):
    """`start`"""


@dataclass(frozen=True)
class AtEnd(Node):
    """`end`"""


Trigger: TypeAlias = AtStep | Every | Seen | Matches | Arrives | AtStart | AtEnd


# --- Actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Say(Node):
    """`say TEXT`"""

    text: String


@dataclass(frozen=True)
class Choice(Node):
    """`TEXT { ACTIONS }` in an `ask`."""

    text: String
    actions: tuple["Action", ...] = ()


@dataclass(frozen=True)
class Ask(Node):
    """`ask TEXT { CHOICES }`"""

    text: String
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Post(Node):
    """`post TEXT to PAD`"""

    text: String
    pad: Name


@dataclass(frozen=True)
class Move(Node):
    """`move self to PAD`"""

    pad: Name


@dataclass(frozen=True)
class Clear(Node):
    """`clear PAD`"""

    pad: Name


@dataclass(frozen=True)
class Pause(Node):
    """`pause WORKER` or `pause self`"""

    worker: Name


@dataclass(frozen=True)
class Resume(Node):
    """`resume WORKER` or `resume self`"""

    worker: Name


@dataclass(frozen=True)
class Stop(Node):
    """`stop WORKER`, `stop self`; `stop` alone ends the run."""

    worker: Name | None = None


Action: TypeAlias = Say | Ask | Post | Move | Clear | Pause | Resume | Stop


@dataclass(frozen=True)
class On(Node):
    """`on TRIGGER or TRIGGER { ACTIONS }`"""

    triggers: tuple[Trigger, ...]
    actions: tuple[Action, ...] = ()


Clause: TypeAlias = (
    Scratchpad | Sees | Layout | Begin | Step | Forbid | StopAt | MaxTokens | Paused | Sampling | Match | Json | On
)
