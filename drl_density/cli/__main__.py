"""``python -m drl_density.cli``."""

import sys

from drl_density.cli import main

if __name__ == "__main__":
    sys.exit(main())
