"""Silence for transformers and its hub client."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as hf_logging


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, reports or advice of the libraries on stderr: what matters is an error or a line of `why`."""
    theirs: tuple[Any, ...] = (hf_logging, hub_logging)  # untyped
    levels = [module.get_verbosity() for module in theirs]
    bars = theirs[0].is_progress_bar_enabled()
    for module in theirs:
        module.set_verbosity_error()
    theirs[0].disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, level in zip(theirs, levels, strict=True):
            module.set_verbosity(level)
        if bars:
            theirs[0].enable_progress_bar()
