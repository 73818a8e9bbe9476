"""Whether this machine can build and run our own kernels for CPUs: without them, their tests are skipped."""

import pytest

from hwruntime.cpu.build import CannotBuild, library


def why_none() -> str | None:
    try:
        library()
    except CannotBuild as error:
        return str(error)
    return None


def why_no_products() -> str | None:
    return why_none() or (None if library().functions.linear_runs() else "the CPU has no AVX512-VNNI")


needs_kernels = pytest.mark.skipif(bool(why_none()), reason=str(why_none()))
needs_products = pytest.mark.skipif(bool(why_no_products()), reason=str(why_no_products()))
CPU = pytest.param("cpu", marks=needs_kernels)  # the executor, among the others
