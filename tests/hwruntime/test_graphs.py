"""Padded and captured passes, through whole programs: the same texts as without."""

import json
import logging
from pathlib import Path

import pytest
import torch

import hwlang as hw
from hwruntime.attention import Choice
from hwruntime.checkpoint import open_checkpoint
from hwruntime.engine import Engine
from hwruntime.graphs import Recorder, TorchRecorder
from hwruntime.models import CAPTURE_AFTER, Model
from hwruntime.program import Program
from hwruntime.scripted import WordTokenizer
from tests.hwruntime.models_for_tests import (
    BY_NAME,
    FLASHINFER_ON_CPU,
    Blocks,
    flat_logits,
    loaded,
    random_model,
    random_tokens,
)

TESTS = Path(__file__).parents[1]
PARITY = TESTS / "parity"
PROGRAMS = TESTS.parent / "programs"


class Counting(TorchRecorder):
    """Counts what is recorded and what is replayed."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, *arguments):
        self.recorded += 1
        return super().record(*arguments)


class Failing(Recorder):
    """A model that cannot be captured."""

    def record(self, *arguments):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def engine(
    name: str, recorder: Recorder, attention: Choice | str = FLASHINFER_ON_CPU, kv_dtype: str = "auto"
) -> Engine:
    checkpoint = open_checkpoint(name, device="cpu", dtype="float32", trust_remote_code=False)
    return Engine(Model(checkpoint, attention, kv_dtype=kv_dtype, recorder=recorder))


def compiled(path: Path, name: str | None = None) -> Program:
    return hw.load(path, name).compiled


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    return {name: engine(str(PARITY / name), TorchRecorder()) for name in ("qwen2", "llama3")}


@pytest.mark.parametrize("path", sorted(PARITY.glob("*.hw")), ids=lambda path: path.stem)
def test_captured_passes_write_what_the_authors_code_wrote(path, engines):
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    result = engines[expected["model"]].run(compiled(path), {})
    assert result.passes == expected["passes"]
    assert {name: worker.text for name, worker in result.workers.items()} == expected["workers"]


@pytest.mark.parametrize("program", ["sums.hw", "vote.hw", "layouts.hw:contiguous", "layouts.hw:combined"])
def test_programs_on_tiny_are_the_same_on_both_executors(program):
    file, _, name = program.partition(":")
    made = compiled(PROGRAMS / file, name or None)
    recorder = Counting()
    captured = engine("tiny", recorder).run(made, {}, seed=3)
    plain = engine("tiny", TorchRecorder(), "torch").run(made, {}, seed=3)
    assert captured.to_json() == plain.to_json()
    assert 0 < recorder.recorded < captured.passes / 4, "few shapes make up most passes"


def test_a_program_on_a_cache_of_8_bits():
    """`tiny` still solves it, on both executors alike."""
    made = compiled(PROGRAMS / "sums.hw")
    results = [
        engine("tiny", TorchRecorder(), attention, "fp8").run(made, {}) for attention in (FLASHINFER_ON_CPU, "torch")
    ]
    assert results[0].to_json() == results[1].to_json()
    assert "1259" in results[0].scratchpads["done"]


def test_a_shape_is_captured_once_it_has_come_up_often_enough():
    recorder = Counting()
    blocks = Blocks(loaded(random_model(BY_NAME["llama"].config()), FLASHINFER_ON_CPU, recorder))
    blocks.write([0], random_tokens(70))
    assert recorder.recorded == 0, "a long pass is never captured"
    for count, token in enumerate(random_tokens(6), 1):
        blocks.write([0, 1], [token])
        assert recorder.recorded == (1 if count > CAPTURE_AFTER else 0)


def test_a_model_that_cannot_be_captured_runs_on_and_says_so(caplog):
    model = loaded(random_model(BY_NAME["llama"].config()), FLASHINFER_ON_CPU, Failing())
    plain = loaded(random_model(BY_NAME["llama"].config()), "torch")
    texts = []
    for blocks in (Blocks(model), Blocks(plain)):
        blocks.write([0], random_tokens(10))
        texts.append(torch.cat([blocks.write([0, 1], [token]) for token in random_tokens(8)]))
    torch.testing.assert_close(texts[0], texts[1], atol=1e-4, rtol=0)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "passes are not recorded: operation not permitted when stream is capturing"
    ]


def test_page_tables_read_moved_blocks():
    """The other path: keys stored unrotated, and moved as they are."""
    hf = random_model(BY_NAME["llama"].config(head_dim=64, rope_parameters={"rope_type": "default", "rope_theta": 5e5}))
    tokens = random_tokens(60)
    expected = flat_logits(hf, tokens)
    model = loaded(hf, FLASHINFER_ON_CPU, TorchRecorder())
    model.expect(workers=1, tokens=60)
    assert not model.executor.rotated
    blocks = Blocks(model)
    got = [blocks.write([0], tokens[:20]), blocks.write([0, 1], tokens[20:33])]
    got += [blocks.write([0, 1, 2], [token]) for token in tokens[33:40]]
    blocks.move(1, 0)
    got += [blocks.write([0, 2], [token]) for token in tokens[40:50]]
    blocks.move(2, 0)
    got += [blocks.write([0, 3], tokens[50:])]
    torch.testing.assert_close(torch.cat(got), expected, atol=1e-4, rtol=0)


def test_a_run_is_told_before_it_begins():
    """The path follows from the program: few workers and a small budget read a page table each."""
    hf = random_model(BY_NAME["llama"].config(head_dim=64, rope_parameters={"rope_type": "default", "rope_theta": 5e5}))
    model = loaded(hf, FLASHINFER_ON_CPU)
    told = []
    model.executor.expect = lambda workers, tokens: told.append((workers, tokens))
    model.tokenizer = WordTokenizer()
    program = hw.parse('program two { worker Ann { sees "one two three", self } worker Ben { sees "four", self } }')
    runs = Engine(model)
    first = runs.start(program.compiled, {}, budget=100)
    constants = sum(len(row.tokens) for row in first.session.openings)
    assert told == [(2, constants + sum(len(worker.pending) for worker in first.session._workers) + 100)]
    runs.start(program.compiled, {}, budget=100)
    assert len(told) == 1, "the pool is not empty any more"
