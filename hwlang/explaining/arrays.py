"""The plan of one pass, with the names of blocks and rows: `hw explain --plan`. No model is needed for it.

The pass is one in which every worker adds one token, soon after the start. What the workers and scratchpads hold by
then is made up: a few tokens each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hwruntime.batch import Batch, Placed, Run, going_on, lay_out
from hwruntime.cache import Pool
from hwruntime.plan import Plan
from hwruntime.program import Constant, Program, Value
from hwruntime.rows import Block, Outcome
from hwruntime.session import Session
from hwruntime.tokenizer import Tokenizer

STAND_IN = (7, 9, 5, 6, 8)  # tokens of the growing blocks, one after the other
SAMPLES: Mapping[str, Value] = {"str": "?", "int": 1, "float": 1.0, "bool": True}


@dataclass(frozen=True)
class Request:
    """One block and the queries against it. `positions` are those of its `rows`; `pages` are the pool's."""

    block: str
    tokens: int
    rows: tuple[str, ...]
    positions: tuple[int, ...]
    causal: bool
    pages: tuple[int, ...]


@dataclass(frozen=True)
class Arrays:
    """The arrays of a pass (`hwruntime.plan.Plan`), and what each request is."""

    page_size: int
    rows: tuple[str, ...]
    requests: tuple[Request, ...]
    qo_indptr: tuple[int, ...]
    kv_indptr: tuple[int, ...]
    kv_indices: tuple[int, ...]
    kv_last_page_len: tuple[int, ...]
    positions: tuple[int, ...]


def samples(program: Program, given: Mapping[str, Value]) -> dict[str, Value]:
    """What stands for the parameters that are neither given nor have a default."""
    needed = (p for p in program.params if p.name not in given and p.default is None)
    group_sizes = {group.count: len(group.workers) for group in program.groups}
    return {p.name: group_sizes.get(p.name, SAMPLES[p.type]) for p in needed}


def simplified(program: Program) -> Program:
    """The program's views and steps, without all that could end or pause a worker that could start."""
    workers = (
        replace(
            worker,
            paused=worker.paused and not any(isinstance(entry, Constant) for entry in worker.sees),
            rules=(),
            stop_at=(),
            max_tokens=None,
            constraint=None,
        )
        for worker in program.workers
    )
    return replace(program, workers=tuple(workers), syncs=(), answer=None)


def arrays(program: Program, given: Mapping[str, Value], count: int | None, tokenizer: Tokenizer) -> Arrays:
    """The plan of a pass. Raises `InputError`, and `RunError` where the tokenizer does not fit the program."""
    session = Session(simplified(program), {**samples(program, given), **given}, tokenizer, workers=count)
    pool, run = Pool(), Run(session)
    token = (tokenizer.encode("a") or [0])[0]
    for row in session.openings:
        pool.extend(run.held(row.block), len(row.tokens))
    session.advance([Outcome(token) for row in session.next_pass().rows])
    rows = [going_on(row) for row in session.next_pass().rows if row.draw]
    views = [row.view for row in rows]
    empty = dict.fromkeys(b for view in views for b in view if b.kind == "growing" and not run.held(b).length)
    own = {row.block for row in rows}
    for index, block in enumerate(empty):
        pool.extend(run.held(block), STAND_IN[index % len(STAND_IN)] - (block in own))
    batch = lay_out([Placed(run, row, pool.extend(run.held(row.block), 1)) for row in rows], pool)
    return named(batch, run)


def named(batch: Batch, run: Run) -> Arrays:
    """A pass's plan with the names of its blocks; constants are numbered as they come up."""
    plan = batch.plan
    writers = [placed.row.writer for placed in batch.rows]
    owners = {held.pages[0]: block for block, held in run.blocks.items() if held.pages}
    names = block_names([block for placed in batch.rows for block in placed.row.view])
    requests = [request(plan, number, writers, names, owners) for number in range(plan.requests)]
    return Arrays(
        plan.page_size,
        tuple(writers),
        tuple(requests),
        tuple(plan.qo_indptr),
        tuple(plan.kv_indptr),
        tuple(plan.kv_indices),
        tuple(plan.kv_last_page_len),
        tuple(plan.positions),
    )


def block_names(blocks: Sequence[Block]) -> dict[Block, str]:
    constants = [block for block in dict.fromkeys(blocks) if block.kind == "constant"]
    names = {block: f"text {number}" for number, block in enumerate(constants, 1)}
    return {block: names.get(block, block.name) for block in blocks}


def request(
    plan: Plan, number: int, writers: Sequence[str], names: Mapping[Block, str], owners: Mapping[int, Block]
) -> Request:
    queries = slice(plan.qo_indptr[number], plan.qo_indptr[number + 1])
    pages = tuple(plan.kv_indices[plan.kv_indptr[number] : plan.kv_indptr[number + 1]])
    return Request(
        names[owners[pages[0]]],
        plan.kv_length(number),
        tuple(writers[row] for row in plan.rows[queries]),
        tuple(plan.positions[queries]),
        plan.causal[number],
        pages,
    )
