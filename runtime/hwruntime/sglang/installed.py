"""Whether the right SGLang is here. It is not imported for that: it takes half a minute."""

from importlib.metadata import PackageNotFoundError, version

from hwruntime.errors import DeviceError

VERSION = "0.5.23"  # batches are built by hand for it, so for no other
ENVIRONMENT = (
    f"SGLang pins a torch of its own, so it wants an environment of its own: install sglang=={VERSION} there, then "
    "hwlang with --no-deps (docs/sglang.md)"
)


def check_installed() -> None:
    """Raises `DeviceError` where SGLang is not installed, or in another version."""
    try:
        found = version("sglang")
    except PackageNotFoundError:
        raise DeviceError("the engine `sglang` needs SGLang, which is not installed here", help=ENVIRONMENT) from None
    if found != VERSION:
        raise DeviceError(f"the engine `sglang` works with SGLang {VERSION}, this one is {found}", help=ENVIRONMENT)
