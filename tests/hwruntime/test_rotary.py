"""Turning what is turned already, and frequencies that stay."""

import torch

from hwruntime.rotary import Rotary
from tests.hwruntime.models_for_tests import (
    BY_NAME,
    loaded,
    random_model,
)


def test_longrope_does_not_switch_with_positions():
    model = loaded(random_model(BY_NAME["phi3+longrope"].config()))
    rotary = model.hf.model.rotary_emb
    before = rotary.inv_freq.clone()
    assert any("longrope" in line for line in model.why)
    for position in (3, 500):
        rotary(torch.zeros(1), torch.tensor([[position]]))
        assert torch.equal(rotary.inv_freq, before)
    assert torch.allclose(1 / before[1:] / 10000 ** (torch.arange(2, 16, 2) / 16), 1 + 0.5 * torch.arange(1, 8))


def test_rotary_adds_up():
    """Turning twice is turning by the sum, far out too."""
    rotary = Rotary(10000.0 ** (-torch.arange(0, 8, 2) / 8), start=2, interleaved=True)
    x = torch.randn(3, 2, 12)
    near, far, both = (rotary.tables(torch.tensor(p)) for p in ([1, 5, 70], [100_000, 3, 0], [100_001, 8, 70]))
    torch.testing.assert_close(rotary.apply(rotary.apply(x, near), far), rotary.apply(x, both))
    torch.testing.assert_close(rotary.apply(x, both)[..., [0, 1, 10, 11]], x[..., [0, 1, 10, 11]])
