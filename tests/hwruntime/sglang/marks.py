"""Where SGLang's own parts can be tested."""

import pytest

from hwruntime.sglang.installed import VERSION, installed_version

# The frontend of another version may be here: `hw serve` is tested with that.
needs_sglang = pytest.mark.skipif(
    installed_version() != VERSION, reason=f"SGLang {VERSION} is not installed: run `make test-sglang`"
)
