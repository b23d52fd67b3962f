"""A batch that lies in parts. Batch norm needs sums over all of them; the rest is done part by part.

A layer that accepts such a batch is written once, for arrays and for Parts:

    mean = total(feature_sums, x) / count
    centred = by_part(lambda x: x - spread(mean, x), x)
"""

import functools
import math
import operator

import numpy as np

from .workers import run

__all__ = ["Parts", "by_part", "joined", "total"]


class Parts:
    """Arrays (N_1, ...), (N_2, ...) that are parts of one batch, in `arrays`.

    share: the object that knows the parts of the other processes (ranks.py); None if there are none.
    The shape is that of the whole batch.
    """

    def __init__(self, arrays, share=None):
        self.arrays, self.share = list(arrays), share
        first = self.arrays[0]
        self.ndim, self.dtype = first.ndim, first.dtype
        N = sum(map(len, self.arrays)) if share is None else share.N
        self.shape = (N, *first.shape[1:])
        self.size = math.prod(self.shape)

    def __len__(self):
        return self.shape[0]

    def astype(self, dtype):
        """The same batch in another dtype."""
        return Parts((a.astype(dtype) for a in self.arrays), self.share)


def joined(x):
    """An array as it is; the arrays of Parts as one."""
    return np.concatenate(x.arrays) if isinstance(x, Parts) else x


def by_part(function, *xs):
    """function(*xs); for Parts, the Parts of its results, spread over the workers."""
    if not isinstance(xs[0], Parts):
        return function(*xs)
    return Parts(_results(function, xs), xs[0].share)


def total(function, *xs):
    """function(*xs); for Parts, the sum of its results over the parts, in their order. Where processes
    share the batch, it is the sum over all parts of all of them.
    """
    if not isinstance(xs[0], Parts):
        return function(*xs)
    results = _results(function, xs)
    return (
        functools.reduce(operator.add, results) if xs[0].share is None else xs[0].share.total(results)
    )


def _results(function, xs):
    """[function of the first part of each, of the second part of each, ...]."""
    groups = list(zip(*(x.arrays for x in xs), strict=True))
    return run(lambda group: function(*group), groups)
