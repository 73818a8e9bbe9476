"""Where a model runs, and in which numbers: `auto`, or what the user asked for."""

import ctypes
import os
from pathlib import Path

import torch
from torch import Tensor

from hwruntime.errors import DeviceError

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

HALVES = (torch.bfloat16, torch.float16)
KV_DTYPES = {"auto": None, "fp8": torch.float8_e4m3fn}


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is the best one here. Raises `DeviceError` for one that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"there is no device `{name}`", help="use auto, cpu, cuda, cuda:1, mps, ...") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        here = ", ".join(kind for kind, count in counts.items() if count)
        raise DeviceError(f"device `{name}` is not to be had on this machine", help=f"it has: {here}")
    return device


def find_dtype(name: str, device: torch.device, stored: torch.dtype | None) -> torch.dtype | None:
    """The dtype of that name, or None for the checkpoint's (`stored`).

    `auto` is the checkpoint's, but on a CPU float32: unless it is stored in 16 bits and the CPU computes in bfloat16
    itself, which others imitate, and are slower for it. Raises `DeviceError` for a name that is none.
    """
    if name == "auto" and device.type == "cpu":
        return torch.bfloat16 if stored in HALVES and quick_bfloat16() else torch.float32
    if name == "auto":
        return None
    if name not in DTYPES:
        raise DeviceError(f"there is no dtype `{name}`", help=f"one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def quick_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16: AVX512-BF16 or AMX."""
    return torch.cpu._is_avx512_bf16_supported() or has_amx()


def has_amx() -> bool:
    """Whether the CPU multiplies matrices by itself: what has many rows is best left to oneDNN, then."""
    return torch.cpu._is_amx_tile_supported()


def give_back() -> None:
    """Give memory that has been freed back to the system. glibc keeps what lies between pieces that are in use: some
    hundred megabytes where weights are laid out anew. Others do so by themselves, or cannot be told."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def cpu_info() -> dict[str, str]:
    """What Linux says of a CPU: `vendor_id`, `model name`, `flags`, ... Nothing on other systems."""
    told = Path("/proc/cpuinfo")
    fields = [line.split(":", 1) for line in told.read_text().splitlines() if ":" in line] if told.exists() else []
    return {name.strip(): value.strip() for name, value in fields}


def find_kv_dtype(name: str) -> torch.dtype | None:
    """The dtype of the cache; None, which is what `auto` means, for what the model computes in.

    Raises `DeviceError` for a name that is none.
    """
    if name not in KV_DTYPES:
        raise DeviceError(f"there is no kv-dtype `{name}`", help=f"one of {', '.join(KV_DTYPES)}")
    return KV_DTYPES[name]


def upload(host: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the host goes on while a GPU still takes it."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
