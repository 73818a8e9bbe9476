"""Programs as Python functions: `tree_of` calls one once, and has the syntax tree that the parser makes of the same
program in a file.

    places    where a call stands in its file          handles   names, as Python values
    values    Python values -> nodes                   words     `user`, `others`, `step`, `say`, ...
    crews     workers and their clauses                python    the program around them
"""

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Unpack

from hwlang import syntax
from hwlang.diagnostics import NOWHERE, Source, Span, quoted
from hwlang.python.crews import Build, SamplingOptions, Worker, optional, sampling, scratchpad
from hwlang.python.handles import Member, Named, Parameter, Scratchpad, Stream, Text
from hwlang.python.places import Call, Located, script_of
from hwlang.python.values import flag, literal_string, misfit, name, number, reference, shown_type, string, whole
from hwlang.python.words import Pattern, actions, regex_node

Type = Literal["str", "int", "float", "bool"]
TYPES: Mapping[type, Type] = {str: "str", int: "int", float: "float", bool: "bool"}


class ProgramBuilder:
    """A program while its function runs: each method adds a declaration. Its calls are those of a `.hw` file.

    All of them raise `CompileError`, at the argument that does not fit.

    >>> @hw.program
    ... def essay(p: hw.ProgramBuilder, topic: str) -> None:
    ...     p.budget(200)
    ...     style = p.text("style", "Be brief.")
    ...     w = p.worker("Ann")
    ...     w.sees(hw.user(f"Write about {topic}. {style}"), hw.me)
    ...     p.answer(w)
    >>> print(essay.to_hw(), end="")
    program essay(topic: str) {
      budget 200 passes
      text style = "Be brief."
      worker Ann { sees user "Write about {{topic}}. {{style}}", self }
      answer Ann
    }
    """

    def __init__(self) -> None:
        self._build = Build()
        self._declarations: list[syntax.Declaration | Crew] = []

    def model(self, name: str) -> None:
        """The model to run on unless an engine is given: a folder, a name of the hub, or `tiny`, the embedded one."""
        call = self._build.call()
        self._declarations.append(syntax.Model(string(name, call.at(0, "name")), span=call.span))

    def sampling(self, **options: Unpack[SamplingOptions]) -> None:
        """How tokens are drawn: `temperature` (0, the default, is greedy), `top_p`, `top_k`, `min_p`, `seed`."""
        self._declarations.append(sampling(options, self._build.call()))

    def budget(self, passes: int) -> None:
        """End the run after so many passes of the model (1024 unless it is said)."""
        call = self._build.call()
        self._declarations.append(syntax.Budget(whole(passes, call.at(0, "passes")), span=call.span))

    def text(self, name: str, text: str | None = None, *, file: str | None = None) -> Text:
        """A text with a name, or (`file`) the contents of a file below the folder of the Python file, as they are."""
        call = self._build.call()
        made = name_at(name, call)
        if (text is None) == (file is None):
            raise misfit("a text is given either as `text` or as `file`", call.span)
        value: syntax.String | syntax.Included
        if file is None:
            value = string(text, call.at(1, "text"))
        else:
            path = string(file, call.at(2, "file"))
            value = syntax.Included(path, span=path.span)
        self._declarations.append(syntax.Text(made, value, span=call.span))
        return Text(made.value)

    def scratchpad(self, name: str, text: str | None = None) -> Scratchpad:
        """A scratchpad that all workers may see and write to. `text` is what it holds at the start."""
        call = self._build.call()
        node = scratchpad(name, text, call)
        self._declarations.append(node)
        return Scratchpad(node.name.value)

    def stream(self, name: str) -> Stream:
        """A stream: text that comes in from outside while the run goes on, by `Run.feed`."""
        call = self._build.call()
        made = name_at(name, call)
        self._declarations.append(syntax.Stream(made, span=call.span))
        return Stream(made.value)

    def worker(self, *names: str, paused: bool = False, begin: str | None = None) -> Worker:
        """A worker, or several that share what is said of them. Its clauses are the calls on what is returned.

        `paused`: it waits until another one resumes it. `begin`: text that it starts with, after its first step prefix.
        """
        return self._crew(None, names, paused, begin, self._build.call())

    def workers(self, count: int, *names: str, paused: bool = False, begin: str | None = None) -> Worker:
        """The first `count` of these workers, where `count` is a number or a parameter of type `int`."""
        call = self._build.call()
        at = call.at(0, "count")
        number = reference(count, at) if isinstance(count, Parameter) else whole(count, at)
        return self._crew(number, names, paused, begin, call)

    def sync(self, every: int, *then: syntax.Action) -> None:
        """Do something for a worker that ends a step when more than `every` tokens have been handed out since the last
        time: `p.sync(256, hw.say("Quick check: am I doing redundant work? (yes/no): "))`."""
        call = self._build.call()
        spans = [call.at(index) for index in range(1, len(then) + 1)]
        node = syntax.Sync(whole(every, call.at(0, "every")), actions(then, spans), span=call.span)
        self._declarations.append(node)

    def answer(
        self,
        source: "Member | Scratchpad | Pattern | syntax.Vote",
        *,
        otherwise: str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        r"""Where the answer comes from: a scratchpad, a worker, or a regex: its first match in a step ends the run.

        `hw.vote(...)` takes the majority of all workers' matches. `otherwise` is for a run that ends without an answer:
        a greedy worker over everything written so far completes this text, by at most `max_tokens` tokens (64).
        """
        call = self._build.call()
        at = call.at(0, "source")
        made: syntax.Name | syntax.Regex | syntax.Vote
        if isinstance(source, syntax.Vote):
            made = source
        elif isinstance(source, Named):
            made = reference(source, at)
        else:
            made = regex_node(source, at)
        finish = self._otherwise(otherwise, max_tokens, call)
        self._declarations.append(syntax.Answer(made, finish, span=call.span))

    def _otherwise(self, text: str | None, count: int | None, call: Call) -> syntax.Otherwise | None:
        if text is None and count is None:
            return None
        span = call.at(1, "otherwise")
        if text is None:
            raise misfit("`max_tokens` is of the text `otherwise`, which is not given", call.at(2, "max_tokens"))
        limit = None if count is None else whole(count, call.at(2, "max_tokens"))
        return syntax.Otherwise(string(text, span), limit, span=span)

    def _crew(
        self,
        count: syntax.Number | syntax.Name | None,
        names: tuple[str, ...],
        paused: bool,
        begin: str | None,
        call: Call,
    ) -> Worker:
        first = 0 if count is None else 1
        if not names:
            raise misfit("a worker needs a name", call.span)
        made = tuple(name(each, call.at(index)) for index, each in enumerate(names, first))
        text = optional(begin, call.at(99, "begin"))
        clauses: list[syntax.Clause] = [syntax.Begin(text, span=text.span)] if text else []
        self._declarations.append(Crew(made, count, flag(paused, call.at(99, "paused")), clauses, call.span))
        return Worker(tuple(each.value for each in made), clauses, self._build)

    def _finish(self) -> tuple[syntax.Declaration, ...]:
        """What was declared. Nothing can be added from now on."""
        self._build.over = True
        return tuple(each.node() if isinstance(each, Crew) else each for each in self._declarations)


@dataclass(frozen=True)
class Crew:
    """A `worker` or `workers` declaration whose clauses are still to come."""

    names: tuple[syntax.Name, ...]
    count: syntax.Number | syntax.Name | None
    paused: bool
    clauses: list[syntax.Clause]
    span: Span

    def node(self) -> syntax.Worker | syntax.Workers:
        body = syntax.Body(tuple(self.clauses), span=self.span if self.clauses else NOWHERE)
        if self.count is None:
            return syntax.Worker(self.names, self.paused, None, body, span=self.span)
        return syntax.Workers(self.count, self.names, self.paused, None, body, span=self.span)


def name_at(value: object, call: Call) -> syntax.Name:
    return name(value, call.at(0, "name"))


# --- The function ----------------------------------------------------------------------------------------------------


def tree_of(function: Callable[..., object]) -> tuple[syntax.File, Source]:
    """The syntax tree of a program's function, which is called once, and the file that it is in.

    Raises `CompileError` where something does not fit; the checks of the language are still to be made.
    """
    head = Head(function)
    params = tuple(head.param(each) for each in head.listed)
    builder = ProgramBuilder()
    holes = {each.name.value: Parameter(each.name.value, each.type) for each in params}
    bound = inspect.signature(function).bind(builder, **holes)
    function(*bound.args, **bound.kwargs)
    program = syntax.Program(head.name, params, builder._finish(), span=head.span)
    return syntax.File((program,), span=program.span), head.script.file


class Head:
    """What the head of a function says of its program: the name, the parameters, their types and defaults."""

    def __init__(self, function: Callable[..., object]) -> None:
        inner = inspect.unwrap(function)
        if not inspect.isfunction(inner):
            raise TypeError(f"hw.program makes a program of a function, not of {shown_type(function)}")
        self.script = script_of(inner.__code__, inner.__globals__)
        self.first_line = inner.__code__.co_firstlineno
        self.node = self.script.function(inner.__code__)
        self.span = self._span(self.node)
        at = self.script.name(self.node) if self.node else self.span
        if inspect.iscoroutinefunction(inner) or inspect.isgeneratorfunction(inner):
            raise misfit("the function of a program is a plain one, without `async` and `yield`", at)
        given = [*inspect.signature(function).parameters.values()]
        if not given or given[0].kind in (given[0].VAR_KEYWORD, given[0].KEYWORD_ONLY):
            help = "write `def name(p: hw.ProgramBuilder, ...)`"
            raise misfit("the first parameter of the function is what builds the program", at, help)
        self.name = name(function.__name__, at)
        self.listed = given[1:]

    def param(self, given: inspect.Parameter) -> syntax.Param:
        """A parameter of the program: its type is the annotation's, else that of its default, else `str`."""
        span = self._span(next((each for each in self._args() if each.arg == given.name), None))
        if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD, given.POSITIONAL_ONLY):
            raise misfit("the parameters of a program have names of their own", span, "write each of them out")
        default = None if given.default is given.empty else self.default(given.default, self._default_span(given.name))
        kind = TYPES.get(type(given.default), "str") if given.annotation is given.empty else type_of(given, span)
        return syntax.Param(name(given.name, span), kind, default, span=span)

    def default(self, value: object, span: Span) -> syntax.Value:
        if isinstance(value, bool):
            return syntax.Value(value, span=span)
        if not isinstance(value, str | int | float):
            raise misfit(f"a default is a str, int, float or bool, not {shown_type(value)}", span, code="HW407")
        made = literal_string(value, span) if isinstance(value, str) else number(value, span)
        return syntax.Value(made, span=span)

    def _args(self) -> list[ast.arg]:
        """The parameters as they are written, in any order."""
        args = self.node.args if self.node else None
        rest = [args.vararg, args.kwarg] if args else []
        listed = [*args.posonlyargs, *args.args, *args.kwonlyargs] if args else []
        return listed + [each for each in rest if each]

    def _default_span(self, name: str) -> Span:
        if self.node is None:
            return self.span
        args = self.node.args
        late = zip(reversed(args.args), reversed(args.defaults), strict=False)
        pairs = [*late, *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
        return self._span(next((value for arg, value in pairs if arg.arg == name), None))

    def _span(self, node: Located | None) -> Span:
        """The place of a part of the definition; the whole first line where the file cannot be read."""
        if node:
            return self.script.span(node)
        line = self.first_line
        return Span(line, 1, line, len(self.script.source.line(line)) + 1, self.script.source)


def type_of(given: inspect.Parameter, span: Span) -> Type:
    """The type of an annotation, which may be written as a string."""
    kind = next((kind for known, kind in TYPES.items() if given.annotation in (known, kind)), None)
    if kind is None:
        shown = getattr(given.annotation, "__name__", str(given.annotation))
        raise misfit(f"a parameter is str, int, float or bool, not {quoted(shown)}", span)
    return kind
