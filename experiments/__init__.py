"""Studies that people reported, run again: one module each, `python -m experiments.NAME [--quick]`.

A study trains several settings with several seeds through `handgrad.compare`, prints a table, and
writes its section of docs/results.md with its figure. Stopped, it goes on where it was. Data are found
by HANDGRAD_DATA.
"""
