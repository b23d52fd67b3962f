"""A batch that lies in parts. Batch norm needs sums over all of them; the rest is done part by part.

A layer that accepts such a batch is written once, for arrays and for Parts:

    mean = total(feature_sums, x) / count
    centred = by_part(lambda x: x - spread(mean, x), x)
"""

import functools
import operator

import numpy as np

from .workers import run

__all__ = ["Parts", "by_part", "total"]


class Parts:
    """Arrays (N_1, ...), (N_2, ...) that are parts of one batch, in `arrays`."""

    def __init__(self, arrays):
        self.arrays = list(arrays)
        first = self.arrays[0]
        self.ndim, self.dtype = first.ndim, first.dtype
        self.shape = (sum(map(len, self.arrays)), *first.shape[1:])
        self.size = sum(a.size for a in self.arrays)

    def __len__(self):
        return self.shape[0]

    def joined(self):
        """The batch as one array."""
        return np.concatenate(self.arrays)

    def astype(self, dtype):
        """The same batch in another dtype."""
        return Parts(a.astype(dtype) for a in self.arrays)


def by_part(function, *xs):
    """function(*xs); for Parts, the Parts of its results, spread over the workers."""
    return Parts(_results(function, xs)) if isinstance(xs[0], Parts) else function(*xs)


def total(function, *xs):
    """function(*xs); for Parts, the sum of its results over the parts, in their order."""
    if not isinstance(xs[0], Parts):
        return function(*xs)
    return functools.reduce(operator.add, _results(function, xs))


def _results(function, xs):
    """[function of the first part of each, of the second part of each, ...]."""
    groups = list(zip(*(x.arrays for x in xs), strict=True))
    return run(lambda group: function(*group), groups)
