"""An engine for coroutines whose model costs nothing."""

from hwlang.python.coroutines import Coroutines
from hwlang.python.runs import Turns
from hwruntime.cache import Pool
from hwruntime.engine import Engine
from tests.hwruntime.fake_model import Remembering


class FakeEngine(Coroutines):
    """What its model says follows from the texts of the views alone; it ends a text with probability `ends`."""

    def __init__(self, tokens: int | None = None, ends: float = 0) -> None:
        self.runtime = Engine(Remembering(Pool(tokens, page_size=4), ends))
        super().__init__(Turns(self.runtime))

    @property
    def used(self) -> int:
        """Tokens in the cache that somebody holds."""
        self.runtime.forget()
        return self.runtime.model.pool.used
