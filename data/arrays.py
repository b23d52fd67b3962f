"""Data of one's own in arrays: the parts of a data set, drawn class by class, and .npz files."""

import math
import zipfile

import numpy as np

from ..engine.archives import array_header
from ..engine.errors import check_count
from ..engine.randomness import generator
from .files import most_bytes, named
from .transforms import standardizer

__all__ = ["load_npz", "split"]

PARTS = ("train", "val", "test")
LARGEST_NPZ = 2**30  # bytes when unpacked, of a compressed file


# ---------------------------------------------------------------------------- parts


def split(X, y, val=0.1, test=0.1, seed=0, stratify=True):
    """The Solver's dict, made of examples X (N, ...) and y by drawing a validation and a test part.

    y          labels (N,), integers or text; or targets, floats (N,) or rows (N, K)
    val, test  a share of the examples, such as 0.1, or a number of them; 0 for no such part
    seed       the same seed draws the same parts; in each the examples keep their order
    stratify   each class has its share of each part, to within two examples; floats have no classes

    Labels that are not the integers 0 to C - 1 become so: sorted, and `class_names` in the dict tells
    what they stand for. Bytes X get a `transform`, which standardizes them; floats stay as they are.
    Raises ValueError if the parts take too many examples, or leave none of a class to train on.
    """
    X, y = _as_array("X", X), _as_array("y", y)
    _check_examples("split", X, y)
    check_count("seed", seed, low=0, who="split")
    labels, names = encoded("split: y", y)
    counts = _counts(len(X), val, test)
    is_stratified = stratify and labels.ndim == 1 and labels.dtype.kind == "i"
    strata = labels if is_stratified else np.zeros(len(X), int)
    parts = _drawn(strata, counts, generator(seed, "data"))
    if is_stratified:
        _check_classes(labels, names, parts)
    data = {}
    for part, index in parts.items():
        data[f"X_{part}"], data[f"y_{part}"] = X[index], labels[index]
    return completed(data, names)


def _drawn(strata, counts, rng):
    """Indices of each part: {'train': ..., 'val': ..., 'test': ...}, those of size 0 left out."""
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    train, rest = _evenly(order, len(order) - sum(counts.values()), rng)
    test, val = _evenly(rest, counts["test"], rng)
    drawn = zip(PARTS, (train, val, test), strict=True)
    return {part: np.sort(index) for part, index in drawn if len(index)}


def _evenly(order, size, rng):
    """`size` entries of the order, equally far apart, and the others.

    So a stretch of n entries gives size * n / len(order) of them, rounded down or up.
    """
    if not size:
        return order[:0], order
    places = (np.arange(size) * len(order) + rng.integers(len(order))) // size
    return order[places], np.delete(order, places)


def _counts(N, val, test):
    counts = {"val": _count("val", val, N), "test": _count("test", test, N)}
    taken = sum(counts.values())
    if taken >= N:
        raise ValueError(
            f"split: val = {val} and test = {test} take {taken} of {N} examples, expected at least "
            "one to be left to train on."
        )
    return counts


def _count(name, part, N):
    """The number of examples of a part that is given as a share or as a number."""
    if isinstance(part, int | np.integer) and not isinstance(part, bool) and part >= 0:
        count = int(part)
    elif isinstance(part, float | np.floating) and 0 <= part < 1:
        count = round(part * N)
    else:
        raise ValueError(
            f"split: {name} = {part!r}, expected a share below 1, such as 0.1, or a number of examples."
        )
    if part and not count:
        raise ValueError(
            f"split: {name} = {part} of {N} examples is none; expected a larger share, a number of "
            f"examples, or 0 for no {name} part."
        )
    return count


def _as_array(name, values):
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"split: {name} has rows of unequal length, expected equal ones.") from error


def _check_examples(who, X, y):
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{who}: X has dtype {X.dtype}, expected numbers (load_frame takes tables).")
    if X.ndim < 2 or not len(X) or y.ndim not in (1, 2) or len(X) != len(y):
        raise ValueError(
            f"{who}: X has shape {X.shape} and y {y.shape}, expected (N, ...) with an example a row, "
            "and (N,) or (N, K), N at least 1."
        )


def _check_classes(labels, names, parts):
    """Raise ValueError if a class cannot be divided, or has no example in the training part."""
    sizes = np.bincount(labels)
    names = names or range(len(sizes))
    cure = (
        "; add examples, leave the class out, or say stratify=False. If the labels are quantities, "
        "make floats of them."
    )
    if len(parts) > 1 and sizes.min() == 1:
        alone = np.flatnonzero(sizes == 1)
        more = f", and so have {len(alone) - 1} others" if len(alone) > 1 else ""
        raise ValueError(
            f"split: class {names[alone[0]]!r} has 1 example{more}; expected at least 2 of each class, "
            f"to train and to measure{cure}"
        )
    missing = np.flatnonzero(np.bincount(labels[parts["train"]], minlength=len(sizes)) == 0)
    if len(missing):
        raise ValueError(
            f"split: class {names[missing[0]]!r} has {sizes[missing[0]]} examples, and val and test "
            f"leave none of them to train on; expected smaller parts{cure}"
        )


# ---------------------------------------------------------------------------- labels and transform


def encoded(who, y):
    """Labels (N,) as integers 0 to C - 1, and the classes' names, a tuple of text.

    There are no names (None) if y holds such integers already, floats, or rows; it stays as it is then.
    """
    if y.dtype.kind == "f" or (y.ndim == 2 and y.dtype.kind in "iu"):
        return y, None
    if y.dtype.kind == "O":
        at = next((n for n, label in enumerate(y.flat) if not isinstance(label, str)), None)
        if at is not None:
            raise ValueError(f"{who}[{at}] = {y.flat[at]!r}, expected all labels to be text.")
    if y.dtype.kind not in "iubUO" or y.ndim != 1:
        raise ValueError(f"{who} has dtype {y.dtype} and shape {y.shape}, expected labels or floats.")
    values, labels = np.unique(y, return_inverse=True)
    if y.dtype.kind in "iu" and np.array_equal(values, np.arange(len(values))):
        return y.astype(np.int64), None
    return labels.astype(np.int64), tuple(map(str, values.tolist()))


def completed(data, class_names=None):
    """The dict with its classes' names, if there are any, and for bytes with a transform."""
    if class_names is not None:
        data["class_names"] = class_names
    if data["X_train"].dtype == np.uint8:
        data["transform"] = standardizer(data["X_train"])
    return data


# ---------------------------------------------------------------------------- .npz


def load_npz(path, **parts):
    """The Solver's dict from an .npz file that holds X and y, or X_train, y_train, X_val, ...

    X and y are divided as by `split`, which gets `parts`: val, test, seed, stratify. A file that is
    divided already stays so. An array class_names in the file gives the classes their names. Arrays
    under other names are left alone.
    Raises ValueError if the file is damaged, lacks the arrays, holds objects (pickles are not read) or
    unpacks to more than a gigabyte; OSError if it cannot be read.
    """
    names = ("X", "y", *(f"{letter}_{part}" for part in PARTS for letter in "Xy"), "class_names")
    arrays = _read(path, names)
    class_names = arrays.pop("class_names", None)
    with named(path):
        if arrays.keys() == {"X", "y"}:
            data = split(arrays["X"], arrays["y"], **parts)
        else:
            data = _divided(arrays, parts)
        if class_names is not None:
            data["class_names"] = _checked_names(class_names, data)
    return data


def _divided(arrays, parts):
    """The dict of arrays that have their parts already."""
    here = [part for part in PARTS if f"X_{part}" in arrays or f"y_{part}" in arrays]
    if arrays.keys() != {f"{letter}_{part}" for part in here for letter in "Xy"} or "train" not in here:
        raise ValueError(f"holds {sorted(arrays)}, expected X and y, or X_train, y_train, X_val, ...")
    if parts:
        raise ValueError(f"is divided already, so {sorted(parts)} cannot be chosen.")
    for part in here:
        _check_examples(f"part {part}", arrays[f"X_{part}"], arrays[f"y_{part}"])
    ys = [arrays[f"y_{part}"] for part in here]
    labels, names = encoded("y", np.concatenate(ys))
    ends = np.cumsum([len(y) for y in ys])
    labels_of = dict(zip(here, np.split(labels, ends[:-1]), strict=True))
    data = {}
    for part in here:
        data[f"X_{part}"], data[f"y_{part}"] = arrays[f"X_{part}"], labels_of[part]
    return completed(data, names)


def _checked_names(class_names, data):
    y = data["y_train"]
    if class_names.ndim != 1 or class_names.dtype.kind != "U" or y.dtype.kind != "i" or y.ndim != 1:
        raise ValueError("class_names came, expected text (C,) beside labels that are integers.")
    if "class_names" in data or y.max() >= len(class_names):
        raise ValueError(
            f"{len(class_names)} class_names came, expected one for each label from 0 to {y.max()}."
        )
    return tuple(class_names.tolist())


def _read(path, names):
    """Those arrays of an .npz file that `names` lists."""
    with open(path, "rb") as file, named(path, "not a whole .npz file: "):
        archive = zipfile.ZipFile(file)
        found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        found = {name: info for name, info in found.items() if name in names}
        size = sum(info.file_size for info in found.values())
        most = most_bytes(path, LARGEST_NPZ)
        if size > most:
            raise ValueError(f"it unpacks to {size:,} bytes, expected at most {most:,}.")
        return {name: _array(archive, name, info) for name, info in found.items()}


def _array(archive, name, info):
    with archive.open(info) as member:
        shape, dtype = array_header(member)
        size = member.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufU" or min(shape, default=0) < 0 or size != info.file_size:
        raise ValueError(f"{name} has shape {shape} and dtype {dtype} in {info.file_size} bytes")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
