"""The words of the language as Python values and calls: what a view has in it, triggers, actions, answers.

Each call makes the node of `hwlang.syntax` that the parser makes of the same words in a file. Their texts may have
holes, as in the language: `"{{name}} [{{step}}]: "`. They raise `CompileError`, at the argument that does not fit.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar, cast

from hwlang import syntax
from hwlang.diagnostics import Span, quoted
from hwlang.parsing.builder import MAX_NESTING, nesting
from hwlang.python.handles import Member, Scratchpad, Stream
from hwlang.python.places import Call, here
from hwlang.python.values import flag as truth
from hwlang.python.values import misfit, one_of, pattern, reference, shown_type, string, whole

UNITS = ("tokens", "steps", "passes")
Pattern: TypeAlias = "str | re.Pattern[str] | Regex"
When: TypeAlias = "Trigger | str | re.Pattern[str] | Stream"
Who: TypeAlias = Member | syntax.Own | str
Then: TypeAlias = "syntax.Action | Sequence[syntax.Action]"
N = TypeVar("N", bound=syntax.Node)

# --- Views -----------------------------------------------------------------------------------------------------------

others = syntax.Others()  # in a view: the blocks of all other workers, in the order of their declaration
me = syntax.Own()  # in a view: the worker's own block, the last entry; in an action: the worker itself


def system(text: str) -> syntax.Constant:
    """A system message in a view, rendered with the model's chat template.

    >>> hw.system("Think in private.").role
    'system'
    """
    return _constant(text, "system")


def user(text: str) -> syntax.Constant:
    """A user message in a view, rendered with the model's chat template.

    >>> hw.user("Solve {{problem}}").role
    'user'
    """
    return _constant(text, "user")


def assistant(text: str) -> syntax.Constant:
    """A message of the model's own in a view, rendered with its chat template.

    >>> hw.assistant("Let me see.").role
    'assistant'
    """
    return _constant(text, "assistant")


def in_context(text: str) -> syntax.Constant:
    """Text in a view that is encoded in the view of the first worker that lists it, and not alone.

    >>> hw.in_context("[more thoughts]").in_context
    True
    """
    call = here()
    return syntax.Constant(string(text, call.at(0, "text")), in_context=True, span=call.span)


def literal(text: str) -> str:
    """A text as it is: its double braces are text and open no holes.

    >>> hw.literal('{"a": {{"b": 1}}}')
    '{"a": {{{{"b": 1}}}'
    """
    return text.replace("{{", "{{{{")


def _constant(text: str, role: Literal["system", "user", "assistant"]) -> syntax.Constant:
    call = here()
    return syntax.Constant(string(text, call.at(0, "text")), role, span=call.span)


# --- Triggers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trigger:
    """When something is done; `|` joins two: `hw.step | hw.every(20, "tokens")`."""

    nodes: tuple[syntax.Trigger, ...]

    def __or__(self, other: When) -> "Trigger":
        return Trigger(self.nodes + triggers(other, here().span))

    def __ror__(self, other: When) -> "Trigger":
        return Trigger(triggers(other, here().span) + self.nodes)


@dataclass(frozen=True)
class Regex(Trigger):
    """A regex, made by `hw.regex`. As a trigger: when it is found in the step that has just ended."""

    node: syntax.Regex


def regex(pattern: str | re.Pattern[str]) -> Regex:
    r"""A regex of Python's `re`, always searched with `re.MULTILINE`: as a trigger, an answer, for `match` and `vote`.

    >>> hw.regex(r"\\boxed\{([^}]*)\}").node.pattern
    '\\\\boxed\\{([^}]*)\\}'
    """
    node = regex_node(pattern, here().at(0, "pattern"))
    return Regex((syntax.Matches(node, span=node.span),), node)


def regex_node(value: object, span: Span) -> syntax.Regex:
    """The node of a regex: of a text, of what `re.compile` made, or of `hw.regex(...)`."""
    return value.node if isinstance(value, Regex) else pattern(value, span)


def vote(pattern: Pattern) -> syntax.Vote:
    r"""An answer: a worker whose step matches has voted and stops; the majority wins, ties go to the first worker.

    >>> hw.vote(r"the answer is (\d+)").regex.pattern
    'the answer is (\\d+)'
    """
    call = here()
    return syntax.Vote(regex_node(pattern, call.at(0, "pattern")), span=call.span)


step = Trigger((syntax.AtStep(),))  # the worker has ended a step
start = Trigger((syntax.AtStart(),))  # the worker starts
end = Trigger((syntax.AtEnd(),))  # the worker has ended


def every(count: int, unit: Literal["tokens", "steps", "passes"] = "tokens", *, at_step: bool = False) -> Trigger:
    """Every so many of the worker's sampled tokens, of its steps, or of passes, since the rule last fired.

    `at_step`: the same, but not before the next end of a step.

    >>> hw.every(400, "tokens").nodes
    (Every(count=Number(value=400), unit='tokens', at_step=False),)
    """
    call = here()
    made = cast(Literal["tokens", "steps", "passes"], one_of(unit, UNITS, call.at(1, "unit")))
    number = whole(count, call.at(0, "count"))
    return Trigger((syntax.Every(number, made, truth(at_step, call.at(2, "at_step")), span=call.span),))


def triggers(value: object, span: Span) -> tuple[syntax.Trigger, ...]:
    """The triggers that a Python value stands for: a text that the worker writes, a regex, a stream, ..."""
    match value:
        case Trigger():
            return tuple(placed(node, span) for node in value.nodes)
        case str():
            return (syntax.Seen(string(value, span), span=span),)
        case re.Pattern():
            made = pattern(value, span)
            return (syntax.Matches(made, span=span),)
        case Stream():
            return (syntax.Arrives(reference(value, span), span=span),)
    help = "a trigger is hw.step, hw.start, hw.end, hw.every(...), a text, a regex, a stream, or several with `|`"
    raise misfit(f"{shown_type(value)} is no trigger", span, help)


def placed(node: N, span: Span) -> N:
    """A node at the place where it is used, if it has none of its own."""
    return node if node.span else replace(node, span=span)


# --- Actions ---------------------------------------------------------------------------------------------------------


def say(text: str) -> syntax.Say:
    r"""The worker goes on with this text.

    >>> hw.say("\n\nWait, the user just added: ").text.literal
    '\n\nWait, the user just added: '
    """
    call = here()
    return syntax.Say(string(text, call.at(0, "text")), span=call.span)


def ask(text: str, choices: "Mapping[str, Then]") -> syntax.Ask:
    """Compare how likely the model goes on with each choice, and do what the likeliest one says.

    The question leaves nothing in the cache. `choices` has two entries at least, each with an action, a list of
    actions, or an empty list.

    >>> question = hw.ask("Am I done? (yes/no): ", {"yes": hw.stop(hw.me), "no": []})
    >>> [choice.text.literal for choice in question.choices]
    ['yes', 'no']
    """
    call = here()
    if not isinstance(choices, Mapping):
        help = 'write {"yes": hw.stop(), "no": []}'
        raise misfit(f"the choices are a dictionary, not {shown_type(choices)}", call.at(1, "choices"), help)
    made = tuple(
        syntax.Choice(string(choice, at), actions(listed(then), [at]), span=at)
        for item, (choice, then) in enumerate(choices.items())
        for at in [call.at(1, "choices", item)]
    )
    asked = syntax.Ask(string(text, call.at(0, "text")), made, span=call.span)
    if nesting(asked) > MAX_NESTING:
        raise misfit(f"`ask` is nested more than {MAX_NESTING} deep", call.span, code="HW008")
    return asked


def post(text: str, to: Scratchpad | str) -> syntax.Post:
    r"""Append a text to a scratchpad, as one piece. In a rule with regexes, `{{1}}` is their first group.

    >>> hw.post("{{name}}: {{1}}\n", to="board").pad.value
    'board'
    """
    call = here()
    return syntax.Post(string(text, call.at(0, "text")), reference(to, call.at(1, "to")), span=call.span)


def move(worker: syntax.Own, to: Scratchpad | str) -> syntax.Move:
    """Append the worker's own block (`hw.me`) to a scratchpad as it is, and empty the block. Nothing is encoded again.

    >>> hw.move(hw.me, to="history").pad.value
    'history'
    """
    call = here()
    if not isinstance(worker, syntax.Own):
        message = f"a worker moves its own block alone: `hw.me`, not {shown_type(worker)}"
        raise misfit(message, call.at(0, "worker"), "write `hw.move(hw.me, to=...)`")
    return syntax.Move(reference(to, call.at(1, "to")), span=call.span)


def clear(pad: Scratchpad | str) -> syntax.Clear:
    """Empty a scratchpad, at once.

    >>> hw.clear("board").pad.value
    'board'
    """
    call = here()
    return syntax.Clear(reference(pad, call.at(0, "pad")), span=call.span)


def pause(worker: Who) -> syntax.Pause:
    """Pause a worker, or `hw.me`, until it is resumed.

    >>> hw.pause("Writer").worker.value
    'Writer'
    """
    call = here()
    return syntax.Pause(who(worker, call), span=call.span)


def resume(worker: Who) -> syntax.Resume:
    """Let a paused worker go on, or `hw.me`.

    >>> hw.resume("Writer").worker.value
    'Writer'
    """
    call = here()
    return syntax.Resume(who(worker, call), span=call.span)


def stop(worker: Who | None = None) -> syntax.Stop:
    """End a worker, or `hw.me`; without a worker, end the run.

    >>> hw.stop(hw.me).worker.value
    'self'
    >>> hw.stop().worker is None
    True
    """
    call = here()
    return syntax.Stop(None if worker is None else who(worker, call), span=call.span)


def who(worker: Who, call: Call) -> syntax.Name:
    """The worker that an action is about."""
    span = call.at(0, "worker")
    return syntax.Name("self", span=span) if isinstance(worker, syntax.Own) else reference(worker, span)


def listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else [value]


def actions(values: Iterable[object], spans: Sequence[Span]) -> tuple[syntax.Action, ...]:
    """The actions that Python values stand for; the last of the spans is that of all that follow."""
    return tuple(_action(value, spans[min(index, len(spans) - 1)]) for index, value in enumerate(values))


def _action(value: object, span: Span) -> syntax.Action:
    if isinstance(value, syntax.Action):
        return placed(value, span)
    if isinstance(value, str):
        help: str | None = f"to have the worker say it, write `hw.say({quoted(repr(value), 20).strip('`')})`"
    elif callable(value):
        help = "a program can never run code: to see what happens, run it with `on_event=`"
    else:
        help = "an action is hw.say(...), hw.move(...), hw.ask(...), ..."
    raise misfit(f"{shown_type(value)} is no action", span, help)
