"""Build ahead of time the FlashInfer kernels that attention on a GPU asks for; needs nvcc, but no GPU.

    python benchmarks/kernels.py [--arch 9.0a] [--head-dim 64 128 256] [--dtype bfloat16 float16] [--kv-dtype same fp8]

FlashInfer compiles a kernel when it is first asked for, which takes minutes. This asks for the same ones, by
FlashInfer's own generators, and leaves them in its cache ($FLASHINFER_WORKSPACE_BASE or the home folder). Prints name,
seconds and MB of each, and exits 1 with the compiler's error where one does not compile. By default it takes five
minutes on two cores, with `--all` an hour. CUDA_HOME says where nvcc is, MAX_JOBS how many compilers run at once.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from flashinfer.jit.core import JitSpec

HEAD_DIMS = (64, 128, 256)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
KV_DTYPES = {"same": None, "fp8": torch.float8_e4m3fn}
VARIANTS = ("plain", "window", "softcap", "window+softcap", "rope", "rope+window")


class Prefill(NamedTuple):
    """A paged batch prefill module: what `BatchPrefillWithPagedKVCacheWrapper(backend="fa2")` picks it by."""

    dtype: str = "bfloat16"
    kv_dtype: str = "same"
    head_dim: int = 128
    variant: str = "plain"

    @property
    def name(self) -> str:
        kv = "" if self.kv_dtype == "same" else f" kv {self.kv_dtype}"
        return f"prefill {self.dtype}{kv} head dim {self.head_dim} {self.variant}"

    def spec(self) -> "JitSpec":
        from flashinfer.jit.attention.modules import _gen_batch_prefill_primary_module
        from flashinfer.utils import PosEncodingMode

        dtype, features = DTYPES[self.dtype], self.variant.split("+")
        positions = PosEncodingMode.ROPE_LLAMA if "rope" in features else PosEncodingMode.NONE
        return _gen_batch_prefill_primary_module(
            "fa2",
            dtype,
            KV_DTYPES[self.kv_dtype] or dtype,
            dtype,  # of the output
            torch.int32,  # of the plan
            self.head_dim,
            self.head_dim,  # of V
            positions.value,
            "window" in features,
            "softcap" in features,
            False,  # QK^T summed in float16
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arch", default="9.0a", help="compute capabilities, as FLASHINFER_CUDA_ARCH_LIST has them")
    options.add_argument("--head-dim", type=int, nargs="+", default=[128], choices=HEAD_DIMS)
    options.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=DTYPES)
    options.add_argument("--kv-dtype", nargs="+", default=["same"], choices=KV_DTYPES)
    options.add_argument("--variant", nargs="+", default=["plain"], choices=VARIANTS)
    options.add_argument("--all", action="store_true", help="all types and head dims, and one of each variant")
    chosen = options.parse_args()
    choices = itertools.product(chosen.dtype, chosen.kv_dtype, chosen.head_dim, chosen.variant)
    prefills = every() if chosen.all else [Prefill(*choice) for choice in choices]
    prepare(chosen.arch)
    built = [build(name, make) for name, make in kernels(prefills).items()]
    sys.exit(0 if all(built) else 1)


def every() -> list[Prefill]:
    """All types and head dims with plain attention, and a module of each other variant."""
    plain = [Prefill(*choice) for choice in itertools.product(DTYPES, KV_DTYPES, HEAD_DIMS)]
    return plain + [Prefill(variant=variant) for variant in VARIANTS if variant != "plain"]


def prepare(arch: str) -> None:
    """Set what FlashInfer reads from the environment: the architectures, and where to find a libcuda to link with.

    Where there is no driver, an empty library of its name does: none of these kernels calls it, and nothing is loaded.
    """
    os.environ["FLASHINFER_CUDA_ARCH_LIST"] = arch
    from flashinfer.jit import cpp_ext, env

    flags = os.environ.get("FLASHINFER_EXTRA_LDFLAGS", "")
    lib = Path(cpp_ext.get_cuda_path()) / "lib64"
    compiler = os.environ.get("CXX", "c++")
    probe = [compiler, "-shared", "-o", os.devnull, f"-L{lib}", f"-L{lib / 'stubs'}", *flags.split(), "-lcuda"]
    if subprocess.run(probe, capture_output=True).returncode == 0:
        return
    stub = env.FLASHINFER_CACHE_DIR / "stubs" / "libcuda.so"
    stub.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(stub)], check=True)
    os.environ["FLASHINFER_EXTRA_LDFLAGS"] = f"{flags} -L{stub.parent}".strip()


def kernels(prefills: list[Prefill]) -> dict[str, Callable[[], "JitSpec"]]:
    """Names and makers of the modules to build: those `prefills`, and what every model needs."""
    from flashinfer.jit.cascade import gen_cascade_module
    from flashinfer.jit.page import gen_page_module
    from flashinfer.jit.rope import gen_rope_module

    shared = {"cascade": gen_cascade_module, "page": gen_page_module, "rope": gen_rope_module}
    return {**shared, **{prefill.name: prefill.spec for prefill in prefills}}


def build(name: str, make: Callable[[], "JitSpec"]) -> bool:
    """Compile and link a module without loading it; prints how that went, and says whether it did."""
    started = time.monotonic()
    try:
        spec = make()
        spec.build(need_lock=True)
    except RuntimeError as failure:
        print(f"{name}: failed after {time.monotonic() - started:.0f} s\n{failure}", file=sys.stderr, flush=True)
        return False
    library = spec.get_library_path()
    print(f"{name}: {time.monotonic() - started:.0f} s, {library.stat().st_size / 1e6:.1f} MB", flush=True)
    return True


if __name__ == "__main__":
    main()
