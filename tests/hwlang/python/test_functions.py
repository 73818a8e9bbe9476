"""Programs as Python functions: the trees that they build, and where their errors point."""

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

import hwlang as hw
from hwlang import syntax
from hwlang.formatting import printer
from hwlang.parser import parse
from hwlang.python.functions import tree_of
from tests.hwlang import calls

ROOT = Path(__file__).parents[3]
PROGRAMS = ROOT / "programs"
MODULES = [
    "api",
    "python.coroutines",
    "python.crews",
    "python.functions",
    "python.handles",
    "python.runs",
    "python.words",
]


# --- What is built ---------------------------------------------------------------------------------------------------


@given(calls.programs)
@settings(deadline=None)
def test_a_function_says_whatever_a_file_can_say(tree: syntax.Program) -> None:
    made, _ = tree_of(calls.function(tree))
    assert made == syntax.File((tree,))
    assert parse(printer.to_hw(made)) == made


def built(body: str, head: str = "p, topic: str, n: int = 2, loud=False") -> syntax.Program:
    """The program of a function with this body. It has no file: that is how a prompt of Python has it."""
    space: dict[str, object] = {"hw": hw, "re": re}
    exec(f"def example({head}):\n  " + body.replace("\n", "\n  "), space)
    tree, _ = tree_of(space["example"])  # type: ignore[arg-type]
    return tree.programs[0]


def written(declarations: str, head: str = "topic: str, n: int = 2, loud: bool = false") -> syntax.Program:
    return parse(f"program example({head}) {{ {declarations} }}").programs[0]


@pytest.mark.parametrize(
    ("python", "text"),
    [
        ('p.text("a", f"On {topic}.")', 'text a = "On {{topic}}."'),
        ('p.text("a", "On " + topic + "." )', 'text a = "On {{topic}}."'),
        ('p.text("a", topic)', 'text a = "{{topic}}"'),
        ('a = p.text("a", ""); p.text("b", f"{a}{n}")', 'text a = "" text b = "{{a}}{{n}}"'),
        ('p.text("a", hw.literal("{{") + "{{ n }}")', 'text a = "{{{{{{n}}"'),
        ('p.text("a", "{{{topic}}}")', 'text a = "{{{topic}}}"'),
        ('p.worker("A").sees(topic, hw.me)', "worker A { sees topic, self }"),
        ('w = p.worker("A", "B"); w.sees(w["B"], hw.me)', "worker A, B { sees B, self }"),
        ('p.workers(n, "A", "B", paused=True)', "workers n of A, B paused"),
        ('p.worker("A", begin="Hi")', 'worker A { begin "Hi" }'),
        ('p.worker("A").on(hw.step | "a" | re.compile("b"))', 'worker A { on step or "a" or /b/ { } }'),
        ('p.worker("A").on("a" | hw.start | hw.regex("b"))', 'worker A { on "a" or start or /b/ { } }'),
        ('p.worker("A").match(re.compile("a/.", re.I | re.S))', "worker A { match /(?is)a\\/./ }"),
        ('p.worker("A").match("a\\nb\\\\/")', r"worker A { match /a\nb\// }"),
        ("p.answer('a(.)')", "answer /a(.)/"),
        ("p.answer(hw.vote(re.compile('a')), otherwise='b')", 'answer vote /a/ else "b"'),
        (
            's = p.stream("user"); p.worker("A").on([s, hw.end], hw.stop())',
            "stream user worker A { on user or end { stop } }",
        ),
    ],
)
def test_spellings(python: str, text: str) -> None:
    assert built(python) == written(text)


@pytest.mark.parametrize(
    ("head", "params"),
    [
        ("p", ""),
        ("p, a, b=1, c=0.5, d=True, e='x'", 'a: str, b: int = 1, c: float = 0.5, d: bool = true, e: str = "x"'),
        ("p, a: 'int', *, b: float = 1", "a: int, b: float = 1"),
        ("p, a='{{x}}'", 'a: str = "{{{{x}}"'),
    ],
)
def test_parameters(head: str, params: str) -> None:
    assert built("pass", head).params == written("", params).params


def test_files_are_below_the_folder_of_the_program_whoever_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "rules.md").write_text("Be brief.")
    (tmp_path / "shared" / "roles.py").write_text("def rules(p):\n    return p.text('rules', file='rules.md')\n")
    code = "import hwlang as hw\nfrom shared.roles import rules\n@hw.program\ndef example(p):\n"
    code += "    p.worker('Ann').sees(rules(p), hw.me)\n"
    (tmp_path / "example.py").write_text(code + "print(example.compiled.workers[0].sees[0].text.parts)\n")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("('Be brief.',)\n", "")


# --- Errors ----------------------------------------------------------------------------------------------------------

HEAD = "import re\nimport hwlang as hw\n\n\n@hw.program\ndef example(p, topic: str, n: int = 2):\n"  # six lines
WORKER = "    w = p.worker('Ann')\n    w.sees(hw.user(topic), hw.me)\n"  # two more


def problems(code: str, folder: Path) -> tuple[hw.Diagnostic, ...]:
    """What is wrong with a Python file."""
    path = folder / "example.py"
    path.write_text(code)
    with pytest.raises(hw.CompileError) as caught:
        exec(compile(code, str(path), "exec"), {"__name__": "example"})
    assert {d.file for d in caught.value.diagnostics} == {str(path)}
    assert all("^" in d.render() for d in caught.value.diagnostics)
    return tuple(d for d in caught.value.diagnostics if d.severity == "error")


@pytest.mark.parametrize(
    ("line", "code", "column", "end", "message"),
    [
        # Values that do not fit
        ("w.sees(42)", "HW001", 12, 14, "a view has no place for an int"),
        ("w.sees()", "HW001", 5, 13, "a view has one entry at least"),
        ("w.begin(None)", "HW001", 13, 17, "a text is needed here, not None"),
        ("w.forbid('a', b'b')", "HW001", 19, 23, "a text is needed here, not a bytes"),
        ("w.forbid(*['a', 1])", "HW001", 5, 24, "a text is needed here, not an int"),
        ("w.forbid()", "HW001", 5, 15, "one text is needed at least"),
        ("w.max_tokens(count=2.5)", "HW007", 24, 27, "a whole number is needed here, not 2.5"),
        ("w.max_tokens(True)", "HW001", 18, 22, "a number is needed here, not a bool"),
        ("p.sampling(temperature=float('nan'))", "HW007", 28, 40, "nan is no number"),
        ("p.sampling(temperature=0.1 + 0.2)", "HW007", 28, 37, "is too long"),
        ("p.sampling(heat=1)", "HW001", 21, 22, "is needed here, not `'heat'`"),
        ("p.scratchpad('my pad')", "HW001", 18, 26, "`my pad` is no name"),
        ("p.scratchpad(7)", "HW001", 18, 19, "a name is needed here, not an int"),
        ("p.worker()", "HW001", 5, 15, "a worker needs a name"),
        ("p.worker('Ben', paused=1)", "HW001", 28, 29, "True or False is needed here, not an int"),
        ("p.text('a')", "HW001", 5, 16, "a text is given either as `text` or as `file`"),
        ("w.layout('wide')", "HW001", 14, 20, "is needed here, not `'wide'`"),
        ("w.on(hw.every(2, 'words'))", "HW001", 22, 29, '"tokens", "steps", "passes" is needed here'),
        ("w.on(hw.say, hw.stop())", "HW001", 10, 16, "a function is no trigger"),
        ("w.on([hw.step, 1], hw.stop())", "HW001", 20, 21, "an int is no trigger"),
        ("w.on([], hw.stop())", "HW001", 5, 24, "a rule needs a trigger"),
        ("w.on('a', print)", "HW001", 15, 20, "a function is no action"),
        ("w.on('a', hw.stop(), 'b')", "HW001", 26, 29, "a str is no action"),
        ("w.on('a', hw.ask('b', ['c']))", "HW001", 27, 32, "the choices are a dictionary, not a list"),
        ("w.on('a', hw.ask('b', {'c': 1, 'd': []}))", "HW001", 28, 31, "an int is no action"),
        ("w.on('a', hw.move('pad', 'pad'))", "HW001", 23, 28, "a worker moves its own block alone"),
        ("w.on('a', hw.pause(p.worker('B', 'C')))", "HW001", 24, 42, "one worker is needed here, and these are 2"),
        ("w['Ben']", "HW101", 5, 13, "there is no `Ben` among these workers"),
        ("p.answer('a', max_tokens=3)", "HW001", 30, 31, "`max_tokens` is of the text `otherwise`"),
        ("w.match(re.compile('a\\nb', re.X))", "HW408", 13, 37, "a regex is on one line"),
        ("w.begin('\\ud800')", "HW009", 13, 21, "half of a surrogate pair"),
        ("w.begin('Hi {{')", "HW006", 17, 19, "does not open a hole"),
        ("w.begin('ä {{{n}}} {{ }}')", "HW006", 24, 26, "does not open a hole"),
        # Parameters have no value yet
        ("if topic: pass", "HW107", 8, 13, "nothing fills `{{topic}}` here"),
        ("n + 1", "HW107", 5, 6, "nothing fills `{{n}}` here"),
        ("range(n)", "HW107", 11, 12, "nothing fills `{{n}}` here"),
        ("x = topic == 'a'", "HW107", 9, 14, "nothing fills `{{topic}}` here"),
        ("topic.upper()", "HW107", 5, 10, "nothing fills `{{topic}}` here"),
        ("x = 'ä'; len(topic)", "HW107", 18, 23, "nothing fills `{{topic}}` here"),
        ("w.begin(f'{n:03}')", "HW107", 16, 17, "cannot be formatted as `03`"),
        # What the checks of the language find
        ("w.begin('Hi {{nam}}')", "HW107", 17, 24, "nothing fills `{{nam}}`"),
        ("w.begin(f'Hi {w}')", "HW107", 13, 22, "`{{Ann}}` is a worker"),
        ("w.on('a', hw.post('b', to='bord'))", "HW101", 31, 37, "there is no scratchpad `bord`"),
        ("w.on('', hw.stop())", "HW409", 10, 12, "a trigger's text cannot be empty"),
        ("w.on(hw.step, hw.stop())", "HW301", 10, 17, "this never happens"),
        ("w.on(hw.regex('(a'), hw.stop())", "HW408", 19, 23, "this regex cannot be read"),
        ("w.begin('a'); w.begin('b')", "HW103", 19, 31, "`begin` is given twice"),
        ("p.budget(0)", "HW406", 14, 15, "this number is at least 1"),
        ("w.json('no.json')", "HW401", 12, 21, "there is no file `no.json`"),
        ("w.json('../a.json')", "HW402", 12, 23, "lies outside of the program's folder"),
        ("p.worker('Ben')", "HW205", 14, 19, "the worker `Ben` has no view"),
    ],
)
def test_errors_point_at_the_argument(
    line: str, code: str, column: int, end: int, message: str, tmp_path: Path
) -> None:
    (found,) = problems(f"{HEAD}{WORKER}    {line}\n", tmp_path)
    assert message in found.message
    assert (found.code, found.span.line, found.span.column, found.span.end_column) == (code, 9, column, end)


@pytest.mark.parametrize(
    ("head", "code", "column", "message"),
    [
        ("def example():", "HW001", 5, "the first parameter of the function is what builds the program"),
        ("def example(**p):", "HW001", 5, "the first parameter of the function is what builds the program"),
        ("def example(p, *rest):", "HW001", 17, "the parameters of a program have names of their own"),
        ("def example(p, many: list):", "HW001", 16, "a parameter is str, int, float or bool, not `list`"),
        ("def example(p, n: int = None):", "HW407", 25, "a default is a str, int, float or bool, not None"),
        ("def example(p, *, n: int = 'x'):", "HW407", 28, "the parameter `n` is int, its default is str"),
        ("def example(p, name: str):", "HW104", 16, "`name` has a meaning of its own"),
        ("def é(p):", "HW001", 5, "`é` is no name"),
        ("async def example(p):", "HW001", 11, "a plain one, without `async` and `yield`"),
    ],
)
def test_errors_point_into_the_head(head: str, code: str, column: int, message: str, tmp_path: Path) -> None:
    body = "    p.worker('Ann').sees('Go.', hw.me)\n"
    (found,) = problems(f"import hwlang as hw\n\n@hw.program\n{head}\n{body}", tmp_path)
    assert message in found.message
    assert (found.code, found.span.line, found.span.column) == (code, 4, column)


def test_all_errors_are_told_at_once_each_with_its_lines(tmp_path: Path) -> None:
    body = "    w = p.worker('Ann')\n    w.sees(\n        hw.user('{{topc}}'),\n        hw.me,\n        'x',\n    )\n"
    first, second = problems(HEAD + body + "    p.answer('(')\n", tmp_path)[:2]
    assert (
        first.render().splitlines()
        == [
            "error[HW201]: the last entry of a view is the block that its worker writes, `self`",
            f"  --> {tmp_path}/example.py:10:9",
            "   |",
            " 10 |         hw.me,",
            "   |         ^^^^^",
            "   = help: move `self` to the end",
        ]
        or second
    )


def test_an_error_in_a_role_is_in_the_role(tmp_path: Path) -> None:
    role = "import hwlang as hw\n\ndef role(w):\n    w.sees('Go {{x}}.', hw.me)\n\n@hw.program\n"
    code = role + "def example(p):\n    role(p.worker('Ann'))\n    role(p.worker('Ben'))\n"
    (found,) = problems(code, tmp_path)
    assert (found.code, found.span.line, found.span.column) == ("HW107", 4, 16)


def test_errors_without_a_file_have_a_line(tmp_path: Path) -> None:
    with pytest.raises(hw.CompileError, match="<string>:3:3"):
        built("w = p.worker('Ann')\nw.sees(42)")
    with pytest.raises(hw.CompileError, match="no folder to read files from"):
        hw.program(lambda_program())


def lambda_program():
    space: dict[str, object] = {"hw": hw}
    exec("def f(p):\n  p.worker('A').sees(p.text('a', file='a.md'), hw.me)", space)
    return space["f"]


def test_a_program_is_done_when_its_function_is() -> None:
    kept = []

    @hw.program
    def example(p: hw.ProgramBuilder) -> None:
        w = p.worker("Ann")
        w.sees("Go.", hw.me)
        kept.extend([p, w])

    builder, worker = kept
    for late in (lambda: builder.budget(3), lambda: worker.begin("Hi")):
        with pytest.raises(hw.CompileError, match="the program is built"):
            late()


def test_what_the_function_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):

        @hw.program
        def example(p: hw.ProgramBuilder) -> None:
            p.budget(1 // 0)

    with pytest.raises(TypeError, match="makes a program of a function"):
        hw.program(len)


# --- Documentation and types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = doctest.testmod(importlib.import_module(f"hwlang.{module}"), extraglobs={"hw": hw})
    assert made.failed == 0


def test_everything_public_has_an_example() -> None:
    """Every function and class; the words without an argument are in those of others, errors in their own module."""
    for name in set(hw.__all__) - {"me", "others", "step", "start", "end", "CompileError", "Diagnostic"}:
        assert ">>> " in (getattr(hw, name).__doc__ or ""), name


# What runs a program is of no matter to who writes one, and takes minutes to read.
MYPY = "[mypy]\nstrict = true\nexplicit_package_bases = true\nfollow_imports = silent\n"
SKIPPED = (
    "hwruntime.engine",
    "hwruntime.remote",
    "hwruntime.sglang",
    "hwruntime.prefixes",
    "hwruntime.batch",
    "hwruntime.session",
    "hwruntime.models",
    "rich",
    "lark",
)
MYPY += "".join(f"[mypy-{each}.*]\nfollow_imports = skip\n" for each in SKIPPED)

WRONG = """\
import hwlang as hw

@hw.program
def example(p: hw.ProgramBuilder) -> None:
    w = p.worker("Ann")
    w.sees(1, hw.me)  # no
    w.on(hw.step, "x")  # no
    w.layout("wide")  # no
    p.sampling(heat=1)  # no
    p.answer(hw.step)  # no

example.run(engine="tiny")  # no
example.run().answer.upper()  # no
"""


def test_programs_in_python_are_typed(tmp_path: Path) -> None:
    """`mypy --strict` on what a user writes: the programs, and what must not pass."""
    (tmp_path / "mypy.ini").write_text(MYPY)
    (tmp_path / "wrong.py").write_text(WRONG)
    files = [*map(str, sorted(PROGRAMS.glob("*.py"))), str(tmp_path / "wrong.py")]
    command = [sys.executable, "-m", "mypy", "--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path)]
    env = {**os.environ, "MYPYPATH": f"{ROOT}:{ROOT / 'runtime'}:{PROGRAMS}:{tmp_path}"}
    done = subprocess.run([*command, *files], capture_output=True, text=True, env=env, cwd=tmp_path)
    errors = [line.split(":")[:2] for line in done.stdout.splitlines() if ": error: " in line]
    wrong = [str(number) for number, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# no")]
    assert errors == [["wrong.py", number] for number in wrong], done.stdout + done.stderr
