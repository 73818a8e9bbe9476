"""Fuzzes `hw check`: no input raises anything or takes more than two seconds. Not a test; run it by hand.

    python -m tests.hwlang.fuzz_check --minutes 20

With atheris (`pip install atheris`) the inputs are guided by coverage; without it they are random mutations of the
programs of this repository. An input that fails is written to tests/hwlang/findings/, where the tests take it up.
"""

import argparse
import hashlib
import os
import random
import re
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import mkdtemp

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["hwlang"]) if atheris else nullcontext():
    from hwlang.checker import check_file, check_text
    from hwlang.lowering import lower
    from hwlang.parsing.lexer import lexicon

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FINDINGS = HERE / "findings"
SECONDS = 2.0  # of CPU time an input may take
EXTRA = [
    '"""',
    '"',
    "'",
    "{{",
    "}}",
    "{{{{",
    "//",
    "/*",
    "*/",
    "#",
    ";",
    "\\u0000",
    "\\ud800",
    "{{name}}",
    "{{1}}",
    "/a*/",
]


def seeds() -> list[bytes]:
    """Every program of the repository."""
    paths = [*ROOT.glob("programs/*.hw"), *HERE.rglob("*.hw"), *ROOT.glob("tests/parity/*.hw")]
    pages = [path.read_text() for path in (ROOT / "grammar" / "README.md",)]
    blocks = [found for page in pages for found in re.findall(r"^```hw\b.*?\n(.*?)^```$", page, re.M | re.S)]
    return [path.read_bytes() for path in paths] + [block.encode() for block in blocks]


def words() -> list[str]:
    """The dictionary: the tokens of the language and what is often written instead."""
    return [*lexicon().words, *lexicon().symbols, *EXTRA]


def check_one(data: bytes, folder: Path) -> None:
    """What must never fail."""
    text = data.decode(errors="surrogateescape" if data[:1] == b"#" else "replace")
    checked = check_text(text, folder=folder)
    for diagnostic in checked.diagnostics[:50]:
        diagnostic.render()
    places = [d.span for d in checked.diagnostics if d.file == checked.source.file]
    assert places == sorted(places)
    for program in checked.programs if not checked.errors else ():
        lower(program)


class Fuzzer:
    """Runs inputs, and keeps those that fail or take too long."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.folder = Path(mkdtemp())
        self.runs = self.findings = 0
        self.slowest = 0.0

    def __call__(self, data: bytes) -> None:
        start = time.process_time()
        try:
            check_one(data, self.folder)
        except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
            self._keep(data, repr(error))
        seconds = time.process_time() - start
        self.runs += 1
        self.slowest = max(self.slowest, seconds)
        if seconds > SECONDS:
            self._keep(data, f"{seconds:.1f} s")
        if time.monotonic() > self.end:
            self.report()
            os._exit(0)  # libFuzzer takes no other exit for a good one

    def _keep(self, data: bytes, why: str) -> None:
        FINDINGS.mkdir(exist_ok=True)
        path = FINDINGS / f"{hashlib.sha256(data).hexdigest()[:12]}.hw"
        if not path.exists():
            path.write_bytes(data)
            self.findings += 1
            print(f"finding {path.name}: {why}", flush=True)

    def report(self) -> None:
        print(f"{self.runs:,} inputs, {self.findings} findings, slowest {self.slowest:.2f} s of CPU time", flush=True)


def mutated(rng: random.Random, corpus: list[bytes], dictionary: list[bytes]) -> bytes:
    """A program with some of its bytes taken out, put in, exchanged or repeated."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, 8)):
        at, length = rng.randint(0, len(data)), rng.randint(0, 30)
        match rng.randint(0, 5):
            case 0:
                del data[at : at + length]
            case 1 | 2:
                data[at:at] = b" " + rng.choice(dictionary) + b" "
            case 3:
                data[at : at + 1] = bytes([rng.randint(0, 255)])
            case 4:
                data[at:at] = data[at : at + length] * rng.choice([1, 2, 50])
            case 5:
                other = rng.choice(corpus)
                start = rng.randint(0, len(other))
                data[at:at] = other[start : start + rng.randint(0, 300)]
    return bytes(data)


def fuzz_blindly(fuzzer: Fuzzer, seed: int) -> None:
    rng, corpus = random.Random(seed), seeds()
    dictionary = [word.encode() for word in words()]
    while True:
        data = mutated(rng, corpus, dictionary)
        fuzzer(data)
        if rng.random() < 0.02 and len(data) < 20_000:
            corpus.append(data)


def fuzz_guided(fuzzer: Fuzzer, folder: Path) -> None:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    listed = "".join('"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"\n' for word in words())
    (folder / "dictionary").write_text(listed)
    arguments = [sys.argv[0], str(corpus), f"-dict={folder / 'dictionary'}", "-max_len=20000", "-timeout=60"]
    atheris.Setup([*arguments, "-rss_limit_mb=4096", "-verbosity=0"], fuzzer)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz hw check.")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the mutations without atheris")
    parser.add_argument("--blind", action="store_true", help="do without atheris")
    options = parser.parse_args()
    check_file(ROOT / "programs" / "math.hw")  # the tables are made once
    fuzzer = Fuzzer(options.minutes)
    if options.blind or atheris is None:
        fuzz_blindly(fuzzer, options.seed)
    else:
        fuzz_guided(fuzzer, Path(mkdtemp()))


if __name__ == "__main__":
    main()
