"""Suites: generated ones stay the same; lines of files that are no problems are told with their number."""

import json
from pathlib import Path

import pytest

from hwlang.evaluation import problems
from hwlang.evaluation.answers import Exact
from hwlang.evaluation.collisions import make_collisions
from hwlang.evaluation.suites import Fields, Suite, make_countdown, make_lists, read_suite
from hwruntime.errors import InputError


def read(path: Path, group: int = 1, prompts: int | None = None, fields: Fields = Fields()) -> Suite:  # noqa: B008
    return read_suite(
        path, Exact(), fields=fields, parameter="problem", prompts=prompts, group=group, program=Path("p.hw")
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "five.jsonl"
    lines = [{"question": f"What is {n}+1?", "answer": n + 1} for n in range(5)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.mark.parametrize("name", ["sums", "chains"])
def test_lists_have_their_right_results_and_stay_as_they_are(name):
    suite = make_lists(name, 5, 7, seed=3)
    assert suite.tasks == make_lists(name, 9, 7, seed=3).tasks[:5]
    assert suite.tasks != make_lists(name, 5, 7, seed=4).tasks
    for task in suite.tasks:
        lines = str(task.inputs["problems"]).splitlines()
        assert task.expected == problems.results([line.partition(") ")[2] for line in lines])


@pytest.mark.parametrize("count", [0, 10])
def test_a_list_has_one_to_nine_problems(count):
    with pytest.raises(InputError, match="1 to 9 problems"):
        make_lists("sums", 1, count, seed=1)


def test_countdown_asks_for_what_it_checks():
    for task in make_countdown(3, seed=1).tasks:
        numbers, _, target = task.expected[0].partition(" = ")
        assert f"equals {target}." in str(task.inputs["problem"])
        assert ", ".join(numbers.split()) in str(task.inputs["problem"])


def test_colliding_workers_begin_the_same_problem_and_take_turns_to_be_asked():
    for collide in (True, False):
        tasks = make_collisions(6, 5, seed=1, place="middle", collide=collide).tasks
        assert [task.feed.worker for task in tasks] == ["Alice", "Bob"] * 3
        for task in tasks:
            begun = [str(task.inputs[name]).removesuffix(": ") for name in ("alice", "bob")]
            assert set(begun) <= set(str(task.inputs["problems"]).splitlines())
            assert (begun[0] == begun[1]) is collide


def test_a_file_is_read(file):
    suite = read(file)
    assert [task.inputs for task in suite.tasks][:2] == [{"problem": "What is 0+1?"}, {"problem": "What is 1+1?"}]
    assert [task.expected for task in suite.tasks] == [("1",), ("2",), ("3",), ("4",), ("5",)]
    assert len(read(file, prompts=2).tasks) == 2


def test_a_group_is_one_prompt(file):
    [first, second] = read(file, group=2).tasks  # the fifth problem is left over
    assert first.expected == ("1", "2")
    assert str(second.inputs["problem"]).endswith("1) What is 2+1?\n\n2) What is 3+1?")
    with pytest.raises(InputError, match="5 problems, a prompt takes 6"):
        read(file, group=6)


def test_lines_that_are_no_problems_are_told_and_the_others_are_used(tmp_path):
    path = tmp_path / "bad.jsonl"
    lines = [b'{"input": "1+1", "answer": "2"}', b"", b"{not json", b"[1, 2]", b'{"input": "1+1"}', b"\xff\xfe"]
    lines += [b'{"input": "1+2", "answer": ["3"]}', b'{"input": {}, "answer": 3}', b"[" * 100_000]
    path.write_bytes(b"\n".join(lines))
    suite = read(path)
    assert [task.expected for task in suite.tasks] == [("2",), ("3",)]
    assert [line.partition(".jsonl:")[2].partition(": ")[0] for line in suite.left_out] == [
        "3",
        "4",
        "5",
        "6",
        "8",
        "9",
    ]
    assert suite.left_out[2].endswith("the line has no text or number in `answer` or `solution`: it has `input`")


def test_fields_may_have_other_names(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"task": "1+1", "gold": 2}\n')
    assert read(path, fields=Fields("task", "gold")).tasks[0].expected == ("2",)
    with pytest.raises(InputError, match=r"own\.jsonl:1: the line has no text or number in `input`"):
        read(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        read(tmp_path / "none.jsonl")
