"""`python -m handgrad` is `handgrad`."""

import sys

from .cli import main

sys.exit(main())
