"""Without the right SGLang there is an error that says how to get it."""

from importlib.metadata import PackageNotFoundError

import pytest

from hwruntime.errors import DeviceError
from hwruntime.sglang import installed


def test_sglang_is_missing(monkeypatch):
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", version)
    with pytest.raises(DeviceError, match=r"needs SGLang 0\.5\.23: none is installed here") as caught:
        installed.check_installed()
    assert "sglang==0.5.23" in caught.value.help


def test_another_sglang(monkeypatch):
    monkeypatch.setattr(installed, "version", lambda name: "0.4.1")
    with pytest.raises(DeviceError, match=r"needs SGLang 0\.5\.23: this one is 0\.4\.1"):
        installed.check_installed()


def test_the_right_one(monkeypatch):
    monkeypatch.setattr(installed, "version", lambda name: installed.VERSION)
    installed.check_installed()
