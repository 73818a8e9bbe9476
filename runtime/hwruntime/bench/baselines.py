"""The same work by others: independent sequences in plain transformers, and the authors' own code."""

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedConfig, PreTrainedModel

from hwruntime.bench import reference
from hwruntime.bench.limits import elapsed_ms
from hwruntime.errors import ModelError
from hwruntime.threads import as_found


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, sharing its weights, with transformers' own attention."""
    make: Any = AutoModelForCausalLM  # untyped
    with torch.device(model.device):
        other: PreTrainedModel = make.from_config(
            deepcopy(model.config), dtype=model.dtype, attn_implementation="sdpa"
        ).eval()
    other.load_state_dict(model.state_dict(), assign=True)
    other.tie_weights()
    return other


class Sequences:
    """Independent sequences in one batch, each with a cache of its own that holds `context` tokens."""

    def __init__(self, model: PreTrainedModel, context: int, count: int) -> None:
        self._model = model
        self._tokens = torch.zeros(count, 1, dtype=torch.long, device=model.device)
        config = model.config.get_text_config(decoder=True)
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._cache = DynamicCache(config=config)
        for layer in range(config.num_hidden_layers):
            size = (count, config.num_key_value_heads, context, dim)
            keys, values = (torch.randn(size, device=model.device, dtype=model.dtype) for _ in range(2))
            self._cache.update(keys, values, layer)

    @torch.no_grad()
    def step(self) -> float:
        """ms of a pass that adds a token to each."""
        return elapsed_ms(self._run, self._model.device)

    def _run(self) -> None:
        logits = self._model(input_ids=self._tokens, past_key_values=self._cache, use_cache=True).logits
        self._tokens = logits[:, -1].argmax(-1, keepdim=True)
        self._tokens.tolist()


class Reference:
    """The authors' code from a clone of the user's, in a Python of its own: it needs an older transformers."""

    def __init__(self, clone: Path, python: str, config: PreTrainedConfig, dtype: torch.dtype, threads: int) -> None:
        """Raises `ModelError` where it does not start."""
        settings = {
            "clone": str(clone),
            "config": config.to_dict(),
            "dtype": str(dtype).removeprefix("torch."),
            "threads": threads,
        }
        self._process = subprocess.Popen(
            [python, str(Path(reference.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=as_found(),
        )
        self._questions, self._answers = cast(TextIO, self._process.stdin), cast(TextIO, self._process.stdout)
        self._ask(settings)

    def open(self, context: int, workers: int) -> Callable[[], float]:
        """Make the caches of so many workers behind an opening of `context` tokens; a pass of theirs, which gives its
        ms. Those for another context are dropped."""
        self._ask({"context": context, "workers": workers})
        return lambda: self._ask({"workers": workers})["ms"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, question: dict[str, object]) -> dict[str, float]:
        with suppress(BrokenPipeError):  # it has ended, and has nothing to answer
            self._questions.write(json.dumps(question) + "\n")
            self._questions.flush()
        answer = self._answers.readline()
        if not answer:
            help = "give the Python of an environment with its requirements by --reference-python"
            raise ModelError("the authors' code has stopped; what it said is above", help=help)
        found: dict[str, float] = json.loads(answer)
        return found
