"""MNIST (LeCun et al. 1998), handwritten digits, and IDX, the format of its files."""

import math

import numpy as np

from .download import find
from .drawn_digits import DIGITS
from .files import opened
from .transforms import set_aside

__all__ = ["load_mnist", "read_idx"]

LARGEST_IDX = 2**28  # bytes; MNIST's training images have 47,040,016
MOST_DIMENSIONS = 8


def read_idx(path):
    """An IDX file of bytes, plain or .gz, as a uint8 array with the shape that its header gives.

    Raises ValueError if the file has another format, is damaged, or holds more than 268,435,456
    bytes, and OSError if it cannot be read. Source of the format: LeCun, "The MNIST database".
    """
    with opened(path, LARGEST_IDX) as file:
        start = file.read(4)
        if len(start) < 4 or start[:3] != b"\0\0\x08":
            raise ValueError(
                f"{path}: begins with {start.hex(' ')}, expected the magic number 00 00 08 of an "
                "IDX file of bytes."
            )
        shape = _idx_shape(file.read(4 * start[3]), path)
        if len(shape) != start[3]:
            raise ValueError(f"{path}: its header is cut short.")
        size = math.prod(shape)
        raw = file.read(size + 1)  # one byte more shows whether the file ends where it should
    if len(raw) != size:
        came = f"{len(raw):,}" if len(raw) < size else "more"
        raise ValueError(
            f"{path}: its header {shape} asks for {size:,} bytes, but {came} follow; the file is "
            "damaged."
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _idx_shape(raw, path):
    shape = tuple(int.from_bytes(raw[k : k + 4], "big") for k in range(0, len(raw) - 3, 4))
    if len(shape) > MOST_DIMENSIONS or math.prod(max(n, 1) for n in shape) > LARGEST_IDX:
        raise ValueError(
            f"{path}: its header {shape} asks for too much; expected at most {MOST_DIMENSIONS} "
            f"dimensions and {LARGEST_IDX:,} bytes."
        )
    return shape


def load_mnist(data_dir=None, num_validation=5000):
    """MNIST: 60,000 training and 10,000 test images (N, 1, 28, 28) of the digits 0 to 9.

    data_dir: the folder with mnist/ or its files, plain or .gz; None means the default folder.
    num_validation: how many of the last training images become the validation set; 0 means none.
    Raises FileNotFoundError if a file is absent, ValueError if one is damaged.
    """
    data = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        paths = [
            find(data_dir, "mnist", *_idx_names(stem, kind)) for kind in ("images-idx3", "labels-idx1")
        ]
        X, y = _images_and_labels(*paths)
        data[f"X_{part}"], data[f"y_{part}"] = X[:, None], y.astype(np.int64)
        if part == "train":
            source = paths[0]
    return set_aside(data, num_validation, source) | {"class_names": DIGITS}


def _images_and_labels(images, labels):
    """The arrays (N, 28, 28) and (N,) of two IDX files that belong together."""
    X, y = read_idx(images), read_idx(labels)
    if X.ndim != 3 or X.shape[1:] != (28, 28) or y.shape != X.shape[:1]:
        raise ValueError(
            f"{images}: the images have shape {X.shape}, the labels {y.shape} ({labels}), "
            "expected (N, 28, 28) and (N,)."
        )
    if y.size and y.max() > 9:
        raise ValueError(f"{labels}: the labels go up to {y.max()}, expected 0 to 9.")
    return X, y


def _idx_names(stem, kind):
    """The names under which a file of MNIST may lie in the data folder."""
    plain = (f"{stem}-{kind}-ubyte", f"{stem}-{kind.replace('-', '.')}-ubyte")
    files = [name + ending for name in plain for ending in ("", ".gz")]
    return [f"mnist/{name}" for name in files] + files
