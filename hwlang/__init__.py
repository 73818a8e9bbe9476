"""hwlang: a small language for Hogwild! Inference, several LLM workers over one concurrent KV cache.

import hwlang as hw

state = hw.load("sums.hw").run()
"""

from hwlang.api import Budget, Engine, Program, load, parse, program
from hwlang.diagnostics import CompileError, Diagnostic
from hwlang.python.batches import BatchError
from hwlang.python.coroutines import Block, Generation, Token
from hwlang.python.crews import Worker
from hwlang.python.frontend import call
from hwlang.python.functions import ProgramBuilder
from hwlang.python.handles import Scratchpad, Stream, Text
from hwlang.python.runs import AsyncRun, CallbackError, Run, State
from hwlang.python.words import (
    ask,
    assistant,
    clear,
    end,
    every,
    in_context,
    literal,
    me,
    move,
    others,
    pause,
    post,
    regex,
    resume,
    say,
    start,
    step,
    stop,
    system,
    user,
    vote,
)

__all__ = [
    "AsyncRun",
    "BatchError",
    "Block",
    "Budget",
    "CallbackError",
    "CompileError",
    "Diagnostic",
    "Engine",
    "Generation",
    "Program",
    "ProgramBuilder",
    "Run",
    "Scratchpad",
    "State",
    "Stream",
    "Text",
    "Token",
    "Worker",
    "ask",
    "assistant",
    "call",
    "clear",
    "end",
    "every",
    "in_context",
    "literal",
    "load",
    "me",
    "move",
    "others",
    "parse",
    "pause",
    "post",
    "program",
    "regex",
    "resume",
    "say",
    "start",
    "step",
    "stop",
    "system",
    "user",
    "vote",
]
