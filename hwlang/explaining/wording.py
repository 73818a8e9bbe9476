"""Triggers, actions and texts of a compiled program in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hwlang.formatting.printer import escaped
from hwruntime.program import (
    Action,
    Arrives,
    Ask,
    AtEnd,
    AtStart,
    AtStep,
    Choice,
    Clear,
    Every,
    Matches,
    Move,
    Pause,
    Post,
    Resume,
    Say,
    Seen,
    Stop,
    Text,
    Trigger,
    Value,
    show,
)

Values = Mapping[str, Value]


def text_of(text: Text, values: Values) -> str:
    """A text with its holes filled where a value is known."""
    return "".join(
        part if isinstance(part, str) else show(values[part.name]) if part.name in values else "{{" + part.name + "}}"
        for part in text.parts
    )


def quoted_text(text: str) -> str:
    """A text on one line, in quotes, with escapes."""
    return f'"{escaped(text)}"'


def trigger_in_words(trigger: Trigger, values: Values) -> str:
    match trigger:
        case AtStep():
            return "it ends a step"
        case Every(count=count, unit=unit, at_step=at_step):
            return f"every {count} {unit}" + (", at the end of a step" if at_step else "")
        case Seen(text=text):
            return f"it has written {quoted_text(text_of(text, values))}"
        case Matches(regex=regex):
            return f"a step matches /{regex}/"
        case Arrives(stream=stream):
            return f"text comes into {stream}"
        case AtStart():
            return "it starts"
        case AtEnd():
            return "it has ended"


def actions_in_words(actions: Iterable[Action], values: Values) -> tuple[str, ...]:
    return tuple(action_in_words(action, values) for action in actions)


def action_in_words(action: Action, values: Values) -> str:
    match action:
        case Say(text=text):
            return f"say {quoted_text(text_of(text, values))}"
        case Ask(text=text, choices=choices):
            answers = "; ".join(choice_in_words(choice, values) for choice in choices)
            return f"ask {quoted_text(text_of(text, values))}: {answers}"
        case Post(text=text, pad=pad):
            return f"post {quoted_text(text_of(text, values))} to {pad}"
        case Move(pad=pad):
            return f"move its block to {pad}"
        case Clear(pad=pad):
            return f"clear {pad}"
        case Pause(worker=worker):
            return f"pause {whom(worker)}"
        case Resume(worker=worker):
            return f"resume {whom(worker)}"
        case Stop(worker=None):
            return "end the run"
        case Stop(worker=str(worker)):
            return f"stop {whom(worker)}"
    raise AssertionError(action)


def choice_in_words(choice: Choice, values: Values) -> str:
    done = ", ".join(actions_in_words(choice.actions, values)) or "nothing"
    return f"{quoted_text(text_of(choice.text, values))} -> {done}"


def whom(worker: str) -> str:
    return "itself" if worker == "self" else worker


def all_actions(actions: Iterable[Action]) -> Iterator[Action]:
    """The actions and those in the choices of an `ask`."""
    for action in actions:
        yield action
        if isinstance(action, Ask):
            for choice in action.choices:
                yield from all_actions(choice.actions)
