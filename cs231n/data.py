"""The course's loaders. CIFAR-10 comes from the folder that is named or from cs231n/datasets beside the
notebook, and else from where handgrad looks: HANDGRAD_DATA, or the user's cache folder.
"""

from pathlib import Path

import numpy as np

from ..data import cifar, pickles
from ..data.download import find
from ..engine.extras import need
from ..models import Net

__all__ = [
    "get_CIFAR10_data",
    "load_CIFAR10",
    "load_CIFAR_batch",
    "load_models",
    "load_pickle",
    "load_tiny_imagenet",
]

DATASETS = Path("cs231n", "datasets")  # beside the notebook
PLACES = (cifar.CIFAR_FOLDER, cifar.CIFAR_ARCHIVE)


def load_pickle(f):
    """What a pickle of CIFAR-10 holds, a dict. f: an open binary file. No code in it is run."""
    return pickles.load_pickle(f, getattr(f, "name", "the file"))


def load_CIFAR_batch(filename):
    """One batch file: X (N, 32, 32, 3) as float64 and y (N,)."""
    X, y = cifar.load_CIFAR_batch(filename)
    return _as_the_course(X), y


def load_CIFAR10(ROOT):
    """X_train (50000, 32, 32, 3) as float64, y_train, X_test (10000, 32, 32, 3), y_test."""
    there = Path(ROOT).exists() or Path(ROOT).name not in PLACES
    X_train, y_train, X_test, y_test = cifar.load_CIFAR10(ROOT if there else _cifar())
    return _as_the_course(X_train), y_train, _as_the_course(X_test), y_test


def get_CIFAR10_data(num_training=49000, num_validation=1000, num_test=1000, subtract_mean=True):
    """CIFAR-10 as (N, 3, 32, 32) in float64, from which the mean training image is subtracted."""
    sizes, folder = (num_training, num_validation, num_test), _cifar().parent
    data = cifar.get_CIFAR10_data(*sizes, subtract_mean, data_dir=folder, dtype=np.float64)
    return {f"{kind}_{part}": data[f"{kind}_{part}"] for part in PARTS for kind in "Xy"}


PARTS = ("train", "val", "test")


def _as_the_course(X):
    return X.transpose(0, 2, 3, 1).astype(np.float64, order="C")


def _cifar():
    """The path of CIFAR-10: beside the notebook, or where handgrad looks."""
    is_here = any((DATASETS / name).exists() for name in PLACES)
    return find(DATASETS if is_here else None, "cifar10", *PLACES)


def load_models(models_dir):
    """The nets in a folder by the names of their files, which `model.save` wrote."""
    return {path.name: Net.load(path) for path in sorted(Path(models_dir).glob("*.npz"))}


# ---------------------------------------------------------------------------- Tiny ImageNet


def load_tiny_imagenet(path, dtype=np.float32, subtract_mean=True):
    """Tiny ImageNet from its unpacked folder, images as (N, 3, 64, 64).

    Returns a dict: class_names, a list of words for each class; X_train, y_train, X_val, y_val, X_test;
    y_test, None if the labels are not there; mean_image (3, 64, 64), which is subtracted from all
    images unless subtract_mean is False.
    """
    root = Path(path)
    wnids = [wnid for (wnid,) in _table(root / "wnids.txt")]
    words = dict(_table(root / "words.txt"))
    label = {wnid: k for k, wnid in enumerate(wnids)}
    train = [
        (root / "train" / wnid / "images" / row[0], label[wnid])
        for wnid in wnids
        for row in _table(root / "train" / wnid / f"{wnid}_boxes.txt")
    ]
    val = _annotated(root / "val", label)
    test = _annotated(root / "test", label) or [(p, None) for p in sorted(root.glob("test/images/*"))]
    data = {"class_names": [[word.strip() for word in words[wnid].split(",")] for wnid in wnids]}
    for part, rows in (("train", train), ("val", val), ("test", test)):
        data[f"X_{part}"] = np.stack([_image(path) for path, _ in rows]).astype(dtype)
        data[f"y_{part}"] = np.array([label for _, label in rows])
    if test[0][1] is None:
        data["y_test"] = None
    data["mean_image"] = data["X_train"].mean(axis=0)
    if subtract_mean:
        for part in PARTS:
            data[f"X_{part}"] -= data["mean_image"]
    return data


def _table(path):
    """The rows of a text file, whose cells tabs separate."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def _annotated(folder, label):
    """(path, label) of the images that the folder's list names; empty without a list."""
    path = folder / f"{folder.name}_annotations.txt"
    rows = _table(path) if path.exists() else []
    return [(folder / "images" / name, label[wnid]) for name, wnid, *_ in rows]


def _image(path):
    """An image file as (3, H, W) bytes; a grey one has three equal channels."""
    pillow = need("load_tiny_imagenet", "PIL.Image", "images")
    with pillow.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
