"""Records of runs, and the file that keeps them: `runs.jsonl`, a header and then a line for every finished run.

A line is written whole and flushed as soon as its run has finished: what is there when an evaluation is killed, counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hwlang.evaluation.attempts import Attempt, Check, Work
from hwruntime.errors import InputError
from hwruntime.program import Json

Key = tuple[str, int, int]  # configuration, budget, prompt
Header = Mapping[str, Json]
FILE = "runs.jsonl"


@dataclass(frozen=True)
class Record:
    """One finished run. `prompt` counts from 0. `error`: why it could not be run; it has little else then.

    `passes`: those in which workers went on; `finisher`: its passes, which come on top. `seconds`: the run's share of
    the passes that it was part of. `answers`: the last match of the program's answer in each worker's text.
    """

    configuration: str
    budget: int
    prompt: int
    seed: int
    reason: str = "error"
    passes: int = 0
    finisher: int = 0
    sampled: int = 0  # tokens
    handed: int = 0  # tokens
    seconds: float = 0.0
    answer: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)  # by worker, in the order of their declaration
    work: Work = field(default_factory=Work)
    error: str | None = None

    @property
    def key(self) -> Key:
        return self.configuration, self.budget, self.prompt

    @property
    def settled(self) -> bool:
        """Whether a larger budget would change nothing."""
        return self.reason != "budget"


def parse_record(line: str) -> Record:
    """Raises `ValueError`, `TypeError` or `KeyError` for a line that is no record."""
    data = json.loads(line)
    work = data.pop("work")
    attempts = tuple(Attempt(**each) for each in work["attempts"])
    return Record(**data, work=Work(attempts, tuple(Check(**each) for each in work["checks"])))


@dataclass
class RunFile:
    """`runs.jsonl` of an evaluation, and what is in it. `mended`: what had to be done to the file, if anything."""

    path: Path
    records: dict[Key, Record] = field(default_factory=dict)
    mended: str = ""

    def add(self, record: Record) -> None:
        """Append a record. Raises `InputError` where it cannot be written."""
        self.append(asdict(record))
        self.records[record.key] = record

    def append(self, data: Mapping[str, Json]) -> None:
        with told(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data, ensure_ascii=False) + "\n")


def open_runs(folder: Path, header: Header) -> RunFile:
    """The records that a folder has of this evaluation; a new file where it has none.

    Raises `InputError` where they are another evaluation's, or cannot be read.
    """
    runs = RunFile(folder / FILE)
    lines = whole_lines(runs)
    if not lines:
        runs.append(header)
        return runs
    compare(runs.path, lines[0], header)
    for number, line in enumerate(lines[1:], 2):
        try:
            record = parse_record(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{runs.path}:{number}: the line is no record of a run", help="delete it") from None
        runs.records.setdefault(record.key, record)
    return runs


def whole_lines(runs: RunFile) -> list[str]:
    """The file's lines. One that is not whole is of a run that was killed while it wrote it: it is cut off."""
    with told(runs.path):
        runs.path.parent.mkdir(parents=True, exist_ok=True)
        content = runs.path.read_bytes() if runs.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if torn := len(content) - len(whole):
            with runs.path.open("r+b") as file:
                file.truncate(len(whole))
            runs.mended = f"the last line of `{runs.path}` was torn ({torn} bytes) and has been cut off"
    return whole.decode("utf-8", errors="replace").split("\n")[:-1]


def compare(path: Path, line: str, header: Header) -> None:
    """Raises `InputError` where a file's header is not this one: the runs in it were made otherwise."""
    try:
        there = json.loads(line)
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise InputError(f"`{path}` does not begin with the header of an evaluation", help="choose another --out")
    names = dict.fromkeys([*there, *header])
    other = [name for name in names if there.get(name) != header.get(name)]
    if other:
        was = "; ".join(f"{name}: {short(there.get(name))} there, {short(header.get(name))} here" for name in other)
        help = "choose another --out, or delete that file"
        raise InputError(f"the runs in `{path}` were made with other settings ({was})", help=help)


def short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Within, a file that cannot be read or written is an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot use `{path}`: {error.strerror}", help="choose another --out") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is never half there. Raises `InputError`."""
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        part.replace(path)
