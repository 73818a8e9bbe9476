"""What editors say of a word of the language: a sentence, and an example that stands in the reference."""

from collections.abc import Mapping
from dataclasses import dataclass

_STOP = "`stop at` ends the worker once it has written one of these texts; the action `stop` ends a worker or the run."
_TOKENS = "Counts tokens: of a budget, a limit, a trigger or a sync."
_VIEW = "One of the views of the Hogwild! paper"


@dataclass(frozen=True)
class Word:
    """A keyword in a sentence, and an example from the reference."""

    text: str
    example: str


WORDS: Mapping[str, Word] = {
    "hw": Word("The version of the language that a file is written in; optional, and first.", "hw 1"),
    "import": Word("Brings in the roles of another file below the program's folder.", 'import "roles.hw"'),
    "role": Word("A body for workers to share.", 'role writer {\n  sees "Write.", self'),
    "program": Word(
        "Declares workers, what they see, and what happens while they write.", "program math(problem: str) {"
    ),
    "model": Word("The model to run on: a folder, a name on the hub, or `tiny`.", 'model "tiny"'),
    "sampling": Word("How tokens are drawn, of a program or of one worker.", "sampling { temperature 0 }"),
    "temperature": Word("How freely tokens are drawn; 0, the default, is greedy.", "temperature 0.6"),
    "top_p": Word("Draws from the likeliest tokens that have this much of the probability.", "top_p 0.95"),
    "top_k": Word("Draws from this many of the likeliest tokens.", "top_k 20"),
    "min_p": Word("Draws from tokens that are at least this likely, next to the likeliest.", "min_p 0.05"),
    "seed": Word("Where the random streams begin: the same seed gives the same tokens.", "seed 7"),
    "budget": Word("The run ends after that many passes of the model (1024 by default).", "budget 64 passes"),
    "passes": Word("Calls of the model; in each, every worker that runs goes on by a token.", "budget 64 passes"),
    "text": Word("Names a text, for holes and views.", 'text style = "Be brief."'),
    "file": Word("Takes a text from a file below the program's folder.", 'text NAME = file "..."'),
    "scratchpad": Word(
        "A block of text that workers `move` and `post` to: shared in a program, private in a worker.",
        'scratchpad board = "# Board\\n"',
    ),
    "stream": Word("Text that comes from outside while the run goes on.", "stream user"),
    "worker": Word("One concurrent generation of the model for each name.", "worker Ann is writer"),
    "workers": Word(
        "The first N of these workers; `{{workers}}` in a text is the names of those that take part.",
        "workers n of Alice, Bob, Carol, Dave {",
    ),
    "of": Word("Comes between the number of workers and their names.", "workers n of Alice, Bob, Carol, Dave {"),
    "is": Word("Gives a worker its role.", "worker Ann is writer"),
    "sees": Word("The worker's view: its cache layout, in order. `self` is last.", 'sees user "{{problem}}", self'),
    "system": Word(
        "Text in the system role, rendered with the model's chat template.", 'sees system "Think aloud.", user, self'
    ),
    "user": Word("Text in the user role, rendered with the model's chat template.", 'sees user "{{problem}}", self'),
    "assistant": Word("Text in the assistant role, rendered with the model's chat template.", 'assistant "..."'),
    "in": Word(
        "`in context` text is encoded in the view of the first worker that lists it.", 'in context "[the plan]\\n"'
    ),
    "context": Word(
        "`in context` text is encoded in the view of the first worker that lists it.", 'in context "[the plan]\\n"'
    ),
    "self": Word(
        "The worker itself: its own block as an entry of a view, or who an action is about.", "move self to board"
    ),
    "others": Word(
        "The blocks of all other workers, in the order of declaration.", 'sees "You are {{name}}.", others, self'
    ),
    "layout": Word("Writes one of the views of the Hogwild! paper.", "layout combined before others"),
    "contiguous": Word(f"{_VIEW}: opening, `others`, `self`.", "`contiguous`"),
    "interleaved": Word(f"{_VIEW}: opening, history, `self`.", "layout interleaved"),
    "combined": Word(f"{_VIEW}: opening, history, `others`, `self`.", "layout combined before others"),
    "before": Word(
        "A text that a layout puts before the others' blocks, or the worker's own.", 'before self "### Own work\\n\\n"'
    ),
    "begin": Word("The text that a worker starts with, after its first step prefix.", 'begin "The first is"'),
    "step": Word(
        "Cuts a worker's text into steps; as a trigger, fires when one has ended.",
        'step "[{{step}}] " until "\\n\\n", "." after sentence',
    ),
    "until": Word("The separators that end a step.", 'step until "\\n\\n"'),
    "after": Word("`after sentence`: a step ends only where a sentence does.", '"." after sentence'),
    "sentence": Word("`after sentence`: a step ends only where a sentence does.", '"." after sentence'),
    "forbid": Word("Texts that are never written, however they are split into tokens.", 'forbid "#", "</think>"'),
    "stop": Word(_STOP, 'on "DONE" { stop Ben stop self }'),
    "at": Word("`stop at` texts end the worker; `at step` waits for the next end of a step.", 'stop at "END"'),
    "max": Word("Ends the worker, or the finisher, after that many tokens.", "max 40 tokens"),
    "tokens": Word(_TOKENS, "max 40 tokens"),
    "steps": Word("Counts the worker's steps.", "every 3 steps"),
    "paused": Word("The worker waits until another one resumes it.", "worker Eve paused"),
    "match": Word("What the worker writes in a step is a full match of this regex.", "match /[a-z ]+/"),
    "json": Word("What the worker writes in a step is a JSON value that fits this schema.", 'json "schema.json"'),
    "on": Word("A rule: what happens when a trigger fires.", "on step { move self to history }"),
    "or": Word("Joins triggers: any of them fires the rule.", "on step or every 100 tokens"),
    "every": Word("Fires after so many tokens, steps or passes.", "on step or every 100 tokens"),
    "start": Word("Fires when the worker starts.", 'on start { say "Let me see." }'),
    "end": Word("Fires when the worker has ended.", "on end { stop }"),
    "say": Word("The worker goes on with this text.", 'on start { say "Let me see." }'),
    "ask": Word(
        "Compares how likely the model goes on with each choice, and does the actions of the likeliest.",
        'ask "Is this of use to Ben? (yes/no): " {',
    ),
    "post": Word("Appends a text to a scratchpad, as one piece.", 'post "{{1}}\\n" to log'),
    "to": Word("Comes before the scratchpad that is written to.", "move self to board"),
    "move": Word("Appends the worker's block to a scratchpad as it is, and empties the block.", "move self to board"),
    "clear": Word("Empties a scratchpad.", 'on "NEVER MIND" { clear board }'),
    "pause": Word("A worker waits until it is resumed.", "pause Ben"),
    "resume": Word("A paused worker goes on.", 'on "HELP" { resume Eve }'),
    "sync": Word(
        "Said to a worker that ends a step, once workers were handed that many tokens.", "sync every 256 tokens { say"
    ),
    "answer": Word("Where a run's answer comes from: a /regex/, a scratchpad, a worker, or a `vote`.", "answer board"),
    "vote": Word(
        "A worker whose step matches has voted; the majority is the answer.", "answer vote /the answer is (\\d+)/"
    ),
    "else": Word(
        "A text that a greedy worker completes where a run ends without an answer.",
        'else "So the answer is" max 8 tokens',
    ),
    "test": Word(
        "A run of a program and what has to come of it, for `hw test`.",
        'test pair "what is worth it is shared, notes stay private" {',
    ),
    "given": Word("The parameters of a test's run.", 'given topic = "bread", long = false'),
    "says": Word("What a worker of the scripted model writes, one text after the other.", 'says Ben "Hm."'),
    "picks": Word("What the scripted model chooses where an `ask` has this text.", 'picks "yes" at "worth sharing"'),
    "feed": Word("Text that comes in on a stream after so many passes.", 'feed news "Flour is dear." after 9 passes'),
    "expect": Word("What has to come out of a test's run.", "expect notes of Ann /^SHARE/"),
    "contains": Word("The expected text is in it.", 'expect board contains "yeast"'),
    "lacks": Word("The text is not in it.", 'expect Ben lacks "yeast"'),
    "str": Word("The type of a parameter that is a text.", "who: str"),
    "int": Word("The type of a parameter that is a whole number.", "times: int = 3"),
    "float": Word("The type of a parameter that is a number.", "warmth: float = 0.5"),
    "bool": Word("The type of a parameter that is `true` or `false`.", "loud: bool = false"),
    "true": Word("Yes, of a `bool` parameter.", "`true`"),
    "false": Word("No, of a `bool` parameter.", "loud: bool = false"),
}

HOLES: Mapping[str, str] = {
    "name": "the worker's name",
    "step": "the number of the worker's step, from 1",
    "workers": "the names of the workers that take part",
}


def about(word: str) -> str | None:
    """A keyword in Markdown; None where a word is none."""
    found = WORDS.get(word)
    return f"`{word}` — {found.text}\n\n```hw\n{found.example.strip('`')}\n```" if found else None
