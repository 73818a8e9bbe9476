"""What an engine has done, in numbers that only grow, and as text for Prometheus."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

HELP = {
    "hw_passes_total": "Forward calls of the model, those for constants included.",
    "hw_pass_seconds_total": "Time of steps: laying out passes, the model, sampling.",
    "hw_rows_total": "Rows of those passes.",
    "hw_encoded_tokens_total": "Tokens that were written into the cache.",
    "hw_sampled_tokens_total": "Tokens that were sampled.",
    "hw_runs_begun_total": "Runs that have begun.",
    "hw_runs_ended_total": "Runs that have ended, by reason.",
    "hw_runs_suspended_total": "How often a run had to give its pages to another.",
    "hw_runs": "Runs under way, by whether they have pages.",
    "hw_cache_tokens": "Tokens that the pages in use have room for.",
    "hw_cache_capacity_tokens": "Tokens that all pages have room for.",
}


@dataclass
class Counters:
    """Of one engine, since it was made. `ended_runs`: by reason, or `error`."""

    passes: int = 0
    pass_seconds: float = 0.0
    rows: int = 0
    encoded_tokens: int = 0
    sampled_tokens: int = 0
    runs_begun: int = 0
    runs_suspended: int = 0
    runs_ended: Counter[str] = field(default_factory=Counter)

    def exposition(self, gauges: Mapping[str, float]) -> str:
        """Text for Prometheus: these and `gauges`, each by its name with labels."""
        samples: dict[str, float] = {
            "hw_passes_total": self.passes,
            "hw_pass_seconds_total": round(self.pass_seconds, 6),
            "hw_rows_total": self.rows,
            "hw_encoded_tokens_total": self.encoded_tokens,
            "hw_sampled_tokens_total": self.sampled_tokens,
            "hw_runs_begun_total": self.runs_begun,
            "hw_runs_suspended_total": self.runs_suspended,
            **{f'hw_runs_ended_total{{reason="{reason}"}}': n for reason, n in sorted(self.runs_ended.items())},
            **gauges,
        }
        lines: list[str] = []
        for name, help in HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
            lines += [f"{key} {value}" for key, value in samples.items() if key.partition("{")[0] == name]
        return "\n".join(lines) + "\n"
