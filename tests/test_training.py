"""The training text of `tiny` is what programs/sums.hw shows its workers, pass by pass, token by token."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import hwlang as hw
from hwruntime.checkpoint import open_checkpoint
from hwruntime.rows import Outcome
from hwruntime.session import Session
from training import generator

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tokenizer():
    return open_checkpoint("tiny", device="cpu", dtype="float32", trust_remote_code=False).tokenizer


def scripts(run: list[generator.Moment], workers: int) -> list[list[str]]:
    """What each worker samples in an ideal run, token by token."""
    last = run[-1]
    lines: list[list[str]] = [[] for _ in range(workers)]
    for block in last.done:
        lines[block.worker] += [*block.tokens[block.handed :], generator.END]
    for block in last.blocks:
        lines[block.worker] += block.tokens[block.handed :]
    return [line if line[-1] == generator.TAKEN else [*line, generator.TAKEN] for line in lines]


@pytest.mark.parametrize("seed", range(6))
def test_an_ideal_run_is_a_run_of_the_program(seed, tokenizer):
    rng = random.Random(seed)
    workers = rng.randint(1, 4)
    problems = generator.make_problems(rng, rng.randint(1, 8))
    run = list(generator.simulate(rng, problems, workers))
    lines = [iter(line) for line in scripts(run, workers)]
    program = hw.load(ROOT / "programs" / "sums.hw").compiled
    session = Session(program, {"problems": generator.opening(problems), "n": workers}, tokenizer)
    for moment in run:
        rows = session.next_pass().rows
        writing = {row.writer: [*row.block.tokens, *row.tokens] for row in rows}
        for worker, block in enumerate(moment.blocks):
            state = session._workers[worker]
            own = writing.get(state.name, state.block.tokens)
            assert tokenizer.decode(own) == "".join(block.tokens)
        done = session._views.pads["done"]
        assert tokenizer.decode(done.tokens) == "".join(token for block in moment.done for token in block.tokens)
        sampled = [next(lines[generator.NAMES.index(row.writer)]) if row.draw else "" for row in rows]
        session.advance([Outcome(*tokenizer.encode(token)) for token in sampled])
    assert not session.next_pass().rows
    assert session.reason == "done"


def test_training_text_is_reproducible_and_in_the_vocabulary(tokenizer):
    first, second = (generator.views(random.Random(5), 8) for _ in range(2))
    assert first == second
    for view in first:
        text = "".join(view.tokens)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer.encode(text)) == len(view.tokens)


def test_solutions_are_right():
    assert generator.solution("47+38") == "7+8=15, 4+3+1=8, 85"
    assert generator.solution("86-29") == "16-9=7, 8-2-1=5, 57"
    assert generator.solution("reverse tapso") == "ospat"
    assert generator.solution("sort 5291") == "1259"
    rng = random.Random(1)
    for problem in generator.make_problems(rng, 300):
        if "+" in problem or "-" in problem:
            assert generator.result(generator.solution(problem)) == str(eval(problem))


def test_the_benchmark_runs():
    command = [sys.executable, "benchmarks/sums.py", "--prompts", "3", "--workers", "1,2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    header, *_, one, two = done.stdout.strip().splitlines()
    assert header == "3 prompts of 6 problems, seed 2611, model tiny"
    assert (one.startswith("| 1 | "), two.startswith("| 2 | ")) == (True, True)


def test_the_flat_evaluation_runs():
    command = [
        sys.executable,
        "training/evaluate.py",
        "--model",
        "runtime/hwruntime/tiny",
        "--prompts",
        "1",
        "--problems",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["solved"] for line in done.stdout.splitlines()] == [1.0] * 4


def test_the_training_script_makes_a_model_that_loads(tmp_path):
    command = [sys.executable, "training/train.py", "--tokens", "4000", "--out", str(tmp_path / "made")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert hw.Engine(str(tmp_path / "made")).runtime.model.vocab_size > 100
