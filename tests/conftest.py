"""Settings that all tests share."""

import os

import pytest
from hypothesis import settings

# The same examples every time, so that what one run prints can be repeated; `make explore` tries many new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None, print_blob=True)
settings.load_profile("same")

os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run side by side: each takes one thread, so that they do not fight for the cores."""
    import torch

    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", type=float, default=1.0, metavar="MINUTES", help="how long the soak on a GPU takes")
