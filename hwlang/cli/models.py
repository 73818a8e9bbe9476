"""The options that say which model a command runs, and where."""

from __future__ import annotations

import argparse

from hwlang.api import Where


def add(
    parser: argparse._ActionsContainer, default: str = "the program's `model`, else tiny", openings: bool = True
) -> None:
    """`openings`: whether the command reads any."""
    parser.add_argument("--model", help=f"a folder, a hub name, or `tiny` (default: {default})")
    parser.add_argument("--attention", default="auto", choices=("auto", "torch", "flashinfer", "sglang"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--weights", default="auto", help="auto, or int8 or int4 on a CPU: quicker, less exact")
    parser.add_argument("--trust-remote-code", action="store_true", help="let a model run code of its own")
    if openings:
        parser.add_argument("--opening-cache", metavar="DIR", help="keep encoded openings there, for later processes")


def where(options: argparse.Namespace) -> Where:
    made: Where = {
        "attention": options.attention,
        "device": options.device,
        "dtype": options.dtype,
        "weights": options.weights,
        "trust_remote_code": options.trust_remote_code,
    }
    return made if options.opening_cache is None else {**made, "opening_cache": options.opening_cache}
