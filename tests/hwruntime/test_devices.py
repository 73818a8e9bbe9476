"""Devices and dtypes by name."""

import pytest

from hwruntime.errors import DeviceError
from hwruntime.models import Model
from tests.hwruntime.models_for_tests import QWEN, configure


@pytest.mark.parametrize(
    ("asked", "given"),
    [("bf16", "bfloat16"), ("bfloat16", "bfloat16"), ("fp16", "float16"), ("float16", "float16"), ("fp32", "float32")],
)
def test_dtypes(asked, given):
    model = Model.load(str(QWEN), device="cpu", dtype=asked)
    assert model.dtype == given
    assert f"dtype: {given}" in model.why


@pytest.mark.parametrize(
    ("stored", "quick", "computed"),
    [
        ("bfloat16", False, "float32"),
        ("bfloat16", True, "bfloat16"),
        ("float16", True, "bfloat16"),
        ("float32", True, "float32"),
        (None, True, "float32"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_has_it_for_what_is_stored_in_16_bits(
    stored, quick, computed, folder, monkeypatch
):
    monkeypatch.setattr("hwruntime.devices.quick_bfloat16", lambda: quick)
    configure(folder, dtype=stored)
    assert Model.load(str(folder), device="cpu").dtype == computed


def test_an_unknown_dtype():
    with pytest.raises(DeviceError, match="there is no dtype `int3`") as failure:
        Model.load(str(QWEN), dtype="int3")
    assert "bfloat16" in str(failure.value.help)


@pytest.mark.parametrize("device", ["toaster", "cuda:77", "cpu:1", "xpu", "meta"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(DeviceError, match=device) as failure:
        Model.load(str(QWEN), device=device)
    assert failure.value.help


def test_an_unknown_attention_executor():
    with pytest.raises(DeviceError, match="there is no attention executor `magic`"):
        Model.load(str(QWEN), attention="magic")
