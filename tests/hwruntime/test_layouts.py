"""Weights as a CPU reads them best, against torch's own linear layers."""

import pytest
import torch
from torch import Tensor, nn

from hwruntime import layouts
from hwruntime.cpu.build import CannotBuild
from hwruntime.layouts import FEW, Layout, OneDnn, Own, layout_for
from hwruntime.packed import Packed, PackedEmbedding
from tests.hwruntime.own_kernels import needs_bfloat16

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
HALF = torch.bfloat16
BOTH = [(OneDnn, torch.float32), (OneDnn, HALF), pytest.param(Own, HALF, marks=needs_bfloat16)]


@pytest.mark.parametrize("few", [0, FEW])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(300, 520), (128, 64), (33, 7)])
@torch.no_grad()
def test_any_number_of_rows_gives_the_product(size, bias, few, monkeypatch):
    monkeypatch.setattr(layouts, "too_few", lambda: few)
    linear = nn.Linear(*size, bias=bias)
    layer = Packed(linear, OneDnn())
    for shape in ((), (0,), (1,), (1, 1), (2,), (1, 2), (2, 2), (0, 2), (3,), (1, 4), (2, 3), (16,), (1, 100)):
        x = torch.randn(*shape, size[0])
        torch.testing.assert_close(layer(x), linear(x), atol=1e-5, rtol=1e-5)
    across = torch.randn(size[0], 5).T
    torch.testing.assert_close(layer(across), linear(across), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("few", [0, FEW])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(300, 520), (34, 7), (128, 64)])
@pytest.mark.parametrize("kind", [OneDnn, pytest.param(Own, marks=needs_bfloat16)])
@torch.no_grad()
def test_a_product_in_bfloat16_is_as_near_as_torchs_own(kind, size, bias, few, monkeypatch):
    monkeypatch.setattr(layouts, "too_few", lambda: few)
    linear = nn.Linear(*size, bias=bias)
    halved = nn.Linear(*size, bias=bias, dtype=HALF)
    halved.load_state_dict(linear.state_dict())
    linear.load_state_dict(halved.state_dict())
    layer = Packed(halved, kind())
    for shape in ((), (0,), (1,), (2,), (3,), (4,), (1, 6), (2, 2), (100,)):
        x = torch.randn(*shape, size[0], dtype=HALF)
        torch.testing.assert_close(layer(x).float(), linear(x.float()), atol=0.02, rtol=0.01)
    across = torch.randn(size[0], 5, dtype=HALF).T
    torch.testing.assert_close(layer(across).float(), linear(across.float()), atol=0.02, rtol=0.01)


@pytest.mark.parametrize(("vendor", "rows"), [("AuthenticAMD", FEW), ("GenuineIntel", 0), (None, 0)])
def test_few_rows_are_filled_up_where_that_is_known_to_be_quicker(vendor, rows, monkeypatch):
    monkeypatch.setattr(layouts, "cpu_info", lambda: {"vendor_id": vendor} if vendor else {})
    assert layouts.too_few.__wrapped__() == rows


@pytest.mark.parametrize(("kind", "dtype"), BOTH)
@torch.no_grad()
def test_the_weight_is_still_to_be_had(kind, dtype):
    for size in ((300, 520), (64, 7)):
        linear = nn.Linear(*size, dtype=dtype)
        assert torch.equal(Packed(linear, kind()).weight, linear.weight)


@pytest.mark.parametrize(("kind", "dtype"), BOTH)
@pytest.mark.parametrize("size", [(127, 128), (257, 70), (1000, 34), (64, 16), (5, 6)])
@torch.no_grad()
def test_rows_are_read_where_they_are_laid_out(size, kind, dtype):
    linear, embedding = nn.Linear(*size[::-1], dtype=dtype), nn.Embedding(*size, dtype=dtype)
    embedding.weight = linear.weight
    layer = Packed(linear, kind())
    reads = PackedEmbedding(embedding, layer, blocks_of(layer, linear.weight))
    for tokens in (torch.arange(size[0]), torch.randint(size[0], (2, 7)), torch.tensor([], dtype=torch.long)):
        assert torch.equal(reads(tokens), embedding(tokens))
    assert torch.equal(reads.weight, embedding.weight)


def blocks_of(layer: Packed, weight: Tensor) -> Tensor | None:
    return layer.layout.blocks(layer.packed, weight)


@torch.no_grad()
def test_a_layout_that_does_not_hold_the_rows_is_none_that_we_know():
    linear = nn.Linear(64, 300)
    layer = Packed(linear, OneDnn())
    assert blocks_of(layer, linear.weight) is not None
    assert blocks_of(layer, linear.weight.flip(0)) is None
    changed = linear.weight.clone()
    changed[-1, -1] += 1
    assert blocks_of(layer, changed) is None


# --- Which one ---


def kind_for(dtype: torch.dtype, inputs: int = 64) -> type[Layout] | None:
    layouts.own.cache_clear()
    layout = layout_for(torch.zeros(32, inputs, dtype=dtype))
    layouts.own.cache_clear()
    return None if layout is None else type(layout)


def test_float32_is_for_onednn_and_other_dtypes_are_left():
    assert kind_for(torch.float32) is OneDnn
    assert kind_for(torch.float16) is None
    assert layout_for(torch.zeros(32, 64, device="meta")) is None


@needs_bfloat16
def test_bfloat16_is_for_our_kernel_where_it_runs_and_is_the_better_one(monkeypatch):
    assert kind_for(HALF) is Own
    assert kind_for(HALF, inputs=63) is OneDnn
    with monkeypatch.context() as patch:
        patch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
        assert kind_for(HALF) is OneDnn


def test_bfloat16_is_for_onednn_without_a_compiler_and_for_nobody_without_instructions(monkeypatch):
    def cannot() -> None:
        raise CannotBuild("there is no C++ compiler", "install one")

    monkeypatch.setattr(layouts, "library", cannot)
    monkeypatch.setattr(layouts, "quick_bfloat16", lambda: True)
    assert kind_for(HALF) is OneDnn
    monkeypatch.setattr(layouts, "quick_bfloat16", lambda: False)
    assert kind_for(HALF) is None
