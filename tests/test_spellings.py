"""Every program in programs/ is there in both spellings, and both are the same program."""

import runpy
import sys
from pathlib import Path

import pytest

import hwlang as hw
from hwruntime.program import Json
from hwruntime.scripted import ScriptedModel
from hwruntime.session import Session

PROGRAMS = Path(__file__).parents[1] / "programs"
PAIRS = {name: name for name in ("chains", "layouts", "live", "report", "sums", "vote")} | {"math": "maths"}

# What the workers say where `tiny` cannot run a program.
LINES = {
    "live": {"Thinker": "Oil floats.\n\nSo water weighs more.\n\n</think>", "Writer": "Water does.\n\nIt does."},
    "math": {"Alice": " I take the first five: 25.\n\nThen 25 + 75 = \\boxed{100}.\n\n", "Bob": " The rest is 75.\n\n"},
    "report": {"Planner": "PLAN DONE", "Ann": "Yeast.\n\nPUBLISH: Gas.\n\n", "Ben": "PUBLISH: Heat.\n\nMore."},
}


def both() -> list[tuple[hw.Program, hw.Program]]:
    """The programs of the files and those of the functions, each beside its other."""
    made = [runpy.run_path(str(PROGRAMS / f"{python}.py")) for python in PAIRS.values()]
    functions = [each for module in made for each in module.values() if isinstance(each, hw.Program)]
    files = {name: file for file in PAIRS for name in names(PROGRAMS / f"{file}.hw")}
    return [(hw.load(PROGRAMS / f"{files[each.name]}.hw", each.name), each) for each in functions]


def names(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [line.removeprefix("program ").split("(")[0] for line in lines if line.startswith("program ")]


BOTH = both()


def bare(data: Json) -> Json:
    """Compiled data without the places that it came from."""
    if isinstance(data, dict):
        return {key: bare(value) for key, value in data.items() if key not in ("span", "file")}
    return [bare(each) for each in data] if isinstance(data, list) else data


def test_there_are_two_spellings_of_every_program() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.hw")} == set(PAIRS)
    assert {path.stem for path in PROGRAMS.glob("*.py")} == {*PAIRS.values(), "async_reasoning"}  # the last: coroutines
    assert sorted(each.name for _, each in BOTH) == sorted(n for path in PROGRAMS.glob("*.hw") for n in names(path))


@pytest.mark.parametrize(("file", "function"), BOTH, ids=lambda program: program.name)
def test_both_are_one_program(file: hw.Program, function: hw.Program) -> None:
    assert bare(function.compiled.to_json()) == bare(file.compiled.to_json())
    assert function.warnings == ()
    assert hw.parse(function.to_hw(), folder=PROGRAMS).tree == function.tree


@pytest.mark.parametrize(("file", "function"), BOTH, ids=lambda program: program.name)
def test_both_write_the_same_tokens(file: hw.Program, function: hw.Program) -> None:
    if file.name in LINES:
        results = []
        for program in (file, function):
            model = ScriptedModel(LINES[file.name], {"ahead of the reply": "yes"})
            results.append(model.play(Session(program.compiled, {}, model.tokenizer)))
        assert results[0] == results[1]
        assert results[0].answer
    else:
        states = [program.run(seed=3) for program in (file, function)]
        assert states[0] == states[1]
        assert "85" in states[0].answer


@pytest.mark.parametrize(
    ("name", "printed"), [("sums", "ospat"), ("chains", "9521"), ("vote", "85\n"), ("layouts", "contiguous 59\n")]
)
def test_a_program_in_python_runs_as_a_file(name: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(PROGRAMS / f"{name}.py"), run_name="__main__")
    assert printed in capsys.readouterr().out


def test_the_programs_do_not_hide_modules_of_python() -> None:
    """A script's folder is looked in first: `math.py` would be the `math` of all that is imported."""
    assert not {path.stem for path in PROGRAMS.glob("*.py")} & sys.stdlib_module_names
