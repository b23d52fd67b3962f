"""handgrad: neural networks whose every gradient is written by hand, fast, in pure NumPy."""

from .compare import compare
from .engine.workers import workers
from .solver import Solver

__version__ = "0.1.0"
__all__ = ["Solver", "compare", "load", "workers"]


def __getattr__(name):
    """`load`, when first asked for: the nets would double the time of `import handgrad`."""
    if name == "load":
        from .models import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
