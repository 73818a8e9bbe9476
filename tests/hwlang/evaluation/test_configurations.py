"""Configurations: what is compared, under which names, and that our own programs are in order."""

from dataclasses import replace
from pathlib import Path

import pytest

import hwlang as hw
from hwlang.evaluation.configurations import LAYOUTS, Choice, as_text, configurations_of, is_blind
from hwlang.evaluation.suites import PROGRAMS, make_lists
from hwruntime.program import Constant

SUITE = make_lists("sums", 1, 2, seed=1)


def names(choice: Choice, file: Path | None = None) -> list[str]:
    suite = replace(SUITE, program=file) if file else SUITE
    return [each.name for each in configurations_of(suite, choice)]


def test_our_programs_have_no_warnings():
    for file in sorted(PROGRAMS.glob("*.hw")):
        text = file.read_text()
        assert text.startswith("# ")
        for name in ["collisions"] if file.stem == "collisions" else LAYOUTS:
            assert hw.load(file, name).warnings == ()


@pytest.mark.parametrize("file", ["lists.hw", "questions.hw"])
def test_only_the_blind_are_blind(file):
    assert [is_blind(hw.load(PROGRAMS / file, name).compiled) for name in LAYOUTS] == [False, False, False, True]


def test_one_worker_is_run_once_and_without_sync_prompts():
    assert names(Choice(workers=(1, 2))) == [
        "1 worker",
        "2 workers, combined",
        "2 workers, combined, no sync prompt",
        "2 workers, interleaved",
        "2 workers, contiguous",
        "2 workers, blind",
    ]
    alone = configurations_of(SUITE, Choice(layouts=("combined",), workers=(1,)))[0]
    assert (alone.program.syncs, alone.workers, alone.program.name) == ((), 1, "combined")


def test_sync_prompts_come_as_often_as_asked():
    made = configurations_of(SUITE, Choice(layouts=("combined", "interleaved"), workers=(2,), syncs=(32, "own")))
    assert [(each.name, [sync.every for sync in each.program.syncs]) for each in made] == [
        ("2 workers, combined, sync 32", [32]),
        ("2 workers, combined", [64]),
        ("2 workers, interleaved, sync 32", [32]),
    ]


def test_temperature_and_budgets_go_before_the_programs():
    [made] = configurations_of(SUITE, Choice(("combined",), (2,), ("own",), budgets=(50, 20), temperature=0.5))
    assert made.program.sampling.temperature == 0.5
    assert (made.budgets, made.runs) == ((20, 50), (50,))
    [made] = configurations_of(SUITE, Choice(("combined",), (2,), ("own",)))
    assert made.budgets == (400,)


def test_a_program_without_a_number_of_workers_has_one_configuration(tmp_path):
    file = tmp_path / "pair.hw"
    file.write_text('program pair(problems: str) { worker Ann, Ben { sees "{{problems}}", others, self } }')
    assert names(Choice(layouts=(None,), workers=(1, 2, 4)), file) == ["pair"]


def test_what_is_run_has_a_digest():
    def digest(choice: Choice, seed: int = 1) -> str:
        return configurations_of(make_lists("sums", 1, 2, seed), choice)[0].digest

    same = Choice(("combined",), (2,))
    others = [Choice(("interleaved",), (2,)), Choice(("combined",), (3,)), Choice(("combined",), (2,), (9,))]
    assert digest(same) == digest(same)
    assert len({digest(same), digest(same, seed=2), *map(digest, others)}) == 5


def test_a_layout_that_is_not_there_is_a_diagnostic():
    with pytest.raises(hw.CompileError, match="no program `sideways`"):
        names(Choice(layouts=("sideways",)))


def test_chat_messages_can_be_plain_texts():
    program = as_text(hw.load(PROGRAMS / "questions.hw", "combined").compiled)
    constants = [entry for worker in program.workers for entry in worker.sees if isinstance(entry, Constant)]
    assert {entry.role for entry in constants} == {"text"}
