"""The folder in which data sets are looked for, and the mirrors from which they are fetched."""

import os
import warnings
from pathlib import Path

from ..engine.errors import look_up

__all__ = ["SOURCES", "default_data_dir", "download", "find"]

# For each data set: the mirrors in the order in which they are tried, the folder inside the data
# folder, and the md5 sum of each file.
SOURCES = {
    "mnist": {
        "mirrors": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "folder": "mnist",
        "files": {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    },
    "cifar10": {
        "mirrors": ("https://www.cs.toronto.edu/~kriz/",),
        "folder": "",
        "files": {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    },
    "shakespeare": {
        "mirrors": (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
        ),
        "folder": "text",
        "files": {"input.txt": "6fb458f1232090904fb40fe944165e91"},
    },
    "names": {
        "mirrors": ("https://raw.githubusercontent.com/karpathy/makemore/master/",),
        "folder": "text",
        "files": {"names.txt": "401b3c4cac9e28a586ed15e81256680d"},
    },
}


def default_data_dir():
    """The folder that the environment variable HANDGRAD_DATA names, else the user's cache folder."""
    if os.environ.get("HANDGRAD_DATA"):
        return Path(os.environ["HANDGRAD_DATA"])
    return Path(_pooch().os_cache("handgrad"))


def _folder(data_dir):
    return Path(data_dir) if data_dir is not None else default_data_dir()


def find(data_dir, what, *names):
    """The path of the first of the names that exists in data_dir (None: the default folder).

    what: the data set's name.  Raises FileNotFoundError, which says where it looked, if none exists.
    """
    folder = _folder(data_dir)
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(
        f"{what} is not in {folder}: looked for {', '.join(names)}. Say where it is with "
        "--data-dir, data_dir=... or HANDGRAD_DATA"
        + (f", or fetch it: handgrad download {what}." if what in SOURCES else ".")
    )


def download(name, data_dir=None, mirrors=None, progress=True):
    """Fetch a data set of SOURCES, such as 'mnist', into data_dir and return the paths of its files.

    data_dir: None means the default folder.  mirrors: addresses of folders to try in turn; None
    means those of SOURCES.  progress: show a bar.
    A file that is there already is checked, not fetched. A fetched file gets its name only when it
    is whole and its md5 sum is right; otherwise the next mirror is tried.
    Raises ConnectionError, with what each mirror answered, if no mirror gives the file.
    """
    source = look_up("download", SOURCES, name, "data set")
    folder = _folder(data_dir) / source["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    mirrors = mirrors or source["mirrors"]
    return [_fetched(file, md5, folder, mirrors, progress) for file, md5 in source["files"].items()]


def _fetched(file, md5, folder, mirrors, progress):
    """The path of a file, from the first mirror that gives the right one."""
    pooch = _pooch()
    failures = []
    for mirror in mirrors:
        try:
            return Path(pooch.retrieve(mirror + file, f"md5:{md5}", file, folder, progressbar=progress))
        except Exception as error:  # no network, no such file, a wrong sum: try the next mirror
            failures.append(f"{mirror}{file}: {error}")
    raise ConnectionError(
        f"download: no mirror gave {file}. "
        + "; ".join(failures)
        + f". It can be put into {folder} by hand."
    )


def _pooch():
    """The package; heavy, so imported when needed. In notebooks it may look for widgets in vain."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import pooch

    return pooch
