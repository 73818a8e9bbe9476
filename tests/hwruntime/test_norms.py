"""RMSNorms in our kernel, against the modules that they are taken from."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from hwruntime import norms
from hwruntime.cpu.build import CannotBuild
from hwruntime.norms import Norm, quicken
from hwruntime.selftest import plain_logits
from tests.hwruntime.models_for_tests import BY_NAME, WORKING, Family, random_model
from tests.hwruntime.own_kernels import needs_kernels

HALF = torch.bfloat16


def made(name: str, **options: object) -> PreTrainedModel:
    return random_model(BY_NAME[name].config(**options)).bfloat16()


def quickened(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module.forward, Norm)]


@needs_kernels
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral", "phi3"])
@torch.no_grad()
def test_rows_come_out_as_before(name):
    model = made(name)
    expected = plain_logits(model)
    found = [module for name, module in model.named_modules() if name.endswith("norm")]
    assert quicken(model) == [f"norms: {len(found)} in our kernel"]
    assert len(quickened(model)) == len(found)
    torch.testing.assert_close(plain_logits(model), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("family", WORKING, ids=lambda family: family.name)
@torch.no_grad()
def test_no_family_comes_out_otherwise(family):
    model = random_model(family.config()).bfloat16()
    expected = plain_logits(model)
    quicken(model)
    got = plain_logits(model)
    spread = (expected - expected.mean(-1, keepdim=True)).norm(dim=-1)
    assert ((got - expected).norm(dim=-1) / spread).median() < 0.05  # of the middle token: experts may change


@needs_kernels
@pytest.mark.parametrize("size", [1, 7, 16, 40, 896])
@torch.no_grad()
def test_any_number_of_rows_of_any_size(size):
    model = made("llama", hidden_size=64)
    norm = type(model.base_model.norm)(size).bfloat16()
    norm.weight.copy_(torch.randn(size))
    model.base_model.norm = norm
    quicken(model)
    assert isinstance(norm.forward, Norm)
    for shape in ((0, size), (size,), (1, 1, size), (3, 5, size), (40, size)):
        x = torch.randn(shape, dtype=HALF) * 5
        expected = type(norm).forward(norm, x)
        torch.testing.assert_close(norm(x), expected, atol=0, rtol=2**-7)
        assert norm(x).shape == x.shape
    across = torch.randn(size, 4, dtype=HALF).T
    torch.testing.assert_close(norm(across), type(norm).forward(norm, across), atol=0, rtol=2**-7)
    other = torch.randn(2, size)
    assert torch.equal(norm(other), type(norm).forward(norm, other))


@needs_kernels
@pytest.mark.parametrize("name", ["gemma2", "gemma3_text"])
def test_norms_that_do_something_else_with_their_weight_are_left(name):
    model = made(name)
    assert quicken(model) == []
    assert quickened(model) == []


@needs_kernels
@torch.no_grad()
def test_a_norm_that_is_none_by_what_it_does_is_left():
    class OtherRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(64, dtype=HALF)), 1e-6

        def forward(self, x):
            return x / x.float().norm(dim=-1, keepdim=True).to(x.dtype)

    model = made("llama")
    model.base_model.norm = OtherRMSNorm()
    assert len(quicken(model)) == 1
    assert "model.norm" not in quickened(model)
    assert "model.layers.0.input_layernorm" in quickened(model)


def test_float32_and_a_machine_without_a_compiler_are_left(monkeypatch):
    assert quicken(random_model(Family("llama").config())) == []

    def cannot() -> None:
        raise CannotBuild("there is no C++ compiler", "install one")

    monkeypatch.setattr(norms, "library", cannot)
    model = made("llama")
    assert quicken(model) == []
    assert quickened(model) == []
