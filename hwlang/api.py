"""The Python API: load a program, run it on a model.

    import hwlang as hw

    engine = hw.Engine("tiny")
    result = engine.run(hw.load("sums.hw"), problems="1) 47+38", n=1)
    print(result.answer)

The runtime (and torch with it) is imported when the first `Engine` is made, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwlang.checker import Checked, check_file, check_text
from hwlang.diagnostics import CompileError, Diagnostic, Source, Span
from hwlang.lowering import lower

if TYPE_CHECKING:
    from hwruntime.program import Program as Compiled
    from hwruntime.program import Value
    from hwruntime.result import Event, Result


@dataclass(frozen=True)
class Program:
    """A checked program, ready to run. `compiled` is all that the runtime sees of it."""

    compiled: Compiled
    warnings: tuple[Diagnostic, ...]
    source: Source

    @property
    def name(self) -> str:
        return self.compiled.name


def load(path: str | Path, program: str | None = None) -> Program:
    """Load a program from a `.hw` file. `program` is its name, where the file has several.

    Raises `CompileError`, whose `.diagnostics` say what is wrong and where.
    """
    return _select(check_file(path), program)


def parse(text: str, program: str | None = None, folder: Path | None = None) -> Program:
    """Load a program from text. It can read files below `folder`, and none without one. Raises `CompileError`."""
    return _select(check_text(text, folder=folder), program)


class Engine:
    """A model, ready to run programs.

    `model` is a folder, a hub name, or `tiny`, the model that is embedded in the package. `kv_tokens` is the size of
    the cache; without it the cache grows as needed. Raises `hwruntime.errors.HwError`: what cannot be loaded, and why.
    """

    def __init__(
        self,
        model: str = "tiny",
        *,
        attention: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        kv_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        from hwruntime.engine import Engine as RuntimeEngine
        from hwruntime.models import Model

        self.runtime = RuntimeEngine(
            Model.load(
                model,
                device=device,
                dtype=dtype,
                attention=attention,
                kv_tokens=kv_tokens,
                trust_remote_code=trust_remote_code,
            )
        )

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Value] | None = None,
        *,
        seed: int | None = None,
        budget: int | None = None,
        workers: int | None = None,
        **params: Value,
    ) -> Result:
        """Run a program to its end. Its parameters are given by name, or in `inputs` where a name is taken here.

        Raises `InputError` where inputs do not fit, `RunError` where the run cannot start.
        """
        given = {**(inputs or {}), **params}
        return self.runtime.run(program.compiled, given, seed=seed, budget=budget, workers=workers)

    def run_batch(
        self,
        program: Program,
        inputs: Iterable[Mapping[str, Value]],
        *,
        seed: int | None = None,
        budget: int | None = None,
        workers: int | None = None,
        progress_bar: bool = False,
    ) -> list[Result]:
        """Run a program on many inputs; the results in their order. Input i has seed `seed + i`."""
        from rich.progress import track

        first = seed if seed is not None else program.compiled.seed
        tasks = list(enumerate(inputs, first))
        return [
            self.run(program, given, seed=number, budget=budget, workers=workers)
            for number, given in track(tasks, program.name, disable=not progress_bar)
        ]

    def stream(
        self,
        program: Program,
        inputs: Mapping[str, Value] | None = None,
        *,
        seed: int | None = None,
        budget: int | None = None,
        workers: int | None = None,
        **params: Value,
    ) -> Iterator[Event]:
        """Run a program and yield its events as they happen."""
        given = {**(inputs or {}), **params}
        return self.runtime.stream(program.compiled, given, seed=seed, budget=budget, workers=workers)


def _select(checked: Checked, name: str | None) -> Program:
    checked.raise_on_errors()
    programs = {program.name: program for program in checked.programs}
    if name is None and len(programs) == 1:
        name = next(iter(programs))
    if name is None or name not in programs:
        raise CompileError([_no_program(checked.source, name, list(programs))])
    from hwruntime.program import Program as Compiled

    return Program(Compiled.from_json(lower(programs[name])), checked.diagnostics, checked.source)


def _no_program(source: Source, name: str | None, names: list[str]) -> Diagnostic:
    listed = ", ".join(f"`{source.file}:{n}`" for n in names)
    if not names:
        message, help = f"`{source.file}` has no program", "write `program NAME { ... }`"
    elif name is None:
        message, help = f"`{source.file}` has {len(names)} programs: say which", f"one of {listed}"
    else:
        message, help = f"`{source.file}` has no program `{name}`", f"it has {listed}"
    return Diagnostic("HW109", message, Span(0, 0, 0, 0, source), help)
