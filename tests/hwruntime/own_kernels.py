"""Whether this machine can build and run our own kernels for CPUs: without them, their tests are skipped."""

import pytest

from hwruntime.cpu.build import CannotBuild, library
from hwruntime.devices import has_amx


def why_none() -> str | None:
    try:
        library()
    except CannotBuild as error:
        return str(error)
    return None


def why_no_products() -> str | None:
    return why_none() or (None if library().functions.multiplies_bits() else "the CPU has no AVX512-VNNI")


def why_no_bfloat16() -> str | None:
    if has_amx():
        return "the CPU has AMX, for which oneDNN is better"
    return why_none() or (None if library().functions.multiplies_bfloat16() else "the CPU has no AVX512-BF16")


needs_kernels = pytest.mark.skipif(bool(why_none()), reason=str(why_none()))
needs_products = pytest.mark.skipif(bool(why_no_products()), reason=str(why_no_products()))
needs_bfloat16 = pytest.mark.skipif(bool(why_no_bfloat16()), reason=str(why_no_bfloat16()))
CPU = pytest.param("cpu", marks=needs_kernels)  # the executor, among the others
