"""`python -m handgrad` is `handgrad`."""

import sys

from .cli import main

if __name__ == "__main__":  # not where mpi4py.futures imports it in a worker
    sys.exit(main())
