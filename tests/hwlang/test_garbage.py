"""The collector, kept away for a while."""

import gc

import pytest

from hwlang.garbage import uncollected


def test_the_collector_is_as_it_was_afterwards():
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with uncollected(False):
        assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), uncollected():
        _ = 1 // 0
    assert gc.isenabled()
