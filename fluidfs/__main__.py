"""`python -m fluidfs` is the command line."""

import sys

from fluidfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
