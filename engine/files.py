"""Files that are whole or not there: written beside, then renamed; and checkpoints made of them."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def written_whole(path):
    """A temporary path beside `path`, which takes its place when the block ends without an error.

    Until then, and after a full disk or a kill, what was at `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_checkpoint(path, arrays, meta):
    """One .npz file: a dict of arrays, and `meta`, anything that JSON holds."""
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, meta=text)


def read_checkpoint(path):
    """The arrays and the meta of a checkpoint; ValueError if the file is not one. Runs no code."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(arrays.pop("meta").tobytes())
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged zip raises whatever it stumbles over
        raise ValueError(
            f"{path}: not a whole checkpoint ({type(error).__name__}: {error}); "
            "expected a .npz file written by Solver.save_checkpoint."
        ) from error
