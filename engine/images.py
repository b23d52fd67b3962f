"""Windows of images as matrices, and back. Only this module knows how images lie in memory.

Images are shown as (N, C, H, W) arrays everywhere. The arrays made here lie in memory in the order
(H, C, W, N). The batch is innermost, so every copy runs over whole rows of numbers, whatever the size
of the window.

A convolution needs, for each output pixel, the window of the image under the filter. Plain im2col
copies every pixel once for each of the HH * WW filter entries. Here the copy runs along the filter's
*row* only, WW times. The windows of one output row are then HH neighbouring rows: one block of memory,
which overlaps with the block of the next output row. So the matrix of windows

    windows (OH, HH * WW * C, OW * N)

is a view with overlapping blocks, and `filters (F, HH * WW * C) @ windows` is the convolution.
"""

import math

import numpy as np

from .products import matmul


def output_size(size, window, stride, pad):
    """The number of windows along one axis. Windows that would stick out are dropped."""
    return (size + 2 * pad - window) // stride + 1


def as_rows(x):
    """Images (N, C, H, W) as a C-contiguous array (H, C, W, N); a view if they lie like that."""
    return np.ascontiguousarray(x.transpose(2, 1, 3, 0))


def as_images(rows, shape):
    """The inverse view: rows in memory order (H, C, W, N), shown as images of shape (N, C, H, W)."""
    N, C, H, W = shape
    return rows.reshape(H, C, W, N).transpose(3, 1, 0, 2)


def flatten(x):
    """Examples (N, d_1, ..., d_k) as rows (N, D): a view, or a copy that runs along memory."""
    N, D = len(x), math.prod(x.shape[1:])  # not reshape(N, -1): NumPy refuses it for N = 0
    if _batch_is_innermost(x):
        return _batch_last(x).reshape(D, N).T
    return x.reshape(N, D)


def unflatten(dout, w, x):
    """dout @ w.T in the shape (N, d_1, ..., d_k) and the memory order of x."""
    if _batch_is_innermost(x):
        return _batch_first(matmul(w, dout.T).reshape(*x.shape[1:], len(x)))
    return matmul(dout, w.T).reshape(x.shape)


def _batch_last(x):
    return x.transpose(*range(1, x.ndim), 0)


def _batch_first(x):
    return x.transpose(-1, *range(x.ndim - 1))


def _batch_is_innermost(x):
    return x.ndim > 2 and len(x) > 1 and x.strides[0] == x.itemsize


def pad_images(x, pad, value=0):
    """A frame of `value`, pad = (rows, columns) wide, round images (N, C, H, W); x if no pad."""
    if pad == (0, 0):
        return x
    N, C, H, W = x.shape
    framed = np.empty((H + 2 * pad[0], C, W + 2 * pad[1], N), x.dtype).transpose(3, 1, 0, 2)
    framed.fill(value)
    without_frame(framed, x.shape, pad)[...] = x
    return framed


def without_frame(framed, x_shape, pad):
    """The images (N, C, H, W) within a frame: a view."""
    (ph, pw), (_, _, H, W) = pad, x_shape
    return framed[:, :, ph : ph + H, pw : pw + W]


def filters_as_matrix(w):
    """Filters (F, C, HH, WW) as rows (F, HH * WW * C), in the order of the windows' entries."""
    return w.transpose(0, 2, 3, 1).reshape(len(w), -1)


def matrix_as_filters(rows, shape):
    """The inverse: rows (F, HH * WW * C) as filters of the given shape (F, C, HH, WW)."""
    F, C, HH, WW = shape
    return np.ascontiguousarray(rows.reshape(F, HH, WW, C).transpose(0, 3, 1, 2))


def filters_upside_down(w):
    """Filters (F, C, HH, WW) for the way back: (WW * C, HH * F), their rows in reverse."""
    F, C, HH, WW = w.shape
    return w[:, :, ::-1].transpose(3, 1, 2, 0).reshape(WW * C, HH * F)


def unfold(x, window, stride, pad):
    """Images (N, C, H, W) to windows (OH, HH * WW * C, OW * N), as described at the top of this file.

    window, stride, pad: pairs (along H, along W). The result is read-only, because its blocks overlap.
    """
    (HH, WW), (sh, sw) = window, stride
    rows = as_rows(pad_images(x, pad))  # (H, C, W, N)
    H, C, W, N = rows.shape
    OW = output_size(W, WW, sw, 0)
    cols = _laid_apart((H, WW * C, OW * N), x.dtype)
    entries = cols.reshape(H, WW, C, OW, N)  # a view
    for j in range(WW):
        entries[:, j] = rows[:, :, j : j + sw * (OW - 1) + 1 : sw]
    return _stacked(cols, HH, sh)


def stacks(drows, HH, frame):
    """Rows of gradients (OH, F, OW * N) as windows of HH rows, which may begin `frame` rows before the
    first row and end as many after the last.

    Yields (windows, entries, array): two slices, and the array (windows, entries, OW * N). First come
    all windows that lie within, as a read-only view, since its blocks overlap. Then come those at the
    edges, one by one, without the entries that would be zeros.
    """
    OH, F, M = drows.shape
    rows = _laid_apart(drows.shape, drows.dtype)
    rows[...] = drows
    within = range(frame, frame + OH - HH + 1)
    if within:
        yield slice(within.start, within.stop), slice(None), _stacked(rows, HH, 1)
    flat = rows.reshape(1, OH * F, M)  # a view
    for h in range(OH + 2 * frame - HH + 1):
        if h not in within:
            top = h - frame
            first, last = max(0, top), min(OH, top + HH)
            entries = slice((first - top) * F, (last - top) * F)
            yield slice(h, h + 1), entries, flat[:, first * F : last * F]


def _laid_apart(shape, dtype):
    """An empty array. Rows of a round length get a gap after them: without it they would share a few
    places of the processor's cache.
    """
    *others, M = shape
    return np.empty((*others, M + (8 if M % 64 == 0 else 0)), dtype)[..., :M]


def _stacked(rows, HH, sh):
    """Windows of HH neighbours of the rows (H, K, M), one on the other: (OH, HH * K, M), a view."""
    H, K, M = rows.shape
    row, entry, item = rows.strides
    shape = (output_size(H, HH, sh, 0), HH * K, M)
    return _seen_as(shape, (sh * row, entry, item), rows)


def fold(dwindows, x_shape, window, stride, pad, dtype):
    """The adjoint of `unfold`: each pixel gets the sum of its copies' gradients.

    dwindows: the windows' gradients, (HH * WW * C, OW * N) for each of the OH output rows, as an array
    or an iterator. (A row that is made just before it is folded is still in the cache.)
    Returns dx (N, C, H, W) in the given dtype, without the frame.
    """
    (HH, WW), (sh, sw), (ph, pw) = window, stride, pad
    N, C, H, W = x_shape
    OW = output_size(W, WW, sw, pw)
    dcols = np.zeros((H + 2 * ph, WW, C, OW, N), dtype)
    for i, row in enumerate(dwindows):
        dcols[sh * i : sh * i + HH] += row.reshape(HH, WW, C, OW, N)
    drows = np.zeros((H, C, W + 2 * pw, N), dtype)
    for j in range(WW):
        drows[:, :, j : j + sw * (OW - 1) + 1 : sw] += dcols[ph : ph + H, j]
    return _cropped(drows, pw, W)


def room_for_columns(x_shape, WW, pw, dtype):
    """An array (H, WW * C, OW * N) for `fold_columns`, to be filled. Each of its rows is followed by
    zeros, as many as the filter reaches beyond the last column.
    """
    N, C, H, W = x_shape
    M = output_size(W, WW, 1, pw) * N
    columns = np.empty((H, WW * C, (W + 2 * pw) * N), dtype)
    columns[..., M:] = 0
    return columns[..., :M]


def fold_columns(dcols, x_shape, WW, pw):
    """The second half of `fold` at stride 1, when the rows have been summed: (H, WW * C, OW * N) to dx.

    Pixel w gets column w - j of entry j. In the memory of `room_for_columns` missing columns are zero
    and these entries lie a constant stride apart, so one strided sum adds them all.
    """
    N, C, H, W = x_shape
    row, entry, item = dcols.strides
    shape = (H, WW, C * (W + 2 * pw) * N)
    drows = _seen_as(shape, (row, C * entry - N * item, item), dcols).sum(axis=1)
    return _cropped(drows.reshape(H, C, W + 2 * pw, N), pw, W)


def _cropped(drows, pw, W):
    """Rows (H, C, W + 2 * pw, N) as images, without the frame."""
    return drows[:, :, pw : pw + W].transpose(3, 1, 0, 2)


def _seen_as(shape, strides, a):
    """A read-only view of the memory of `a`, gaps included, with other strides; entries may coincide.

    Unlike NumPy's as_strided it cannot leave that memory.
    """
    view = np.ndarray(shape, a.dtype, a.base, strides=strides)
    view.flags.writeable = False
    return view


def window_entries(x, axis, size, stride):
    """Views of x, one for each entry of the windows along one axis: entry k of every window at once.

    Pooling is arithmetic on these, first along W, then along H.
    """
    count = output_size(x.shape[axis], size, stride, 0)
    at = [slice(None)] * x.ndim
    for k in range(size):
        at[axis] = slice(k, k + stride * (count - 1) + 1, stride)
        yield x[tuple(at)]
