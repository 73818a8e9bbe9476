"""`python -m hwlang.cli` is `hw`."""

from hwlang.cli import process

process()
