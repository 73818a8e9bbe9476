"""A model on SGLang as the engine knows it: every call goes to all ranks, whose cache is laid out by our pool.

K/V never leave the rank that made them: what is read is kept in its host's memory, under a number, until it is written
back or nobody has the number any more.
"""

import hashlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import cast
from weakref import finalize

import torch
from torch import Tensor

from hwruntime.cache import PAGE_SIZE, Pool, Stored
from hwruntime.checkpoint import open_text
from hwruntime.devices import DTYPES, find_device, find_dtype
from hwruntime.errors import DeviceError, InputError
from hwruntime.families import refuse
from hwruntime.model_tokenizer import ModelTokenizer
from hwruntime.plan import Plan
from hwruntime.program import Json
from hwruntime.sglang.installed import VERSION, check_installed
from hwruntime.sglang.ranks import Layout, Ranks
from hwruntime.sglang.wire import Reply, plan_to_json

CPU_TOKENS = 16384  # of the cache on a CPU, where SGLang would take most of the memory


class Away(Mapping[int, tuple[Tensor, Tensor]]):
    """K/V that every rank keeps its share of under `number`; there is nothing of them in this process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        raise KeyError(layer)

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


class SglangModel:
    """`engine.LanguageModel` over ranks. `identity`: all that its arithmetic depends on, besides its weights."""

    def __init__(
        self,
        name: str,
        tokenizer: ModelTokenizer,
        context: int,
        ranks: Ranks,
        load: Mapping[str, Json],
        why: Sequence[str] = (),
    ) -> None:
        """`load`: what the ranks' first call is told. Raises what it raises."""
        self.name = name
        self.tokenizer = tokenizer
        self.context = context
        self._ranks = ranks
        loaded = [cast(Mapping[str, Json], value) for value in ranks.call("load", **load).values]
        self.pool = Pool(min(cast(int, each["capacity"]) for each in loaded))
        self._vocabulary = cast(int, loaded[0]["vocabulary"])
        self.attention = str(loaded[0]["attention"])
        self.why = [*why, f"attention: {self.attention}, {loaded[0]['why']}", f"cache: {self.pool.capacity} tokens"]
        self.identity: dict[str, str] = {}
        self._kept = 0  # how much was, ever
        self._dropped: deque[int] = deque()  # numbers that nobody has any more

    @classmethod
    def load(
        cls,
        name: str,
        layout: Layout,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        kv_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> "SglangModel":
        """Load `tiny`, a folder, or a model of the Hugging Face hub on the ranks of a layout, of which this is node 0.

        `kv_tokens`: the size of the cache; without it, as much as SGLang finds room for. Raises `ModelError`,
        `DeviceError`, and `RunError` where a rank dies.
        """
        check_installed()
        chosen = find_device(device)
        check_device(chosen, layout)
        text = open_text(name, trust_remote_code)
        refuse(text.config, own_code=trust_remote_code and hasattr(text.config, "auto_map"))
        used = find_dtype(dtype, chosen, text.stored) or text.stored or torch.bfloat16
        tokens = CPU_TOKENS if kv_tokens is None and chosen.type == "cpu" else kv_tokens
        load: dict[str, Json] = {
            "model": name,
            "attention": attention,
            "device": chosen.type,
            "dtype": next(name for name, each in DTYPES.items() if each == used),
            "context": text.context,
            "slots": None if tokens is None else (-(-tokens // PAGE_SIZE) + 1) * PAGE_SIZE,
            "trust": trust_remote_code,
            "ranks": layout.ranks,
            "nodes": layout.nodes,
            "address": layout.address or f"127.0.0.1:{free_port()}",
        }
        why = [
            f"engine: SGLang {VERSION}, {layout.ranks} rank{'s' * (layout.ranks > 1)}, asked for",
            f"device: {chosen.type}, {'asked for' if device != 'auto' else 'the best one here'}",
            f"dtype: {load['dtype']}",
            text.why,
        ]
        ranks = Ranks(layout, env=environment(chosen, layout))
        try:
            model = cls(name, text.tokenizer, text.context, ranks, load, why)
        except BaseException:
            ranks.close()
            raise
        told = {key: str(load[key]) for key in ("context", "device", "dtype", "ranks", "nodes")}
        config = hashlib.sha256(text.config.to_json_string().encode()).hexdigest()
        versions = {package: version(package) for package in ("sglang", "torch", "transformers")}
        model.identity = {"engine": "sglang", "config": config, "attention": model.attention, **told, **versions}
        return model

    def close(self) -> None:
        """End the ranks. Once or more often; a model that is not used any more does so by itself."""
        self._ranks.close()

    def forward(self, tokens: Sequence[int], plan: Plan, slots: list[int], wanted: Sequence[int]) -> Tensor:
        """As `engine.LanguageModel.forward`. Every rank runs the pass; the logits are rank 0's, on the CPU.

        Raises `RunError` where a rank has died.
        """
        reply = self._call(
            "forward", tokens=list(tokens), plan=plan_to_json(plan), slots=list(slots), wanted=list(wanted)
        )
        assert reply.logits is not None, "rank 0 replies with logits"
        shape, data = reply.logits.shape, reply.logits.data
        return torch.frombuffer(bytearray(data), dtype=torch.float32).view(shape) if data else torch.empty(shape)

    def move(self, source: list[int], target: list[int], by: int) -> None:
        self._call("move", source=list(source), target=list(target), by=by)

    def read(self, slots: list[int]) -> Stored:
        """Have every rank keep a copy of its K/V at slots, as long as what is returned is held."""
        self._kept += 1
        self._call("keep", number=self._kept, slots=list(slots))
        away = Away(self._kept)
        finalize(away, self._dropped.append, away.number)
        return away

    def write(self, stored: Stored, slots: list[int]) -> None:
        assert isinstance(stored, Away), "K/V of other models cannot be shared out to ranks"
        self._call("restore", number=stored.number, slots=list(slots))

    def expect(self, workers: int, tokens: int) -> None:
        self._call("expect", workers=workers, tokens=tokens)

    def prepare(self, plan: Plan, slots: list[int]) -> None:
        """Nothing: the ranks take a plan to their devices with the pass itself."""

    def _call(self, name: str, **arguments: Json) -> Reply:
        if self._dropped:
            numbers: list[Json] = [self._dropped.popleft() for _ in range(len(self._dropped))]
            self._ranks.call("forget", numbers=numbers)
        return self._ranks.call(name, **arguments)


def check_device(device: torch.device, layout: Layout) -> None:
    """Raises `DeviceError` for a device that the ranks of this node cannot have."""
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"the engine `sglang` does not run on {device.type}", help="use --device cpu")
    if device.index is not None:
        raise DeviceError(
            f"the engine `sglang` takes GPUs from number 0 on, not `{device}`", help="choose with CUDA_VISIBLE_DEVICES"
        )
    if device.type == "cuda" and torch.cuda.device_count() < len(layout.local):
        raise DeviceError(
            f"{len(layout.local)} ranks need a GPU each, and this machine has {torch.cuda.device_count()}",
            help="lower --tp, or take more --nodes",
        )


def refuse_options(weights: str, kv_dtype: str, opening_cache: object | None) -> None:
    """Raises `InputError` for what only our own engine does."""
    asked = {
        "--weights": (weights != "auto", "SGLang reads quantized checkpoints as they are"),
        "--kv-dtype": (kv_dtype != "auto", "its cache is in what the model computes in"),
        "--opening-cache": (opening_cache is not None, "keys and values stay with its ranks"),
    }
    for option, (given, reason) in asked.items():
        if given:
            raise InputError(f"the engine `sglang` has no {option}: {reason}", help=f"leave {option} out")


def environment(device: torch.device, layout: Layout) -> dict[str, str]:
    """What ranks need of their environment, where it does not say otherwise."""
    if device.type != "cpu":
        return {}
    cores = os.cpu_count() or 1
    share = "|".join([f"0-{cores - 1}"] * len(layout.local))  # SGLang refuses more ranks than sockets, if not told
    given = {"SGLANG_USE_CPU_ENGINE": "1", "SGLANG_CPU_OMP_THREADS_BIND": share}
    return {name: os.environ.get(name, value) for name, value in given.items()}


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
