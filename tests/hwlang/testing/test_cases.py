"""Tests in `.hw` files: what they say, what is checked in them, and how `hw test` runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hwlang as hw
from hwlang.checker import check_file, check_text
from hwlang.testing.cases import cases_of
from hwlang.testing.verdicts import difference
from tests.hwlang.cli.test_run import hw as command

ROOT = Path(__file__).parents[3]

PROGRAM = r"""program p(q: str, n: int = 2, warm: float = 0.5) {
  budget 60 passes
  scratchpad board
  stream news
  workers n of Ann, Ben {
    scratchpad notes
    sees "{{q}} {{warm}}", board, notes, news, others, self
    step until "\n\n"
    on step { move self to notes }
    on /^SHARE (.+)$/ { post "{{name}}: {{1}}\n" to board }
    on "?" { ask "Redundant? " { "yes" { stop self }  "no" { say " No." } } }
    on news { say "News: " }
  }
  answer /ANSWER (\w+)/ else "So " max 2 tokens
}
"""

LINE = PROGRAM.count("\n") + 1  # where a test begins that stands right behind it


@pytest.fixture
def run(tmp_path, capsys):
    """Runs one test with these clauses; exit code, stdout and stderr."""

    def run(clauses: str, *options: str, program: str = PROGRAM, given: str = 'q = "Why?"'):
        path = tmp_path / "p.hw"
        path.write_text(f'{program}\ntest p "a title" {{\n  given {given}\n{clauses}\n}}\n')
        return command(capsys, "test", str(path), *options)

    return run


# --- Passing ---


@pytest.mark.parametrize(
    "clauses",
    [
        'says Ann "one" expect Ann "one" expect Ben "" expect reason "done" expect max 4 passes',
        'says Ann "SHARE x\\n\\n", "two" expect board "Ann: x\\n" expect notes of Ann /^SHARE x/',
        'says Ann "SHARE x\\n\\n", "two" expect notes of Ann lacks "three" expect notes of Ben ""',
        'says Ann "Is it? Well." picks "no" at "Redundant" expect Ann "Is it?  No.Well."',
        'says Ann "Is it? Yes." picks "yes" at "Redund" expect Ann /^Is it\\?/ expect Ann lacks /Yes/',
        'says Ann "a b c d" feed news "x" after 2 passes expect Ann contains "News: "',
        'says Ann "a b c d" feed news "x" after 0 passes expect Ann /^News: a/',
        'says Ann "ANSWER none\\n\\n", "more" expect answer "none" expect reason "answer" expect Ann lacks "more"',
        'says Ann "no end in sight at all" says Ben "b" says answer "ANSWER it" budget 3 passes expect reason "budget"',
        'says Ann "quote \\" slash \\\\ brace {{{{x}} é中" expect Ann "quote \\" slash \\\\ brace {{{{x}} é中"',
        'says Ann "l1\\nl2\\nl3" expect Ann """\n    l1\n    l2\n    l3"""',
    ],
)
def test_a_test_passes(run, clauses):
    code, out, err = run(clauses)
    assert (code, err) == (0, ""), out
    assert out.startswith("pass  ")
    assert "p: a title  (" in out
    assert "1 passed in" in out


def test_values_have_their_types(tmp_path):
    (tmp_path / "in.txt").write_text("from a file\n")
    path = tmp_path / "p.hw"
    path.write_text(PROGRAM + 'test p "t" { given q = file "in.txt", n = 1, warm = 2 expect reason "done" }\n')
    (case,) = cases_of(check_file(path))
    assert case.inputs == {"q": "from a file\n", "n": 1, "warm": 2.0}
    assert isinstance(case.inputs["warm"], float)
    assert (case.scripted, case.name) == (False, "p: t")


def test_a_test_without_a_script_runs_on_a_model(run):
    code, out, _ = run('model "tiny" budget 2 passes seed 3 expect reason "budget" expect max 2 passes', "--json")
    (test,) = json.loads(out)["tests"]
    assert (code, test["model"], test["passes"]) == (0, "tiny", 2)


# --- Failing ---


@pytest.mark.parametrize(
    ("clauses", "lines"),
    [
        (
            'says Ann "one" expect Ann "onf"',
            ["`Ann` is not the text that was expected", "   ^^^", 'expected "onf"', 'got      "one"', " " * 15 + "^"],
        ),
        ('says Ann "one" expect answer "x"', ["`answer` is not the text that was expected", 'got      ""']),
        ('says Ann "one" expect Ann contains "x"', ["`Ann` does not contain", "got 3 characters:", "     one"]),
        ('says Ann "one" expect Ann lacks "n"', ["`Ann` has what it should not have"]),
        ('says Ann "one" expect Ann /x$/', ["`Ann` does not match the regex"]),
        ('says Ann "one" expect notes of Ben contains "x"', ["`Ben.notes` does not contain", "got nothing"]),
        ('says Ann "one" expect reason "stalled"', ['expected "stalled"', 'got      "done"']),
        ('says Ann "one two" expect max 1 passes', ["the run took 4 passes: at most 1 were expected"]),
        ('says Ann "a" feed news "x" after 50 passes expect reason "done"', ["before its pass 50", "feed news"]),
        ('says Ann "Is it? So." picks "no" at "Red" expect Ann "Is it?"', ['got      "Is it?  No.So."']),
    ],
)
def test_what_was_expected_and_what_came(run, clauses, lines):
    code, out, err = run(clauses)
    assert (code, err) == (1, "")
    assert out.startswith("FAIL  ")
    assert "error[HW550]: " in out
    assert f"p.hw:{LINE + 3}:" in out  # the line of the clause
    assert "1 failed, 0 passed in" in out
    assert all(line == line.rstrip() for line in out.splitlines())
    for line in lines:
        assert line in out


def test_long_texts_are_compared_line_by_line():
    expected = "".join(f"line {number}\n" for number in range(30))
    lines = list(difference(expected, expected.replace("line 20", "line twenty")))
    assert lines[0] == "first difference in line 21, column 6:"
    assert [line for line in lines if line[2:3] in "+-"] == [
        "  --- expected",
        "  +++ got",
        "  -line 20",
        "  +line twenty",
    ]
    assert len(lines) < 15


def test_a_long_text_is_cut_and_escapes_are_not_sent_to_the_terminal(run):
    code, out, _ = run(f'says Ann "{"x" * 9}{chr(92)}u001b[31m{(chr(92) + "n") * 100}" expect Ann contains "y"')
    assert code == 1
    assert "\x1b" not in out
    assert "more" in out
    assert len(out.splitlines()) < 60


def test_json_tells_failures_with_their_place(run):
    code, out, err = run('says Ann "one"\n  expect Ann "two"\n  expect Ann "one"', "--json")
    data = json.loads(out)
    (test,) = data["tests"]
    (failure,) = test["failures"]
    assert (code, err, data["passed"], data["failed"]) == (1, "", 0, 1)
    assert (test["line"], test["program"], test["title"], test["model"]) == (LINE + 1, "p", "a title", "scripted")
    assert (failure["code"], failure["line"], failure["column"]) == ("HW550", LINE + 4, 3)
    assert (failure["how"], failure["what"], failure["expected"], failure["got"]) == ("is", "Ann", "two", "one")


@pytest.mark.parametrize(
    ("clauses", "given", "message"),
    [
        ('model "./nowhere" expect reason "done"', 'q = "x"', "there is no folder"),
        ('says Ann "x" expect reason "done"', 'q = "x", n = 7', "cannot run with 7 workers"),
    ],
)
def test_a_run_that_cannot_start_fails_its_test(run, clauses, given, message):
    code, out, err = run(clauses, given=given)
    assert (code, err) == (1, "")
    assert message in out
    assert "Traceback" not in out


def test_a_choice_that_the_question_does_not_have(run):
    program = PROGRAM.replace('on news { say "News: " }', 'on "!" { ask "Sure? " { "true" {}  "false" {} } }').replace(
        "news, ", ""
    )
    code, out, _ = run(
        'says Ann "a!" picks "yes" at "Sure" expect Ann "a!"', program=program.replace("stream news", "")
    )
    assert code == 1
    assert '"yes" is picked at "Sure? ", where the choices begin with true, false' in out


# --- Which tests ---


def test_k_chooses_by_file_program_and_title(run):
    clauses = 'says Ann "a" expect Ann "a" }\ntest p "another" { given q = "" expect reason "budget" '
    assert "1 passed" in run(clauses, "-k", "A TITLE")[1]
    code, out, err = run(clauses, "-k", "nothing")
    assert (code, out, err) == (2, "", "error: no test has `nothing` in its name\n")


def test_files_without_tests_and_files_with_errors(tmp_path, capsys):
    path = tmp_path / "p.hw"
    path.write_text('program p { worker Ann { sees "Go.", self } }\n')
    assert command(capsys, "test", str(path)) == (2, "", "error: there are no tests in these files\n")
    path.write_text('program p { worker Ann { sees "Go." } }\ntest p "t" { expect Ann "" }\n')
    code, out, err = command(capsys, "test", str(path))
    assert (code, out) == (2, "")
    assert "error[HW201]" in err
    assert command(capsys, "test", str(tmp_path / "none.hw"))[0] == 2


def test_scripted_tests_need_neither_torch_nor_rich():
    code = "import sys; from hwlang.cli import main\n"
    code += f"assert main(['test', {str(ROOT / 'programs' / 'math.hw')!r}]) == 0\n"
    code += "assert not {'torch', 'transformers', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_tests_of_all_programs_pass(capsys):
    files = sorted(map(str, (ROOT / "programs").glob("*.hw")))
    code, out, err = command(capsys, "test", *files, "--json")
    data = json.loads(out)
    assert [f for test in data["tests"] for f in test["failures"]] == []
    assert (code, err) == (0, "")
    assert {test["file"] for test in data["tests"]} == set(files)


def test_where_the_model_runs_is_an_option(run):
    code, out, _ = run('model "tiny" expect reason "budget"', "--device", "nowhere")
    assert code == 1
    assert "there is no device `nowhere`" in out


# --- What is checked ---


@pytest.mark.parametrize(
    ("clauses", "code", "message"),
    [
        ('expect Bem "x"', "HW602", "has no worker or scratchpad `Bem`"),
        ('expect notes "x"', "HW602", "has no worker or scratchpad `notes`"),
        ('expect board of Ann "x"', "HW602", "has no scratchpad of `Ann`'s own `board`"),
        ('expect notes of Zoe "x"', "HW602", "has no worker `Zoe`"),
        ('says Zoe "x" expect Ann ""', "HW602", "has no worker `Zoe`"),
        ('feed mews "x" after 1 passes expect Ann ""', "HW602", "has no stream `mews`"),
        ('given r = "x" expect Ann ""', "HW602", "has no parameter `r`"),
        ('given n = "x" expect Ann ""', "HW604", "the parameter `n` is int, this is str"),
        ('given warm = true expect Ann ""', "HW604", "the parameter `warm` is float, this is bool"),
        ('given n = file "in.txt" expect Ann ""', "HW604", "the parameter `n` is int, this is str"),
        ('given warm = 1, warm = 2 expect Ann ""', "HW103", "`warm` is given twice"),
        ('says Ann "x" says Ann "y" expect Ann ""', "HW103", "what `Ann` says is given twice"),
        ('seed 1 seed 2 expect Ann ""', "HW103", "`seed` is given twice"),
        ('seed -1 expect Ann ""', "HW406", "`seed` is"),
        ('temperature 1 expect Ann ""', "HW605", "a test sets `seed` alone"),
        ('model "tiny" says Ann "x" expect Ann ""', "HW605", "this test has a script"),
        ('picks "maybe" at "Redundant" expect Ann ""', "HW604", "no `ask` of `p` has the choice `maybe`"),
        ('expect reason "dome"', "HW604", "no run ends with the reason `dome`"),
        ("expect Ann /(/", "HW408", "this regex cannot be read"),
        ("expect Ann lacks /(/", "HW408", "this regex cannot be read"),
        ('expect Ann "{{q}}"', "HW107", "nothing fills"),
        ('says Ann "{{name}}" expect Ann ""', "HW107", "nothing fills"),
        ("expect max 0 passes", "HW406", "at least 1"),
        ('feed news "x" after -1 passes expect Ann ""', "HW406", "at least 0"),
        ('given n = file "../in.txt" expect Ann ""', "HW402", "lies outside"),
        ('given n = file "/etc/passwd" expect Ann ""', "HW402", "not a path below"),
        ('given n = file "none.txt" expect Ann ""', "HW401", "there is no file"),
        ("says Ann expect", "HW001", ""),
        ("", "HW603", "expects nothing"),
    ],
)
def test_slips(tmp_path, clauses, code, message):
    (tmp_path / "in.txt").write_text("x")
    path = tmp_path / "p.hw"
    path.write_text(PROGRAM + f'test p "t" {{ given q = "" {clauses} }}\n')
    found = check_file(path).diagnostics
    assert code in {d.code for d in found}
    assert any(message in d.message for d in found)
    assert {d.span.line for d in found} == {LINE}


def test_a_program_that_is_not_there_and_a_title_that_is_taken():
    text = 'program p { worker Ann { sees "Go.", self } }\ntest q "t" { expect Ann "" }\n'
    (found,) = check_text(text).diagnostics
    assert (found.code, found.help) == ("HW601", None)
    twice = text.replace("test q", "test p") + 'test p "t" { expect Ann "" }\n'
    assert [(d.code, d.span.line) for d in check_text(twice).diagnostics] == [("HW102", 3)]


def test_parameters_that_are_not_given():
    (found,) = check_text(PROGRAM + 'test p "t" { expect Ann "" }\n').diagnostics
    assert (found.code, found.message, found.help) == ("HW604", "the program needs `q: str`", "write `given q = ...`")


def test_a_slip_in_a_test_does_not_hide_what_is_wrong_elsewhere():
    text = 'program p {\n  scratchpad unused\n  worker Ann { sees "Go." }\n}\ntest p "t" { exspect Ann "" }\n'
    assert {d.code for d in check_text(text).diagnostics} >= {"HW001", "HW201", "HW105"}


# --- Around them ---


def test_tests_change_nothing_of_the_program():
    with_test = hw.parse(PROGRAM + 'test p "t" { given q = "" expect Ann "" }\n')
    assert with_test.compiled == hw.parse(PROGRAM).compiled
    assert 'test p "t" {' in with_test.to_hw()


def test_words_of_tests_may_be_names():
    text = """
program test(given: str, says: str = "", model: str = "", seed: int = 1) {
  scratchpad expect
  stream feed
  worker contains {
    sees given, says, model, seed, expect, feed, self
    step until "."
    on step { move self to expect }
  }
  worker lacks, picks { sees given, expect, self }
  answer expect
}
test test "t" {
  given given = "x", says = "y", model = "z", seed = 2
  says contains "x."
  feed feed "x" after 0 passes
  expect expect "x."
  expect contains contains "x"
  expect lacks lacks "x"
}
"""
    checked = check_text(text)
    assert [d.render() for d in checked.diagnostics if d.severity == "error"] == []
    (case,) = cases_of(checked)
    assert case.inputs == {"given": "x", "says": "y", "model": "z", "seed": 2}


def test_a_worker_called_answer_is_meant_where_there_is_one():
    text = 'program p { worker answer { sees "Go.", self } }\ntest p "t" { says answer "x" expect answer "x" }\n'
    assert check_text(text).diagnostics == ()
