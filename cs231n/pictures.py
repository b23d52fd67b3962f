"""The course's grids of images, (N, H, W, C) each."""

import math

import numpy as np

from ..vis_utils import visualize_grid

__all__ = ["vis_grid", "vis_nn", "visualize_grid"]


def vis_grid(Xs):
    """Images (N, H, W, C) in a square, all stretched together to the range 0 to 1."""
    side = math.ceil(math.sqrt(len(Xs)))
    cells = np.full((side * side, *Xs.shape[1:]), Xs.min())
    cells[: len(Xs)] = Xs
    return _side_by_side(cells.reshape(side, side, *Xs.shape[1:]))


def vis_nn(rows):
    """A list of rows of images (H, W, C) as one picture, stretched to the range 0 to 1."""
    return _side_by_side(np.array(rows))


def _side_by_side(cells):
    """Cells (rows, columns, H, W, C) as one image, with a line after each."""
    rows, columns, H, W, C = cells.shape
    low, high = cells.min(), cells.max()
    framed = np.full((rows, columns, H + 1, W + 1, C), low, dtype=float)
    framed[:, :, :H, :W] = cells
    image = framed.transpose(0, 2, 1, 3, 4).reshape(rows * (H + 1), columns * (W + 1), C)
    return (image - low) / (high - low if high > low else 1)
