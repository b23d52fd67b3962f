"""digits.mat: the grey digits of the course's first exercise on networks."""

import numpy as np

from .download import find
from .drawn_digits import DIGITS
from .matlab import read_mat
from .transforms import standardizer

__all__ = ["load_digits_mat"]

PARTS = (("train", ""), ("val", "valid"), ("test", "test"))


def load_digits_mat(data_dir=None):
    """digits.mat: digits (N, 1, 16, 16) as bytes, 5000 to train, 5000 to validate, 1000 to test.

    data_dir: the folder with digits.mat; None means the default folder.
    In the file the labels are 1 to 10, where 10 stands for the digit 0, and the pixels lie in column
    order. Here each label is the digit itself, 0 to 9, and the images are upright.
    Raises FileNotFoundError if the file is absent, ValueError if it is damaged.
    """
    path = find(data_dir, "digits.mat", "digits.mat")
    content = read_mat(path, [letter + ending for _, ending in PARTS for letter in "Xy"])
    data = {}
    for part, ending in PARTS:
        X, y = content.get(f"X{ending}"), content.get(f"y{ending}")
        came = [getattr(a, "shape", None) for a in (X, y)]
        if None in came or not len(X) or came != [(len(X), 256), (len(X), 1)]:
            raise ValueError(
                f"{path}: X{ending} and y{ending} have shapes {came}, expected (N, 256) and (N, 1)."
            )
        X = _bytes(X, 0, 255, f"{path}: X{ending} has pixels")
        y = _bytes(y, 1, 10, f"{path}: y{ending} has labels")
        data[f"X_{part}"] = X.reshape(-1, 1, 16, 16).transpose(0, 1, 3, 2).copy()
        data[f"y_{part}"] = y.ravel().astype(np.int64) % 10
    return data | {"transform": standardizer(data["X_train"]), "class_names": DIGITS}


def _bytes(values, low, high, what):
    """The values as bytes, if they are whole numbers from low to high."""
    if not (low <= values.min() and values.max() <= high):
        raise ValueError(f"{what} {values.min()} to {values.max()}, expected {low} to {high}.")
    whole = values.astype(np.uint8)
    if not np.array_equal(whole, values):
        raise ValueError(f"{what} that are not whole numbers, expected {low} to {high}.")
    return whole
