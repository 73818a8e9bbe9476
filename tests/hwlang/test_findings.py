"""What the fuzzer found (fuzz_check.py): inputs that once raised something or took too long."""

from pathlib import Path

import pytest

from tests.hwlang.fuzz_check import FINDINGS, SECONDS, Fuzzer, check_one, mutated, seeds, words

FOUND = sorted(FINDINGS.glob("*.hw"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_a_finding(path: Path, tmp_path: Path) -> None:
    check_one(path.read_bytes(), tmp_path)


def test_the_fuzzer_runs(tmp_path: Path) -> None:
    import random

    rng, corpus = random.Random(1), seeds()
    dictionary = [word.encode() for word in words()]
    fuzzer = Fuzzer(minutes=60)
    for _ in range(100):
        fuzzer(mutated(rng, corpus, dictionary))
    assert (fuzzer.runs, fuzzer.findings) == (100, 0)
    assert fuzzer.slowest < SECONDS
