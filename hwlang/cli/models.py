"""The options that say which model a command runs, and where."""

from __future__ import annotations

import argparse

from hwlang.cli.inputs import positive
from hwlang.engines import ENGINES, Nodes, Where, kind_of


def add(
    parser: argparse._ActionsContainer,
    default: str = "the program's `model`, else tiny",
    openings: bool = True,
    servers: bool = False,
) -> None:
    """`openings`: whether the command reads any, and may run on other engines than our own; `servers`: also on
    servers."""
    parser.add_argument("--model", help=f"a folder, a hub name, or `tiny` (default: {default})")
    parser.add_argument("--attention", default="auto", choices=("auto", "torch", "cpu", "flashinfer", "sglang"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--weights", default="auto", help="auto, or int8 or int4 on a CPU: quicker, less exact")
    parser.add_argument("--trust-remote-code", action="store_true", help="let a model run code of its own")
    if openings:
        parser.add_argument("--opening-cache", metavar="DIR", help="keep encoded openings there, for later processes")
        if servers:
            kinds = "auto; sglang: models on several GPUs; http://HOST:PORT: an SGLang server or router, approximately"
            parser.add_argument("--engine", default="auto", metavar="NAME", help=kinds)
            when = "on a server: tokens until workers see each other's text (default: 16)"
            parser.add_argument("--sync-interval", type=positive, metavar="N", help=when)
        else:
            parser.add_argument("--engine", default="auto", choices=ENGINES, help="sglang: models on several GPUs")
        parser.add_argument("--tp", type=positive, default=1, metavar="N", help="GPUs that share a model on SGLang")


def add_nodes(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--nodes", type=positive, default=1, metavar="N", help="machines that have them, as many each")
    parser.add_argument("--node-rank", type=int, default=0, metavar="N", help="which of them this is (default: 0)")
    parser.add_argument("--dist-init-addr", metavar="HOST:PORT", help="where they meet: an address of number 0")


def nodes(options: argparse.Namespace) -> Nodes:
    """What `add_nodes` asks of the first machine."""
    return {"nodes": options.nodes, "dist_init_addr": options.dist_init_addr}


def follows(options: argparse.Namespace) -> bool:
    """Where this machine is not the first of several: have its GPUs take part in what the first one does, until that
    ends, and say so. Raises `HwError`."""
    if not options.node_rank:
        return False
    from hwruntime.devices import find_device
    from hwruntime.errors import InputError
    from hwruntime.sglang.model import check_device, environment
    from hwruntime.sglang.ranks import Layout, follow

    if kind_of(options.engine, options.attention, options.tp, options.nodes) != "sglang":
        raise InputError("there are nodes with the engine `sglang` alone", help="add --engine sglang")
    layout = Layout(options.tp, options.nodes, options.node_rank, options.dist_init_addr)
    device = find_device(options.device)
    check_device(device, layout)
    follow(layout, env=environment(device, layout))
    return True


def where(options: argparse.Namespace) -> Where:
    made: Where = {
        "attention": options.attention,
        "device": options.device,
        "dtype": options.dtype,
        "weights": options.weights,
        "trust_remote_code": options.trust_remote_code,
    }
    if options.opening_cache is not None:
        made["opening_cache"] = options.opening_cache
    if options.engine != "auto":
        made["engine"] = options.engine
    if options.tp != 1:
        made["tp"] = options.tp
    if getattr(options, "sync_interval", None) is not None:
        made["sync_interval"] = options.sync_interval
    return made
