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
class Remote:
    """Of a run on a server, which is approximate: workers see each other's text every `sync_interval` tokens only.

    `prompt_tokens` were sent in `requests`, of which the server had `cached_tokens`; of what it generated,
    `unused_tokens` were never used, because something came between."""

    server: str
    sync_interval: int
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    unused_tokens: int = 0
    approximate: Literal[True] = True


@dataclass(frozen=True)
class Result:
    """One run's result; `reason` says why it ended. `remote`: of a run on a server alone."""

    program: str
    model: str
    seed: int
    answer: str | None
    reason: Reason
    passes: int
    workers: dict[str, WorkerResult]
    scratchpads: dict[str, str]
    usage: Usage
    remote: Remote | None = None

    def to_json(self) -> dict[str, Json]:
        """The object that `hw run --json` prints."""
        data = asdict(self)
        return data if self.remote else {name: value for name, value in data.items() if name != "remote"}

    @classmethod
    def from_json(cls, data: dict[str, Json]) -> "Result":
        """Read what `to_json` wrote. Raises `TypeError` where it is something else."""
        workers, usage, told = data["workers"], data["usage"], data.get("remote")
        if not isinstance(workers, dict) or not isinstance(usage, dict) or not isinstance(told, dict | None):
            raise TypeError("`workers`, `usage` and `remote` are objects")
        made = {name: WorkerResult(**worker) for name, worker in workers.items()}  # type: ignore[arg-type]
        remote = None if told is None else Remote(**told)  # type: ignore[arg-type]
        return cls(**{**data, "workers": made, "usage": Usage(**usage), "remote": remote})  # type: ignore[arg-type]
