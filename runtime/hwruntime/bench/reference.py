"""Times the authors' code (github.com/eqimp/hogwild_llm) in a process of its own; nothing of it is in this package.

Reads JSON lines and answers each with one: first the settings, then {context, workers} for new caches, and {workers}
for a pass of those, whose answer is its ms. It runs in an environment with what that code asks for, and so it imports
nothing of ours.
"""

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("HOGWILD_USE_TRITON", "0")  # its kernels run on GPUs
os.environ.setdefault("HOGWILD_NO_COMPILE", "1")

Json = dict[str, Any]


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    sys.path.insert(0, settings["clone"])
    import torch
    import transformers

    torch.set_num_threads(settings["threads"])
    config = transformers.AutoConfig.for_model(**known(settings["config"]))
    dtype = getattr(torch, settings["dtype"])
    make: Any = transformers.AutoModelForCausalLM
    model = make.from_config(config, torch_dtype=dtype).eval()
    answer({})
    scenes: dict[tuple[int, int], Any] = {}
    current = 0
    for line in sys.stdin:
        asked = json.loads(line)
        workers = asked["workers"]
        if "context" in asked:
            current = asked["context"]
            scenes = {key: scene for key, scene in scenes.items() if key[0] == current}
            scenes[current, workers] = make_scene(model, current, workers)
            answer({})
        else:
            started = time.perf_counter()
            scenes[current, workers]()
            answer({"ms": (time.perf_counter() - started) * 1e3})


def known(config: Json) -> Json:
    """The configuration as the version of transformers that this code is made for reads it."""
    rope = config.pop("rope_parameters", None) or {}
    return {**config, "rope_theta": rope.get("rope_theta", 10000.0)}


def make_scene(model: Any, context: int, workers: int) -> Any:
    """A pass of workers that each see the prompt, the others and themselves, as in the authors' notebooks."""
    import shared_cache  # type: ignore[import-not-found]
    import torch

    prompt, *own = (shared_cache.CacheBlock(config=model.config) for _ in range(1 + workers))
    config = model.config
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for layer in range(config.num_hidden_layers):
        keys, values = torch.randn(2, 1, config.num_key_value_heads, context, dim, dtype=model.dtype)
        positions = {"cos": None, "sin": None, "cache_position": torch.arange(context)}
        prompt.append(keys, values, layer, positions)
    views = [[prompt, *(block for block in own if block is not mine), mine] for mine in own]
    manager = shared_cache.SharedCacheManager(cache_structure=views, write_to=own)
    tokens = torch.zeros(workers, 1, dtype=torch.long)

    def step() -> None:
        nonlocal tokens
        with torch.inference_mode():
            tokens = model(**manager.get_input_kwargs(input_ids=tokens)).logits[:, -1].argmax(-1, keepdim=True)
        tokens.tolist()

    return step


def answer(data: Json) -> None:
    print(json.dumps(data), flush=True)


if __name__ == "__main__":
    main()
