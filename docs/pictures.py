"""Draws the pictures of the memory model: `python docs/pictures.py` writes docs/*.svg again (not cache.svg)."""

from html import escape
from pathlib import Path

STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de; }
    text { fill: #1f2328; }
    .dim { fill: #57606a; font-size: 13px; }
    .head { font-weight: 600; }
    .common { fill: #e7ebef; stroke: #8c959f; }
    .pad { fill: #fff4d6; stroke: #c69026; }
    .alice { fill: #d8f3f7; stroke: #1b8a9b; }
    .bob { fill: #f6dff5; stroke: #a0469b; }
    .none { fill: none; stroke: #8c959f; stroke-dasharray: 4 4; }
    .line { stroke: #57606a; fill: none; stroke-width: 1.5; }
    .write { stroke-width: 3; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #1e2129; stroke: #3d444d; }
      text { fill: #e6edf3; }
      .dim { fill: #9aa4af; }
      .common { fill: #333b45; stroke: #7d8792; }
      .pad { fill: #4a3b12; stroke: #d4a72c; }
      .alice { fill: #0f4049; stroke: #4cc3d5; }
      .bob { fill: #4a2247; stroke: #d67fd1; }
      .none { stroke: #7d8792; }
      .line { stroke: #9aa4af; }
    }"""


def box(x: float, y: float, w: float, kind: str, label: str = "", h: float = 38) -> str:
    middle = (
        f'<text x="{x + w / 2:g}" y="{y + h / 2 + 5:g}" text-anchor="middle">{escape(label)}</text>' if label else ""
    )
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="5" stroke-width="1.5"/>{middle}'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def line(path: str, arrow: bool = False) -> str:
    return f'<path class="line" d="{path}"' + (' marker-end="url(#tip)"/>' if arrow else "/>")


def picture(label: str, height: int, *parts: str) -> str:
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    tip += '<path d="M0 0 L8 4 L0 8" class="line"/></marker>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {height}" width="620" height="{height}" '
    head += f'font-family="system-ui, sans-serif" font-size="15" role="img" aria-label="{escape(label)}">'
    card = f'<rect class="card" x="1" y="1" width="618" height="{height - 2}" rx="10"/>'
    lines = [f"<style>{STYLE}\n  </style>", f"<defs>{tip}</defs>", card, *parts]
    return head + "".join(f"\n  {part}" for part in lines) + "\n</svg>\n"


def position() -> str:
    """The example of the design: blocks of 100, 5, 7, 4 and 9 tokens."""
    parts = [text(20, 32, "Stored once, each from position 0 of its own", "head")]
    stored = [("common", "prompt", 100), ("common", "head", 5), ("alice", "Alice", 7), ("common", "sep", 4)]
    for i, (kind, name, length) in enumerate([*stored, ("bob", "Bob", 9)]):
        x = 20 + i * 118
        parts += [box(x, 46, 106, kind, name), text(x + 53, 102, f"0–{length - 1}", "dim", "middle")]
    views = {"Alice's view": ["head", "Bob", "sep", "Alice"], "Bob's view": ["head", "Alice", "sep", "Bob"]}
    lengths = {"prompt": 100, "head": 5, "Alice": 7, "sep": 4, "Bob": 9}
    for row, (title, order) in enumerate(views.items()):
        y, start = 152 + row * 104, 0
        parts.append(text(20, y - 10, title, "head"))
        for i, name in enumerate(["prompt", *order]):
            kind = {"Alice": "alice", "Bob": "bob"}.get(name, "common") + (" write" if i == 4 else "")
            x, end = 20 + i * 118, start + lengths[name]
            parts += [box(x, y, 106, kind, name), text(x + 53, y + 56, f"{start}–{end - 1}", "dim", "middle")]
            start = end
    parts += [
        text(
            20, 346, "Alice's block is stored at 0–6. It is at 118–124 in her own view and at 105–111 in Bob's.", "dim"
        )
    ]
    parts += [text(20, 366, "Neither copies it: the query that reads it is rotated by the difference.", "dim")]
    return picture("One block has different positions in two views, and is stored once", 384, *parts)


def same_pass() -> str:
    parts = [text(20, 32, "What Alice's token of pass 4 sees", "head")]
    cells = {"Alice": ["1", ") ", "4", "7", "+"], "Bob": ["2", ") ", "re", "verse", "le"]}
    for i in range(5):
        parts.append(text(150 + i * 92, 62, f"pass {i + 1}", "dim", "middle"))
    for row, (name, tokens) in enumerate(cells.items()):
        y = 76 + row * 84
        parts.append(text(20, y + 25, name))
        for i, token in enumerate(tokens):
            kind = "none" if i == 4 else name.lower() + (" write" if (row, i) == (0, 3) else "")
            parts.append(box(110 + i * 92, y, 80, kind, token))
    parts += [line("M426 158 V120", arrow=True), text(438, 142, "same pass, every layer", "dim")]
    parts += [
        text(
            20,
            230,
            "Filled: seen. All keys and values of a pass are written before any attention of that layer.",
            "dim",
        )
    ]
    parts += [text(20, 250, "Dashed: the next pass, not there yet.", "dim")]
    return picture("A token sees all tokens of the same pass, those of other workers too", 268, *parts)


def causality() -> str:
    parts = [text(20, 32, "One pass: Alice is handed three tokens, Bob adds two", "head")]
    columns = [("common", "prompt", 3), ("bob", "Bob's block", 4), ("alice", "Alice's block", 5)]
    x, xs = 170.0, []
    for kind, name, count in columns:
        width = count * 32 - 4
        parts.append(text(x + width / 2, 66, name, "dim", "middle"))
        for i in range(count):
            xs.append((kind, x + i * 32, i, count))
        x += count * 32 + 12
    for row in range(3):
        y = 80 + row * 36
        parts.append(text(20, y + 20, f"Alice's query {row + 1}"))
        for kind, left, i, _count in xs:
            seen = kind != "alice" or i <= 2 + row
            parts.append(box(left, y, 28, kind if seen else "none", h=28))
    bob = 170 + 3 * 32 + 12
    parts += [line(f"M{bob + 62} 196 H{bob + 124}"), text(bob + 124, 216, "Bob's two of this pass", "dim", "end")]
    alice = bob + 4 * 32 + 12
    parts += [
        line(f"M{alice + 62} 196 H{alice + 156}"),
        text(alice + 156, 216, "Alice's three of this pass", "dim", "end"),
    ]
    parts += [
        text(20, 250, "In the block that it writes, a query sees up to itself. Every other block it sees whole.", "dim")
    ]
    return picture("A query sees its own block up to itself and every other block whole", 268, *parts)


def move() -> str:
    parts = [text(20, 32, "A step ends with “.”", "head"), text(600, 32, "Alice's view", "dim", "end")]
    parts += [
        box(20, 46, 110, "common", "prompt"),
        box(142, 46, 150, "pad", "Bob 1"),
        text(217, 102, "history", "dim", "middle"),
    ]
    parts += [
        box(304, 46, 120, "bob", "Bob 2 …"),
        box(436, 46, 120, "alice write", "Alice 1"),
        box(564, 46, 36, "none", "."),
    ]
    parts += [text(496, 102, "own block", "dim", "middle"), text(600, 102, "sampled", "dim", "end")]
    parts += [line("M310 122 V148", arrow=True), text(324, 140, "move self to history", "head")]
    parts += [
        box(20, 164, 110, "common", "prompt"),
        box(142, 164, 110, "pad", "Bob 1"),
        box(256, 164, 110, "pad", "Alice 1"),
    ]
    parts += [text(254, 220, "history", "dim", "middle"), box(378, 164, 100, "bob", "Bob 2 …")]
    parts += [box(490, 164, 36, "alice write", "."), box(530, 164, 70, "alice write", "Alice: ")]
    parts += [text(600, 220, "opens the next step", "dim", "end")]
    parts += [
        text(20, 252, "The block is appended: values as they are, keys rotated on by the length of history.", "dim")
    ]
    parts += [text(20, 272, "“.” was sampled but not fed yet. It goes in with the next prefix.", "dim")]
    return picture("A finished step is appended to the history; its last token opens the next step", 290, *parts)


PICTURES = {"position.svg": position, "same-pass.svg": same_pass, "causality.svg": causality, "move.svg": move}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw())
