"""handgrad: neural networks whose every gradient is written by hand, fast, in pure NumPy."""

__version__ = "0.1.0"
