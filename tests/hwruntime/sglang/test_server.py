"""Programs on a server of SGLang's own, as it is, on a CPU: what it writes, how much of it is reused, and its death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import hwlang as hw
from hwruntime.errors import ServerError
from hwruntime.sglang.model import free_port
from tests.hwruntime.sglang.marks import needs_sglang

pytestmark = needs_sglang

ROOT = Path(__file__).parents[3]
TINY = ROOT / "runtime" / "hwruntime" / "tiny"
SUMS = hw.load(ROOT / "programs" / "sums.hw")
PLAIN = "--device cpu --dtype float32 --attention-backend torch_native --sampling-backend pytorch"
SMALL = "--max-total-tokens 8192 --mem-fraction-static 0.1 --skip-server-warmup"
READY = 180  # seconds, on busy machines
PATIENCE = 10  # seconds in which the death of a server must be told


@dataclass(frozen=True)
class Served:
    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """All of its processes, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(TINY), "--port", str(port)]
    command += f"{PLAIN} {SMALL} --disable-cuda-graph --disable-overlap-schedule --grammar-backend none".split()
    environment = {**os.environ, "SGLANG_USE_CPU_ENGINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    made = Served(f"http://127.0.0.1:{port}", process)
    try:
        until_ready(made, log)
        yield made
    finally:
        if process.poll() is None:
            made.kill()


def until_ready(served: Served, log: Path) -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end:
        assert served.process.poll() is None, log.read_text()[-2000:]
        try:
            with urlopen(f"{served.url}/health", timeout=5):
                return
        except (URLError, TimeoutError):
            time.sleep(0.5)
    raise AssertionError(f"the server is not ready after {READY} s:\n{log.read_text()[-2000:]}")


def test_a_program_on_a_server_and_what_it_reuses(served):
    engine = hw.Engine(engine=served.url, sync_interval=16)
    result = engine.run(SUMS)
    assert result.reason == "done"
    for answer in ("85", "ospat", "1259", "57", "nomel", "125"):
        assert answer in str(result.answer)
    assert result.result.remote.requests > 0
    assert 0 < result.result.remote.cached_tokens < result.result.remote.prompt_tokens
    alone = hw.Engine("tiny", dtype="float32").run(SUMS, n=1)  # with one worker nothing is approximate
    assert engine.run(SUMS, n=1).answer == alone.answer


def run_on_and_on(engine: hw.Engine) -> None:
    for _ in range(1000):
        engine.run(SUMS)


def test_a_server_that_is_killed_ends_the_run_with_an_error(served):
    """The last test of this file: the server is gone behind it."""
    engine = hw.Engine(engine=served.url, sync_interval=1)
    engine.run(SUMS, n=1, budget=2)
    began = time.monotonic()
    Timer(0.5, served.kill).start()
    with pytest.raises(ServerError, match=served.url):
        run_on_and_on(engine)
    assert time.monotonic() - began < PATIENCE
