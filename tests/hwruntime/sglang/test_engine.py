"""Programs on SGLang, one and two ranks on a CPU: the texts are those of the authors' code and of our own engine.

`make test-sglang` makes an environment with SGLang and runs this; elsewhere it is skipped. A model takes half a minute
to load, so few are, and the tests share them.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
import torch

import hwlang as hw
from hwruntime.errors import HwError, ModelError, RunError
from hwruntime.models import Model
from hwruntime.sglang.model import SglangModel, free_port
from hwruntime.sglang.ranks import Layout
from tests.hwruntime.models_for_tests import BY_NAME, Blocks, random_model, random_tokens
from tests.hwruntime.sglang.marks import needs_sglang
from tests.hwruntime.sglang.test_ranks import gone

pytestmark = needs_sglang

ROOT = Path(__file__).parents[3]
PARITY = ROOT / "tests" / "parity"
PROGRAMS = sorted(PARITY.glob("*.hw"))
SUMS = ROOT / "programs" / "sums.hw"


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def tp(request) -> int:
    return request.param


@pytest.fixture(scope="module", params=["llama3", "qwen2"])
def parity(request, tp) -> Iterator[tuple[str, hw.Engine]]:
    engine = hw.Engine(str(PARITY / request.param), engine="sglang", tp=tp, dtype="float32")
    yield request.param, engine
    engine.close()


@pytest.fixture(scope="module")
def tiny() -> Iterator[hw.Engine]:
    engine = hw.Engine("tiny", engine="sglang", tp=2, dtype="float32", kv_tokens=1024)
    yield engine
    engine.close()


def test_texts_are_those_of_the_authors_code(parity):
    name, engine = parity
    paths = [path for path in PROGRAMS if path.stem.startswith(name)]
    assert len(paths) == 4
    for path in paths:
        expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
        result = engine.run(hw.load(path))
        assert result.passes == expected["passes"], path.stem
        assert {name: result.workers[name].text for name in expected["workers"]} == expected["workers"], path.stem


def test_logits_are_those_of_our_own_engine(parity):
    """Blocks read in the pass of writing, a move, several tokens at once, any of them wanted."""
    name, engine = parity
    tokens = random_tokens(40)
    got = []
    for model in (engine.runtime.model, Model.load(str(PARITY / name), dtype="float32")):
        blocks = Blocks(model)
        logits = [
            blocks.write_all([([0], tokens[:19]), ([0, 1], tokens[19:25])]),
            blocks.write([1, 0, 2], tokens[25:30]),
        ]
        blocks.move(1, 0)
        logits.append(blocks.write_all([([0, 2], tokens[30:38]), ([2, 0, 3], tokens[38:])], wanted=[9, 2]))
        got.append(torch.cat(logits))
        for block in blocks.blocks.values():
            model.pool.clear(block)
    torch.testing.assert_close(*got, atol=1e-4, rtol=0)


def test_sums_are_those_of_our_own_engine(tiny):
    program = hw.load(SUMS)
    expected = hw.Engine("tiny", dtype="float32").run(program)
    result = tiny.run(program)
    assert result.passes == expected.passes
    assert {n: w.text for n, w in result.workers.items()} == {n: w.text for n, w in expected.workers.items()}
    assert result.answer == expected.answer


def test_runs_that_wait_for_room_are_none_the_worse(tiny):
    """Their K/V wait with the ranks."""
    program, seeds = hw.load(SUMS), range(6)
    alone = [tiny.run(program, seed=seed) for seed in seeds]
    before = tiny.runtime._room.suspended
    together = tiny.run_batch(program, [{} for _ in seeds], seed=0)
    assert [state.result.to_json() for state in together] == [state.result.to_json() for state in alone]
    assert tiny.runtime._room.suspended > before


def test_a_sampled_run_is_reproducible(tiny):
    body = 'sees "1) 47+38\\n", others, self sampling { temperature 1 }'
    program = hw.parse(f"program p {{ worker A, B {{ {body} }} budget 20 passes }}")
    texts = [[tiny.run(program, seed=seed)[name] for name in ("A", "B")] for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


# --- Deaths ----------------------------------------------------------------------------------------------------------


def run_for_ever(engine: hw.Engine, program: hw.Program) -> None:
    while True:
        engine.run(program)


def test_a_rank_that_is_killed_in_the_middle_of_a_run_is_named(tiny):
    """The last test of `tiny`: it does not survive this."""
    pids = [member.process.pid for member in tiny.runtime.model._ranks._members]
    program = hw.parse('program p { worker A { sees "1) 47+38\\n", self } budget 100 passes }')
    Timer(0.5, os.kill, (pids[1], signal.SIGKILL)).start()
    with pytest.raises(RunError, match=rf"rank 1 of 2 \(process {pids[1]}\) was killed by SIGKILL"):
        run_for_ever(tiny, program)
    assert all(map(gone, pids))
    with pytest.raises(RunError, match="the engine has ended"):
        tiny.run(program)


# --- The command line ------------------------------------------------------------------------------------------------


def hw_run(*options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "hwlang.cli",
        "run",
        str(SUMS),
        "--dtype",
        "float32",
        "--engine",
        "sglang",
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_nodes_on_loopback():
    """Two process groups that meet at an address, a rank each."""
    common = ("--tp", "2", "--nodes", "2", "--dist-init-addr", f"127.0.0.1:{free_port()}")
    other = hw_run(*common, "--node-rank", "1")
    head = hw_run(*common, "--json")
    out, err = head.communicate()
    assert head.returncode == 0, err
    expected = hw.Engine("tiny", dtype="float32").run(hw.load(SUMS))
    assert json.loads(out)["answer"] == expected.answer
    assert other.communicate() == ("", "")
    assert other.returncode == 0


# --- What is refused -------------------------------------------------------------------------------------------------


def save(folder: Path, family: str) -> str:
    """A random model of a family, with the tokenizer of another."""
    model = random_model(BY_NAME[family].config(architectures=None))
    model.config.architectures = [type(model).__name__]
    model.config.hidden_act = getattr(model.config, "hidden_activation", None) or model.config.hidden_act
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((ROOT / "runtime" / "hwruntime" / "tiny" / name).read_bytes())
    return str(folder)


@pytest.mark.parametrize("family", ["llama+yarn"])
def test_families_that_pass_the_self_test(family, tmp_path):
    """A factor on cos and sin."""
    place = save(tmp_path, family)
    model = SglangModel.load(place, Layout(), dtype="float32")
    tokens = random_tokens(60)
    blocks = Blocks(model)
    got = torch.cat([blocks.write([0], tokens[:25]), blocks.write([0, 1], tokens[25:])])
    model.close()
    ours = Blocks(Model.load(place, dtype="float32"))
    torch.testing.assert_close(got, ours.write([0], tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mistral+window", "has a sliding window of 8 tokens, which SGLang's own code for it leaves out"),
        ("gemma2", "has capped attention scores, which SGLang's own attention for CPUs leaves out"),
        ("deepseek_v2", "keeps something else than keys and values|ended with exit code 1"),
    ],
)
def test_models_that_are_refused(family, reason, tmp_path):
    with pytest.raises(HwError, match=reason) as caught:
        SglangModel.load(save(tmp_path, family), Layout(), dtype="float32")
    assert isinstance(caught.value, ModelError | RunError)
    assert not re.search("Traceback", str(caught.value))
