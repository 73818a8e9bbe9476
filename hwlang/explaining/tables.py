"""`hw explain FILE` on paper: what a program is as tables, 80 columns wide or wider; plain where it is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hwlang.diagnostics.snippets import shown

if TYPE_CHECKING:
    from hwlang.explaining.arrays import Arrays
    from hwlang.explaining.headroom import Counter
    from hwlang.explaining.overview import BlockRow, Overview, ParamRow, RuleRow, WorkerView

LONG = 150  # characters of a text in a table: of more, the beginning and the end are shown
NARROWEST = 60


class Page:
    """Prints on a console. Nothing in a program's texts is markup."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def overview(self, seen: Overview, counter: Counter | None) -> None:
        self._print(Text(heading(seen), style="bold"))
        self._print(facts(program_facts(seen, counter)))
        for worker in seen.workers:
            self._print("", Text(worker_heading(worker), style="bold"))
            self._print(facts(worker_facts(worker)))
            self._print("", view_table(worker.view, [w.name for w in seen.workers], counted=counter is not None))
            if counter and worker.headroom:
                self._print("", Text(headroom_line(worker, seen.budget, counter), style="dim"))
            if worker.rules:
                self._print("", rule_table(worker.rules))

    def arrays(self, plan: Arrays) -> None:
        """In the notation of the design: a request for each block, the rows that see it, where each query stands."""
        self._print("", Text("the plan of a pass in which every worker adds one token", style="bold"))
        self._print(facts([("rows", bracketed(plan.rows)), ("page_size", str(plan.page_size))]))
        self._print("", request_table(plan), "")
        grouped = (",".join(map(str, request.positions)) for request in plan.requests)
        lines = [
            ("qo_indptr", bracketed(plan.qo_indptr)),
            ("kv_indptr", bracketed(plan.kv_indptr)),
            ("kv_indices", bracketed(plan.kv_indices)),
            ("kv_last_page_len", bracketed(plan.kv_last_page_len)),
            ("positions", f"[{', '.join(grouped)}]"),
        ]
        self._print(facts(lines))

    def _print(self, *things: str | Text | Table) -> None:
        for thing in things:
            with self._console.capture() as captured:
                self._console.print(thing, soft_wrap=False, highlight=False, markup=False)
            lines = captured.get().split("\n")
            print("\n".join(map(str.rstrip, lines)), end="", file=self._console.file)


# --- The facts of a program and of a worker --------------------------------------------------------------------------


def heading(seen: Overview) -> str:
    return f"program {seen.program}  {seen.file}"


def program_facts(seen: Overview, counter: Counter | None) -> Iterable[tuple[str, str]]:
    for param in seen.params:
        yield "parameter", parameter(param)
    yield "model", (seen.model or "not said (tiny)") + (f"; counted for {counter.model}" if counter else "")
    yield "budget", f"{seen.budget:,} passes" + ("" if seen.budget_given else " (the default)")
    if seen.sampling:
        yield "sampling", " ".join(f"{name} {value:g}" for name, value in seen.sampling.items())
    yield "workers", ", ".join(w.name for w in seen.workers) + left_out(seen.left_out)
    for sync in seen.syncs:
        yield "sync", f"when {shortened(sync.when)}: {shortened('; '.join(sync.then))}"
    if seen.answer:
        yield "answer", shortened(seen.answer)
    if seen.otherwise:
        yield "else", shortened(seen.otherwise)


def parameter(param: ParamRow) -> str:
    default = "" if param.default is None else f" = {shortened(on_one_line(param.default, param.type))}"
    value = "" if param.value is None else f", given {shortened(on_one_line(param.value, param.type))}"
    return f"{param.name}: {param.type}{default}{value}"


def on_one_line(value: str, kind: str) -> str:
    from hwlang.explaining.wording import quoted_text

    return quoted_text(value) if kind == "str" else value


def left_out(names: Sequence[str]) -> str:
    return f" ({', '.join(names)} left out)" if names else ""


def worker_heading(worker: WorkerView) -> str:
    role = f" is {worker.role}" if worker.role else ""
    return f"worker {worker.name}{role}{' (paused at the start)' if worker.paused else ''}"


def worker_facts(worker: WorkerView) -> Iterable[tuple[str, str]]:
    if worker.layout:
        yield "layout", f"{worker.layout}, which is"
    yield "sees", shortened(worker.sees, 3 * LONG)
    for name, rest in worker.clauses.items():
        yield name, shortened(rest)


def headroom_line(worker: WorkerView, budget: int, counter: Counter) -> str:
    found = worker.headroom
    assert found is not None
    line = f"context {counter.context:,}: at worst {found.worst:,} tokens after {budget:,} passes"
    line += f" ({found.constants:,} constant, a token a pass from each of {', '.join(found.writers)})"
    end = f"{found.left:,} left" if found.left >= 0 else f"{-found.left:,} too many: the run would end early"
    return f"{line}, {end}"


# --- Tables ----------------------------------------------------------------------------------------------------------


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values without lines around them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(f"  {name}", cell(value))
    return table


def ruled(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True, padding=(0, 1), header_style="bold cyan", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def view_table(view: Sequence[BlockRow], workers: Sequence[str], counted: bool) -> Table:
    table = ruled("block", "what it is", "written by", "shared")
    if counted:
        table.add_column("tokens", justify="right", overflow="fold")
    for row in view:
        cells = [row.block, shortened(row.what), ", ".join(row.writers) or "-", sharing(row, workers)]
        table.add_row(*map(cell, [*cells, *([tokens(row)] if counted else [])]))
    return table


def sharing(row: BlockRow, workers: Sequence[str]) -> str:
    if not row.shared:
        return "private"
    return "by all" if len(row.readers) == len(workers) else f"by {', '.join(row.readers)}"


def tokens(row: BlockRow) -> str:
    if row.tokens is None:
        return ""
    return " + ".join([f"{row.tokens:,}", *("{{" + name + "}}" for name in row.unfilled)])


def rule_table(rules: Sequence[RuleRow]) -> Table:
    table = ruled("when", "then")
    for rule in rules:
        table.add_row(cell(shortened(rule.when)), cell("; ".join(map(shortened, rule.then)) or "nothing"))
    return table


def request_table(plan: Arrays) -> Table:
    table = ruled("block", "tokens", "pages", "rows", "positions")
    for request in plan.requests:
        causal = " (causal)" if request.causal else ""
        cells = [bracketed(request.pages), bracketed(request.rows) + causal, bracketed(request.positions)]
        table.add_row(*map(cell, [request.block, str(request.tokens), *cells]))
    return table


def cell(text: str) -> Text:
    """A text of a program, with nothing in it that would move the cursor."""
    return Text("".join(map(shown, text)))


def bracketed(values: Iterable[object]) -> str:
    return f"[{','.join(map(str, values))}]"


def shortened(text: str, most: int = LONG) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]} ... {text[-most // 4 :]}"
