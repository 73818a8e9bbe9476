"""Syntax tree -> text, for any valid tree, also one that was built in Python.

Each node is written on one line or, if it has a body that reads better so, on several; `formatter` then does what the
style asks for. Indentation is left to it, save that of text blocks, which counts from the line on which they open.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from hwlang import syntax
from hwlang.diagnostics import CompileError, Source
from hwlang.formatting.formatter import formatted, tree_of

LONG = 60  # characters of a string from which two lines of text make it a text block; three always do
SHORT = 3  # actions that share a line
MARGIN = " " * 4  # of the lines of a text block, from the line on which it opens


class Unprintable(ValueError):
    """A tree that no text stands for: a name that is none, an empty list, a regex over two lines, ..."""


def to_hw(tree: syntax.File) -> str:
    """The text of a program, in the style of `hw fmt`; parsing it gives an equal tree. Raises `Unprintable`."""
    source = Source("<tree>", "".join(item_text(item) + "\n" for item in tree.items))
    try:
        same = tree_of(source) == tree
    except CompileError as error:
        raise Unprintable(error.diagnostics[0].message) from error
    if not same:
        raise Unprintable("the tree has something in it that text cannot say")
    return formatted(source)


def item_text(item: syntax.Item) -> str:
    match item:
        case syntax.Version(number):
            return f"hw {number_text(number)}"
        case syntax.Import(path):
            return f"import {string_text(path)}"
        case syntax.Role(name, body):
            return f"role {name.value} {body_text(body)}"
        case syntax.Program(name, params, declarations):
            listed = f"({joined(map(param_text, params))})" if params else ""
            return f"program {name.value}{listed} {broken(map(declaration_text, declarations))}"
        case syntax.Test(program, title, test_clauses):
            return f"test {program.value} {string_text(title)} {broken(map(test_clause_text, test_clauses))}"
        case _:
            assert_never(item)


def param_text(param: syntax.Param) -> str:
    declared = f"{param.name.value}: {param.type}"
    return f"{declared} = {value_text(param.default)}" if param.default else declared


def value_text(value: syntax.Value) -> str:
    match value.value:
        case bool(flag):
            return "true" if flag else "false"
        case syntax.Number() as number:
            return number_text(number)
        case syntax.String() as string:
            return string_text(string)
        case _:
            assert_never(value.value)


def declaration_text(node: syntax.Declaration) -> str:
    match node:
        case syntax.Model(name):
            return f"model {string_text(name)}"
        case syntax.Sampling(options):
            return sampling_text(options)
        case syntax.Budget(passes):
            return f"budget {number_text(passes)} passes"
        case syntax.Text(name, value):
            spelt = f"file {string_text(value.path)}" if isinstance(value, syntax.Included) else string_text(value)
            return f"text {name.value} = {spelt}"
        case syntax.Scratchpad():
            return scratchpad_text(node)
        case syntax.Stream(name):
            return f"stream {name.value}"
        case syntax.Worker():
            return f"worker {crew_text(node)}"
        case syntax.Workers(count):
            number = count.value if isinstance(count, syntax.Name) else number_text(count)
            return f"workers {number} of {crew_text(node)}"
        case syntax.Sync(every, actions):
            return f"sync every {number_text(every)} tokens {actions_text(actions)}"
        case syntax.Answer():
            return answer_text(node)
        case _:
            assert_never(node)


def sampling_text(options: Sequence[syntax.Option]) -> str:
    return f"sampling {flat(f'{option.name} {number_text(option.value)}' for option in options)}"


def scratchpad_text(pad: syntax.Scratchpad) -> str:
    return f"scratchpad {pad.name.value}" + (f" = {string_text(pad.text)}" if pad.text else "")


def crew_text(node: syntax.Worker | syntax.Workers) -> str:
    """The names of workers and what follows them."""
    heading = joined(name.value for name in node.names)
    heading += " paused" if node.paused else ""
    heading += f" is {node.role.value}" if node.role else ""
    if not node.body.clauses:
        return heading
    return f"{heading} {body_text(node.body, may_be_flat=True)}"


def answer_text(answer: syntax.Answer) -> str:
    match answer.source:
        case syntax.Name(name):
            source = name
        case syntax.Regex() as regex:
            source = regex_text(regex)
        case syntax.Vote(regex):
            source = f"vote {regex_text(regex)}"
        case _:
            assert_never(answer.source)
    if answer.otherwise is None:
        return f"answer {source}"
    count = answer.otherwise.max_tokens
    limit = f" max {number_text(count)} tokens" if count else ""
    return f"answer {source} else {string_text(answer.otherwise.text)}{limit}"


# --- Clauses ---------------------------------------------------------------------------------------------------------


def body_text(body: syntax.Body, may_be_flat: bool = False) -> str:
    """A body with its braces; on one line if it may be and has a single clause."""
    clauses = map(clause_text, body.clauses)
    return flat(clauses) if may_be_flat and len(body.clauses) == 1 else broken(clauses)


def clause_text(node: syntax.Clause) -> str:
    match node:
        case syntax.Scratchpad():
            return scratchpad_text(node)
        case syntax.Sees(entries):
            return f"sees {joined(map(entry_text, entries))}"
        case syntax.Layout(kind, before_others, before_self):
            others = f" before others {string_text(before_others)}" if before_others else ""
            return f"layout {kind}{others}" + (f" before self {string_text(before_self)}" if before_self else "")
        case syntax.Begin(text):
            return f"begin {string_text(text)}"
        case syntax.Step(prefix, until, after_sentence):
            opening = f"step {string_text(prefix)}" if prefix else "step"
            return f"{opening} until {joined(map(string_text, until))}" + (" after sentence" if after_sentence else "")
        case syntax.Forbid(texts):
            return f"forbid {joined(map(string_text, texts))}"
        case syntax.StopAt(texts):
            return f"stop at {joined(map(string_text, texts))}"
        case syntax.MaxTokens(count):
            return f"max {number_text(count)} tokens"
        case syntax.Paused():
            return "paused"
        case syntax.Sampling(options):
            return sampling_text(options)
        case syntax.Match(regex):
            return f"match {regex_text(regex)}"
        case syntax.Json(path):
            return f"json {string_text(path)}"
        case syntax.On(triggers, actions):
            return f"on {' or '.join(map(trigger_text, triggers))} {actions_text(actions)}"
        case _:
            assert_never(node)


def entry_text(entry: syntax.Entry, spell: Callable[[syntax.String], str] | None = None) -> str:
    """An entry of a view; its text by `spell` where that is given."""
    match entry:
        case syntax.Constant(text, role, in_context):
            opening = "in context " if in_context else "" if role == "text" else f"{role} "
            return opening + (spell or string_text)(text)
        case syntax.Name(name):
            return name
        case syntax.Others():
            return "others"
        case syntax.Own():
            return "self"
        case _:
            assert_never(entry)


def trigger_text(trigger: syntax.Trigger) -> str:
    match trigger:
        case syntax.AtStep():
            return "step"
        case syntax.Every(count, unit, at_step):
            return f"every {number_text(count)} {unit}" + (" at step" if at_step else "")
        case syntax.Seen(text):
            return string_text(text)
        case syntax.Matches(regex):
            return regex_text(regex)
        case syntax.Arrives(stream):
            return stream.value
        case syntax.AtStart():
            return "start"
        case syntax.AtEnd():
            return "end"
        case _:
            assert_never(trigger)


# --- Actions ---------------------------------------------------------------------------------------------------------


def actions_text(actions: Sequence[syntax.Action]) -> str:
    """Actions with their braces: on one line if they are few and none of them has a body of its own."""
    simple = len(actions) <= SHORT and not any(isinstance(action, syntax.Ask) for action in actions)
    return (flat if simple else broken)(map(action_text, actions))


def action_text(action: syntax.Action) -> str:
    match action:
        case syntax.Say(text):
            return f"say {string_text(text)}"
        case syntax.Ask(text, choices):
            listed = (f"{string_text(choice.text)} {actions_text(choice.actions)}" for choice in choices)
            return f"ask {string_text(text)} {broken(listed)}"
        case syntax.Post(text, pad):
            return f"post {string_text(text)} to {pad.value}"
        case syntax.Move(pad):
            return f"move self to {pad.value}"
        case syntax.Clear(pad):
            return f"clear {pad.value}"
        case syntax.Pause(worker):
            return f"pause {worker.value}"
        case syntax.Resume(worker):
            return f"resume {worker.value}"
        case syntax.Stop(worker):
            return f"stop {worker.value}" if worker else "stop"
        case _:
            assert_never(action)


# --- Tests -----------------------------------------------------------------------------------------------------------


def test_clause_text(node: syntax.TestClause) -> str:
    match node:
        case syntax.Given(settings):
            return f"given {joined(map(setting_text, settings))}"
        case syntax.Model(name):
            return f"model {string_text(name)}"
        case syntax.Budget(passes):
            return f"budget {number_text(passes)} passes"
        case syntax.Option(option, value):
            return f"{option} {number_text(value)}"
        case syntax.Says(worker, texts):
            return f"says {worker.value} {joined(map(string_text, texts))}"
        case syntax.Picks(choice, question):
            return f"picks {string_text(choice)} at {string_text(question)}"
        case syntax.Feed(stream, text, after):
            return f"feed {stream.value} {string_text(text)} after {number_text(after)} passes"
        case syntax.ExpectPasses(most):
            return f"expect max {number_text(most)} passes"
        case syntax.Expect(what, whose, how, value):
            owner = f" of {whose.value}" if whose else ""
            compared = "" if how == "is" else f" {how}"
            spelt = regex_text(value) if isinstance(value, syntax.Regex) else string_text(value)
            return f"expect {what.value}{owner}{compared} {spelt}"
        case _:
            assert_never(node)


def setting_text(setting: syntax.Setting) -> str:
    value = setting.value
    spelt = f"file {string_text(value.path)}" if isinstance(value, syntax.Included) else value_text(value)
    return f"{setting.name.value} = {spelt}"


# --- Texts and numbers -----------------------------------------------------------------------------------------------

SPELLINGS = {"\n": r"\n", "\t": r"\t", "\r": r"\r", '"': r"\"", "\\": r"\\"}


def number_text(number: syntax.Number) -> str:
    return repr(number.value)


def regex_text(regex: syntax.Regex) -> str:
    """A regex between slashes; those in it get their backslash."""
    return "/" + re.sub(r"\\.|/", lambda found: r"\/" if found[0] == "/" else found[0], regex.pattern) + "/"


def string_text(string: syntax.String) -> str:
    """A string: a text block where it has several lines and a block can hold them, else in quotes with escapes."""
    spelt = '"' + "".join(spelling(part, escaped) for part in string.parts) + '"'
    block = "".join(spelling(part, str) for part in string.parts)
    with_text = sum(bool(line.strip()) for line in block.split("\n"))
    wants_block = with_text > 2 or (with_text == 2 and len(spelt) > LONG)
    return block_text(block) if wants_block and holds(block) else spelt


def spelling(part: str | syntax.Hole, spell: Callable[[str], str]) -> str:
    """A part of a string; two braces of a text are written as four."""
    return "{{" + part.name + "}}" if isinstance(part, syntax.Hole) else spell(part).replace("{{", "{{{{")


def escaped(text: str) -> str:
    """A text as it is written in quotes; what is not seen on paper is written as a number."""
    return "".join(SPELLINGS.get(char) or (char if char.isprintable() else as_number(char)) for char in text)


def as_number(char: str) -> str:
    r"""`\uXXXX`, twice for a character beyond U+FFFF."""
    units = char.encode("utf-16-be", errors="surrogatepass")
    return "".join(rf"\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def holds(block: str) -> bool:
    """Whether a text block gives back this text: nothing is escaped in it, and the indentation of its lines is lost."""
    lines = block.split("\n")
    plain = all(line.isprintable() and line == line.rstrip() for line in lines)
    return plain and '"""' not in block and block[-1:] != '"' and any(line[:1].strip() for line in lines)


def block_text(block: str) -> str:
    """A text block of these lines; the closing quotes have a line of their own where the last one is empty."""
    *lines, last = block.split("\n")
    return "\n".join(['"""', *(MARGIN + line if line else "" for line in lines), f'{MARGIN}{last}"""'])


# --- Bodies and lists ------------------------------------------------------------------------------------------------


def joined(entries: Iterable[str]) -> str:
    return ", ".join(entries)


def flat(items: Iterable[str]) -> str:
    """A body on one line; the formatter breaks it where it is too long."""
    return "{ " + " ".join(items) + " }"


def broken(items: Iterable[str]) -> str:
    """A body with a line for each item."""
    return "{\n" + "".join(item + "\n" for item in items) + "}"
