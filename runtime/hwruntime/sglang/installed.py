"""Whether the right SGLang is here. It is not imported for that: it takes half a minute."""

from importlib.metadata import PackageNotFoundError, version

from hwruntime.errors import DeviceError

VERSION = "0.5.23"  # batches are built by hand for it, so for no other
ENVIRONMENT = (
    f"SGLang pins a torch of its own, so it wants an environment of its own: install sglang=={VERSION} there, then "
    "hwlang with --no-deps (docs/sglang.md)"
)


def installed_version() -> str | None:
    """Of the SGLang that is here, if any."""
    try:
        return version("sglang")
    except PackageNotFoundError:
        return None


def check_installed() -> None:
    """Raises `DeviceError` where SGLang is not installed, or in another version."""
    found = installed_version()
    if found != VERSION:
        here = f"this one is {found}" if found else "none is installed here"
        raise DeviceError(f"the engine `sglang` needs SGLang {VERSION}: {here}", help=ENVIRONMENT)
