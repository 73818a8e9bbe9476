"""A program's inputs: parameters and their types, the number of workers, and what a tokenizer must be able to do."""

from collections.abc import Iterable, Mapping, Sequence

from hwruntime.errors import InputError, RunError
from hwruntime.program import Action, Ask, Group, Param, Program, Text, Value
from hwruntime.tokenizer import Tokenizer

PYTHON_TYPES: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def bind(program: Program, inputs: Mapping[str, object]) -> dict[str, Value]:
    """Every parameter's value: inputs, then defaults.

    Raises `InputError` for a missing one, one that the program does not have, or a value of another type.
    """
    known = {param.name: param for param in program.params}
    unknown = [name for name in inputs if name not in known]
    if unknown:
        listed = ", ".join(f"`{name}`" for name in known) or "none"
        raise InputError(f"program `{program.name}` has no parameter `{unknown[0]}`", help=f"its parameters: {listed}")
    missing = [p for p in program.params if p.name not in inputs and p.default is None]
    if missing:
        names = ", ".join(f"`{p.name}: {p.type}`" for p in missing)
        help = f"give it with -p {missing[0].name}=..."
        raise InputError(f"program `{program.name}` needs {names}", help=help, span=missing[0].span)
    return {p.name: _typed(p, inputs[p.name]) if p.name in inputs else _default(p) for p in program.params}


def parse_value(param: Param, text: str) -> Value:
    """A value as it is written on a command line. Raises `InputError`."""
    try:
        match param.type:
            case "str":
                return text
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "bool":
                return {"true": True, "false": False}[text.strip().lower()]
    except (ValueError, KeyError):
        raise _wrong_type(param, repr(text)) from None


def active_workers(program: Program, values: Mapping[str, Value], count: int | None) -> list[str]:
    """Names of the workers that take part, in declaration order. `count` overrides the program's one group's."""
    if count is not None and len(program.groups) != 1:
        raise InputError(
            f"program `{program.name}` has {len(program.groups) or 'no'} `workers N of ...`: "
            "the number of workers cannot be set from outside",
            help="declare them as `workers n of Alice, Bob, ...`",
        )
    out: set[str] = set()
    for group in program.groups:
        out |= set(group.workers[_group_size(program, group, values, count) :])
    return [worker.name for worker in program.workers if worker.name not in out]


def check_tokens(program: Program, values: Mapping[str, Value], tokenizer: Tokenizer) -> None:
    """The static checks that need the tokenizer: choices that start alike, separators that no token can complete."""
    for worker in program.workers:
        texts = {**values, "name": worker.name, "step": 1}
        for ask in asks_in(action for rule in worker.rules for action in rule.actions):
            _check_choices(ask, texts, tokenizer)
        for until in worker.step.until if worker.step else ():
            _check_separator(until, until.fill(texts), tokenizer)
    for sync in program.syncs:
        for ask in asks_in(sync.actions):
            _check_choices(ask, {**values, "name": "", "step": 1}, tokenizer)


def asks_in(actions: Iterable[Action]) -> Iterable[Ask]:
    for action in actions:
        if isinstance(action, Ask):
            yield action
            yield from asks_in(inner for choice in action.choices for inner in choice.actions)


def _typed(param: Param, value: object) -> Value:
    want = PYTHON_TYPES[param.type]
    if want is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not want:
        raise _wrong_type(param, repr(value))
    assert isinstance(value, str | int | float | bool)
    return value


def _default(param: Param) -> Value:
    assert param.default is not None
    return param.default


def _wrong_type(param: Param, value: str) -> InputError:
    shown = value if len(value) <= 60 else value[:57] + "..."
    return InputError(f"parameter `{param.name}` is of type {param.type}, got {shown}", span=param.span)


def _group_size(program: Program, group: Group, values: Mapping[str, Value], count: int | None) -> int:
    size = count if count is not None else values[group.count] if isinstance(group.count, str) else group.count
    if not isinstance(size, int) or not 1 <= size <= len(group.workers):
        names = ", ".join(group.workers)
        raise InputError(
            f"program `{program.name}` cannot run with {size} workers: it names {len(group.workers)} ({names})",
            help=f"a number from 1 to {len(group.workers)}",
            span=group.span,
        )
    return size


def _check_choices(ask: Ask, values: Mapping[str, Value], tokenizer: Tokenizer) -> None:
    groups = {str(number): "" for number in range(1, 100)}  # of a regex trigger: not known yet
    first: dict[int, str] = {}
    for choice in ask.choices:
        text = choice.text.fill({**groups, **values})
        tokens: Sequence[int] = tokenizer.encode(text)
        if not tokens:
            raise RunError("a choice of `ask` is empty", span=choice.span)
        other = first.setdefault(tokens[0], text)
        if other != text:
            raise RunError(
                f'the choices "{other}" and "{text}" start with the same token, so this model cannot tell them apart',
                help="choose words that start differently",
                span=choice.span,
            )


def _check_separator(until: Text, separator: str, tokenizer: Tokenizer) -> None:
    if separator not in tokenizer.decode(tokenizer.encode(separator)):
        raise RunError(
            f"no token of this model can end a step at {separator!r}",
            help="choose another separator in `until`",
            span=until.span,
        )
