"""hwlang: a small language for Hogwild! Inference, several LLM workers over one concurrent KV cache.

import hwlang as hw

result = hw.Engine("tiny").run(hw.load("sums.hw"))
"""

from hwlang.api import Engine, Program, load, parse
from hwlang.diagnostics import CompileError, Diagnostic

__all__ = ["CompileError", "Diagnostic", "Engine", "Program", "load", "parse"]
