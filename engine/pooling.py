"""Windows reduced first along their columns, and what is left along their rows.

In memory whole rows of images are neighbours, so the first and larger half of the work runs over long
stretches. Both steps are arithmetic on views: entry k of every window at once.
"""

import numpy as np

from .arrays import bits, times_mask
from .images import pad_images, window_entries, without_frame

__all__ = ["largest", "largest_backward", "sums", "sums_backward"]


def largest(x, window, stride, pad):
    """The largest entry of each window, and what `largest_backward` needs."""
    framed = pad_images(x, pad, -np.inf)
    columns, along_columns = _largest_along(framed, 2, window[0], stride[0])  # (N, C, OH, W)
    out, along_rows = _largest_along(columns, 3, window[1], stride[1])  # (N, C, OH, OW)
    return out, (along_columns, along_rows, x.shape, pad)


def largest_backward(dout, cache):
    """dx: each dout goes to the largest entry; of equal ones to the leftmost, then the uppermost."""
    along_columns, along_rows, x_shape, pad = cache
    dcolumns = _largest_along_backward(dout, along_rows)
    return without_frame(_largest_along_backward(dcolumns, along_columns), x_shape, pad)


def _largest_along(x, axis, size, stride):
    """The largest entries, and masks of where each entry but the last is one: a byte for a number."""
    entries = list(window_entries(x, axis, size, stride))
    out = entries[0].copy(order="K") if size == 1 else entries[0]
    for entry in entries[1:]:
        larger = np.maximum if x.dtype.kind != "c" else _larger_by_real_part
        out = larger(out, entry)
    masks = [entry == out for entry in entries[:-1]]
    return out, (masks, x.shape, axis, size, stride)


def _larger_by_real_part(a, b):
    return np.where(b.real > a.real, b, a)


def _largest_along_backward(dout, cache):
    """The first entry that is the largest takes dout and leaves nothing; the last takes the rest."""
    masks, x_shape, axis, size, stride = cache
    tiled = stride == size and x_shape[axis] % size == 0  # each entry is in one window
    dx = (np.empty_like if tiled else np.zeros_like)(dout, shape=x_shape)
    *dentries, last = window_entries(dx, axis, size, stride)
    rest = bits(dout)
    for mask, dentry in zip(masks, dentries, strict=True):
        share = times_mask(rest, mask)
        _put(dentry, share, overlap=stride < size)
        rest = np.subtract(rest, share, out=share)
    _put(last, rest, overlap=stride < size)
    return dx


def _put(dentry, share, overlap):
    """Write the share of dout, given by its bits, or add it where windows overlap."""
    if overlap:
        dentry += share.view(dentry.dtype)
    else:
        dentry[...] = share.view(dentry.dtype)


def sums(x, window, stride, pad):
    """The sum of each window, and what `sums_backward` needs. A frame of padding counts as zeros."""
    framed = pad_images(x, pad)
    columns = sum(window_entries(framed, 2, window[0], stride[0]))  # (N, C, OH, W)
    out = sum(window_entries(columns, 3, window[1], stride[1]))  # (N, C, OH, OW)
    return out, (framed.shape, columns.shape, x.shape, window, stride, pad)


def sums_backward(dout, cache):
    """dx: each entry of a window gets its dout."""
    framed_shape, columns_shape, x_shape, window, stride, pad = cache
    dcolumns = _sum_along_backward(dout, columns_shape, 3, window[1], stride[1])
    dframed = _sum_along_backward(dcolumns, framed_shape, 2, window[0], stride[0])
    return without_frame(dframed, x_shape, pad)


def _sum_along_backward(dout, x_shape, axis, size, stride):
    dx = np.zeros_like(dout, shape=x_shape)
    for dentry in window_entries(dx, axis, size, stride):
        dentry += dout
    return dx
