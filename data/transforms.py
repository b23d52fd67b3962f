"""From images and labels to the numbers that a net takes."""

import functools
import math

import numpy as np

from ..engine.errors import check_range

__all__ = [
    "column_standardizer",
    "mean_image",
    "normalize_images",
    "one_hot",
    "set_aside",
    "standardize",
    "standardizer",
    "whitening",
]


def one_hot(y, num_classes, dtype=np.float32):
    """Labels y (N,) as rows (N, num_classes) with a 1 at the label and 0 elsewhere, in `dtype`.

    Raises ValueError unless the labels are integers from 0 to num_classes - 1.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise ValueError(f"one_hot: y has shape {y.shape}, expected labels (N,).")
    if y.dtype.kind not in "iu" or (y.size and not (0 <= y.min() and y.max() < num_classes)):
        raise ValueError(
            f"one_hot: y has dtype {y.dtype} and values {set(y.ravel()[:5].tolist())} ..., "
            f"expected integers from 0 to {num_classes - 1}."
        )
    rows = np.zeros((len(y), num_classes), dtype)
    rows[np.arange(len(y)), y] = 1
    return rows


def mean_image(X, dtype=np.float32):
    """The mean over the examples of X (N, ...), with the shape of one example.

    The sum is taken in float64 without a float copy of X, so X may be gigabytes of bytes. The result is
    of `dtype`.
    """
    return (np.sum(X, axis=0, dtype=np.float64) / max(1, len(X))).astype(dtype)


def standardize(X, mean=0.0, std=1.0, dtype=np.float32):
    """(X - mean) / std as floats; X itself stays as it is.

    mean, std: numbers, or arrays that broadcast against X.  With functools.partial it becomes a
    `transform` for the Solver.
    """
    out = np.array(X, dtype)
    out -= np.asarray(mean, dtype)
    out /= np.asarray(std, dtype)
    return out


def standardizer(X):
    """A `transform` that subtracts the mean of all pixels of X and divides by their deviation, or by 1
    if they are all equal.

    X: images as bytes. They are counted value by value, so no float copy of X is made.
    """
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in np.array_split(X, 100))
    mean = counts @ np.arange(256) / X.size
    std = math.sqrt(counts @ (np.arange(256) - mean) ** 2 / X.size)
    return functools.partial(standardize, mean=float(mean), std=float(std) or 1.0)


def column_standardizer(X):
    """A `transform` that subtracts from each column of rows X (N, D) its mean over X and divides by its
    deviation. Where all values of a column are equal, it is 0.
    """
    mean, std = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    mean, std = mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)
    return functools.partial(standardize, mean=mean, std=std)


def set_aside(data, num_validation, source):
    """Move the last training examples of `data` into its validation set and add the transform.

    The transform is made from the examples that stay. With num_validation = 0 there is no
    validation set.  source: the name of the file or folder for the error message.
    """
    N = len(data["X_train"]) - num_validation
    if num_validation < 0 or N < 1:
        raise ValueError(
            f"{source}: num_validation = {num_validation}, expected 0 to {len(data['X_train']) - 1}."
        )
    if num_validation:
        data["X_val"], data["y_val"] = data["X_train"][N:], data["y_train"][N:]
        data["X_train"], data["y_train"] = data["X_train"][:N], data["y_train"][:N]
    data["transform"] = standardizer(data["X_train"])
    return data


def normalize_images(X, dtype=np.float32):
    """Scale each example of X (N, ...) by itself to mean 0 and deviation 1.

    An example whose values are all equal becomes zeros.
    """
    rows = X.reshape(len(X), math.prod(X.shape[1:])).astype(dtype)
    rows = rows - rows.mean(axis=1, keepdims=True)
    std = rows.std(axis=1, keepdims=True)
    return (rows / np.where(std > 0, std, 1)).reshape(X.shape)


def whitening(X, components, eps=0.1):
    """A `transform` for the Solver that turns images into uncorrelated numbers (PCA whitening).

    The pixels are projected onto the principal components of X, and each projection is divided by
    sqrt(variance + eps). The results have mean 0; where eps is small beside the variance, they have
    variance 1.

    X: images as bytes (N, ...), the examples to learn from.  components: how many principal
    components to keep, those of the largest variance.  eps: a number from 0 up; the variances it is
    added to are those of pixels from 0 to 1. It keeps components small that are mostly noise.
    Returns a function of images (M, ...) that gives float32 rows (M, components).
    Raises ValueError if X is empty, or if components or eps are out of range.
    """
    D = math.prod(X.shape[1:])
    if not len(X):
        raise ValueError(f"whitening: X has shape {X.shape}, expected at least one image.")
    if not isinstance(components, int | np.integer) or not 1 <= components <= D:
        raise ValueError(
            f"whitening: components = {components}, expected a whole number from 1 to {D}."
        )
    check_range("whitening", "eps", eps, 0, float("inf"))
    mean, covariance = _moments(X, D)
    variances, axes = np.linalg.eigh(covariance)  # in rising order
    variances, axes = variances[: -components - 1 : -1], axes[:, : -components - 1 : -1]
    weights = axes / np.sqrt(np.maximum(variances, 0) + eps)
    return functools.partial(
        _whitened, mean=mean.astype(np.float32), weights=weights.astype(np.float32)
    )


def _moments(X, D):
    """The mean (D,) and the covariance (D, D) of the pixels, scaled to 0 .. 1."""
    total, products = np.zeros(D), np.zeros((D, D))
    for part in np.array_split(X, max(1, len(X) // 5000)):  # only one part is held as floats
        rows = part.reshape(len(part), D).astype(np.float32) / np.float32(255)
        total += rows.sum(axis=0, dtype=np.float64)
        products += rows.T @ rows
    mean = total / len(X)
    return mean, products / len(X) - np.outer(mean, mean)


def _whitened(X, *, mean, weights):
    if math.prod(X.shape[1:]) != len(mean):
        raise ValueError(
            f"whitening: X has shape {X.shape}, expected images of {len(mean)} numbers each, as those "
            "it was learned from."
        )
    rows = X.reshape(len(X), len(mean)).astype(np.float32) / np.float32(255)
    return (rows - mean) @ weights
