"""`hw explain HW201`: what each code means, why it is so, and how a program that fails with it is put right.

The failing programs are those of `messages.MESSAGES`. The tests check both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwlang.diagnostics.codes import MESSAGES, Message, in_program, in_test, in_worker


@dataclass(frozen=True)
class Explanation:
    """What a code means and why (one paragraph), and the failing example put right, with the files beside it."""

    text: str
    fixed: str
    files: Mapping[str, bytes] = field(default_factory=dict)


def explain(code: str) -> str:
    """The page on a code, as plain text."""
    message, explanation = MESSAGES[code], EXPLANATIONS[code]
    return "\n".join(
        [
            f"{code}: {message.title}",
            "",
            *wrapped(explanation.text),
            "",
            "This fails with it:",
            "",
            *indented(shortened(message)),
            *beside(message.files),
            "",
            "This does not:",
            "",
            *indented(explanation.fixed),
            *beside(explanation.files),
        ]
    )


def beside(files: Mapping[str, bytes]) -> list[str]:
    """What lies beside an example."""
    return [f"    ({name}: {len(data)} bytes, {str(data[:30])[1:]})" for name, data in files.items()]


def shortened(message: Message) -> str:
    """An example without what makes it too long to read."""
    lines = message.example.split("\n")
    return "\n".join(line if len(line) <= 120 else line[:60] + " ... " + line[-30:] for line in lines)


def indented(program: str) -> list[str]:
    return [f"    {line}".rstrip() for line in program.rstrip("\n").split("\n")]


def wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100)


_ASK = 'ask "Done? " { "yes" { stop } "no" { } }'

EXPLANATIONS: Mapping[str, Explanation] = {
    # Syntax
    "HW001": Explanation(
        "A word, a string or a symbol stands where the grammar has no place for it. The message says what could "
        "stand there. Most often a keyword is misspelt, a comma or a brace is missing, or a clause is in the "
        "wrong place: `sees` and `step` belong in a worker, `scratchpad` and `answer` in a program.",
        'program example {\n  worker Ann { sees user "Go.", self }\n}\n',
    ),
    "HW002": Explanation(
        "Outside of strings and comments a program is made of letters, digits, `_` and the symbols `{ } ( ) , : "
        "=`. Text that was pasted from a document often has curly quotes; `;` and `[ ]` come from other "
        "languages. Strings are written with straight double quotes, and nothing ends a clause but the next one.",
        in_worker('begin "Hi"'),
    ),
    "HW003": Explanation(
        'A `"..."` string and a `/regex/` end on the line where they begin, so that one forgotten quote does not '
        'swallow the rest of the program. For text of several lines there are text blocks: `"""` on both sides, '
        'or `text NAME = file "..."`.',
        in_worker('begin "Hi"'),
    ),
    "HW004": Explanation(
        "Every `{` needs its `}`. The message points at the brace that is never closed, as far as the indentation "
        "tells which one that is, and at the place where its end is missed.",
        'program example {\n  worker Ann {\n    sees user "Go.", self\n  }\n}\n',
    ),
    "HW005": Explanation(
        'In a `"..."` string a backslash begins an escape, and there are only the ones that JSON has too: `\\n`, '
        '`\\t`, `\\r`, `\\"`, `\\\\` and `\\uXXXX`. A backslash itself is written `\\\\`. Text blocks (`"""`) and '
        "regexes have no escapes: there a backslash is a backslash.",
        in_worker(r'begin "C:\\data"'),
    ),
    "HW006": Explanation(
        "Two opening braces begin a hole, `{{name}}`, whose name is a parameter, a text, `name`, `step`, "
        "`workers` or the number of a regex group. Single braces are text, so `\\boxed{}` needs no care; two "
        "literal braces are written `{{{{`.",
        in_worker('begin "{{name}}"'),
    ),
    "HW007": Explanation(
        "Numbers that count something (tokens, passes, steps, workers, seeds) are whole, and no number has more "
        "than 18 digits. Only `temperature`, `top_p`, `min_p` and parameters of type `float` take fractions.",
        in_worker("max 2 tokens"),
    ),
    "HW008": Explanation(
        "Roles are written out for each worker and texts for each of their uses; texts that use each other many "
        "times over, or `ask` within `ask` within `ask`, grow without bounds. `ask` nests up to 16 deep, and a "
        "program has a million parts at most when all is written out.",
        in_worker("on start { " + _ASK + " }"),
    ),
    "HW009": Explanation(
        "Programs are read as UTF-8, whatever the system's own encoding is, so that they mean the same "
        "everywhere. Save the file as UTF-8; every editor can.",
        in_worker('begin "café"'),
    ),
    "HW010": Explanation(
        "`hw 1` says which version of the language a file is written in. It is optional, and where it is there it "
        "is the first thing in the file. This hwlang knows version 1 alone; a file of a later version needs a "
        "later hwlang.",
        "hw 1\n" + in_worker("max 9 tokens"),
    ),
    "HW011": Explanation(
        "A check takes less than two seconds whatever the file, so a program may have 30,000 words, strings and "
        "symbols (holes and escapes count too) and a megabyte of text, the files that it imports included. What "
        'makes files long is text: put it into a file of its own and name it, `text NAME = file "..."`; such a '
        "file may have 16 MiB. Workers that only differ in their names share a `role` or a list of names.",
        in_program('text rules = file "rules.md"', "sees rules, self"),
        files={"rules.md": b"a" * 100_000},
    ),
    # Names
    "HW101": Explanation(
        "A name is used and nothing declares it where it would have to be: scratchpads, streams, workers, texts "
        "and parameters in the program, private scratchpads in the worker, roles in the file or in one that it "
        "imports. The help names the closest one that would fit. A name that is missing is told once, with all of "
        "its uses.",
        in_program('scratchpad history = "Hi"', 'sees "Go.", history, self'),
    ),
    "HW102": Explanation(
        "Parameters, texts, scratchpads, streams and workers of a program share one namespace, since views, holes "
        "and actions call all of them by name. Roles have one, programs another. A private scratchpad may not be "
        "named like something of its program.",
        in_program('stream news\n  scratchpad board = "Hi"', 'sees user "Go.", news, board, self'),
    ),
    "HW103": Explanation(
        "This can be said once: a second one would silently replace the first. What adds up (`forbid`, `stop at`, "
        "rules, scratchpads) may be given as often as you like.",
        in_program("budget 20 passes"),
    ),
    "HW104": Explanation(
        "Words that the grammar has a use for where a name could stand cannot be names: `on step` must mean the "
        "step and not a stream called step. They are listed in the reference. All other keywords may be names.",
        in_program('scratchpad steps = "Hi"', 'sees user "Go.", steps, self'),
    ),
    "HW105": Explanation(
        "Something is declared and nothing uses it. The program runs; often a name is misspelt elsewhere, or a "
        "hole has been forgotten. This is not told where an undeclared name may have been meant for it.",
        in_program('text rules = "Be brief."', "sees rules, self"),
    ),
    "HW106": Explanation(
        "The name is declared, but as something else than what can stand here: only workers are paused, resumed "
        "and stopped, only scratchpads are written to, an answer is a scratchpad or a worker, and the number of "
        "workers is a parameter of type `int`.",
        in_program("stream chat", 'sees "Go.", chat, self on chat { pause self }'),
    ),
    "HW107": Explanation(
        "A hole takes a parameter or a text of the program; `{{name}}`, `{{step}}` and `{{workers}}` are filled "
        "where there is a worker, a step, or a program to speak of. A text that is read before the run (a path, a "
        "default, a model's name) has no holes at all.",
        'program example(topic: str) {\n  worker Ann { sees "{{topic}}", self }\n}\n',
    ),
    "HW108": Explanation(
        "Texts may use each other in their holes, in any order, but not themselves, not even by way of others: "
        "such a text has no end.",
        in_program('text a = "{{b}}" text b = "Be brief."', 'sees "{{a}}", self'),
    ),
    "HW109": Explanation(
        "A file may have several programs. To run one of them, name it: `hw run FILE:PROGRAM`, or `hw.load(FILE, "
        "PROGRAM)`. A file with roles alone has nothing to run; it is there to be imported.",
        'program one {\n  worker Ann { sees "Go.", self }\n}\n',
    ),
    # Views and blocks
    "HW201": Explanation(
        "A view is the cache layout of a worker, in order, and the worker appends to the block at its end: "
        "`self`. A block in the middle could not grow without moving everything behind it, and a worker without "
        "`self` would have nowhere to write. Other workers are seen by their names, or all together as `others`.",
        in_program("", 'sees user "Go.", self'),
    ),
    "HW202": Explanation(
        "Each block has one writer: two workers of one name would write into one block at the same time, and "
        "nobody but the worker itself appends to its block. What several workers write together is a scratchpad, "
        "where moves and posts go in as one piece.",
        in_program('worker Ben { sees user "Wait.", self }'),
    ),
    "HW203": Explanation(
        "A scratchpad that is declared in a worker is private: each worker has one of its own, and no other "
        "worker sees it or writes to it. Declared in the program it is shared by all.",
        "program example {\n"
        '  scratchpad notes = "Hi"\n'
        '  worker Ann { sees user "Go.", notes, self }\n'
        '  worker Ben { sees user "Go.", notes, self }\n'
        "}\n",
    ),
    "HW204": Explanation(
        "The scratchpad is in a view or is the answer, but nothing ever writes to it and it starts without a "
        "text, so it would be empty for ever. Add `move self to PAD` or `post ... to PAD` to a rule, or give it a "
        "text.",
        in_program("scratchpad board", 'sees "Go.", board, self on "OK" { post "Yes." to board }'),
    ),
    "HW205": Explanation(
        "Nothing says what this worker sees. A worker needs `sees`, its own or its role's; `layout` writes the "
        "rest of the view but not its opening.",
        in_program("", 'sees user "Go.", self max 9 tokens'),
    ),
    "HW206": Explanation(
        "`layout` writes a whole view: after an opening of constants it puts the history, the others and `self`. "
        "So `sees` gives the opening alone, the interleaved and the combined layout need a scratchpad for the "
        "finished steps, and a text can only come before what is there.",
        in_program(
            "scratchpad history",
            'sees user "Go." layout combined step until "." on step { move self to history }',
        ),
    ),
    "HW207": Explanation(
        "No block is in a view twice: its tokens have one place in the attention of a worker. `others` stands for "
        "all other workers, so none of them is named beside it.",
        in_program('scratchpad b = "Hi"', "sees b, self"),
    ),
    "HW208": Explanation(
        "A program has one worker at least, and `workers N of A, B, C` takes the first N of the names: not none "
        "of them, and not more than there are.",
        'program example {\n  workers 1 of Ann { sees "Go.", self }\n}\n',
    ),
    "HW209": Explanation(
        "A model goes on from tokens; where all that a worker sees is empty when it starts, there is nothing to "
        'go on from. Give it a text: `sees user "..."`, a scratchpad with a text, a step prefix, `begin "..."`, '
        "or let it start paused until there is something to see.",
        'program example {\n  worker Ann { sees "Read.", Ben, self }\n  worker Ben { sees "Go.", self }\n}\n',
    ),
    # Triggers and actions
    "HW301": Explanation(
        "The rule can never fire: `on step`, `every N steps` and `at step` need a worker that has steps, a sync "
        "is done at the end of one, and a name as a trigger is a stream's, since only streams bring in text.",
        in_worker('step until "."\n    on step { say "Well done." }'),
    ),
    "HW302": Explanation(
        "The worker starts paused, and no rule that can ever fire resumes it: the rules of workers that run "
        "count, and of those that they resume, and so on. A paused worker's own rules count where they fire "
        "without it, as `on STREAM` does.",
        'program example {\n  worker Ann { sees user "Go.", self on "HELP" { resume Ben } }\n'
        '  worker Ben paused { sees user "Help.", self }\n}\n',
    ),
    "HW303": Explanation(
        "`ask` compares how likely the model goes on with each of its choices; with one choice or none there is "
        "nothing to compare.",
        in_worker('on start { ask "Ready? " { "yes" {} "no" { stop } } }'),
    ),
    "HW304": Explanation(
        "Two choices of an `ask` have the same text: the model could not tell them apart, and the second one "
        "would never be taken.",
        in_worker('on start { ask "Ready? " { "yes" {} "no" { stop } } }'),
    ),
    "HW305": Explanation(
        "`stop` without a name ends the run, so what is written after it is never done. `stop self` ends the "
        "worker alone.",
        in_worker('on "DONE" { say "Bye." stop }'),
    ),
    "HW306": Explanation(
        "The rule has no actions. It is allowed, as a place to fill in later, but it does nothing.",
        in_worker('on "DONE" { stop }'),
    ),
    "HW307": Explanation(
        "`{{1}}` stands for what a group of the regex matched that fired the rule, so every trigger of that rule "
        "has to be a regex with that many groups. Groups are counted by their opening parentheses, from 1.",
        in_worker('on /^ASK (.+)/ { say "{{1}}?" }'),
    ),
    "HW308": Explanation(
        "The regex matches the empty text, so it is found at every place of every step: at its beginning, its end "
        "and between any two characters. `+` instead of `*` is most often what is meant.",
        in_worker('on /a+/ { say "!" }'),
    ),
    # Files and values
    "HW401": Explanation(
        "The file is not there, is a folder, or may not be read. Paths are looked for in the folder of the file "
        "that they are written in.",
        in_program('text a = file "rules.md"', "sees a, self"),
        files={"rules.md": b"Be brief."},
    ),
    "HW402": Explanation(
        "A program reads files below its own folder and no others, so that a program from elsewhere can be run "
        "without being read first: absolute paths, `..` and links that lead out of the folder are errors. Copy "
        "the file next to the program.",
        in_program('text a = file "rules.md"', "sees a, self"),
        files={"rules.md": b"Be brief."},
    ),
    "HW403": Explanation(
        "Files that a program includes are UTF-8 text of 16 MiB at most.",
        in_program('text rules = file "rules.md"', "sees rules, self"),
        files={"rules.md": "café".encode()},
    ),
    "HW404": Explanation(
        'The file behind `json "..."` has to be a JSON schema: one JSON object (or `true`, which any value fits).',
        in_worker('json "schema.json"'),
        files={"schema.json": b'{"type": "object"}'},
    ),
    "HW405": Explanation(
        "An import brings in the roles of a file, and those that it imports itself; files that import each other "
        "would never end. Put the roles that both need into a third file.",
        'import "roles.hw"\nprogram example {\n  worker Ann is writer\n}\n',
        files={"roles.hw": b'role writer { sees user "Go.", self }'},
    ),
    "HW406": Explanation(
        "The number is outside of what it can be: counts are 1 or more, `temperature` is 0 or more, `top_p` more "
        "than 0 and at most 1, `min_p` between 0 and 1, `top_k` 1 or more, `seed` 0 or more.",
        in_program("sampling { temperature 1 }"),
    ),
    "HW407": Explanation(
        "The default of a parameter has to be of the parameter's type: `str` takes a string, `int` a whole "
        "number, `float` any number, `bool` `true` or `false`.",
        'program example(n: int = 2) {\n  worker Ann { sees n, self }\n}\n',
    ),
    "HW408": Explanation(
        "Regexes are those of Python's `re`, searched with `re.MULTILINE`. This one cannot be read, is longer "
        "than 1,000 characters, or would take too long to be made ready.",
        in_program("answer /(closed)/"),
    ),
    "HW409": Explanation(
        "An empty text would be found everywhere (`stop at`, `until`, triggers), or says nothing (a model's name, "
        "a choice).",
        in_worker('stop at "END"'),
    ),
    # Tests
    "HW601": Explanation(
        "A test is one of a program in the same file, whose name it gives after `test`. Programs of other files "
        "are tested there.",
        in_test('test example "it ends" { expect reason "done" }'),
    ),
    "HW602": Explanation(
        "What a test gives, says, feeds and expects is called by the names of its program: parameters, workers, "
        "streams, scratchpads. A worker's private scratchpad is `NAME of WORKER`; besides these there are "
        "`answer`, which is what the run's answer is, and `reason`, which is why it ended.",
        in_test('test example "it talks" { expect Ann "Hello." }'),
    ),
    "HW603": Explanation(
        "A test without an `expect` passes whatever the program does, as long as it runs. Say what is to come of "
        "it: `expect reason \"done\"` is the least.",
        in_test('test example "it runs" { says Ann "Hello." expect Ann "Hello." }'),
    ),
    "HW604": Explanation(
        "A test gives every parameter that has no default, each a value of its type; `picks` takes a choice that "
        "some `ask` of the program has; and a run ends with one of the reasons answer, stopped, done, budget, "
        "stalled, context, cache and cancelled.",
        in_test('test example "it ends" { expect reason "done" }'),
    ),
    "HW605": Explanation(
        "A test has a script (`says`, `picks`) or runs on a model, and never both: with a script there is no "
        "model. Of the settings for sampling it has `seed` alone; the others are what it tests.",
        in_test('test example "it ends" { says Ann "Hello." expect reason "done" }'),
    ),
}  # fmt: skip
