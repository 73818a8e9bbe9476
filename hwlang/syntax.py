"""The syntax tree of a `.hw` file: frozen data, one class for each rule of `grammar/hw.lark`, under the same name.

Every node keeps the span of its source; spans never take part in comparisons, so that a tree that was built in Python
equals the tree of the same program in a file.
"""

from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, dataclass_transform

from hwlang.diagnostics import NOWHERE, Span


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Node:
    """Every class below is a frozen dataclass, made so when it is defined.

    Comparing and printing are written here once for all of them: generated for each, they are most of what importing
    this module costs.
    """

    span: Span = field(default=NOWHERE, compare=False, repr=False)

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, eq=False, repr=False)(cls)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values())
        return f"{type(self).__name__}({values})"

    def _values(self) -> tuple[tuple[str, object], ...]:
        """The fields that are compared and printed: all but the span."""
        return tuple((each.name, getattr(self, each.name)) for each in fields(self) if each.compare)


class Name(Node):
    """A name, where it is declared and where it is used. `self` is one of them."""

    value: str


# --- Texts -----------------------------------------------------------------------------------------------------------


class Hole(Node):
    """`{{name}}` in a string. The name of a regex group is its number."""

    name: str


Parts: TypeAlias = tuple[str | Hole, ...]


class String(Node):
    """`"..."` or a text block, with escapes resolved. Neighbouring pieces of literal text are one part."""

    parts: Parts

    @property
    def literal(self) -> str:
        """The text without its holes: all of it where the checker saw to it that there are none."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(part for part in self.parts if isinstance(part, Hole))


class Regex(Node):
    """`/regex/`, its slashes without their backslash."""

    pattern: str


class Number(Node):
    """`256`, `0.6`, `-1`, `1e-3`"""

    value: int | float


# --- Files -----------------------------------------------------------------------------------------------------------


class Version(Node):
    """`hw 1`"""

    number: Number


class Import(Node):
    """`import "roles.hw"`"""

    path: String


class Body(Node):
    """`{ CLAUSES }` of a role or a worker."""

    clauses: tuple["Clause", ...] = ()


class Role(Node):
    """`role NAME { CLAUSES }`: a body for workers to share."""

    name: Name
    body: Body


class Value(Node):
    """The default of a parameter: a string, a number, `true` or `false`."""

    value: String | Number | bool


class Param(Node):
    """`NAME: TYPE = DEFAULT`"""

    name: Name
    type: Literal["str", "int", "float", "bool"]
    default: Value | None = None


class Program(Node):
    """`program NAME(PARAMS) { DECLARATIONS }`"""

    name: Name
    params: tuple[Param, ...] = ()
    declarations: tuple["Declaration", ...] = ()


class Test(Node):
    """`test PROGRAM "TITLE" { CLAUSES }`"""

    program: Name
    title: String
    clauses: tuple["TestClause", ...] = ()


Item: TypeAlias = Version | Import | Role | Program | Test


class File(Node):
    """A whole `.hw` file."""

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

    @property
    def tests(self) -> tuple[Test, ...]:
        return tuple(item for item in self.items if isinstance(item, Test))


# --- Declarations of a program ---------------------------------------------------------------------------------------


class Model(Node):
    """`model "Qwen/Qwen3-8B"`"""

    name: String


class Option(Node):
    """`temperature 0.6`"""

    name: Literal["temperature", "top_p", "top_k", "min_p", "seed"]
    value: Number


class Sampling(Node):
    """`sampling { OPTIONS }`, of a program or of a worker."""

    options: tuple[Option, ...] = ()


class Budget(Node):
    """`budget 4096 passes`"""

    passes: Number


class Included(Node):
    """`file "rules.md"`: the contents of a file, as they are."""

    path: String


class Text(Node):
    """`text NAME = "..."` or `text NAME = file "..."`"""

    name: Name
    value: String | Included


class Scratchpad(Node):
    """`scratchpad NAME = "..."`: shared in a program, private in a worker. The text is what it holds at the start."""

    name: Name
    text: String | None = None


class Stream(Node):
    """`stream NAME`: text that comes from outside while the run goes on."""

    name: Name


class Worker(Node):
    """`worker A, B paused is ROLE { CLAUSES }`: one worker for each name."""

    names: tuple[Name, ...]
    paused: bool = False
    role: Name | None = None
    body: Body = Body()


class Workers(Node):
    """`workers COUNT of A, B, C is ROLE { CLAUSES }`: the first COUNT of the names. A name is an `int` parameter's."""

    count: Number | Name
    names: tuple[Name, ...]
    paused: bool = False
    role: Name | None = None
    body: Body = Body()


class Sync(Node):
    """`sync every N tokens { ACTIONS }`"""

    every: Number
    actions: tuple["Action", ...] = ()


class Vote(Node):
    """`vote /regex/`"""

    regex: Regex


class Otherwise(Node):
    """`else TEXT max N tokens`"""

    text: String
    max_tokens: Number | None = None


class Answer(Node):
    """`answer SOURCE else TEXT`: where a run's answer comes from. A name is a scratchpad's or a worker's."""

    source: Name | Regex | Vote
    otherwise: Otherwise | None = None


Declaration: TypeAlias = Model | Sampling | Budget | Text | Scratchpad | Stream | Worker | Workers | Sync | Answer


# --- Clauses of a worker or a role -----------------------------------------------------------------------------------


class Constant(Node):
    """Text in a view that is there from the start. `text` is the role of text that no chat template touches."""

    text: String
    role: Literal["text", "system", "user", "assistant"] = "text"
    in_context: bool = False


class Others(Node):
    """`others`: the blocks of all other workers, in declaration order."""


class Own(Node):
    """`self`: the worker's own block."""


Entry: TypeAlias = Constant | Name | Others | Own


class Sees(Node):
    """`sees ENTRIES`: the cache layout, in order."""

    entries: tuple[Entry, ...]


class Layout(Node):
    """`layout KIND before others TEXT before self TEXT`: one of the three views of the Hogwild! paper."""

    kind: Literal["contiguous", "interleaved", "combined"]
    before_others: String | None = None
    before_self: String | None = None


class Begin(Node):
    """`begin TEXT`: follows the first step prefix."""

    text: String


class Step(Node):
    """`step PREFIX until SEPARATORS after sentence`"""

    prefix: String | None
    until: tuple[String, ...]
    after_sentence: bool = False


class Forbid(Node):
    """`forbid TEXTS`: never sampled, however they are split into tokens."""

    texts: tuple[String, ...]


class StopAt(Node):
    """`stop at TEXTS`: any of them ends the worker."""

    texts: tuple[String, ...]


class MaxTokens(Node):
    """`max N tokens`"""

    count: Number


class Paused(Node):
    """`paused`: the worker waits until it is resumed."""


class Match(Node):
    """`match /regex/`: what a step may consist of."""

    regex: Regex


class Json(Node):
    """`json "schema.json"`: every step is one value that fits the schema in this file."""

    path: String


# --- Triggers --------------------------------------------------------------------------------------------------------


class AtStep(Node):
    """`step`"""


class Every(Node):
    """`every N tokens|steps|passes at step`"""

    count: Number
    unit: Literal["tokens", "steps", "passes"]
    at_step: bool = False


class Seen(Node):
    """A string: the worker has written it."""

    text: String


class Matches(Node):
    """A regex: it is found in the step that has just ended."""

    regex: Regex


class Arrives(Node):
    """A stream's name: text has come in."""

    stream: Name


class AtStart(Node):
    """`start`"""


class AtEnd(Node):
    """`end`"""


Trigger: TypeAlias = AtStep | Every | Seen | Matches | Arrives | AtStart | AtEnd


# --- Actions ---------------------------------------------------------------------------------------------------------


class Say(Node):
    """`say TEXT`"""

    text: String


class Choice(Node):
    """`TEXT { ACTIONS }` in an `ask`."""

    text: String
    actions: tuple["Action", ...] = ()


class Ask(Node):
    """`ask TEXT { CHOICES }`"""

    text: String
    choices: tuple[Choice, ...] = ()


class Post(Node):
    """`post TEXT to PAD`"""

    text: String
    pad: Name


class Move(Node):
    """`move self to PAD`"""

    pad: Name


class Clear(Node):
    """`clear PAD`"""

    pad: Name


class Pause(Node):
    """`pause WORKER` or `pause self`"""

    worker: Name


class Resume(Node):
    """`resume WORKER` or `resume self`"""

    worker: Name


class Stop(Node):
    """`stop WORKER`, `stop self`; `stop` alone ends the run."""

    worker: Name | None = None


Action: TypeAlias = Say | Ask | Post | Move | Clear | Pause | Resume | Stop


class On(Node):
    """`on TRIGGER or TRIGGER { ACTIONS }`"""

    triggers: tuple[Trigger, ...]
    actions: tuple[Action, ...] = ()


Clause: TypeAlias = (
    Scratchpad | Sees | Layout | Begin | Step | Forbid | StopAt | MaxTokens | Paused | Sampling | Match | Json | On
)


# --- Clauses of a test -----------------------------------------------------------------------------------------------


class Setting(Node):
    """`NAME = VALUE` or `NAME = file "..."`: what a parameter is."""

    name: Name
    value: Value | Included


class Given(Node):
    """`given SETTINGS`"""

    settings: tuple[Setting, ...]


class Says(Node):
    """`says WORKER TEXTS`: what a worker of the scripted model writes, one text after the other."""

    worker: Name
    texts: tuple[String, ...]


class Picks(Node):
    """`picks CHOICE at QUESTION`: what the scripted model chooses where an `ask` has this text."""

    choice: String
    question: String


class Feed(Node):
    """`feed STREAM TEXT after N passes`"""

    stream: Name
    text: String
    after: Number


class Expect(Node):
    """`expect NAME TEXT`, `expect NAME of WORKER /regex/`, `expect NAME contains TEXT`, `expect NAME lacks TEXT`"""

    what: Name
    worker: Name | None
    how: Literal["is", "contains", "lacks"]
    value: String | Regex


class ExpectPasses(Node):
    """`expect max N passes`"""

    most: Number


TestClause: TypeAlias = Given | Model | Budget | Option | Says | Picks | Feed | Expect | ExpectPasses
