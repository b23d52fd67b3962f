"""The course's im2col: windows of images as columns, on handgrad's `unfold` and `fold`."""

import numpy as np

from ..engine import images

__all__ = ["col2im_indices", "get_im2col_indices", "im2col_indices"]


def get_im2col_indices(x_shape, field_height, field_width, padding=1, stride=1):
    """Indices (k, i, j), so that x_padded[:, k, i, j] is (N, C * HH * WW, OH * OW)."""
    _, C, H, W = x_shape
    size = (field_height, field_width)
    indices = np.indices((C, *size, *_positions((H, W), size, padding, stride)))
    k, ii, jj, row, column = indices.reshape(5, C * field_height * field_width, -1)
    return k[:, :1], ii + stride * row, jj + stride * column


def im2col_indices(x, field_height, field_width, padding=1, stride=1):
    """Images (N, C, H, W) as columns (C * HH * WW, OH * OW * N), a window each."""
    x, size = np.asarray(x), (field_height, field_width)
    N, C, *extent = x.shape
    OH, OW = _positions(extent, size, padding, stride)
    windows = images.unfold(x, size, (stride, stride), (padding, padding))
    entries = windows.reshape(OH, *size, C, OW, N).transpose(3, 1, 2, 0, 4, 5)
    return entries.reshape(C * field_height * field_width, OH * OW * N)


def col2im_indices(cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
    """The adjoint of `im2col_indices`: each pixel (N, C, H, W) gets the sum of its copies."""
    size = (field_height, field_width)
    N, C, *extent = x_shape
    OH, OW = _positions(extent, size, padding, stride)
    entries = cols.reshape(C, *size, OH, OW, N).transpose(3, 1, 2, 0, 4, 5)
    windows = entries.reshape(OH, field_height * field_width * C, OW * N)
    return images.fold(windows, x_shape, size, (stride, stride), (padding, padding), cols.dtype)


def _positions(extent, size, padding, stride):
    return [images.output_size(*pair, stride, padding) for pair in zip(extent, size, strict=True)]
