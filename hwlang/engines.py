"""Which engine is meant, and making it: our own, SGLang's model runner in processes of its own, or a server.

`Engine` in api.py says what each thing that is asked for means.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from hwruntime.program import Json
    from hwruntime.runner import Runner

ENGINES = ("auto", "sglang")  # `auto` is our own; or a server's address

Kind = Literal["auto", "sglang", "server"]


class Where(TypedDict):
    """How a model is run: what `Engine` takes besides its name and its cache."""

    attention: str
    device: str
    dtype: str
    weights: str
    trust_remote_code: bool
    opening_cache: NotRequired[str]
    engine: NotRequired[str]
    tp: NotRequired[int]
    sync_interval: NotRequired[int]


class Nodes(TypedDict):
    """The machines that share a model: what `Engine` takes on the first of them."""

    nodes: int
    dist_init_addr: str | None


class Loading(TypedDict):
    """What every engine that loads a model is told."""

    attention: str
    device: str
    dtype: str
    kv_tokens: int | None
    trust_remote_code: bool


@dataclass(frozen=True)
class Asked:
    """What `Engine` was asked for."""

    model: str | None
    engine: str
    loading: Loading
    weights: str
    kv_dtype: str
    opening_cache: str | Path | None
    tp: int
    nodes: Nodes
    sync_interval: int | None
    api_key: str | None

    @property
    def options(self) -> dict[str, Json]:
        """What a trace keeps of it, to make the like engine again."""
        model = self.model or ("" if is_remote(self.engine) else "tiny")
        return {
            "model": place_of(model),
            "attention": self.loading["attention"],
            "device": self.loading["device"],
            "dtype": self.loading["dtype"],
            "weights": self.weights,
            "kv_tokens": self.loading["kv_tokens"],
            "kv_dtype": self.kv_dtype,
        }


@dataclass(frozen=True)
class Opened:
    """A runner. `options` and `identity`: what it was asked for and what it is, as traces keep it. `close`: ends the
    processes that it has started."""

    runtime: Runner
    options: Mapping[str, Json]
    identity: Mapping[str, str]
    close: Callable[[], object] = lambda: None


def open_engine(asked: Asked) -> Opened:
    """Raises `HwError`: what cannot be had, and why."""
    kind = kind_of(asked.engine, asked.loading["attention"], asked.tp, asked.nodes["nodes"], asked.sync_interval)
    makers: dict[Kind, Callable[[Asked], Opened]] = {"auto": _own, "sglang": _sglang, "server": _server}
    return makers[kind](asked)


def is_remote(engine: str) -> bool:
    """Whether `engine` is the address of a server."""
    return engine.startswith(("http://", "https://"))


def kind_of(
    engine: str, attention: str = "auto", tp: int = 1, nodes: int = 1, sync_interval: int | None = None
) -> Kind:
    """Which engine is meant. Raises `InputError` for one that there is not, and for what it is not told."""
    from hwruntime.errors import InputError

    if not is_remote(engine) and engine not in ENGINES:
        help = f"{' or '.join(f'`{name}`' for name in ENGINES)}, or a server's address: http://host:30000"
        raise InputError(f"there is no engine `{engine}`", help=help)
    kind: Kind = "server" if is_remote(engine) else "sglang" if "sglang" in (engine, attention) else "auto"
    if kind != "sglang" and (tp != 1 or nodes != 1):
        raise InputError("a model is shared out to several GPUs by the engine `sglang`", help="add --engine sglang")
    if kind != "server" and sync_interval is not None:
        help = "name a server, too: engine='http://host:30000' (--engine)"
        raise InputError("a sync interval is of an engine that is a server; others need none", help=help)
    return kind


def place_of(model: str) -> str:
    """Where a model is, wherever the process goes."""
    return str(Path(model).absolute()) if model not in ("", "tiny") and Path(model).is_dir() else model


def _own(asked: Asked) -> Opened:
    from hwruntime.engine import Engine
    from hwruntime.models import Model
    from hwruntime.openings import Openings, check_folder

    folder = None if asked.opening_cache is None else Path(asked.opening_cache).expanduser()
    if folder:
        check_folder(folder)
    loaded = Model.load(asked.model or "tiny", weights=asked.weights, kv_dtype=asked.kv_dtype, **asked.loading)
    return Opened(Engine(loaded, Openings(loaded, folder) if folder else None), asked.options, loaded.identity)


def _sglang(asked: Asked) -> Opened:
    from hwruntime.engine import Engine
    from hwruntime.sglang.model import SglangModel, refuse_options
    from hwruntime.sglang.ranks import Layout

    refuse_options(asked.weights, asked.kv_dtype, asked.opening_cache)
    inside = "auto" if asked.loading["attention"] == "sglang" else asked.loading["attention"]
    layout = Layout(asked.tp, asked.nodes["nodes"], 0, asked.nodes["dist_init_addr"])
    loading: Loading = {**asked.loading, "attention": inside}
    loaded = SglangModel.load(asked.model or "tiny", layout, **loading)
    options: dict[str, Json] = {**asked.options, "engine": "sglang", "tp": asked.tp}
    return Opened(Engine(loaded), options, loaded.identity, loaded.close)


def _server(asked: Asked) -> Opened:
    from hwruntime.errors import InputError
    from hwruntime.remote.client import Client
    from hwruntime.remote.engine import SYNC_INTERVAL, RemoteEngine
    from hwruntime.remote.model import connect

    here = [name for name, value in asked.options.items() if name != "model" and value not in ("auto", None)]
    here += [] if asked.opening_cache is None else ["opening_cache"]
    if here:
        raise InputError(
            f"`{here[0]}` is said of a model that is loaded here, and this one is the server's",
            help="give it to the server when it is started, and leave it out here",
        )
    server = Client(asked.engine, asked.api_key or os.environ.get("HW_API_KEY"))
    connected = connect(server, asked.model, asked.loading["trust_remote_code"])
    interval = SYNC_INTERVAL if asked.sync_interval is None else asked.sync_interval
    options: dict[str, Json] = {"engine": server.url, "sync_interval": interval, "approximate": True}
    identity = {"engine": f"the server at {server.url}, approximate", "model": connected.name}
    return Opened(RemoteEngine(server, connected, interval), {**asked.options, **options}, identity)
