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


def test_auto_is_float32_on_a_cpu(folder):
    configure(folder, dtype="bfloat16")
    assert Model.load(str(folder), device="cpu").dtype == "float32"


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
