"""Tokens -> syntax tree: the node of each rule of the grammar."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from lark import Token

from hwlang import syntax
from hwlang.diagnostics import NOWHERE, Diagnostic, Source, Span, quoted
from hwlang.parsing.lalr import Builder, Make
from hwlang.parsing.literals import parts_of_string

MAX_NESTING = 16  # `ask` inside the choice of an `ask`
MAX_DIGITS = 18

Heading = tuple[syntax.Paused | syntax.Name | syntax.Body, ...]


class ToSyntax:
    """Each method makes the node of the grammar rule of its name. Slips inside a token are kept in `problems`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Diagnostic] = []

    def __call__(self, tokens: Sequence[Token]) -> syntax.File:
        """The syntax tree. Raises `lalr.Unexpected` where a token does not fit the grammar."""
        tree = Builder(self._maker).build(tokens)
        assert isinstance(tree, syntax.File)
        return tree

    def _maker(self, rule: str) -> Make:
        """What makes the node of a rule of a first token, a last one and the nodes between them."""
        make, source = getattr(self, rule), self.source

        def node(first: Token | None, last: Token | None, *children: object) -> object:
            if first is None or last is None:
                return make(NOWHERE, *children)
            if (last.end_pos or 0) < (first.start_pos or 0):
                first, last = last, first  # a repair has exchanged them
            return make(Span(first.line, first.column, last.end_line, last.end_column, source), *children)  # type: ignore[arg-type]

        return node

    # Tokens

    def _span(self, at: Token) -> Span:
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

    def string(self, span: Span, token: Token) -> syntax.String:
        return syntax.String(parts_of_string(token, self.source, self._problem), span=span)

    # Files

    def file(self, span: Span, *items: syntax.Item) -> syntax.File:
        for item in items[1:]:
            if isinstance(item, syntax.Version):
                self._problem("HW010", "`hw` and the language version come first in a file, once", item.span)
        return syntax.File(items)

    def version(self, span: Span, number: Token) -> syntax.Version:
        if str(number) != "1":
            message = f"language version {quoted(number, 24)} is not known"
            self._problem("HW010", message, self._span(number), "this hwlang reads version 1: `hw 1`")
        return syntax.Version(syntax.Number(1, span=self._span(number)), span=span)

    def import_(self, span: Span, path: syntax.String) -> syntax.Import:
        return syntax.Import(path, span=span)

    def role(self, span: Span, name: Token, body: syntax.Body) -> syntax.Role:
        return syntax.Role(self._name(name), body, span=span)

    def program(self, span: Span, name: Token, *rest: "Params | syntax.Declaration") -> syntax.Program:
        params = rest[0] if rest and isinstance(rest[0], Params) else Params(())
        declarations = cast(tuple[syntax.Declaration, ...], rest[1:] if rest and rest[0] is params else rest)
        return syntax.Program(self._name(name), params.params, declarations, span=span)

    def params(self, span: Span, *params: syntax.Param) -> "Params":
        return Params(params)

    def param(self, span: Span, name: Token, kind: Token, default: syntax.Value | None = None) -> syntax.Param:
        param_type = cast(Literal["str", "int", "float", "bool"], str(kind))
        return syntax.Param(self._name(name), param_type, default, span=span)

    def value(self, span: Span, value: syntax.String | Token) -> syntax.Value:
        if isinstance(value, syntax.String):
            return syntax.Value(value, span=value.span)
        made = self._number(value) if value.type == "NUMBER" else value == "true"
        return syntax.Value(made, span=span)

    # Declarations

    def model(self, span: Span, name: syntax.String) -> syntax.Model:
        return syntax.Model(name, span=span)

    def sampling(self, span: Span, *options: syntax.Option) -> syntax.Sampling:
        return syntax.Sampling(options, span=span)

    def option(self, span: Span, name: Token, value: Token) -> syntax.Option:
        option = cast(Literal["temperature", "top_p", "top_k", "min_p", "seed"], str(name))
        number = self._whole(value) if option in ("top_k", "seed") else self._number(value)
        return syntax.Option(option, number, span=span)

    def budget(self, span: Span, passes: Token) -> syntax.Budget:
        return syntax.Budget(self._whole(passes), span=span)

    def text(self, span: Span, name: Token, value: syntax.String | syntax.Included) -> syntax.Text:
        return syntax.Text(self._name(name), value, span=span)

    def included(self, span: Span, path: syntax.String) -> syntax.Included:
        return syntax.Included(path, span=span)

    def scratchpad(self, span: Span, name: Token, text: syntax.String | None = None) -> syntax.Scratchpad:
        return syntax.Scratchpad(self._name(name), text, span=span)

    def stream(self, span: Span, name: Token) -> syntax.Stream:
        return syntax.Stream(self._name(name), span=span)

    def worker(self, span: Span, names: tuple[syntax.Name, ...], heading: Heading) -> syntax.Worker:
        paused, role, body = parts_of(heading)
        return syntax.Worker(names, paused, role, body, span=span)

    def workers(self, span: Span, count: Token, names: tuple[syntax.Name, ...], heading: Heading) -> syntax.Workers:
        number = self._whole(count) if count.type == "NUMBER" else self._name(count)
        paused, role, body = parts_of(heading)
        return syntax.Workers(number, names, paused, role, body, span=span)

    def names(self, span: Span, *names: Token) -> tuple[syntax.Name, ...]:
        return tuple(self._name(name) for name in names)

    def heading(self, span: Span, *parts: syntax.Paused | syntax.Name | syntax.Body) -> Heading:
        return parts

    def is_(self, span: Span, role: Token) -> syntax.Name:
        return self._name(role)

    def sync(self, span: Span, every: Token, actions: tuple[syntax.Action, ...]) -> syntax.Sync:
        return syntax.Sync(self._whole(every), actions, span=span)

    def answer(
        self, span: Span, source: Token | syntax.Vote, otherwise: syntax.Otherwise | None = None
    ) -> syntax.Answer:
        if isinstance(source, syntax.Vote):
            return syntax.Answer(source, otherwise, span=span)
        made = self._regex(source) if source.type == "REGEX" else self._name(source)
        return syntax.Answer(made, otherwise, span=span)

    def vote(self, span: Span, regex: Token) -> syntax.Vote:
        return syntax.Vote(self._regex(regex), span=span)

    def otherwise(self, span: Span, text: syntax.String, count: Token | None = None) -> syntax.Otherwise:
        return syntax.Otherwise(text, self._whole(count) if count else None, span=span)

    # Clauses

    def body(self, span: Span, *clauses: syntax.Clause) -> syntax.Body:
        return syntax.Body(clauses, span=span)

    def sees(self, span: Span, *entries: syntax.Entry) -> syntax.Sees:
        return syntax.Sees(entries, span=span)

    def constant(self, span: Span, first: syntax.String | Token, text: syntax.String | None = None) -> syntax.Constant:
        if isinstance(first, syntax.String):
            return syntax.Constant(first, span=span)
        role = cast(Literal["system", "user", "assistant"], str(first))
        return syntax.Constant(cast(syntax.String, text), role, span=span)

    def in_context(self, span: Span, text: syntax.String) -> syntax.Constant:
        return syntax.Constant(text, in_context=True, span=span)

    def reference(self, span: Span, name: Token) -> syntax.Name:
        return self._name(name)

    def own(self, span: Span, token: Token) -> syntax.Own:
        return syntax.Own(span=self._span(token))

    def others(self, span: Span, token: Token) -> syntax.Others:
        return syntax.Others(span=self._span(token))

    def layout(self, span: Span, kind: Token, *before: tuple[Token, syntax.String]) -> syntax.Layout:
        texts: dict[str, syntax.String] = {}
        for token, text in before:
            if token in texts:
                self._problem("HW103", f"`before {token}` is given twice", self._span(token))
            texts[str(token)] = text
        layout = cast(Literal["contiguous", "interleaved", "combined"], str(kind))
        return syntax.Layout(layout, texts.get("others"), texts.get("self"), span=span)

    def before(self, span: Span, what: Token, text: syntax.String) -> tuple[Token, syntax.String]:
        return what, text

    def begin(self, span: Span, text: syntax.String) -> syntax.Begin:
        return syntax.Begin(text, span=span)

    def step(self, span: Span, *parts: "syntax.String | tuple[syntax.String, ...] | AfterSentence") -> syntax.Step:
        prefix = next((part for part in parts if isinstance(part, syntax.String)), None)
        until = next(part for part in parts if isinstance(part, tuple) and not isinstance(part, AfterSentence))
        return syntax.Step(prefix, until, isinstance(parts[-1], AfterSentence), span=span)

    def after_sentence(self, span: Span) -> "AfterSentence":
        return AfterSentence()

    def strings(self, span: Span, *texts: syntax.String) -> tuple[syntax.String, ...]:
        return texts

    def forbid(self, span: Span, texts: tuple[syntax.String, ...]) -> syntax.Forbid:
        return syntax.Forbid(texts, span=span)

    def stop_at(self, span: Span, texts: tuple[syntax.String, ...]) -> syntax.StopAt:
        return syntax.StopAt(texts, span=span)

    def max_tokens(self, span: Span, count: Token) -> syntax.MaxTokens:
        return syntax.MaxTokens(self._whole(count), span=span)

    def paused(self, span: Span) -> syntax.Paused:
        return syntax.Paused(span=span)

    def match(self, span: Span, regex: Token) -> syntax.Match:
        return syntax.Match(self._regex(regex), span=span)

    def json(self, span: Span, path: syntax.String) -> syntax.Json:
        return syntax.Json(path, span=span)

    # Triggers

    def on(self, span: Span, *parts: syntax.Trigger | tuple[syntax.Action, ...]) -> syntax.On:
        triggers = cast(tuple[syntax.Trigger, ...], parts[:-1])
        return syntax.On(triggers, cast(tuple[syntax.Action, ...], parts[-1]), span=span)

    def at_step(self, span: Span) -> syntax.AtStep:
        return syntax.AtStep(span=span)

    def every(self, span: Span, count: Token, unit: "Unit", step_end: object = None) -> syntax.Every:
        return syntax.Every(self._whole(count), unit, step_end is not None, span=span)

    def tokens(self, span: Span) -> "Unit":
        return "tokens"

    def steps(self, span: Span) -> "Unit":
        return "steps"

    def passes(self, span: Span) -> "Unit":
        return "passes"

    def step_end(self, span: Span) -> bool:
        return True

    def seen(self, span: Span, text: syntax.String) -> syntax.Seen:
        return syntax.Seen(text, span=span)

    def matches(self, span: Span, regex: Token) -> syntax.Matches:
        return syntax.Matches(self._regex(regex), span=span)

    def arrives(self, span: Span, stream: Token) -> syntax.Arrives:
        return syntax.Arrives(self._name(stream), span=span)

    def at_start(self, span: Span) -> syntax.AtStart:
        return syntax.AtStart(span=span)

    def at_end(self, span: Span) -> syntax.AtEnd:
        return syntax.AtEnd(span=span)

    # Actions

    def actions(self, span: Span, *actions: syntax.Action) -> tuple[syntax.Action, ...]:
        return actions

    def say(self, span: Span, text: syntax.String) -> syntax.Say:
        return syntax.Say(text, span=span)

    def ask(self, span: Span, text: syntax.String, *choices: syntax.Choice) -> syntax.Ask:
        made = syntax.Ask(text, choices, span=span)
        if nesting(made) <= MAX_NESTING:
            return made
        # Cut here, so that nothing after the parser can be made to recurse too deeply.
        if all(problem.code != "HW008" for problem in self.problems):
            self._problem("HW008", f"`ask` is nested more than {MAX_NESTING} deep", text.span)
        return syntax.Ask(text, tuple(syntax.Choice(c.text, span=c.span) for c in choices), span=made.span)

    def choice(self, span: Span, text: syntax.String, actions: tuple[syntax.Action, ...]) -> syntax.Choice:
        return syntax.Choice(text, actions, span=span)

    def post(self, span: Span, text: syntax.String, pad: Token) -> syntax.Post:
        return syntax.Post(text, self._name(pad), span=span)

    def move(self, span: Span, _own: Token, pad: Token) -> syntax.Move:
        return syntax.Move(self._name(pad), span=span)

    def clear(self, span: Span, pad: Token) -> syntax.Clear:
        return syntax.Clear(self._name(pad), span=span)

    def pause(self, span: Span, worker: Token) -> syntax.Pause:
        return syntax.Pause(self._name(worker), span=span)

    def resume(self, span: Span, worker: Token) -> syntax.Resume:
        return syntax.Resume(self._name(worker), span=span)

    def stop(self, span: Span, worker: Token | None = None) -> syntax.Stop:
        return syntax.Stop(self._name(worker) if worker else None, span=span)

    # Tests

    def test(self, span: Span, program: Token, title: syntax.String, *clauses: syntax.TestClause) -> syntax.Test:
        return syntax.Test(self._name(program), title, clauses, span=span)

    def given(self, span: Span, *settings: syntax.Setting) -> syntax.Given:
        return syntax.Given(settings, span=span)

    def setting(self, span: Span, name: Token, value: syntax.Value | syntax.Included) -> syntax.Setting:
        return syntax.Setting(self._name(name), value, span=span)

    def says(self, span: Span, worker: Token, texts: tuple[syntax.String, ...]) -> syntax.Says:
        return syntax.Says(self._name(worker), texts, span=span)

    def picks(self, span: Span, choice: syntax.String, question: syntax.String) -> syntax.Picks:
        return syntax.Picks(choice, question, span=span)

    def feed(self, span: Span, stream: Token, text: syntax.String, after: Token) -> syntax.Feed:
        return syntax.Feed(self._name(stream), text, self._whole(after), span=span)

    def expect(self, span: Span, what: Token, *parts: "syntax.Name | Checked | syntax.String | Token") -> syntax.Expect:
        worker = parts[0] if isinstance(parts[0], syntax.Name) else None
        last = parts[-1]
        check = last if isinstance(last, Checked) else Checked("is", cast(syntax.String | Token, last))
        value = self._regex(check.value) if isinstance(check.value, Token) else check.value
        return syntax.Expect(self._name(what), worker, check.how, value, span=span)

    def of_worker(self, span: Span, worker: Token) -> syntax.Name:
        return self._name(worker)

    def contains(self, span: Span, value: syntax.String) -> "Checked":
        return Checked("contains", value)

    def lacks(self, span: Span, value: syntax.String | Token) -> "Checked":
        return Checked("lacks", value)

    def expect_passes(self, span: Span, most: Token) -> syntax.ExpectPasses:
        return syntax.ExpectPasses(self._whole(most), span=span)


Unit = Literal["tokens", "steps", "passes"]


class Params(NamedTuple):
    params: tuple[syntax.Param, ...]


class Checked(NamedTuple):
    """How the text that a test looks at is compared, and with what."""

    how: Literal["is", "contains", "lacks"]
    value: syntax.String | Token


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
