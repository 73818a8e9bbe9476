"""Syntax trees as calls of the Python API: the same program, said in the other spelling."""

import inspect
from collections.abc import Callable
from keyword import iskeyword

from hypothesis import strategies as st

import hwlang as hw
from hwlang import syntax
from hwlang.python.handles import Named, Parameter, Scratchpad, Stream
from tests.hwlang import trees


def text(string: syntax.String) -> str:
    """A string as a Python text: its own braces are escaped."""
    return "".join(
        str(Named(part.name)) if isinstance(part, syntax.Hole) else hw.literal(part) for part in string.parts
    )


def maybe(string: syntax.String | None) -> str | None:
    return None if string is None else text(string)


def entry(node: syntax.Entry) -> object:
    match node:
        case syntax.Constant(string, role, in_context):
            chat = {"text": text, "system": hw.system, "user": hw.user, "assistant": hw.assistant}[role]
            return hw.in_context(text(string)) if in_context else text(string) if role == "text" else chat(text(string))
        case syntax.Name(name):
            return Scratchpad(name)
        case syntax.Others():
            return hw.others
    return hw.me


def trigger(node: syntax.Trigger) -> object:
    match node:
        case syntax.Every(count, unit, at_step):
            return hw.every(count.value, unit, at_step=at_step)
        case syntax.Seen(string):
            return text(string)
        case syntax.Matches(regex):
            return hw.regex(regex.pattern)
        case syntax.Arrives(stream):
            return Stream(stream.value)
    return {syntax.AtStep: hw.step, syntax.AtStart: hw.start, syntax.AtEnd: hw.end}[type(node)]


def who(name: syntax.Name) -> object:
    return hw.me if name.value == "self" else name.value


def action(node: syntax.Action) -> syntax.Action:
    match node:
        case syntax.Say(string):
            return hw.say(text(string))
        case syntax.Ask(string, choices):
            return hw.ask(text(string), {text(each.text): [*map(action, each.actions)] for each in choices})
        case syntax.Post(string, pad):
            return hw.post(text(string), to=pad.value)
        case syntax.Move(pad):
            return hw.move(hw.me, to=pad.value)
        case syntax.Clear(pad):
            return hw.clear(Scratchpad(pad.value))
        case syntax.Pause(worker):
            return hw.pause(who(worker))
        case syntax.Resume(worker):
            return hw.resume(who(worker))
        case syntax.Stop(worker):
            return hw.stop(who(worker)) if worker else hw.stop()


def clause(w: hw.Worker, node: syntax.Clause) -> None:
    match node:
        case syntax.Scratchpad(name, string):
            w.scratchpad(name.value, maybe(string))
        case syntax.Sees(entries):
            w.sees(*map(entry, entries))
        case syntax.Layout(kind, others, own):
            w.layout(kind, before_others=maybe(others), before_self=maybe(own))
        case syntax.Begin(string):
            w.begin(text(string))
        case syntax.Step(prefix, until, after_sentence):
            w.step(maybe(prefix), until=[*map(text, until)], after_sentence=after_sentence)
        case syntax.Forbid(texts):
            w.forbid(*map(text, texts))
        case syntax.StopAt(texts):
            w.stop_at(*map(text, texts))
        case syntax.MaxTokens(count):
            w.max_tokens(count.value)
        case syntax.Paused():
            w.paused()
        case syntax.Sampling(options):
            w.sampling(**{option.name: option.value.value for option in options})
        case syntax.Match(regex):
            w.match(regex.pattern)
        case syntax.Json(path):
            w.json(text(path))
        case syntax.On(triggers, actions):
            w.on([*map(trigger, triggers)], *map(action, actions))


def declare(p: hw.ProgramBuilder, node: syntax.Declaration) -> None:
    match node:
        case syntax.Model(name):
            p.model(text(name))
        case syntax.Sampling(options):
            p.sampling(**{option.name: option.value.value for option in options})
        case syntax.Budget(passes):
            p.budget(passes.value)
        case syntax.Text(name, syntax.Included(path)):
            p.text(name.value, file=text(path))
        case syntax.Text(name, string):
            p.text(name.value, text(string))
        case syntax.Scratchpad(name, string):
            p.scratchpad(name.value, maybe(string))
        case syntax.Stream(name):
            p.stream(name.value)
        case syntax.Worker(names, paused, _, body) | syntax.Workers(_, names, paused, _, body):
            listed = [name.value for name in names]
            if isinstance(node, syntax.Workers):
                count = node.count
                number = count.value if isinstance(count, syntax.Number) else Parameter(count.value, "int")
                w = p.workers(number, *listed, paused=paused)
            else:
                w = p.worker(*listed, paused=paused)
            for each in body.clauses:
                clause(w, each)
        case syntax.Sync(every, actions):
            p.sync(every.value, *map(action, actions))
        case syntax.Answer(source, otherwise):
            made = Scratchpad(source.value) if isinstance(source, syntax.Name) else source
            made = hw.regex(source.pattern) if isinstance(source, syntax.Regex) else made
            made = hw.vote(source.regex.pattern) if isinstance(source, syntax.Vote) else made
            last = otherwise.max_tokens if otherwise else None
            p.answer(made, otherwise=maybe(otherwise and otherwise.text), max_tokens=last and last.value)


def default(value: syntax.Value | None) -> object:
    if value is None:
        return inspect.Parameter.empty
    return value.value.literal if isinstance(value.value, syntax.String) else getattr(value.value, "value", value.value)


def function(tree: syntax.Program) -> Callable[..., None]:
    """The function that says what a tree says."""

    def made(p: hw.ProgramBuilder, *_: object, **__: object) -> None:
        for node in tree.declarations:
            declare(p, node)

    made.__name__ = tree.name.value
    params = [
        inspect.Parameter(
            param.name.value, inspect.Parameter.KEYWORD_ONLY, default=default(param.default), annotation=param.type
        )
        for param in tree.params
    ]
    first = inspect.Parameter("p", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    made.__signature__ = inspect.Signature([first, *params])  # type: ignore[attr-defined]
    return made


# --- Trees that Python has a spelling for ----------------------------------------------------------------------------


def sayable(tree: syntax.Program) -> bool:
    """Whether Python has a spelling for a tree: parameters are names of Python's, defaults are values, and no keyword
    of a call is there twice."""
    names = [param.name.value for param in tree.params]
    strings = [p.default.value for p in tree.params if p.default and isinstance(p.default.value, syntax.String)]
    keys = [[option.name for option in node.options] for node in nodes(tree) if isinstance(node, syntax.Sampling)]
    keys += [[choice.text for choice in node.choices] for node in nodes(tree) if isinstance(node, syntax.Ask)]
    if any(iskeyword(name) or name == "p" for name in names) or any(string.holes for string in strings):
        return False
    return all(len(set(each)) == len(each) for each in [names, *keys])


def nodes(value: object) -> list[syntax.Node]:
    """All nodes of a tree."""
    if isinstance(value, tuple):
        return [node for each in value for node in nodes(each)]
    if not isinstance(value, syntax.Node):
        return []
    return [value, *(node for _, each in value._values() for node in nodes(each))]


crews = {**trees.crews, "role": st.none()}  # functions are the roles of Python
declarations = st.one_of(
    trees.declarations.filter(lambda node: not isinstance(node, syntax.Worker | syntax.Workers)),
    st.builds(syntax.Worker, **crews),
    st.builds(syntax.Workers, trees.whole | trees.names, **crews),
)
programs = st.builds(syntax.Program, trees.names, trees.some(trees.params), trees.some(declarations, most=6)).filter(
    sayable
)
