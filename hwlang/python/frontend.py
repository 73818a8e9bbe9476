"""Programs in functions of SGLang's frontend: `s += hw.call(program, ...)`.

What the frontend can append to a state is of its own kinds, and only a text to generate is handed to the state's
server. So a call is one, held to a schema that names the program: `hw serve` runs it, other servers refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang.lang.ir import SglGen

    from hwlang.api import Program
    from hwruntime.program import Value

PROGRAM = "hw-program"  # the type of such a schema


def call(
    program: Program,
    inputs: Mapping[str, Value] | None = None,
    *,
    name: str | None = None,
    seed: int | None = None,
    budget: int | None = None,
    workers: int | None = None,
    **params: Value,
) -> SglGen:
    """A program's answer, to be appended to the state of an `sgl.function`: the state's server, `hw serve`, runs it.

    The program sees its own inputs and nothing of the state. `name`: of a variable of the state that gets the answer,
    as `sgl.gen`'s; `state.get_meta_info(name)["hw"]` is all that `hw run --json` prints. The rest is as in
    `Program.run`. Needs sglang. A program without an answer is an error of the state, as are inputs that do not fit.

    >>> sums = hw.load("programs/sums.hw")
    >>> hw.call(sums, problems="1) 2+3", name="total").name
    'total'
    """
    try:
        from sglang.lang.ir import SglGen
    except ModuleNotFoundError as error:
        raise ImportError(
            f"hw.call is for functions of SGLang's frontend, which cannot be imported: {error}"
        ) from error

    asked = {
        "type": PROGRAM,
        "program": program.to_hw(),
        "name": program.name,
        "inputs": {**program.bound, **(inputs or {}), **params},
        "seed": seed,
        "budget": budget,
        "workers": workers,
    }
    return SglGen(name, json_schema=json.dumps({key: value for key, value in asked.items() if value is not None}))
