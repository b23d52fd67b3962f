"""CIFAR-10 (Krizhevsky 2009): small colour images, from its folder or its archive."""

import io
from pathlib import Path

import numpy as np

from .download import find
from .files import opened, tar_members
from .pickles import LARGEST_PICKLE, load_pickle
from .transforms import mean_image, set_aside, standardize

__all__ = [
    "CIFAR_ARCHIVE",
    "CIFAR_FOLDER",
    "get_CIFAR10_data",
    "load_CIFAR10",
    "load_CIFAR_batch",
    "load_cifar10",
]

CIFAR_FOLDER = "cifar-10-batches-py"
CIFAR_ARCHIVE = "cifar-10-python.tar.gz"
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
LARGEST_ARCHIVE = 2**28  # bytes when unpacked; the official one has about 186,000,000
NAMES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")


def load_CIFAR_batch(filename):
    """One batch file: X (N, 3, 32, 32) uint8 and y (N,) int64, the labels 0 to 9.

    Raises ValueError if the file is damaged, OSError if it cannot be read.
    """
    with opened(filename, LARGEST_PICKLE) as file:
        return _arrays(load_pickle(file, filename), filename)


def _arrays(batch, name):
    """Images and labels of a batch (a dict), checked."""
    X, y = batch.get("data"), _labels(batch.get("labels"), name)
    if not isinstance(X, np.ndarray) or X.dtype != np.uint8 or X.shape != (len(y), 3072):
        came = f"{X.dtype} {X.shape}" if isinstance(X, np.ndarray) else type(X).__name__
        raise ValueError(f"{name}: 'data' is {came} beside {len(y)} labels, expected uint8 (N, 3072).")
    return X.reshape(-1, 3, 32, 32), y


def _labels(labels, name):
    """The labels (N,) int64; they come as a list of whole numbers or an array of them."""
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        labels = labels.tolist()
    if not isinstance(labels, list):
        raise ValueError(f"{name}: the labels are a {type(labels).__name__}, expected a list.")
    if not all(type(label) is int and 0 <= label <= 9 for label in labels):
        raise ValueError(f"{name}: the labels are not integers from 0 to 9.")
    return np.array(labels, np.int64)


def load_CIFAR10(root):
    """All of CIFAR-10 as bytes: X_train (50000, 3, 32, 32), y_train, X_test (10000, ...), y_test.

    root: the folder cifar-10-batches-py or the official .tar.gz.  The labels are int64, 0 to 9.
    Raises ValueError if a file is damaged, OSError if one cannot be read.
    """
    root = Path(root)
    X, y = _joined(_folder_batches(root) if root.is_dir() else _archive_batches(root))
    return X[:5].reshape(-1, 3, 32, 32), y[:5].ravel(), X[5], y[5]


def _joined(batches):
    """X (6, N, 3, 32, 32) and y (6, N) of batches (file, name, X, y), which come in any order.

    Each is copied to its place and let go, so that memory never holds all of them besides X.
    """
    X_all = y_all = None
    for file, name, X, y in batches:
        if X_all is None:
            X_all, y_all = np.empty((6, *X.shape), X.dtype), np.empty((6, *y.shape), y.dtype)
        if len(X) != X_all.shape[1]:
            raise ValueError(
                f"{file}: has {len(X)} images, expected {X_all.shape[1]} as in the others."
            )
        X_all[NAMES.index(name)], y_all[NAMES.index(name)] = X, y
    return X_all, y_all


def _folder_batches(folder):
    for name in NAMES:
        yield folder / name, name, *load_CIFAR_batch(folder / name)


def _archive_batches(path):
    """The batches of the .tar.gz; they are read in memory and not unpacked onto the disk."""
    missing = dict.fromkeys(NAMES)
    with opened(path, LARGEST_ARCHIVE) as file:
        for member, raw in _members(file, path, {f"{CIFAR_FOLDER}/{name}" for name in NAMES}):
            name = member.removeprefix(f"{CIFAR_FOLDER}/")
            where = f"{path}:{name}"
            missing.pop(name, None)
            yield where, name, *_arrays(load_pickle(io.BytesIO(raw), where), where)
    if missing:
        raise ValueError(f"{path}: not the whole {CIFAR_ARCHIVE} (it lacks {next(iter(missing))}).")


def _members(file, path, names):
    try:
        yield from tar_members(file, names, LARGEST_PICKLE)
    except ValueError as error:
        raise ValueError(f"{path}: not the whole {CIFAR_ARCHIVE} ({error}).") from error


def _find_cifar(data_dir):
    return find(data_dir, "cifar10", CIFAR_FOLDER, CIFAR_ARCHIVE)


def load_cifar10(data_dir=None, num_validation=1000):
    """CIFAR-10 as bytes: 50,000 training and 10,000 test images (N, 3, 32, 32) in 10 classes.

    data_dir: the folder with cifar-10-batches-py/ or the .tar.gz; None means the default folder.
    num_validation: how many of the last training images become the validation set; 0 means none.
    Raises FileNotFoundError if the data are absent, ValueError if a file is damaged.
    """
    root = _find_cifar(data_dir)
    X_train, y_train, X_test, y_test = load_CIFAR10(root)
    data = {"X_train": X_train, "y_train": y_train, "X_test": X_test, "y_test": y_test}
    return set_aside(data, num_validation, root) | {"class_names": CLASS_NAMES}


def get_CIFAR10_data(
    num_training=49000,
    num_validation=1000,
    num_test=1000,
    subtract_mean=True,
    data_dir=None,
    dtype=np.float32,
):
    """CIFAR-10 as the course's notebooks use it: floats from 0 to 255 minus the mean image.

    The training images are the first num_training, the validation images the next num_validation,
    the test images the first num_test of 10,000. `load_cifar10` gives images that stay bytes.
    subtract_mean: whether the mean image of the training images is subtracted from all.
    Raises ValueError if the numbers ask for more images than there are.
    """
    X, y, X_test, y_test = load_CIFAR10(_find_cifar(data_dir))
    stop = num_training + num_validation
    if stop > len(X) or num_test > len(X_test):
        raise ValueError(
            f"get_CIFAR10_data: num_training + num_validation = {stop} and num_test = {num_test}, "
            f"expected at most {len(X)} and {len(X_test)}."
        )
    parts = {
        "train": (X[:num_training], y[:num_training]),
        "val": (X[num_training:stop], y[num_training:stop]),
        "test": (X_test[:num_test], y_test[:num_test]),
    }
    mean = mean_image(parts["train"][0], dtype) if subtract_mean else 0.0
    data = {f"X_{part}": standardize(images, mean, dtype=dtype) for part, (images, _) in parts.items()}
    return data | {f"y_{part}": labels for part, (_, labels) in parts.items()}
