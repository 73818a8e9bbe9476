"""The options that say which model a command runs, and where."""

from __future__ import annotations

import argparse

from hwlang.api import Where
from hwlang.cli.inputs import positive


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


def add_engine(parser: argparse.ArgumentParser) -> None:
    """What runs the model, where it is not this process."""
    parser.add_argument("--engine", default="auto", metavar="http://HOST:PORT",
                        help="run on an SGLang server or router instead, approximately")  # fmt: skip
    parser.add_argument("--sync-interval", type=positive, metavar="N",
                        help="with a server: tokens until workers see each other's text (default: 16)")  # fmt: skip


def where(options: argparse.Namespace) -> Where:
    made: Where = {
        "attention": options.attention,
        "device": options.device,
        "dtype": options.dtype,
        "weights": options.weights,
        "trust_remote_code": options.trust_remote_code,
    }
    if getattr(options, "engine", "auto") != "auto":
        made["engine"] = options.engine
    if getattr(options, "sync_interval", None) is not None:
        made["sync_interval"] = options.sync_interval
    return made if options.opening_cache is None else {**made, "opening_cache": options.opening_cache}
