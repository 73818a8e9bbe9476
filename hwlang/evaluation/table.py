"""The table of an evaluation, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hwlang.evaluation.configurations import Configuration
from hwlang.evaluation.metrics import Arm, Row, arm, rows
from hwlang.evaluation.records import Header, Key, Record

NONE = "–"
Column = tuple[str, Callable[[Row], str]]


def page(header: Header, configurations: Sequence[Configuration], records: Mapping[Key, Record]) -> str:
    """All that there is to say of an evaluation."""
    suite = configurations[0].suite
    parts = [f"### {title(header, configurations)}", made_with(header)]
    if suite.name == "collisions":
        parts.append(collision_table([arm(each, records) for each in configurations]))
    else:
        lines = [row for each in configurations for row in rows(each, records)]
        parts += [table(lines), *comparisons(lines)]
    parts += [f"Left out: {each}" for each in suite.left_out]
    errors = dict.fromkeys(record.error for record in records.values() if record.error)
    parts += [f"Failed: {error}" for error in errors]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def title(header: Header, configurations: Sequence[Configuration]) -> str:
    suite = configurations[0].suite
    problems = len(suite.tasks[0].expected)
    each = f" of {problems} problems" if problems > 1 else ""
    count = len(suite.tasks)
    return f"{suite.name}: {count} prompt{'s' if count > 1 else ''}{each}, {header['model']}"


def made_with(header: Header) -> str:
    versions = header["versions"]
    assert isinstance(versions, dict)
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"Seed {header['seed']}, weights {header['weights']}, {named}."


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others, numbers, to the right."""
    rules = ["---", *["---:"] * (len(titles) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [titles, rules, *lines])


def table(rows: Sequence[Row]) -> str:
    """A row for each configuration. Columns in which no row has anything are left out."""
    columns = columns_of(rows)
    shown = [(title, [cell(row) for row in rows]) for title, cell in columns]
    shown = [(title, cells) for title, cells in shown if any(cell != NONE for cell in cells)]
    return markdown([title for title, _ in shown], list(zip(*(cells for _, cells in shown), strict=True)))


def columns_of(rows: Sequence[Row]) -> list[Column]:
    alone = next((row.passes for row in rows if row.name == "1 worker"), None)
    budgets = [
        (f"solved in {budget}" if len(rows[0].budgets) > 1 else "solved", at_budget(index))
        for index, budget in enumerate(rows[0].budgets)
    ]
    return [
        ("configuration", lambda row: row.name),
        *budgets,
        ("all solved", lambda row: decimal(row.all_solved, 2)),
        ("passes", lambda row: decimal(row.passes, 1)),
        ("of 1 worker's", lambda row: decimal(row.passes / alone, 2) if alone else NONE),
        ("tokens", lambda row: decimal(row.tokens, 1)),
        ("useful", lambda row: percent(row.useful)),
        ("done twice", lambda row: percent(row.twice)),
        ("asked", lambda row: decimal(row.asked, 1) if row.asked else NONE),
        ("answered", lambda row: percent(row.answered)),
        ("truly", lambda row: percent(row.truly)),
        ("obeyed", lambda row: percent(row.obeyed)),
        ("failed", lambda row: str(row.failed) if row.failed else NONE),
        ("seconds", lambda row: decimal(row.seconds, 0)),
    ]


def at_budget(index: int) -> Callable[[Row], str]:
    return lambda row: decimal(row.solved[index], 3)


def collision_table(arms: Sequence[Arm]) -> str:
    titles = ["arm", "asked", "answered", "said yes", "changed task after yes", "yes and changed", "went on after no"]
    shares = [(a.answered, a.yes, a.changed, a.both, a.stayed) for a in arms]
    cells = [[a.name, f"{a.asked} of {a.prompts}", *map(percent, each)] for a, each in zip(arms, shares, strict=True)]
    return markdown(titles, cells)


def comparisons(rows: Sequence[Row]) -> list[str]:
    """How many passes the combined layout takes beside the interleaved one, all else being equal; in words."""
    passes = {row.name: row.passes for row in rows}
    told = []
    for name, mine in passes.items():
        other = passes.get(name.replace("combined", "interleaved"))
        if "combined" in name and other:
            less = 1 - mine / other
            word = "fewer" if less >= 0 else "more"
            where = name.replace(", combined", "")
            told.append(f"{where}: combined takes {percent(abs(less))} {word} passes than interleaved.")
    return told


def decimal(number: float, digits: int) -> str:
    return f"{number:,.{digits}f}"


def percent(fraction: float | None) -> str:
    return NONE if fraction is None else f"{100 * fraction:.1f}%"
