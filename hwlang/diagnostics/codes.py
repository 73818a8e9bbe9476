"""The table of codes: what each stands for, with a program that fails with it. The tests load every one of them.

Codes: HW0xx syntax, HW1xx names, HW2xx views and blocks, HW3xx triggers and actions, HW4xx files and values, HW6xx
tests. The runtime has HW5xx.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Message:
    """What a code stands for, and a program that fails with it.

    `files` lie beside that program. `call` is the one that fails: `checker.check_file`, or `hwlang.load`, which needs
    one program to be chosen.
    """

    title: str
    example: str
    encoding: str = "utf-8"
    files: Mapping[str, bytes] = field(default_factory=dict)
    call: Literal["check_file", "load"] = "check_file"


def in_program(declarations: str, worker: str = 'sees user "Go.", self') -> str:
    return f"program example {{\n  {declarations}\n  worker Ann {{ {worker} }}\n}}\n"


def in_worker(clauses: str) -> str:
    return f'program example {{\n  worker Ann {{\n    sees user "Go.", self\n    {clauses}\n  }}\n}}\n'


def in_test(test: str) -> str:
    return f'program example {{\n  worker Ann {{ sees user "Go.", self }}\n}}\n\n{test}\n'


MESSAGES: Mapping[str, Message] = {
    # Syntax
    "HW001": Message("This does not fit the grammar", 'program example {\n  wroker Ann { sees user "Go.", self }\n}\n'),
    "HW002": Message("A character that has no meaning here", in_worker("begin “Hi”")),
    "HW003": Message("A string or a regex is not closed", in_worker('begin "Hi')),
    "HW004": Message("A brace is never closed", 'program example {\n  worker Ann {\n    sees user "Go.", self\n}\n'),
    "HW005": Message("An unknown escape in a string", in_worker(r'begin "C:\data"')),
    "HW006": Message("Two braces that do not open a hole", in_worker('begin "{{ }}"')),
    "HW007": Message("A number that cannot be read, or is not whole", in_worker("max 2.5 tokens")),
    "HW008": Message(
        "Nested too deep, or too large when roles and texts are written out",
        in_worker("on start { " + 'ask "?" { "a" {} "b" { ' * 17 + "}} " * 17 + "}"),
    ),
    "HW009": Message("The file is not UTF-8", in_worker('begin "café"'), encoding="latin-1"),
    "HW010": Message("A language version that is not known, or not at the top", "hw 7\n" + in_worker("max 9 tokens")),
    "HW011": Message("A program that is too large", in_worker("forbid " + ", ".join(['"a"'] * 16_000))),
    # Names
    "HW101": Message("A name that is not declared", in_program("scratchpad history", 'sees "Go.", histroy, self')),
    "HW102": Message("A name that is taken already", in_program('stream board\n  scratchpad board = "Hi"')),
    "HW103": Message("Given twice, where once is all there can be", in_program("budget 10 passes budget 20 passes")),
    "HW104": Message("A word of the language as a name", in_program('scratchpad step = "Hi"')),
    "HW105": Message("Declared and never used (warning)", in_program('text rules = "Be brief."')),
    "HW106": Message(
        "A name of the wrong kind", in_program("stream chat", 'sees "Go.", chat, self on chat { pause chat }')
    ),
    "HW107": Message(
        "A hole that nothing fills", 'program example(topic: str) {\n  worker Ann { sees "{{topik}}", self }\n}\n'
    ),
    "HW108": Message(
        "A text that contains itself", in_program('text a = "{{b}}" text b = "{{a}}"', 'sees "{{a}}", self')
    ),
    "HW109": Message(
        "A program has to be named, or is not there",
        'program one {\n  worker Ann { sees "Go.", self }\n}\nprogram two {\n  worker Ben { sees "Go.", self }\n}\n',
        call="load",
    ),
    # Views and blocks
    "HW201": Message("The last entry of a view is `self`, and only the last", in_program("", 'sees self, user "Go."')),
    "HW202": Message("Two workers write one block", in_program('worker Ann { sees user "Wait.", self }')),
    "HW203": Message(
        "A private scratchpad is used elsewhere",
        "program example {\n"
        '  worker Ann { scratchpad notes = "Hi" sees user "Go.", notes, self }\n'
        '  worker Ben { sees user "Go.", notes, self }\n'
        "}\n",
    ),
    "HW204": Message("A scratchpad that nobody writes", in_program("scratchpad board", 'sees "Go.", board, self')),
    "HW205": Message("A worker without a view", in_program("", "max 9 tokens")),
    "HW206": Message("A layout that does not fit", in_program("", 'sees user "Go." layout combined')),
    "HW207": Message("A block is in a view twice", in_program('scratchpad b = "Hi"', "sees b, b, self")),
    "HW208": Message(
        "A number of workers that cannot be", 'program example {\n  workers 0 of Ann { sees "Go.", self }\n}\n'
    ),
    "HW209": Message(
        "A worker that has nothing to start from",
        'program example {\n  worker Ann { sees Ben, self }\n  worker Ben { sees "Go.", self }\n}\n',
    ),
    # Triggers and actions
    "HW301": Message("A trigger that never happens", in_worker('on step { say "Well done." }')),
    "HW302": Message("A paused worker that nothing resumes", in_worker("paused")),
    "HW303": Message("An `ask` with nothing to choose", in_worker('on start { ask "Ready? " { "yes" {} } }')),
    "HW304": Message("A choice is given twice", in_worker('on start { ask "Ready? " { "yes" {} "yes" { stop } } }')),
    "HW305": Message("An action after the end of the run (warning)", in_worker('on "DONE" { stop say "Bye." }')),
    "HW306": Message("A rule that does nothing (warning)", in_worker('on "DONE" { }')),
    "HW307": Message("A regex group that is not there", in_worker('on /^ASK/ { say "{{1}}?" }')),
    "HW308": Message("A trigger that the empty text fires (warning)", in_worker('on /a*/ { say "!" }')),
    # Files and values
    "HW401": Message(
        "A file that is missing or cannot be read", in_program('text a = file "no-such-file.md"', "sees a, self")
    ),
    "HW402": Message(
        "A file outside of the program's folder", in_program('text a = file "../rules.md"', "sees a, self")
    ),
    "HW403": Message(
        "A file that is too large or not UTF-8",
        in_program('text rules = file "rules.md"', "sees rules, self"),
        files={"rules.md": b"caf\xe9"},
    ),
    "HW404": Message("A JSON schema that is none", in_worker('json "schema.json"'), files={"schema.json": b"{,}"}),
    "HW405": Message(
        "Files that import each other in a circle",
        'import "roles.hw"\n' + in_worker("max 9 tokens"),
        files={"roles.hw": b'import "more.hw"', "more.hw": b'import "roles.hw"'},
    ),
    "HW406": Message("A number that makes no sense here", in_program("sampling { temperature -1 }")),
    "HW407": Message(
        "A default of the wrong type", 'program example(n: int = "two") {\n  worker Ann { sees n, self }\n}\n'
    ),
    "HW408": Message("A regex that cannot be read", in_program("answer /(unclosed/")),
    "HW409": Message("An empty text where there must be one", in_worker('stop at ""')),
    # Tests
    "HW601": Message(
        "A test of a program that is not there", in_test('test sample "it ends" { expect reason "done" }')
    ),
    "HW602": Message(
        "A test names what its program does not have", in_test('test example "it talks" { expect Ben "Hello." }')
    ),
    "HW603": Message("A test that expects nothing (warning)", in_test('test example "it runs" { says Ann "Hello." }')),
    "HW604": Message(
        "A value of a test that does not fit its program", in_test('test example "it ends" { expect reason "over" }')
    ),
    "HW605": Message(
        "A setting that a test cannot have",
        in_test('test example "it ends" { model "tiny" says Ann "Hello." expect reason "done" }'),
    ),
}
