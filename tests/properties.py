"""How many examples the tests of properties try."""

from hypothesis import settings

USUAL = 100  # what a profile that says nothing has


def examples(count: int) -> settings:
    """So many examples, and more with a profile that has more (tests/conftest.py)."""
    return settings(max_examples=count * settings().max_examples // USUAL, deadline=None)
