"""What a run tells: events while it goes on, a result at its end."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from hwruntime.program import Json

EventKind = Literal[
    "token", "say", "step", "move", "post", "clear", "ask", "sync", "feed", "pause", "resume", "end", "answer"
]
Reason = Literal["answer", "stopped", "done", "budget", "stalled", "context", "cache", "cancelled"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, at its pass `at`. `worker` is a stream's name for `feed`; `logits` are those of
    an `ask`, one a choice; `time`: seconds since the run began."""

    kind: EventKind
    at: int
    worker: str
    text: str = ""
    logits: tuple[float, ...] = ()
    time: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Progress:
    """Where a run is: passes of its budget, tokens sampled, and how full its engine's cache is, in tokens."""

    passes: int
    budget: int
    sampled: int
    cache_used: int
    cache_capacity: int


@dataclass(frozen=True)
class WorkerResult:
    """`text`: everything in the worker's own voice, in order; `tokens`: its length; `steps`: how many it finished."""

    text: str
    tokens: int
    steps: int


@dataclass(frozen=True)
class Usage:
    """Tokens of a run by where they came from: constants and pads' first texts; sampled by workers; handed to them
    (prefixes, `begin`, `say`); posted or fed; asked in probes. The finisher's passes are not in the result's `passes`.
    """

    constant_tokens: int = 0
    sampled_tokens: int = 0
    handed_tokens: int = 0
    posted_tokens: int = 0
    probe_tokens: int = 0
    finisher_passes: int = 0


@dataclass(frozen=True)
class Result:
    """One run's result; `reason` says why it ended."""

    program: str
    model: str
    seed: int
    answer: str | None
    reason: Reason
    passes: int
    workers: dict[str, WorkerResult]
    scratchpads: dict[str, str]
    usage: Usage

    def to_json(self) -> dict[str, Json]:
        """The object that `hw run --json` prints."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Json]) -> "Result":
        """Read what `to_json` wrote. Raises `TypeError` where it is something else."""
        workers, usage = data["workers"], data["usage"]
        if not isinstance(workers, dict) or not isinstance(usage, dict):
            raise TypeError("`workers` and `usage` are objects")
        made = {name: WorkerResult(**worker) for name, worker in workers.items()}  # type: ignore[arg-type]
        return cls(**{**data, "workers": made, "usage": Usage(**usage)})  # type: ignore[arg-type]
