"""`python -m prefkit.cli`: the command line of this interpreter's prefkit."""

import sys

from prefkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
