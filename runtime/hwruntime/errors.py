"""The errors that a user of the runtime can meet.

HwError
 ├─ ModelError     a model cannot be loaded, or must not be run here
 ├─ DeviceError    a device, dtype or attention executor that is not to be had
 ├─ InputError     inputs that do not fit the program
 ├─ RunError       a run that cannot start or go on (context or cache too small, ...)
 └─ ServerError    a server that cannot be reached, refuses a request, or answers something else

Every message stands alone and says what to do; `span` is the place in the program where there is one.
"""

from hwruntime.program import Span


class HwError(Exception):
    """Base of all errors that the runtime raises for its users. `code` as in `hw explain`."""

    code = "HW500"

    def __init__(self, message: str, help: str | None = None, span: Span | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.span = span


class ModelError(HwError):
    code = "HW510"


class DeviceError(HwError):
    code = "HW520"


class InputError(HwError):
    code = "HW530"


class RunError(HwError):
    code = "HW540"


class ServerError(HwError):
    code = "HW560"


class RequestRefused(ServerError):
    """The server says that the request itself is wrong."""


class PoolFull(RunError):
    """There are not enough free pages in the cache."""
