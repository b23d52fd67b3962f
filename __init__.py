"""handgrad: neural networks whose every gradient is written by hand, fast, in pure NumPy."""

from .compare import compare
from .engine.workers import workers
from .solver import Solver

__version__ = "0.1.0"
__all__ = ["Solver", "compare", "workers"]
