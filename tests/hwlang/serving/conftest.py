"""One server, on the embedded model, for all tests that need one."""

from collections.abc import Iterator

import pytest

import hwlang as hw
from tests.hwlang.serving.asked import Served, serving


@pytest.fixture(scope="session")
def tiny() -> hw.Engine:
    return hw.Engine("tiny", dtype="float32")


@pytest.fixture(scope="session")
def served(tiny) -> Iterator[Served]:
    with serving(tiny) as server:
        yield server
