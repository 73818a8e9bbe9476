"""How threads wait: what the user has said stands, else they wait briefly, and torch's OpenMP is told in time."""

import os
import subprocess
import sys

import pytest

from hwruntime.threads import OURS, SPINS, as_found, wait_briefly


@pytest.mark.parametrize("told", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_has_said_stands(told, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    wait_briefly()
    assert dict(os.environ) == as_found() == before


def test_what_we_have_said_is_not_for_others(monkeypatch):
    for name in OURS:
        monkeypatch.setenv(name, "")  # so that it is put back behind the test
        monkeypatch.delenv(name)
    before = dict(os.environ)
    wait_briefly()
    assert dict(os.environ) == {**before, **OURS}
    assert as_found() == before


@pytest.mark.parametrize("command", ["hw.Engine('tiny')", "main(['bench', '--shape', 'none'])"])
def test_it_is_said_before_torch_is_imported(command):
    """There is no shape `none`: `hw bench` ends before it measures anything."""
    code = f"""
import contextlib, os, sys
import hwlang as hw
from hwlang.cli import main
import hwruntime.threads
told = hwruntime.threads.wait_briefly
def watched():
    assert "torch" not in sys.modules
    told()
hwruntime.threads.wait_briefly = watched
with contextlib.suppress(SystemExit):
    {command}
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
"""
    env = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["PASSIVE", SPINS]
