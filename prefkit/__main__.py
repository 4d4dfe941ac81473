"""`python -m prefkit` is `prefkit`."""

import sys

from prefkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
