"""Arrays and JSON in one .npz file: the form of checkpoints and of saved nets.

The file holds arrays under names such as 'params/W1', and `meta`, which is JSON. Reading runs no code.
Everything is checked before it is read: the header of each array against what the reader expects, and
the sizes against the size of the file. So a wrong file costs no memory, and whoever reads it changes
nothing until all of it is known to be right.
"""

import contextlib
import json
import math
import zipfile
from pathlib import Path

import numpy as np

from .files import written_whole

__all__ = [
    "alike",
    "array_header",
    "damage_named",
    "file_named",
    "group_of",
    "grouped",
    "read_archive",
    "write_archive",
]

LARGEST_META = 1 << 25  # bytes: settings, and what is kept of some 150,000 epochs

# ---------------------------------------------------------------------------- writing


def write_archive(path, arrays, meta):
    """One .npz file: a dict of arrays, and `meta`, anything that JSON holds."""
    for name, array in arrays.items():
        if (dtype := np.asarray(array).dtype).kind not in "biufc":
            raise ValueError(
                f"{path}: not written, because {name} has dtype {dtype}; expected numbers."
            )
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    if text.size > LARGEST_META:
        raise ValueError(f"{path}: not written, because its histories take {text.size} bytes.")
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, meta=text)


# ---------------------------------------------------------------------------- reading


def read_archive(path, choose=None, kind="checkpoint"):
    """The arrays and the meta of a file. ValueError if it is not one that `write_archive` wrote.

    kind: what is expected, a key of WRITERS.

    choose(headers, meta) gets {name: (shape, dtype)} and the meta before any array is read. It raises
    ValueError if the file is not the expected one, and returns the names to be read. Default: all.
    """
    with _opened(path, kind) as archive:
        with damage_named(path, kind):
            headers = _headers(archive, Path(path).stat().st_size)
            meta = json.loads(_member(archive, "meta").tobytes())
            del headers["meta"]
            if not isinstance(meta, dict):
                raise ValueError(f"meta is a {type(meta).__name__}, expected a dict")
        names = list(headers) if choose is None else choose(headers, meta)
        with damage_named(path, kind):
            return {name: _member(archive, name) for name in names}, meta


@contextlib.contextmanager
def _opened(path, kind):
    with open(path, "rb") as file:
        with damage_named(path, kind):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


WRITERS = {"checkpoint": "Solver.save_checkpoint", "model": "Net.save"}


@contextlib.contextmanager
def damage_named(path, kind="checkpoint"):
    """Turn whatever a damaged file makes a reader stumble over into a ValueError that names it."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{path}: not a whole {kind} ({type(error).__name__}: {error}); "
            f"expected a .npz file written by {WRITERS[kind]}."
        ) from error


def _headers(archive, size):
    """{name: (shape, dtype)} of all members, which must be as large as they say and fit the file."""
    headers = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as member:
            shape, dtype = array_header(member)
            bytes_ = member.tell() + math.prod(shape) * dtype.itemsize
        if dtype.kind not in "biufc" or min(shape, default=0) < 0 or bytes_ != info.file_size:
            raise ValueError(f"{name} has shape {shape}, dtype {dtype} and {info.file_size} bytes")
        headers[name] = shape, dtype
    if sum(info.file_size for info in archive.infolist()) > size:
        raise ValueError(f"its arrays are larger than the file of {size} bytes; they may be compressed")
    (length,), dtype = headers["meta"]
    if dtype != np.uint8 or length > LARGEST_META:
        raise ValueError(f"meta has {length} entries of dtype {dtype}")
    return headers


def array_header(member):
    """Shape and dtype of the array in an open .npy file, whose header is read and nothing else."""
    version = np.lib.format.read_magic(member)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = readers[version](member)
    return shape, dtype


def _member(archive, name):
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


# ---------------------------------------------------------------------------- groups of arrays


def group_of(named, group):
    """{name: value} of the names that begin with 'group/'."""
    return {n.partition("/")[2]: v for n, v in named.items() if n.startswith(f"{group}/")}


def grouped(arrays):
    groups = ("params", "state", "best", "best_state", "optim")
    return {group: group_of(arrays, group) for group in groups}


def alike(group, headers, words, arrays):
    """The full names of a group, if it has the shapes of the arrays and their kind of numbers."""
    found = {n: (shape, dtype.kind) for n, (shape, dtype) in group_of(headers, group).items()}
    expected = {n: (np.shape(a), np.asarray(a).dtype.kind) for n, a in arrays.items()}
    if found != expected:
        raise ValueError(f"holds {words} {found}, but the model has {expected}.")
    return [f"{group}/{name}" for name in found]


# ---------------------------------------------------------------------------- names of files


@contextlib.contextmanager
def file_named(path):
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
