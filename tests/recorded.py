"""Traces of runs on the scripted model, written by the real writer: for tests of what reads them."""

from collections.abc import Mapping
from pathlib import Path

import hwlang as hw
from hwruntime.program import Value
from hwruntime.scripted import ScriptedModel
from hwruntime.session import Session
from hwruntime.trace import Head, Trace

LONG = """role solver {
  sees "{{task}}\\n\\n", board, others, self
  step "{{name}} [{{step}}]: " until "\\n\\n"
  on step { move self to board }
  on every 500 tokens { ask "Is this done already? (yes/no): " { "yes" { say " Next. " } "no" { say " On. " } } }
}

program long(task: str) {
  scratchpad board
  worker Alice, Bob, Carol, Dave is solver
  sync every 700 tokens { say "Quick check: am I doing what others do? " }
  answer board
}"""


def record(
    path: Path,
    source: str,
    lines: Mapping[str, str],
    asks: Mapping[str, str] | None = None,
    *,
    inputs: Mapping[str, Value] | None = None,
    budget: int | None = None,
    feeds: Mapping[int, tuple[str, str]] | None = None,
    until: int | None = None,
    program: str | None = None,
) -> Path:
    """Run a program and write its trace. `feeds`: (stream, text) before a pass; `until`: the last pass before the
    process is killed."""
    model, parsed = ScriptedModel(lines, asks), hw.parse(source, program)
    head = Head(parsed.compiled, source, "scripted", {}, {}, [{"inputs": dict(inputs or {}), "seed": 0}])
    with path.open("w", encoding="utf-8") as file:
        trace = Trace(file, "scripted")
        trace.start(head)
        session = Session(parsed.compiled, inputs or {}, model.tokenizer, log=trace.log(0), budget=budget, seed=0)
        while session.passes != until:
            if feeds and session.passes in feeds:
                session.feed(*feeds[session.passes])
            rows = session.next_pass().rows
            if not rows:
                session.close()
                break
            session.advance([model.reply(row) for row in rows])
    return path


def record_long(path: Path, passes: int) -> Path:
    """Four workers, whose steps are of all lengths."""
    words = "we add these two numbers, carry one, and check the sum before we go on; then the next line follows".split()
    lines = {}
    for number, name in enumerate(("Alice", "Bob", "Carol", "Dave")):
        steps, index = [], number
        while sum(map(len, steps)) < 2 * passes:
            length = 5 + (index * 37 + number * 11) % 60
            steps.append([words[(index * 7 + i * (number + 2)) % len(words)] for i in range(length)])
            index += 1
        lines[name] = "\n\n".join(" ".join(step) + "." for step in steps)
    return record(path, LONG, lines, inputs={"task": "Add all numbers from 1 to 1000. " * 40}, budget=passes)
