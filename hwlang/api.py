"""The Python API: a program from a file, a text or a function; run it on a model.

    import hwlang as hw

    state = hw.load("sums.hw").run(problems="1) 47+38", n=1)
    print(state["Alice"], state.answer)

`python` has the calls of which a function makes a program. The runtime (and torch with it) is imported when the first
`Engine` is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Concatenate

from hwlang import syntax
from hwlang.checker import Checked, check_file, check_text, check_tree
from hwlang.diagnostics import CompileError, Diagnostic, Source, Span
from hwlang.engines import Asked, Loading, Nodes, open_engine
from hwlang.garbage import uncollected
from hwlang.lowering import lower
from hwlang.python.batches import MOST, side_by_side, states_of
from hwlang.python.coroutines import Coroutines
from hwlang.python.functions import ProgramBuilder, tree_of
from hwlang.python.runs import AsyncRun, Run, State, Turns, finished, finished_async

if TYPE_CHECKING:
    from hwlang.python.runs import OnEvent
    from hwruntime.batch import Run as RuntimeRun
    from hwruntime.engine import Engine as RuntimeEngine
    from hwruntime.program import Json, Value
    from hwruntime.program import Program as Compiled
    from hwruntime.runner import Runner
    from hwruntime.session import Known, Log, RunOptions


@dataclass(frozen=True)
class Budget:
    """What a run may cost: it ends after the pass in which it has reached one of these. Without `passes` those are as
    the program says, or 1024. `tokens`: sampled by all workers together.

    >>> program = hw.parse('program p { worker Ann { sees "1) reverse abc Ann:", self } }')
    >>> program.run(budget=hw.Budget(tokens=5)).reason
    'budget'
    """

    passes: int | None = None
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Program:
    """A checked program, ready to run: from a file (`load`), a text (`parse`) or a Python function (`program`).

    `compiled` is all that the runtime sees of it, `bound` the parameters that `bind` has given. What runs it takes

    - its parameters by name, or in `inputs` where a name is taken here;
    - `engine`: what to run on; else the program's `model`, or `tiny`, loaded once and kept;
    - `seed` of the random streams: the same program, inputs and seed give the same tokens;
    - `budget`: passes at most, or a `Budget`; `workers`: how many of the program's `workers n of ...`;
    - `on_event`: called with every `hwruntime.result.Event`, in the thread that runs the program.

    It raises `InputError` where inputs do not fit, `RunError` where the run cannot start or go on, `CallbackError`
    where `on_event` fails; the run is over then.

    >>> add = hw.parse('program p(q: str) { worker Ann { sees "1) {{q}} Ann:", self max 9 tokens } answer Ann }')
    >>> state = add.run(q="47+38")
    >>> state.passes, state["Ann"] == state.answer
    (9, True)
    """

    compiled: Compiled
    warnings: tuple[Diagnostic, ...]
    source: Source
    tree: syntax.File = field(default_factory=syntax.File)
    bound: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return self.compiled.name

    def run(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        engine: Engine | None = None,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        on_event: OnEvent | None = None,
        **params: Value,
    ) -> State:
        """Run the program to its end. `KeyboardInterrupt` ends the run.

        >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
        >>> program.run(q="reverse abc").reason
        'done'
        """
        given = {**(inputs or {}), **params}
        return finished(self.stream(given, engine=engine, seed=seed, budget=budget, workers=workers), on_event)

    def run_batch(
        self,
        inputs: Iterable[Mapping[str, Value]],
        *,
        engine: Engine | None = None,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        max_concurrency: int = MOST,
        progress_bar: bool = False,
    ) -> list[State]:
        """Run the program on many inputs, `max_concurrency` at a time; the states in their order. Input i has seed
        `seed + i`. Raises `BatchError` at the end where runs failed; it has the states of the others.

        >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
        >>> [state.seed for state in program.run_batch([{"q": "reverse abc"}, {"q": "47+38"}], seed=7)]
        [7, 8]
        """
        engine = engine or engine_for(self)
        return engine.run_batch(
            self,
            inputs,
            seed=seed,
            budget=budget,
            workers=workers,
            max_concurrency=max_concurrency,
            progress_bar=progress_bar,
        )

    def stream(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        engine: Engine | None = None,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        **params: Value,
    ) -> Run:
        """Run the program and iterate over its events as they happen.

        >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
        >>> with program.stream(q="reverse abc") as run:
        ...     text = "".join(event.text for event in run if event.kind == "token")
        >>> text == run.state["A"]
        True
        """
        given = {**(inputs or {}), **params}
        engine = engine or engine_for(self)
        return engine.stream(self, given, seed=seed, budget=budget, workers=workers)

    async def arun(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        engine: Engine | None = None,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        on_event: OnEvent | None = None,
        **params: Value,
    ) -> State:
        """`run` for asyncio: passes are made in a thread, and runs under way at the same time share them. Cancelling
        ends the run after the pass under way.

        >>> import asyncio
        >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
        >>> asyncio.run(program.arun(q="reverse abc")).reason
        'done'
        """
        given = {**(inputs or {}), **params}
        options = options_of(seed, budget, workers)
        run = AsyncRun(lambda: (engine or engine_for(self)).begin(self, given, options, eager=True))
        return await finished_async(run, on_event)

    def astream(
        self,
        inputs: Mapping[str, Value] | None = None,
        *,
        engine: Engine | None = None,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        **params: Value,
    ) -> AsyncRun:
        """`stream` for asyncio: `async for event in program.astream(...)`. The run begins with the first event.

        >>> import asyncio
        >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
        >>> async def count():
        ...     return len([event async for event in program.astream(q="reverse abc") if event.kind == "token"])
        >>> asyncio.run(count())
        9
        """
        given = {**(inputs or {}), **params}
        return AsyncRun(lambda: self.stream(given, engine=engine, seed=seed, budget=budget, workers=workers))

    def bind(self, inputs: Mapping[str, Value] | None = None, **params: Value) -> Program:
        """The same program with some of its parameters given; those of a run win over them. Raises `InputError`.

        >>> program = hw.parse('program p(q: str) { worker A { sees "1) {{q}} A:", self max 9 tokens } }')
        >>> program.bind(q="reverse abc").run().reason
        'done'
        """
        given = {**(inputs or {}), **params}
        check_some(self, given)
        return replace(self, bound={**self.bound, **given})

    def to_hw(self) -> str:
        """The program as the text of a `.hw` file; parsing it gives an equal program.

        Files that it includes are named, not copied: the text belongs into the folder of the program.

        >>> print(hw.parse('program p { worker Ann { sees "Go.", self } }').to_hw(), end="")
        program p {
          worker Ann { sees "Go.", self }
        }
        """
        from hwlang.formatting.printer import to_hw

        return to_hw(self.tree)


def load(path: str | Path, program: str | None = None) -> Program:
    """Load a program from a `.hw` file. `program` is its name, where the file has several.

    Raises `CompileError`, whose `.diagnostics` say what is wrong and where.

    >>> hw.load("programs/sums.hw").name
    'sums'
    """
    return _select(check_file(path), program)


def parse(text: str, program: str | None = None, folder: Path | None = None) -> Program:
    """Load a program from text. It can read files below `folder`, and none without one. Raises `CompileError`.

    >>> hw.parse('program p { worker Ann { sees "Go.", self } }').name
    'p'
    """
    return _select(check_text(text, folder=folder), program)


def program(function: Callable[Concatenate[ProgramBuilder, ...], None]) -> Program:
    """Make a program of a Python function. Its first parameter builds the program, the others are the program's.

    The function is called once, here. Parameters have no values yet: `f"{topic}"` is a text with a hole, `"{{topic}}"`.
    Their types are those of the annotations (`str`, `int`, `float`, `bool`; without one, the default's, or `str`).
    Raises `CompileError`, whose `.diagnostics` point at lines of the Python file.

    >>> @hw.program
    ... def essay(p: hw.ProgramBuilder, topic: str) -> None:
    ...     w = p.worker("Ann")
    ...     w.sees(f"Write about {topic}.", hw.me)
    ...     w.max_tokens(5)
    >>> essay.run(topic="bread").passes
    5
    """
    tree, source = tree_of(function)
    return _select(check_tree(tree, source), None)


class Engine(Coroutines):
    """A model, ready to run programs, and coroutines (`Coroutines`).

    `model` is a folder, a hub name, or `tiny`, the model that is embedded in the package. `kv_tokens` is the size of
    the cache; without it the cache grows as needed. `weights`: `auto` for those of the checkpoint, `int8` or `int4` on
    a CPU, which are quicker and less exact. `kv_dtype`: `auto` for a cache in what the model computes in, or
    `fp8` for one of half the size, which is less exact. `opening_cache`: a folder that keeps encoded openings for later
    processes. Raises `hwruntime.errors.HwError`: what cannot be loaded, and why.

    `engine="sglang"` has SGLang load and run the model, on `tp` GPUs; `attention="sglang"` means the same. `nodes`: how
    many machines share them, of which this is the first; they meet at `dist_init_addr` (HOST:PORT).

    `engine`: the address of an SGLang server or router, `http://host:port`, which has the model then; `model` is only
    whose tokenizer is taken, if not the server's own. That is approximate: workers see each other's text every
    `sync_interval` tokens (default: 16). `api_key` (default: the environment's HW_API_KEY) is sent to the server.

    >>> hw.Engine("tiny").run(hw.load("programs/vote.hw")).answer
    '85'
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        engine: str = "auto",
        attention: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        weights: str = "auto",
        kv_tokens: int | None = None,
        kv_dtype: str = "auto",
        trust_remote_code: bool = False,
        opening_cache: str | Path | None = None,
        tp: int = 1,
        nodes: int = 1,
        dist_init_addr: str | None = None,
        sync_interval: int | None = None,
        api_key: str | None = None,
    ) -> None:
        from hwruntime.threads import wait_briefly

        wait_briefly()
        loading: Loading = {
            "attention": attention,
            "device": device,
            "dtype": dtype,
            "kv_tokens": kv_tokens,
            "trust_remote_code": trust_remote_code,
        }
        share: Nodes = {"nodes": nodes, "dist_init_addr": dist_init_addr}
        with uncollected():
            opened = open_engine(
                Asked(model, engine, loading, weights, kv_dtype, opening_cache, tp, share, sync_interval, api_key)
            )
        self.runtime: Runner = opened.runtime
        self.options: Mapping[str, Json] = opened.options  # what was asked for, and below what it is: traces keep both
        self.identity: Mapping[str, str] = opened.identity
        self._close = opened.close
        super().__init__(Turns(self.runtime))

    def close(self) -> None:
        """End the processes that an engine of SGLang has started. It does so by itself when nobody uses it any more."""
        self._close()

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Value] | None = None,
        *,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        on_event: OnEvent | None = None,
        **params: Value,
    ) -> State:
        """Run a program to its end; all is as in `Program.run`."""
        given = {**(inputs or {}), **params}
        return finished(self.stream(program, given, seed=seed, budget=budget, workers=workers), on_event)

    def run_batch(
        self,
        program: Program,
        inputs: Iterable[Mapping[str, Value]],
        *,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        max_concurrency: int = MOST,
        progress_bar: bool = False,
    ) -> list[State]:
        """Run a program on many inputs; all is as in `Program.run_batch`."""
        from rich.progress import track

        from hwruntime.errors import HwError

        first = seed if seed is not None else program.compiled.seed
        tasks = list(enumerate(inputs, first))

        def start(number: int, given: Mapping[str, Value]) -> Run | HwError:
            options = options_of(number, budget, workers)
            try:
                return self.begin(program, given, options, eager=True)
            except HwError as error:
                return error

        ended = side_by_side((partial(start, *task) for task in tasks), max_concurrency)
        return states_of(track(ended, program.name, total=len(tasks), disable=not progress_bar))

    def stream(
        self,
        program: Program,
        inputs: Mapping[str, Value] | None = None,
        *,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        **params: Value,
    ) -> Run:
        """Run a program and iterate over its events as they happen; all is as in `Program.stream`."""
        given = {**(inputs or {}), **params}
        return self.begin(program, given, options_of(seed, budget, workers))

    @property
    def local(self) -> RuntimeEngine:
        """The engine that has a model and its cache here. Raises `InputError` where they are a server's."""
        from hwruntime.engine import Engine as RuntimeEngine
        from hwruntime.errors import InputError

        if not isinstance(self.runtime, RuntimeEngine):
            raise InputError(f"the model and its cache are the server's, at {self.options['engine']}")
        return self.runtime

    def metrics(self) -> str:
        """What the engine has done since it was made, what is under way and how full its cache is: as text that
        Prometheus reads.

        >>> engine = hw.Engine("tiny")
        >>> _ = engine.run(hw.load("programs/sums.hw"))
        >>> [line for line in engine.metrics().splitlines() if line.startswith("hw_runs_ended")]
        ['hw_runs_ended_total{reason="done"} 1']
        """
        return self.runtime.metrics()

    def begin(
        self,
        program: Program,
        given: Mapping[str, Value],
        options: RunOptions,
        *,
        eager: bool = False,
        log: Log | None = None,
        known: Iterable[Known] = (),
    ) -> Run:
        """Begin a run. An `eager` one goes along with the passes of others without being iterated over. `log` is told
        of all that happens; `known` are passes that are made again."""
        inputs = {**program.bound, **given}
        return Run(self._turns, lambda engine: started(engine, program, inputs, options, log, known), eager)

    async def arun(
        self,
        program: Program,
        inputs: Mapping[str, Value] | None = None,
        *,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        on_event: OnEvent | None = None,
        **params: Value,
    ) -> State:
        """`run` for asyncio; all is as in `Program.arun`."""
        given = {**(inputs or {}), **params}
        return await program.arun(given, engine=self, seed=seed, budget=budget, workers=workers, on_event=on_event)

    def astream(
        self,
        program: Program,
        inputs: Mapping[str, Value] | None = None,
        *,
        seed: int | None = None,
        budget: int | Budget | None = None,
        workers: int | None = None,
        **params: Value,
    ) -> AsyncRun:
        """`stream` for asyncio; all is as in `Program.astream`."""
        given = {**(inputs or {}), **params}
        return program.astream(given, engine=self, seed=seed, budget=budget, workers=workers)


def options_of(seed: int | None, budget: int | Budget | None, workers: int | None) -> RunOptions:
    """What a session takes besides inputs."""
    most = budget if isinstance(budget, Budget) else Budget(budget)
    return {
        "seed": seed,
        "budget": most.passes,
        "max_tokens": most.tokens,
        "max_seconds": most.seconds,
        "workers": workers,
    }


def started(
    engine: Runner,
    program: Program,
    given: Mapping[str, Value],
    options: RunOptions,
    log: Log | None = None,
    known: Iterable[Known] = (),
) -> RuntimeRun:
    """Begin a run. An error that is about a place in the program shows it."""
    from hwruntime.errors import HwError

    try:
        return engine.start(program.compiled, given, log, known, **options)
    except HwError as error:
        if error.span:
            at = error.span
            span = Span(at.line, at.column, at.end_line, at.end_column, program.source)
            error.add_note(Diagnostic(error.code, error.message, span, error.help).render())
        elif error.help:
            error.add_note(f"help: {error.help}")
        raise


_loading = Lock()


def engine_for(program: Program) -> Engine:
    """The engine of a program that is run without one: made when it is first needed, and kept."""
    with _loading:  # two threads must not load one model twice
        return _engine(program.compiled.model or "tiny")


@cache
def _engine(model: str) -> Engine:
    return Engine(model)


def check_some(program: Program, given: Mapping[str, Value]) -> None:
    """Check some of a program's parameters by themselves. Raises `InputError`."""
    from hwruntime.inputs import bind

    needed = [replace(param, default=given.get(param.name, "")) for param in program.compiled.params]
    bind(replace(program.compiled, params=tuple(needed)), given)


def _select(checked: Checked, name: str | None) -> Program:
    checked.raise_on_errors()
    programs = {program.name: program for program in checked.programs}
    if name is None and len(programs) == 1:
        name = next(iter(programs))
    if name is None or name not in programs:
        raise CompileError([_no_program(checked.source, name, list(programs))])
    from hwruntime.program import Program as Compiled

    chosen = programs[name]
    items = [item for item in checked.tree.items if item is chosen.tree or concerns(item, chosen.name)]
    compiled = Compiled.from_json(lower(chosen))
    return Program(compiled, checked.diagnostics, checked.source, syntax.File(tuple(items)))


def concerns(item: syntax.Item, program: str) -> bool:
    """Whether an item of a file is none of another program's."""
    return item.program.value == program if isinstance(item, syntax.Test) else not isinstance(item, syntax.Program)


def _no_program(source: Source, name: str | None, names: list[str]) -> Diagnostic:
    listed = ", ".join(f"`{source.file}:{n}`" for n in names)
    if not names:
        message, help = f"`{source.file}` has no program", "write `program NAME { ... }`"
    elif name is None:
        message, help = f"`{source.file}` has {len(names)} programs: say which", f"one of {listed}"
    else:
        message, help = f"`{source.file}` has no program `{name}`", f"it has {listed}"
    return Diagnostic("HW109", message, Span(0, 0, 0, 0, source), help)
