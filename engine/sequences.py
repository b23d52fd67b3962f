"""Sequences as matrices, and back. Only this module knows how sequences lie in memory.

Sequences are shown as (N, T, D) arrays everywhere. A recurrent layer works step by step, so the arrays
made there lie in memory in the order (T, N, D): what belongs to one step is one block.
"""

import math

import numpy as np

from .products import matmul

__all__ = ["as_rows", "as_sequences", "lies_by_step", "steps", "times"]


def steps(x):
    """Sequences (N, T, D) as a C-contiguous array (T, N, D); a view if they lie like that."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


def lies_by_step(x):
    """Whether sequences (N, T, ...) lie in memory in the order (T, N, ...)."""
    return x.ndim > 2 and x.strides[1] > x.strides[0]


def as_rows(x, by_step):
    """x (N, ..., D) as the rows of a matrix: a view, if `by_step` tells the order of memory."""
    rows = x.swapaxes(0, 1) if by_step else x
    return rows.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # not -1: an empty batch has none


def as_sequences(rows, shape, by_step):
    """The inverse view: rows in the shape (N, ..., D)."""
    if not by_step:
        return rows.reshape(shape)
    N, T, *rest = shape
    return rows.reshape(T, N, *rest).swapaxes(0, 1)


def times(x, w):
    """x @ w of blocks x (T, N, D) and a matrix w (D, M): one product, a fresh array (T, N, M)."""
    T, N, D = x.shape
    return matmul(x.reshape(T * N, D), w).reshape(T, N, w.shape[1])
