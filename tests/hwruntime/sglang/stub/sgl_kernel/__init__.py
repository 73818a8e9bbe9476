"""SGLang's kernels, none of which runs on this CPU: each name is a function that says so when it is called."""

import sys
import types
from collections.abc import Callable
from typing import NoReturn

PARTS = ("common_ops", "flash_attn", "kvcacheio", "mamba")


def kernel(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(f"there is no kernel `{name}` in the stub of sgl_kernel")

    return missing


__getattr__ = kernel
for part in PARTS:
    module = types.ModuleType(f"{__name__}.{part}")
    module.__getattr__ = kernel  # type: ignore[method-assign]
    sys.modules[module.__name__] = module
