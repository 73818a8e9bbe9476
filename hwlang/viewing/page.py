"""The page of a recorded run: one HTML file that holds all it needs, and loads nothing.

What a trace holds is anybody's text. It goes into the page as JSON in which no tag can end or begin, the script puts it
on the screen as text alone, and the page's policy lets no other script run than that one.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwruntime.program import Json

SCRIPTS = ("fold.js", "timeline.js", "view.js")
UNSAFE = re.compile("[<\u2028\u2029\ud800-\udfff]")  # tags, line ends of old scripts, and halves of characters


def render(facts: Mapping[str, Json]) -> str:
    """The text of the page."""
    style, script = part("view.css"), "\n".join(map(part, SCRIPTS))
    pieces = {
        "POLICY": f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; base-uri 'none'",
        "STYLE": style,
        "SCRIPT": script,
        "FACTS": embedded(facts),
    }
    return re.sub(r"\[\[(\w+)\]\]", lambda found: pieces[found[1]], part("page.html"))


def embedded(facts: Mapping[str, Json]) -> str:
    """JSON for a `script` element."""
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def part(name: str) -> str:
    return files("hwlang.viewing").joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Names a style or a script to a page's policy."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
