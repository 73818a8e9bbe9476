"""Workers as a Python program declares them: each clause of a worker's body is a call."""

from typing import Literal, TypeAlias, TypedDict, Unpack, cast

from hwlang import syntax
from hwlang.diagnostics import Span, quoted
from hwlang.python.handles import Member, Named, Scratchpad, Stream, Text
from hwlang.python.places import Call, here
from hwlang.python.values import flag, misfit, name, number, one_of, reference, shown_type, string, whole
from hwlang.python.words import Pattern, When, actions, placed, regex_node, triggers

Entry: TypeAlias = "str | Text | Scratchpad | Stream | Member | syntax.Constant | syntax.Others | syntax.Own"
Kind = Literal["contiguous", "interleaved", "combined"]
LAYOUTS = ("contiguous", "interleaved", "combined")


class SamplingOptions(TypedDict, total=False):
    """How tokens are drawn. `temperature` is 0 or more (0: the likeliest), `top_p` and `min_p` are probabilities."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int


class Build:
    """A program that is being built: `over` once its function has returned."""

    def __init__(self) -> None:
        self.over = False

    def call(self) -> Call:
        """The call that is being made, which must be in time."""
        call = here()
        if self.over:
            raise misfit("the program is built: nothing can be added to it any more", call.span)
        return call


class Worker(Member):
    """A worker while its program is built, made by `ProgramBuilder.worker`. Each method adds a clause to its body.

    Several workers that are declared together share the clauses, not the blocks; `team["Ann"]` is one of them. Texts
    may have holes: `{{name}}` is the worker's name, `{{step}}` the number of its step. All methods raise `CompileError`
    at the argument that does not fit.

    >>> @hw.program
    ... def count(p: hw.ProgramBuilder) -> None:
    ...     w = p.worker("Ann")
    ...     w.sees("Count to ten.", hw.me)
    ...     w.step("[{{step}}] ", until=".")
    ...     w.on("ten", hw.stop(hw.me))
    >>> print(count.to_hw(), end="")
    program count {
      worker Ann {
        sees "Count to ten.", self
        step "[{{step}}] " until "."
        on "ten" { stop self }
      }
    }
    """

    def __init__(self, names: tuple[str, ...], clauses: list[syntax.Clause], build: Build) -> None:
        super().__init__(names[0])
        self._names = names
        self._clauses = clauses
        self._build = build

    def __getitem__(self, name: str) -> Member:
        """One of several workers that were declared together, for a view, an action or an answer."""
        if name not in self._names:
            message = f"there is no {quoted(str(name))} among these workers: {', '.join(map(quoted, self._names))}"
            raise misfit(message, here().span, code="HW101")
        return Member(name)

    def sole(self, span: Span) -> str:
        if len(self._names) > 1:
            help = f'say which, as in `team["{self.name}"]`'
            raise misfit(f"one worker is needed here, and these are {len(self._names)}", span, help)
        return self.name

    def sees(self, *entries: Entry) -> None:
        """The worker's view: its cache layout, in order; `hw.me` is the last entry.

        An entry is a text, `hw.user(...)`, `hw.system(...)`, `hw.assistant(...)`, `hw.in_context(...)`, a scratchpad, a
        stream, another worker, `hw.others`, `hw.me`, or what `ProgramBuilder.text` made.
        """
        call = self._build.call()
        self._some(entries, "a view has one entry at least: `hw.me`", call)
        made = tuple(entry(each, call.at(index)) for index, each in enumerate(entries))
        self._clauses.append(syntax.Sees(made, span=call.span))

    def layout(self, kind: Kind, *, before_others: str | None = None, before_self: str | None = None) -> None:
        """Write one of the paper's views after the opening that `sees` gives.

        `contiguous`: others, self; `interleaved`: history, self; `combined`: history, others, self.
        """
        call = self._build.call()
        made = cast(Kind, one_of(kind, LAYOUTS, call.at(0, "kind")))
        others = optional(before_others, call.at(1, "before_others"))
        own = optional(before_self, call.at(2, "before_self"))
        self._clauses.append(syntax.Layout(made, others, own, span=call.span))

    def begin(self, text: str) -> None:
        """Text that the worker starts with, after its first step prefix."""
        call = self._build.call()
        self._clauses.append(syntax.Begin(string(text, call.at(0, "text")), span=call.span))

    def step(
        self, prefix: str | None = None, *, until: str | list[str] | tuple[str, ...], after_sentence: bool = False
    ) -> None:
        """Cut the worker's text into steps. `prefix` is handed to it when a step begins.

        A step ends at the first token that completes a separator of `until`; with `after_sentence` only where the text
        before it ends a sentence, and never inside an open code block or `$$` formula.
        """
        call = self._build.call()
        made = optional(prefix, call.at(0, "prefix"))
        separators = until if isinstance(until, list | tuple) else [until]
        self._some(separators, "a step needs a separator", call)
        texts = tuple(string(each, call.at(1, "until", index)) for index, each in enumerate(separators))
        ends = flag(after_sentence, call.at(2, "after_sentence"))
        self._clauses.append(syntax.Step(made, texts, ends, span=call.span))

    def forbid(self, *texts: str) -> None:
        """Texts that are never written, however they are split into tokens."""
        call = self._build.call()
        self._clauses.append(syntax.Forbid(self._texts(texts, call), span=call.span))

    def stop_at(self, *texts: str) -> None:
        """Texts that end the worker once it has written one of them."""
        call = self._build.call()
        self._clauses.append(syntax.StopAt(self._texts(texts, call), span=call.span))

    def max_tokens(self, count: int) -> None:
        """End the worker after so many sampled tokens."""
        call = self._build.call()
        self._clauses.append(syntax.MaxTokens(whole(count, call.at(0, "count")), span=call.span))

    def paused(self) -> None:
        """The worker waits until another one resumes it."""
        self._clauses.append(syntax.Paused(span=self._build.call().span))

    def sampling(self, **options: Unpack[SamplingOptions]) -> None:
        """How this worker's tokens are drawn; what is not said here, the program says."""
        self._clauses.append(sampling(options, self._build.call()))

    def match(self, regex: Pattern) -> None:
        """Hold every step to a regex: what the worker writes up to its separator is a full match of it."""
        call = self._build.call()
        self._clauses.append(syntax.Match(regex_node(regex, call.at(0, "regex")), span=call.span))

    def json(self, path: str) -> None:
        """Hold every step to a JSON value that fits a schema: `path` is its file, below the program's own folder."""
        call = self._build.call()
        self._clauses.append(syntax.Json(string(path, call.at(0, "path")), span=call.span))

    def scratchpad(self, name: str, text: str | None = None) -> Scratchpad:
        """A private scratchpad: each of the workers has one of its own. `text` is what it holds at the start."""
        call = self._build.call()
        node = scratchpad(name, text, call)
        self._clauses.append(node)
        return Scratchpad(node.name.value)

    def on(self, trigger: "When | list[When] | tuple[When, ...]", *then: syntax.Action) -> None:
        """Do something when something happens.

        A trigger is `hw.step`, `hw.start`, `hw.end`, `hw.every(...)`, a text that the worker has written, a regex that
        is found in the step that has just ended, or a stream; several in a list, or joined by `|`.
        """
        call = self._build.call()
        listed = trigger if isinstance(trigger, list | tuple) else [trigger]
        self._some(listed, "a rule needs a trigger", call)
        when = tuple(node for index, each in enumerate(listed) for node in triggers(each, call.at(0, "trigger", index)))
        spans = [call.at(index) for index in range(1, len(then) + 1)]
        self._clauses.append(syntax.On(when, actions(then, spans), span=call.span))

    def _some(self, values: object, message: str, call: Call) -> None:
        if not values:
            raise misfit(message, call.span)

    def _texts(self, texts: tuple[str, ...], call: Call) -> tuple[syntax.String, ...]:
        self._some(texts, "one text is needed at least", call)
        return tuple(string(each, call.at(index)) for index, each in enumerate(texts))


# --- Parts of clauses ------------------------------------------------------------------------------------------------


def entry(value: object, span: Span) -> syntax.Entry:
    """What a Python value stands for in a view."""
    match value:
        case str():
            return syntax.Constant(string(value, span), span=span)
        case syntax.Constant() | syntax.Others() | syntax.Own():
            return placed(value, span)
        case Named():
            return reference(value, span)
    help = "it has texts, hw.user(...), scratchpads, streams, workers, hw.others, and hw.me at its end"
    raise misfit(f"a view has no place for {shown_type(value)}", span, help)


def optional(text: object, span: Span) -> syntax.String | None:
    return None if text is None else string(text, span)


def scratchpad(name_: object, text: object, call: Call) -> syntax.Scratchpad:
    made = name(name_, call.at(0, "name"))
    return syntax.Scratchpad(made, optional(text, call.at(1, "text")), span=call.span)


def sampling(options: SamplingOptions, call: Call) -> syntax.Sampling:
    return syntax.Sampling(tuple(option(key, value, call.at(0, key)) for key, value in options.items()), span=call.span)


def option(key: str, value: object, span: Span) -> syntax.Option:
    known = tuple(SamplingOptions.__annotations__)
    setting = cast(Literal["temperature", "top_p", "top_k", "min_p", "seed"], one_of(key, known, span))
    made = whole(value, span) if setting in ("top_k", "seed") else number(value, span)
    return syntax.Option(setting, made, span=span)
