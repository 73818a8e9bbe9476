"""What a step may consist of (`match /regex/`, `json "schema.json"`), as a session knows it.

The constraint holds for what a worker samples in a step, up to the separator that ends it; text that is handed to the
worker is not looked at. The real matcher is `guide.Guide`.
"""

import json
from collections.abc import Sequence
from typing import Protocol

from hwruntime.program import Constraint


class Matcher(Protocol):
    """Follows one step after another."""

    def allowed(self) -> bytes:
        """The tokens that may come next: bit i (the lowest of a byte first) is token i."""

    def take(self, token: int) -> None:
        """A token that is allowed was sampled."""

    def reset(self) -> None:
        """The next step begins."""


def grammar(constraint: Constraint, separators: Sequence[str]) -> str:
    """A step as a grammar of llguidance: the constraint, then a separator; without one, the end of the text."""
    if constraint.form == "json":
        layout = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
        body = f"body: %json {json.dumps(json.loads(constraint.value) | layout)}"
    else:
        body = f"body: BODY\nBODY: /{constraint.value.replace('/', chr(92) + '/')}/"
    ends = " | ".join(json.dumps(separator, ensure_ascii=False) for separator in separators)
    # Forced bytes could be parts of a character, which not every vocabulary has tokens for.
    options = '%llguidance {"no_forcing": true}'
    return f"{options}\nstart: body end\n{body}\nend: {ends}" if ends else f"{options}\nstart: body\n{body}"
