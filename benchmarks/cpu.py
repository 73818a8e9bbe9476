"""What `hw bench` does not time: long texts, growth, memory, start-up, and what a pass costs outside the model.

    python benchmarks/cpu.py [--shape NAME] [--model DIR] [--dtype NAME] [parts ...]

Parts: `prefill`, `growth`, `memory`, `outside`, `start`; all of them by default, each a line or a small table.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache

from hwlang import api
from hwlang.cli.bench import PROGRAM, SHAPE
from hwruntime.bench.baselines import plain
from hwruntime.bench.limits import elapsed_ms, token_bytes, weight_bytes
from hwruntime.bench.scene import Filled, Scene
from hwruntime.bench.shapes import open_shape
from hwruntime.checkpoint import Checkpoint, open_checkpoint
from hwruntime.engine import CHUNK, Engine
from hwruntime.models import Model

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
MB = 2**20


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--shape", default=SHAPE)
    parser.add_argument("--model", help="a folder, instead of a shape")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--contexts", default="1024,2048,4096,8192,16384,32768", help="tokens, for `growth`")
    parser.add_argument("--text", type=int, default=4096, help="tokens, for `prefill` and `memory`")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in (*PARTS, "resident")]:
        parser.error(f"there is no part `{unknown[0]}`: {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        print(f"{part}: {(resident if part == 'resident' else PARTS[part])(options)}", flush=True)


def opened(options: argparse.Namespace) -> Checkpoint:
    """The model or shape that is asked for."""
    if options.model:
        return open_checkpoint(options.model, device="cpu", dtype=options.dtype, trust_remote_code=False)
    return open_shape(options.shape, device="cpu", dtype=options.dtype)


def prefill(options: argparse.Namespace) -> str:
    """Encoding a text in chunks, beside plain transformers with the same chunks, by turns."""
    checkpoint = opened(options)
    other = plain(checkpoint.model)
    model = Model(checkpoint)
    program = api.parse(PROGRAM).compiled
    tokens = torch.zeros(1, options.text, dtype=torch.long)

    def ours() -> None:
        engine = Engine(model)
        engine.finish(engine.start(program, {"opening": "a" * options.text, "n": 1}, budget=1))
        engine.forget()

    @torch.no_grad()
    def theirs() -> None:
        cache = DynamicCache(config=other.config)
        for chunk in tokens.split(CHUNK, 1):
            other.base_model(input_ids=chunk, past_key_values=cache, use_cache=True)

    times = by_turns({"ours": ours, "theirs": theirs}, options.rounds)
    rate = options.text / times["ours"] * 1e3
    return (
        f"{options.text:,} tokens in chunks of {CHUNK}: {times['ours']:.0f} ms ({rate:.0f} tokens/s), "
        f"plain transformers {times['theirs']:.0f} ms: {times['ours'] / times['theirs']:.2f} times as long"
    )


def growth(options: argparse.Namespace) -> str:
    """Pass time against stored tokens, for one and for four workers, and how far it is from a line."""
    engine, program = Engine(Filled(opened(options), "auto")), api.parse(PROGRAM).compiled
    contexts = [int(text) for text in options.contexts.split(",")]
    told = []
    for workers in (1, 4):
        scenes = [Scene(engine, program, context, workers, 6 * options.rounds + 1) for context in contexts]
        times: list[list[float]] = [[] for _ in scenes]
        for _ in range(options.rounds):
            for scene, found in zip(scenes, times, strict=True):
                scene.step()
                found += [scene.step() for _ in range(5)]
        stored = [scene.stored for scene in scenes]
        for scene in scenes:
            scene.close()
        told.append(fitted(workers, stored, [statistics.median(found) for found in times]))
    return "; ".join(told)


def fitted(workers: int, stored: Sequence[int], times: Sequence[float]) -> str:
    """The line through the times, by least squares, and how far the farthest is from it."""
    slope, start = np.polyfit(stored, times, 1)
    off = max(abs(time - start - slope * at) / time for at, time in zip(stored, times, strict=True))
    shown = ", ".join(f"{time:.0f}" for time in times)
    line = f"{start:.1f} ms and {slope * 1e3:.2f} ms for every 1,000 tokens"
    return f"{workers} worker{'s' * (workers > 1)} {shown} ms, {line}, off by {off:.1%} at most"


def memory(options: argparse.Namespace) -> str:
    """The most memory that the process has held after a text and some passes, beside weights and K/V; in a process of
    its own."""
    command = [sys.executable, __file__, "resident", "--shape", options.shape, "--dtype", options.dtype]
    command += ["--text", str(options.text), *(["--model", options.model] if options.model else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("resident: ")


def resident(options: argparse.Namespace) -> str:
    """What `memory` starts: of the process in which it is called."""
    imported = held()
    model = Model(opened(options))
    engine, program = Engine(model), api.parse(PROGRAM).compiled
    loaded = held()
    run = engine.start(program, {"opening": "a" * options.text, "n": 4}, budget=20)
    while engine.step([run]):
        pass
    weights = weight_bytes(model.hf) / MB
    cache = model.pool.capacity * token_bytes(list(model.layers.values()), model.hf.dtype.itemsize) / MB
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    end = held()
    parts = f"{weights:.0f} weights, {cache:.0f} K/V, {imported:.0f} Python with torch and transformers"
    rest = f"{end - weights - cache - imported:.0f} more"
    return f"{end:.0f} MB at the end: {parts}, {rest}; {loaded:.0f} when loaded, {most:.0f} at most"


def held() -> float:
    """MB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def outside(options: argparse.Namespace) -> str:
    """What a pass of four workers takes outside the model's forward call: rows, plan, sampling, session."""
    engine, program = Engine(Filled(opened(options), "auto")), api.parse(PROGRAM).compiled
    scene = Scene(engine, program, 512, 4, 102)
    forward, inside = engine.model.forward, []

    def timed(*arguments: object) -> object:
        started = time.perf_counter()
        made = forward(*arguments)  # type: ignore[arg-type]
        inside.append((time.perf_counter() - started) * 1e3)
        return made

    engine.model.forward = timed  # type: ignore[method-assign, assignment]
    whole = [scene.step() for _ in range(100)]
    rest = [step - within for step, within in zip(whole, inside, strict=True)]
    return f"4 workers: {statistics.median(rest):.2f} ms of a pass of {statistics.median(whole):.1f} ms"


def start(options: argparse.Namespace) -> str:
    """From the shell to the first tokens of a run on `tiny`, which is over after its first pass, and to its end."""
    command = [sys.executable, "-m", "hwlang.cli", "run", str(ROOT / "programs" / "sums.hw"), "--budget", "1"]
    firsts, ends = zip(*(started(command) for _ in range(options.rounds)), strict=True)
    each = ", ".join(f"{took:.2f}" for took in firsts)
    return (
        f"{statistics.median(firsts):.2f} s from the shell to the first tokens ({each}), "
        f"{statistics.median(ends):.2f} s to the end of the process"
    )


def started(command: Sequence[str]) -> tuple[float, float]:
    """Seconds until a command prints something, and until it has ended."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - begun
        process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return first, time.perf_counter() - begun


def by_turns(ways: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The median ms of each way, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            took = elapsed_ms(way, CPU)
            times[name] += [took] if turn else []
    return {name: statistics.median(found) for name, found in times.items()}


PARTS: Mapping[str, Callable[[argparse.Namespace], str]] = {
    "prefill": prefill,
    "growth": growth,
    "memory": memory,
    "outside": outside,
    "start": start,
}


if __name__ == "__main__":
    main()
