"""`python -m hwlang.cli` is `hw`."""

import sys

from hwlang.cli import main

sys.exit(main())
