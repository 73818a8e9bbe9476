"""When not to look for garbage: where a million objects are made, none of which is any."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected(much: bool = True) -> Iterator[None]:
    """Keep Python's collector away from work that makes objects to stay, where it makes `much`: syntax trees of long
    texts, which take twice as long with it, and what torch and transformers import, which takes a quarter longer."""
    pause = much and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()
