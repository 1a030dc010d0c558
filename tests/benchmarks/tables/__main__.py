"""``python -m tests.benchmarks.tables``."""

import sys

from tests.benchmarks.tables.run import main

if __name__ == "__main__":
    sys.exit(main())
