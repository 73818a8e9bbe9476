"""Settings that all tests share."""

import os

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # what CI prints can be repeated; elsewhere new examples are tried
if os.environ.get("CI"):
    settings.load_profile("ci")

os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run side by side: each takes one thread, so that they do not fight for the cores."""
    import torch

    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", type=float, default=1.0, metavar="MINUTES", help="how long the soak on a GPU takes")
