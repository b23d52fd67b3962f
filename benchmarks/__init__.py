"""Measures handgrad against PyTorch and scikit-learn: `python -m benchmarks --help`."""
