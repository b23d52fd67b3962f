"""handgrad against its peers, in turn, on the same data: `python -m benchmarks --help`."""
