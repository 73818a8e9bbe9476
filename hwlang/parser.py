"""Text -> syntax tree. The grammar is `grammar/hw.lark`; Lark parses, `ToSyntax` builds the nodes.

`parse` and `load` raise `CompileError` and nothing else, whatever the text. `read` goes on after slips inside a token
(an unknown escape, say), so that the checker can report the rest of the file in the same go.
"""

import gc
import re
import textwrap
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, cast

from lark import (
    Lark,
    Token,
    Transformer_NonRecursive,
    Tree,
    UnexpectedCharacters,
    UnexpectedInput,
    UnexpectedToken,
    v_args,
)
from lark.tree import Meta

from hwlang import syntax
from hwlang.diagnostics import CompileError, Diagnostic, Source, Span, closest, in_order, quoted

MAX_NESTING = 16  # `ask` inside the choice of an `ask`
MAX_DIGITS = 18


def parse(text: str, file: str = "<program>") -> syntax.File:
    """The syntax tree of a program's text. Raises `CompileError`."""
    tree, problems = read(Source(file, text.removeprefix("\ufeff")))
    if problems:
        raise CompileError(problems)
    return tree


def load(path: Path | str) -> Source:
    """Read a `.hw` file, as UTF-8. Raises `CompileError`."""
    path = Path(path)
    file = str(path)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise CompileError([unreadable(file, error)]) from None
    try:
        return Source(file, data.decode().removeprefix("\ufeff"), path)
    except UnicodeDecodeError as error:
        raise CompileError([_not_utf8(file, data, error.start)]) from None


def read(source: Source) -> tuple[syntax.File, tuple[Diagnostic, ...]]:
    """The syntax tree and what is wrong with it; an empty tree where the text does not fit the grammar."""
    surrogate = re.search("[\ud800-\udfff]", source.text)
    if surrogate:
        span = _span_at(source, surrogate.start(), 1)
        return syntax.File(), (Diagnostic("HW009", "the text has half of a surrogate pair", span),)
    to_syntax = ToSyntax(source)
    try:
        with no_collection(len(source.text)):
            return to_syntax.transform(grammar().parse(source.text)), in_order(to_syntax.problems)
    except UnexpectedInput as error:
        return syntax.File(), (syntax_error(source, error),)


@contextmanager
def no_collection(size: int) -> Iterator[None]:
    """Keep the garbage collector away from a large text: nodes are no garbage, and looking for it doubles the time."""
    pause = size > 100_000 and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


@cache
def grammar() -> Lark:
    """The parser. Building its tables takes about 0.1 s, once per process."""
    return Lark.open_from_package("hwgrammar", "hw.lark", parser="lalr", start="file", propagate_positions=True)


def unreadable(file: str, error: OSError | ValueError) -> Diagnostic:
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return Diagnostic("HW401", f"cannot read {quoted(file, 200)}: {reason}", Span(0, 0, 0, 0, Source(file, "")))


def _not_utf8(file: str, data: bytes, start: int) -> Diagnostic:
    source = Source(file, data.decode(errors="replace"))
    span = _span_at(source, len(data[:start].decode(errors="replace")), 1)
    return Diagnostic("HW009", f"byte 0x{data[start]:02x} is not UTF-8", span, "save the file as UTF-8")


def _span_at(source: Source, offset: int, length: int) -> Span:
    line = source.text.count("\n", 0, offset) + 1
    column = offset - source.text.rfind("\n", 0, offset)
    return Span(line, column, line, column + length, source)


# --- The tree --------------------------------------------------------------------------------------------------------

Heading = tuple[syntax.Paused | syntax.Name | syntax.Body, ...]


@v_args(inline=True, meta=True)
class ToSyntax(Transformer_NonRecursive[Token, syntax.File]):
    """Each method makes the node of the grammar rule of its name. Slips inside a token are kept in `problems`."""

    def __init__(self, source: Source) -> None:
        super().__init__(visit_tokens=False)
        # Lark wraps a method anew each time that it is looked up in the class: look them up once.
        for rule in vars(ToSyntax):
            if not rule.startswith("_"):
                setattr(self, rule, getattr(self, rule))
        self.source = source
        self.problems: list[Diagnostic] = []

    # Tokens

    def _span(self, at: Meta | Token) -> Span:
        end_line, end_column = cast(int, at.end_line), cast(int, at.end_column)
        return Span(cast(int, at.line), cast(int, at.column), end_line, end_column, self.source)

    def _name(self, token: Token) -> syntax.Name:
        return syntax.Name(str(token), span=self._span(token))

    def _regex(self, token: Token) -> syntax.Regex:
        pattern = re.sub(r"\\(.)", lambda m: "/" if m[1] == "/" else m[0], token[1:-1])
        return syntax.Regex(pattern, span=self._span(token))

    def _number(self, token: Token) -> syntax.Number:
        if len(token) > MAX_DIGITS:
            self._problem("HW007", f"the number {quoted(token, 24)} is too long", self._span(token))
            return syntax.Number(1, span=self._span(token))
        value = float(token) if re.search("[.eE]", token) else int(token)
        if value in (float("inf"), float("-inf")):
            self._problem("HW007", f"the number {quoted(token)} is too large", self._span(token))
            value = 1
        return syntax.Number(value, span=self._span(token))

    def _whole(self, token: Token) -> syntax.Number:
        number = self._number(token)
        if isinstance(number.value, float):
            self._problem("HW007", f"a whole number is needed here, not `{token}`", number.span)
            return syntax.Number(1, span=number.span)
        return number

    def _problem(self, code: str, message: str, span: Span, help: str | None = None) -> None:
        self.problems.append(Diagnostic(code, message, span, help))

    def string(self, meta: Meta, token: Token) -> syntax.String:
        lines = text_block_lines(token) if token.type == "TEXT_BLOCK" else string_lines(token)
        parts: list[str | syntax.Hole] = []
        for line in lines:
            parts += self._parts(line, escapes=token.type == "STRING")
        return syntax.String(joined(parts), span=self._span(token))

    def _parts(self, line: "Line", escapes: bool) -> Iterator[str | syntax.Hole]:
        """The pieces of one line of a string: literal text and holes."""
        end = 0
        for found in (PIECE_WITH_ESCAPES if escapes else PIECE).finditer(line.text):
            yield line.text[end : found.start()]
            end = found.end()
            column = line.column + found.start()
            span = Span(line.line, column, line.line, column + len(found[0]), self.source)
            yield self._piece(found, span)
        yield line.text[end:]

    def _piece(self, found: re.Match[str], span: Span) -> str | syntax.Hole:
        if found["name"]:
            return syntax.Hole(found["name"].strip(), span=span)
        if found["braces"] or found["lone"]:
            return found[0][:2]
        if found["open"]:
            help = "write `{{name}}` for a hole, `{{{{` for two braces"
            self._problem("HW006", "this `{{` does not open a hole", span, help)
            return ""
        return self._escape(found["escape"], span)

    def _escape(self, escape: str, span: Span) -> str:
        if escape in ESCAPES:
            return ESCAPES[escape]
        if len(escape) > 1:
            # As in JSON, a character beyond U+FFFF may be written as the two halves of its surrogate pair.
            units = [int(unit, 16) for unit in re.findall("u(....)", escape)]
            char = b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be", errors="ignore")
            if char:
                return char
            self._problem("HW005", f"{quoted(chr(92) + escape)} is half of a surrogate pair", span)
            return ""
        help = r"the escapes are \n \t \r \" \\ and \uXXXX; a backslash itself is written `\\`"
        self._problem("HW005", f"unknown escape {quoted(chr(92) + escape)}", span, help)
        return ""

    # Files

    def file(self, meta: Meta, *items: syntax.Item) -> syntax.File:
        for item in items[1:]:
            if isinstance(item, syntax.Version):
                self._problem("HW010", "`hw` and the language version come first in a file, once", item.span)
        return syntax.File(items)

    def version(self, meta: Meta, number: Token) -> syntax.Version:
        if str(number) != "1":
            message = f"language version {quoted(number, 24)} is not known"
            self._problem("HW010", message, self._span(number), "this hwlang reads version 1: `hw 1`")
        return syntax.Version(syntax.Number(1, span=self._span(number)), span=self._span(meta))

    def import_(self, meta: Meta, path: syntax.String) -> syntax.Import:
        return syntax.Import(path, span=self._span(meta))

    def role(self, meta: Meta, name: Token, body: syntax.Body) -> syntax.Role:
        return syntax.Role(self._name(name), body, span=self._span(meta))

    def program(self, meta: Meta, name: Token, *rest: "Params | syntax.Declaration") -> syntax.Program:
        params = rest[0] if rest and isinstance(rest[0], Params) else Params(())
        declarations = cast(tuple[syntax.Declaration, ...], rest[1:] if rest and rest[0] is params else rest)
        return syntax.Program(self._name(name), params.params, declarations, span=self._span(meta))

    def params(self, meta: Meta, *params: syntax.Param) -> "Params":
        return Params(params)

    def param(self, meta: Meta, name: Token, kind: Token, default: syntax.Value | None) -> syntax.Param:
        param_type = cast(Literal["str", "int", "float", "bool"], str(kind))
        return syntax.Param(self._name(name), param_type, default, span=self._span(meta))

    def value(self, meta: Meta, value: syntax.String | Token) -> syntax.Value:
        if isinstance(value, syntax.String):
            return syntax.Value(value, span=value.span)
        made = self._number(value) if value.type == "NUMBER" else value == "true"
        return syntax.Value(made, span=self._span(meta))

    # Declarations

    def model(self, meta: Meta, name: syntax.String) -> syntax.Model:
        return syntax.Model(name, span=self._span(meta))

    def sampling(self, meta: Meta, *options: syntax.Option) -> syntax.Sampling:
        return syntax.Sampling(options, span=self._span(meta))

    def option(self, meta: Meta, name: Token, value: Token) -> syntax.Option:
        option = cast(Literal["temperature", "top_p", "top_k", "min_p", "seed"], str(name))
        number = self._whole(value) if option in ("top_k", "seed") else self._number(value)
        return syntax.Option(option, number, span=self._span(meta))

    def budget(self, meta: Meta, passes: Token) -> syntax.Budget:
        return syntax.Budget(self._whole(passes), span=self._span(meta))

    def text(self, meta: Meta, name: Token, value: syntax.String | syntax.Included) -> syntax.Text:
        return syntax.Text(self._name(name), value, span=self._span(meta))

    def included(self, meta: Meta, path: syntax.String) -> syntax.Included:
        return syntax.Included(path, span=self._span(meta))

    def scratchpad(self, meta: Meta, name: Token, text: syntax.String | None) -> syntax.Scratchpad:
        return syntax.Scratchpad(self._name(name), text, span=self._span(meta))

    def stream(self, meta: Meta, name: Token) -> syntax.Stream:
        return syntax.Stream(self._name(name), span=self._span(meta))

    def worker(self, meta: Meta, names: tuple[syntax.Name, ...], heading: Heading) -> syntax.Worker:
        paused, role, body = parts_of(heading)
        return syntax.Worker(names, paused, role, body, span=self._span(meta))

    def workers(self, meta: Meta, count: Token, names: tuple[syntax.Name, ...], heading: Heading) -> syntax.Workers:
        number = self._whole(count) if count.type == "NUMBER" else self._name(count)
        paused, role, body = parts_of(heading)
        return syntax.Workers(number, names, paused, role, body, span=self._span(meta))

    def names(self, meta: Meta, *names: Token) -> tuple[syntax.Name, ...]:
        return tuple(self._name(name) for name in names)

    def heading(self, meta: Meta, *parts: syntax.Paused | syntax.Name | syntax.Body) -> Heading:
        return parts

    def is_(self, meta: Meta, role: Token) -> syntax.Name:
        return self._name(role)

    def sync(self, meta: Meta, every: Token, actions: tuple[syntax.Action, ...]) -> syntax.Sync:
        return syntax.Sync(self._whole(every), actions, span=self._span(meta))

    def answer(
        self, meta: Meta, source: Token | syntax.Vote, otherwise: syntax.Otherwise | None = None
    ) -> syntax.Answer:
        if isinstance(source, syntax.Vote):
            return syntax.Answer(source, otherwise, span=self._span(meta))
        made = self._regex(source) if source.type == "REGEX" else self._name(source)
        return syntax.Answer(made, otherwise, span=self._span(meta))

    def vote(self, meta: Meta, regex: Token) -> syntax.Vote:
        return syntax.Vote(self._regex(regex), span=self._span(meta))

    def otherwise(self, meta: Meta, text: syntax.String, count: Token | None) -> syntax.Otherwise:
        return syntax.Otherwise(text, self._whole(count) if count else None, span=self._span(meta))

    # Clauses

    def body(self, meta: Meta, *clauses: syntax.Clause) -> syntax.Body:
        return syntax.Body(clauses, span=self._span(meta))

    def sees(self, meta: Meta, *entries: syntax.Entry) -> syntax.Sees:
        return syntax.Sees(entries, span=self._span(meta))

    def constant(self, meta: Meta, first: syntax.String | Token, text: syntax.String | None = None) -> syntax.Constant:
        if isinstance(first, syntax.String):
            return syntax.Constant(first, span=self._span(meta))
        role = cast(Literal["system", "user", "assistant"], str(first))
        return syntax.Constant(cast(syntax.String, text), role, span=self._span(meta))

    def in_context(self, meta: Meta, text: syntax.String) -> syntax.Constant:
        return syntax.Constant(text, in_context=True, span=self._span(meta))

    def reference(self, meta: Meta, name: Token) -> syntax.Name:
        return self._name(name)

    def own(self, meta: Meta, token: Token) -> syntax.Own:
        return syntax.Own(span=self._span(token))

    def others(self, meta: Meta, token: Token) -> syntax.Others:
        return syntax.Others(span=self._span(token))

    def layout(self, meta: Meta, kind: Token, *before: tuple[Token, syntax.String]) -> syntax.Layout:
        texts: dict[str, syntax.String] = {}
        for token, text in before:
            if token in texts:
                self._problem("HW103", f"`before {token}` is given twice", self._span(token))
            texts[str(token)] = text
        layout = cast(Literal["contiguous", "interleaved", "combined"], str(kind))
        return syntax.Layout(layout, texts.get("others"), texts.get("self"), span=self._span(meta))

    def before(self, meta: Meta, what: Token, text: syntax.String) -> tuple[Token, syntax.String]:
        return what, text

    def begin(self, meta: Meta, text: syntax.String) -> syntax.Begin:
        return syntax.Begin(text, span=self._span(meta))

    def step(self, meta: Meta, *parts: "syntax.String | tuple[syntax.String, ...] | AfterSentence") -> syntax.Step:
        prefix = next((part for part in parts if isinstance(part, syntax.String)), None)
        until = next(part for part in parts if isinstance(part, tuple) and not isinstance(part, AfterSentence))
        return syntax.Step(prefix, until, isinstance(parts[-1], AfterSentence), span=self._span(meta))

    def after_sentence(self, meta: Meta) -> "AfterSentence":
        return AfterSentence()

    def strings(self, meta: Meta, *texts: syntax.String) -> tuple[syntax.String, ...]:
        return texts

    def forbid(self, meta: Meta, texts: tuple[syntax.String, ...]) -> syntax.Forbid:
        return syntax.Forbid(texts, span=self._span(meta))

    def stop_at(self, meta: Meta, texts: tuple[syntax.String, ...]) -> syntax.StopAt:
        return syntax.StopAt(texts, span=self._span(meta))

    def max_tokens(self, meta: Meta, count: Token) -> syntax.MaxTokens:
        return syntax.MaxTokens(self._whole(count), span=self._span(meta))

    def paused(self, meta: Meta) -> syntax.Paused:
        return syntax.Paused(span=self._span(meta))

    def match(self, meta: Meta, regex: Token) -> syntax.Match:
        return syntax.Match(self._regex(regex), span=self._span(meta))

    def json(self, meta: Meta, path: syntax.String) -> syntax.Json:
        return syntax.Json(path, span=self._span(meta))

    # Triggers

    def on(self, meta: Meta, *parts: syntax.Trigger | tuple[syntax.Action, ...]) -> syntax.On:
        triggers = cast(tuple[syntax.Trigger, ...], parts[:-1])
        return syntax.On(triggers, cast(tuple[syntax.Action, ...], parts[-1]), span=self._span(meta))

    def at_step(self, meta: Meta) -> syntax.AtStep:
        return syntax.AtStep(span=self._span(meta))

    def every(self, meta: Meta, count: Token, unit: "Unit", step_end: object = None) -> syntax.Every:
        return syntax.Every(self._whole(count), unit, step_end is not None, span=self._span(meta))

    def tokens(self, meta: Meta) -> "Unit":
        return "tokens"

    def steps(self, meta: Meta) -> "Unit":
        return "steps"

    def passes(self, meta: Meta) -> "Unit":
        return "passes"

    def step_end(self, meta: Meta) -> bool:
        return True

    def seen(self, meta: Meta, text: syntax.String) -> syntax.Seen:
        return syntax.Seen(text, span=self._span(meta))

    def matches(self, meta: Meta, regex: Token) -> syntax.Matches:
        return syntax.Matches(self._regex(regex), span=self._span(meta))

    def arrives(self, meta: Meta, stream: Token) -> syntax.Arrives:
        return syntax.Arrives(self._name(stream), span=self._span(meta))

    def at_start(self, meta: Meta) -> syntax.AtStart:
        return syntax.AtStart(span=self._span(meta))

    def at_end(self, meta: Meta) -> syntax.AtEnd:
        return syntax.AtEnd(span=self._span(meta))

    # Actions

    def actions(self, meta: Meta, *actions: syntax.Action) -> tuple[syntax.Action, ...]:
        return actions

    def say(self, meta: Meta, text: syntax.String) -> syntax.Say:
        return syntax.Say(text, span=self._span(meta))

    def ask(self, meta: Meta, text: syntax.String, *choices: syntax.Choice) -> syntax.Ask:
        made = syntax.Ask(text, choices, span=self._span(meta))
        if nesting(made) <= MAX_NESTING:
            return made
        # Cut here, so that nothing after the parser can be made to recurse too deeply.
        if all(problem.code != "HW008" for problem in self.problems):
            self._problem("HW008", f"`ask` is nested more than {MAX_NESTING} deep", text.span)
        return syntax.Ask(text, tuple(syntax.Choice(c.text, span=c.span) for c in choices), span=made.span)

    def choice(self, meta: Meta, text: syntax.String, actions: tuple[syntax.Action, ...]) -> syntax.Choice:
        return syntax.Choice(text, actions, span=self._span(meta))

    def post(self, meta: Meta, text: syntax.String, pad: Token) -> syntax.Post:
        return syntax.Post(text, self._name(pad), span=self._span(meta))

    def move(self, meta: Meta, _own: Token, pad: Token) -> syntax.Move:
        return syntax.Move(self._name(pad), span=self._span(meta))

    def clear(self, meta: Meta, pad: Token) -> syntax.Clear:
        return syntax.Clear(self._name(pad), span=self._span(meta))

    def pause(self, meta: Meta, worker: Token) -> syntax.Pause:
        return syntax.Pause(self._name(worker), span=self._span(meta))

    def resume(self, meta: Meta, worker: Token) -> syntax.Resume:
        return syntax.Resume(self._name(worker), span=self._span(meta))

    def stop(self, meta: Meta, worker: Token | None = None) -> syntax.Stop:
        return syntax.Stop(self._name(worker) if worker else None, span=self._span(meta))


Unit = Literal["tokens", "steps", "passes"]


class Params(NamedTuple):
    params: tuple[syntax.Param, ...]


class AfterSentence(NamedTuple):
    """The mark that `after sentence` was there."""


def parts_of(heading: Heading) -> tuple[bool, syntax.Name | None, syntax.Body]:
    """What follows a worker's names: paused or not, its role, its own body."""
    paused = any(isinstance(part, syntax.Paused) for part in heading)
    role = next((part for part in heading if isinstance(part, syntax.Name)), None)
    return paused, role, next((part for part in heading if isinstance(part, syntax.Body)), syntax.Body())


def nesting(ask: syntax.Ask) -> int:
    """How many levels of `ask` there are in this one."""
    inner = (action for choice in ask.choices for action in choice.actions if isinstance(action, syntax.Ask))
    return 1 + max(map(nesting, inner), default=0)


# --- Strings ---------------------------------------------------------------------------------------------------------

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}

# A single brace before a hole is text: `\frac{{{a}}}{{{b}}}` has two holes.
_NAME = r" *(?:[A-Za-z_]\w*|[0-9]+) *"
_HOLE = rf"\{{\{{(?P<name>{_NAME})\}}\}}"
_BRACES = rf"(?P<braces>\{{\{{\{{\{{)|(?P<lone>\{{)(?=\{{\{{{_NAME}\}}\}})|{_HOLE}|(?P<open>\{{\{{)"
_ESCAPE = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|."
PIECE = re.compile(_BRACES)
PIECE_WITH_ESCAPES = re.compile(rf"{_BRACES}|\\(?P<escape>{_ESCAPE})")


class Line(NamedTuple):
    """A stretch of a string and the place in the source where it starts."""

    text: str
    line: int
    column: int


def string_lines(token: Token) -> list[Line]:
    return [Line(token[1:-1], cast(int, token.line), cast(int, token.column) + 1)]


def text_block_lines(token: Token) -> list[Line]:
    """The lines of a text block, line ends included.

    Where the quotes open with a line of their own, that line is dropped, the indentation that all other lines share is
    removed, and so is the indentation of the closing quotes. Otherwise the text is taken as it is.
    """
    first, *lines = token[3:-3].replace("\r\n", "\n").split("\n")
    line, column = cast(int, token.line), cast(int, token.column)
    if first.strip() or not lines:
        texts = [(first, column + 3), *((text, 1) for text in lines)]
    else:
        if not lines[-1].strip():
            lines[-1] = ""
        dedented = textwrap.dedent("\n".join(lines)).split("\n")
        texts = [(new, 1 + len(old) - len(new)) for old, new in zip(lines, dedented, strict=True)]
        line += 1
    ends = ["\n"] * (len(texts) - 1) + [""]
    return [Line(text + end, line + i, at) for i, ((text, at), end) in enumerate(zip(texts, ends, strict=True))]


def joined(parts: list[str | syntax.Hole]) -> syntax.Parts:
    """The parts of a string, with neighbouring pieces of text made one."""
    made: list[str | syntax.Hole] = []
    text: list[str] = []
    for part in [*parts, None]:
        if isinstance(part, str):
            text.append(part)
            continue
        if any(text):
            made.append("".join(text))
        text = []
        if part is not None:
            made.append(part)
    return tuple(made)


# --- Syntax errors ---------------------------------------------------------------------------------------------------

# What a group of terminals is called where all of them could follow.
GROUPS = (
    ({"_IMPORT", "_ROLE", "_PROGRAM"}, "`program`, `role` or `import`"),
    (
        {"_MODEL", "_SAMPLING", "_BUDGET", "_TEXT", "_SCRATCHPAD", "_STREAM", "_WORKER", "_WORKERS", "_SYNC"}
        | {"_ANSWER"},
        "a declaration (`worker`, `scratchpad`, `text`, `sync`, `answer`, ...)",
    ),
    (
        {"_SCRATCHPAD", "_SEES", "_LAYOUT", "_BEGIN", "_STEP", "_FORBID", "_STOP", "_MAX", "_PAUSED", "_SAMPLING"}
        | {"_MATCH", "_JSON", "_ON"},
        "a worker's clause (`sees`, `step`, `on`, ...)",
    ),
    (
        {"_SAY", "_ASK", "_POST", "_MOVE", "_CLEAR", "_PAUSE", "_RESUME", "_STOP"},
        "an action (`say`, `ask`, `post`, `move`, `clear`, `pause`, `resume`, `stop`)",
    ),
    (
        {"STRING", "TEXT_BLOCK", "REGEX", "_STEP", "_EVERY", "_START", "_END", "NAME"},
        "a trigger (`step`, `every`, a string, a /regex/, a stream's name, `start`, `end`)",
    ),
    (
        {"STRING", "TEXT_BLOCK", "NAME", "CHAT_ROLE", "SELF", "OTHERS", "_IN"},
        "an entry of the view (a string, a name, `others`, `self`, ...)",
    ),
    ({"_TOKENS", "_STEPS", "_PASSES"}, "`tokens`, `steps` or `passes`"),
    ({"STRING", "TEXT_BLOCK"}, "a string"),
)
PHRASES = {
    "NAME": "a name",
    "NUMBER": "a number",
    "REGEX": "a /regex/",
    "CHAT_ROLE": "`system`, `user` or `assistant`",
    "LAYOUT_KIND": "`contiguous`, `interleaved` or `combined`",
    "OPTION": "`temperature`, `top_p`, `top_k`, `min_p` or `seed`",
    "TYPE": "a type (`str`, `int`, `float` or `bool`)",
    "BOOL": "`true` or `false`",
    "SELF": "`self`",
    "OTHERS": "`others`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "_HW": "`hw`",
    "$END": "the end of the file",
}


def syntax_error(source: Source, error: UnexpectedInput) -> Diagnostic:
    """Lark's error in our words."""
    if isinstance(error, UnexpectedCharacters):
        return bad_character(source, cast(int, error.pos_in_stream))
    assert isinstance(error, UnexpectedToken), error
    token, accepts = error.token, set(error.accepts)
    if token.type == "$END":
        return unexpected_end(source, error, accepts)
    span = Span(token.line or 1, token.column or 1, token.end_line or 1, token.end_column or 1, source)
    if token.type == "RBRACE" and open_brace(error) is None:
        return Diagnostic("HW001", "this `}` closes nothing", span)
    message = f"expected {wanted(accepts)}{after(error)}, found {quoted(token)}"
    return Diagnostic("HW001", message, span, repair(error, accepts))


def wanted(accepts: set[str]) -> str:
    """A set of terminals in words."""
    phrases: list[str] = []
    rest = set(accepts) - ({"_HW", "$END"} if len(accepts) > 2 else set())
    for group, phrase in GROUPS:
        if group <= rest:
            rest -= group
            phrases.append(phrase)
    phrases += [PHRASES.get(terminal) or f"`{keyword(terminal)}`" for terminal in sorted(rest)]
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " or " + phrases[-1]


def keyword(terminal: str) -> str:
    return terminal.strip("_").lower()


def after(error: UnexpectedToken) -> str:
    last = value_stack(error)[-1:]
    return f" after {quoted(last[0])}" if last and isinstance(last[0], Token) and last[0].type != "LBRACE" else ""


def repair(error: UnexpectedToken, accepts: set[str]) -> str | None:
    """A guess at the slip behind an unexpected token."""
    token = error.token
    words = [word for terminal in accepts for word in spellings(terminal)]
    close = closest(token, words, 0.7) if token.type == "NAME" else None
    if close:
        return f"did you mean `{close}`?"
    brace = open_brace(error)
    if token.type in ("_PROGRAM", "_ROLE", "_IMPORT", "_WORKER", "_WORKERS", "_SYNC", "_ANSWER") and brace:
        return f"the `{{` of line {brace.line} is still open: is a `}}` missing before this?"
    if token.type in ("NAME", "NUMBER", "STRING", "TEXT_BLOCK", "SELF", "OTHERS", "CHAT_ROLE") and "COMMA" in accepts:
        return f"is a `,` missing before {quoted(token)}?"
    return None


def spellings(terminal: str) -> list[str]:
    """The words of a keyword terminal."""
    return re.findall(r"`(\w+)`", PHRASES[terminal]) if terminal in PHRASES else [keyword(terminal)]


def value_stack(error: UnexpectedToken) -> list[Token | Tree[Token]]:
    return cast(list[Token | Tree[Token]], error.interactive_parser.parser_state.value_stack)


def open_brace(error: UnexpectedToken) -> Token | None:
    """The innermost `{` that is still open."""
    closed = 0
    for value in reversed(value_stack(error)):
        if isinstance(value, Token) and value.type == "RBRACE":
            closed += 1
        elif isinstance(value, Token) and value.type == "LBRACE":
            if not closed:
                return value
            closed -= 1
    return None


def unexpected_end(source: Source, error: UnexpectedToken, accepts: set[str]) -> Diagnostic:
    brace = open_brace(error)
    if brace and "RBRACE" in accepts:
        span = Span(brace.line or 1, brace.column or 1, brace.line or 1, (brace.column or 1) + 1, source)
        help = f"the file ends at line {len(source.lines)}, before its `}}`"
        return Diagnostic("HW004", "this `{` is never closed", span, help)
    end = len(source.text.rstrip())
    return Diagnostic(
        "HW001", f"expected {wanted(accepts)}{after(error)}, found the end of the file", _span_at(source, end, 1)
    )


def bad_character(source: Source, offset: int) -> Diagnostic:
    """No token starts here: a string that is not closed, or a character that the language has no use for."""
    rest = source.text[offset : offset + 3]
    if rest == '"""':
        return Diagnostic("HW003", 'this `"""` is never closed', _span_at(source, offset, 3))
    if rest[0] in '"/':
        what = "string" if rest[0] == '"' else "regex"
        end = source.text.find("\n", offset)
        length = (len(source.text) if end < 0 else end) - offset
        help = 'use `"""` for several lines' if what == "string" else "comments start with `#`; `/.../` is a regex"
        return Diagnostic("HW003", f"this {what} is not closed on its line", _span_at(source, offset, length), help)
    char = rest[0]
    name = unicodedata.name(char, "")
    straight = 'strings are written with straight quotes: `"`' if "QUOTATION MARK" in name else None
    message = f"unexpected character {quoted(char)} (U+{ord(char):04X}{' ' + name if name else ''})"
    return Diagnostic("HW002", message, _span_at(source, offset, 1), straight)
