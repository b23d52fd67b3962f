"""Checkpoints: all that a training needs to go on, in one .npz file.

The file holds arrays under names such as 'params/W1', and `meta`, which is JSON. Reading runs no code.
Everything is checked before it is read: the header of each array against what the reader expects, and
the sizes against the size of the file. So a wrong file costs no memory, and whoever reads it changes
nothing until all of it is known to be right.
"""

import contextlib
import copy
import functools
import hashlib
import json
import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import refuse_unknown
from .files import written_whole

__all__ = [
    "Checkpoint",
    "alike",
    "array_header",
    "as_json",
    "copied_state",
    "damage_named",
    "described",
    "file_named",
    "grouped",
    "last_epoch",
    "load",
    "load_params",
    "plain",
    "read_checkpoint",
    "save",
    "write_checkpoint",
]

FORMAT = 2
LARGEST_META = 1 << 25  # bytes: settings, and what is kept of some 150,000 epochs
MOMENTS = ("on_step_end", "on_epoch_end")


@dataclass
class Checkpoint:
    """What a training needs to go on.

    params, state     the model's arrays, {name: array}
    best, best_state  those of the best validation accuracy; empty if there are none
    optim             {parameter: {key: array or number}}, the update rule's configs
    progress          where the training is, and its histories; the keys are those of PROGRESS
    settings          what must be the same to go on, as JSON
    span              the worst and the best value of the Solver's measure
    """

    params: dict
    state: dict
    best: dict
    best_state: dict
    optim: dict
    progress: dict
    settings: dict
    span: tuple


# ---------------------------------------------------------------------------- writing


def save(path, checkpoint):
    """Write a Checkpoint. The file that was there is replaced when the new one is whole."""
    groups = {
        "params": checkpoint.params,
        "state": checkpoint.state,
        "best": checkpoint.best,
        "best_state": checkpoint.best_state,
    }
    arrays = {f"{group}/{name}": a for group, named in groups.items() for name, a in named.items()}
    scalars = {}
    for name, config in checkpoint.optim.items():
        for key, value in config.items():
            if isinstance(value, np.ndarray):
                arrays[f"optim/{name}/{key}"] = value
            else:
                scalars[f"{name}/{key}"] = _number(path, f"optim_configs[{name!r}][{key!r}]", value)
    progress = dict(checkpoint.progress)
    arrays["loss_history"] = np.array(progress.pop("loss_history"), np.float64)
    meta = {"format": FORMAT, "settings": checkpoint.settings, **progress, "optim": scalars}
    write_checkpoint(path, arrays, meta)


def _number(path, what, value):
    try:
        return int(value) if isinstance(value, int | np.integer) else float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: not written, because {what} = {value!r}; expected a number or an array."
        ) from None


def write_checkpoint(path, arrays, meta):
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


def read_checkpoint(path, choose=None, kind="checkpoint"):
    """The arrays and the meta of a checkpoint. ValueError if the file is not one.

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


# ---------------------------------------------------------------------------- taking up a training


def load(path, like, optim_keys=None, same_seed=False):
    """Read a Checkpoint that goes on where `like` is: of the same model and with the same settings.

    like        a Checkpoint of the training that is to take it up, at whatever point
    optim_keys  the keys that the update rule knows; None: any
    same_seed   whether the seed must be the same, too

    Raises ValueError, which names the file, if anything in it is not as it should be.
    """

    def choose(headers, meta):
        with file_named(path):
            _check_version(meta)
            _check_params(headers, like)
            _check_progress({**NEW, **meta}, headers, like.span)
            _check_settings(meta, like, same_seed)
            _check_arrays(headers, like, optim_keys)
            _check_optim_numbers(meta["optim"], like, optim_keys)
        return list(headers)

    arrays, meta = read_checkpoint(path, choose)
    groups = grouped(arrays)
    kept = NEW | meta
    if meta["format"] > 1:
        kept["loss_history"] = arrays["loss_history"].tolist()
    progress = {key: kept[key] for key in PROGRESS}
    optim = {name: {} for name in like.params}
    for named in (meta["optim"], groups["optim"]):
        for name, value in named.items():
            parameter, key = name.rsplit("/", 1)
            optim[parameter][key] = value
    parts = (groups[group] for group in ("params", "state", "best", "best_state"))
    return Checkpoint(*parts, optim, progress, meta["settings"], like.span)


def load_params(model, path, best=True):
    """Put a checkpoint's parameters and state into a model: the best on validation, or the last.

    Raises ValueError, and leaves the model as it is, if the file holds those of another model.
    """

    def choose(headers, meta):
        has_best = best and _group(headers, "best")
        params, state = ("best", "best_state") if has_best else ("params", "state")
        with file_named(path):
            names = alike(params, headers, "parameters", model.params)
            if _group(headers, state):
                names += alike(state, headers, "a state with", copied_state(model))
        return names

    arrays, _ = read_checkpoint(path, choose)
    groups = grouped(arrays)
    model.params.update(groups["best"] or groups["params"])
    if new := groups["best_state"] or groups["state"]:
        model.state = new


def alike(group, headers, words, arrays):
    """The full names of a group, if it has the shapes of the arrays and their kind of numbers."""
    found = {n: (shape, dtype.kind) for n, (shape, dtype) in _group(headers, group).items()}
    expected = {n: (np.shape(a), np.asarray(a).dtype.kind) for n, a in arrays.items()}
    if found != expected:
        raise ValueError(f"holds {words} {found}, but the model has {expected}.")
    return [f"{group}/{name}" for name in found]


def last_epoch(path):
    """The number of epochs that a checkpoint holds."""
    _, meta = read_checkpoint(path, lambda headers, meta: [])
    with file_named(path):
        return _whole("epoch", meta.get("epoch"))


def described(value):
    """A setting in words that two runs can compare: functions by name and what functools.partial
    binds, also inside lists and dicts; arrays by a sum of their bytes; anything else as it is.
    """
    if isinstance(value, functools.partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if isinstance(value, list | tuple):
        return [described(v) for v in value]
    if isinstance(value, dict):
        return {key: described(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()[:12]
        return f"array of {value.dtype}, shape {value.shape}, sha256 {digest}"
    if not callable(value):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def plain(value):
    """Words for an object that JSON lacks: its `repr` without the address in memory, which differs from
    start to start.
    """
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def as_json(value):
    """A described setting as it comes back from a JSON file."""
    return json.loads(json.dumps(value, default=plain))


def copied_state(model):
    """A copy of the model's `state`; empty if it has none that is a dict."""
    state = getattr(model, "state", None)
    copied = lambda value: value.copy() if isinstance(value, np.ndarray) else copy.deepcopy(value)  # noqa: E731
    return {name: copied(value) for name, value in state.items()} if isinstance(state, dict) else {}


def _group(named, group):
    """{name: value} of the names that begin with 'group/'."""
    return {n.partition("/")[2]: v for n, v in named.items() if n.startswith(f"{group}/")}


def grouped(arrays):
    groups = ("params", "state", "best", "best_state", "optim")
    return {group: _group(arrays, group) for group in groups}


# ---------------------------------------------------------------------------- what is checked


@contextlib.contextmanager
def file_named(path):
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_version(meta):
    version = meta.get("format")
    if version is None:
        raise ValueError(
            "not a checkpoint, expected a file that checkpoint_name or save_checkpoint wrote; "
            "handgrad.load reads whole models."
        )
    if version not in (1, FORMAT) or isinstance(version, bool):
        raise ValueError(f"not a checkpoint of this version; its format is {version!r}.")
    needed = {"settings", "optim", *PROGRESS} - ({*NEW} if version == 1 else {"loss_history"})
    missing = sorted(needed - meta.keys())
    if missing:
        raise ValueError(f"not a whole checkpoint; it lacks {missing}.")
    for key in ("settings", "optim"):
        if not isinstance(meta[key], dict):
            raise ValueError(f"{key} is {_shown(meta[key])}, expected a dict.")


def _check_params(headers, like):
    shapes = {name: shape for name, (shape, _) in _group(headers, "params").items()}
    expected = {name: np.shape(p) for name, p in like.params.items()}
    if shapes != expected:
        raise ValueError(
            f"holds parameters {shapes}, but the model has {expected}; "
            "expected a checkpoint of the same model."
        )


def _check_settings(meta, like, same_seed):
    """A setting that files of format 1 lack is not compared."""
    ours, theirs = dict(like.settings), LATER | meta["settings"]
    if same_seed:
        ours["seed"], theirs["seed"] = like.progress["seed"], meta["seed"]
    for key, value in ours.items():
        lacks_it = key not in theirs and meta["format"] > 1
        if lacks_it or value != theirs.get(key, value):
            raise ValueError(
                f"was trained with {key} = {theirs.get(key)!r}, but the Solver has {value!r}; "
                "expected the same settings."
            )


def _check_arrays(headers, like, optim_keys):
    """Every array has the name, the shape and the dtype of one that the Solver has."""
    params, state = _kinds(like.params), _kinds(like.state)
    _check_group("params", headers, params)
    _check_group("state", headers, state)
    if _group(headers, "best") or _group(headers, "best_state"):
        _check_group("best", headers, params)
        _check_group("best_state", headers, state)
    for name, came in _group(headers, "optim").items():
        parameter, key = _parameter_and_key(name, like, optim_keys)
        is_state = optim_keys is None or optim_keys[key] is None
        expected = params[parameter] if optim_keys is not None else came
        if not is_state or came != expected:
            raise ValueError(f"optim/{name} has shape and dtype {came}, expected {expected}.")
    known = {"loss_history", *(f"{g}/{n}" for g, named in grouped(headers).items() for n in named)}
    refuse_unknown("checkpoint", headers, known, "arrays")


def _check_group(group, headers, expected):
    found = {n: _kind(shape, dtype) for n, (shape, dtype) in _group(headers, group).items()}
    if found != expected:
        raise ValueError(f"{group} holds {found}, expected {expected}.")


def _kinds(arrays):
    return {name: _kind(np.shape(array), np.asarray(array).dtype) for name, array in arrays.items()}


def _kind(shape, dtype):
    """A shape with a dtype. Whole numbers of all sizes are of one kind."""
    return shape, np.dtype(int) if dtype.kind in "iu" else dtype


def _parameter_and_key(name, like, optim_keys):
    """'W1/velocity' as ('W1', 'velocity'), both known."""
    parameter, _, key = name.rpartition("/")
    refuse_unknown("optim", [parameter], like.params, "parameters")
    if optim_keys is not None:
        refuse_unknown(f"optim/{parameter}", [key], optim_keys)
    return parameter, key


def _check_optim_numbers(numbers, like, optim_keys):
    for name, value in numbers.items():
        _, key = _parameter_and_key(name, like, optim_keys)
        _real(f"optim {name}", value)
        default = optim_keys[key] if optim_keys is not None else 0.0
        counts = isinstance(default, int)  # files of format 1 hold it as a float
        if default is None or not math.isfinite(value) or (counts and (value < 0 or value % 1)):
            raise ValueError(f"optim {name} is {_shown(value)}, expected what {default!r} is like.")


def _whole(name, value, low=0, high=math.inf):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} is {_shown(value)}, expected a whole number from {low} to {high}.")
    return value


def _real(name, value):
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    if not whole and not isinstance(value, float):
        raise ValueError(f"{name} is {_shown(value)}, expected a number.")


def _due(name, value):
    """None, or a moment and the number of the callback that is due."""
    if value is not None:
        moment, number = value if isinstance(value, list) and len(value) == 2 else (None, None)
        if moment not in MOMENTS:
            raise ValueError(f"{name} is {_shown(value)}, expected one of {MOMENTS} and a number.")
        _whole(name, number)


def _reals(name, value):
    _list(name, value)
    for number in value:
        _real(f"an entry of {name}", number)


def _records(name, value):
    """A list with a dict an epoch."""
    _list(name, value)
    for record in value:
        if not isinstance(record, dict) or not record.keys() >= RECORD.keys():
            raise ValueError(
                f"an entry of {name} is {_shown(record)}, expected the keys {list(RECORD)}."
            )
        for key, number in record.items():
            if not (RECORD.get(key) and number is None):
                _real(f"{key} in {name}", number)


def _list(name, value):
    if not isinstance(value, list):
        raise ValueError(f"{name} is {_shown(value)}, expected a list.")


def _shown(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Where a training is: what checks each entry. RECORD: an epoch in `history`; True: it may be None.
PROGRESS = {
    "seed": _whole,
    "epoch": _whole,
    "iteration": _whole,
    "step_in_epoch": _whole,
    "due": _due,
    "best_val_acc": _real,
    "history": _records,
    "loss_history": _reals,
    "train_acc_history": _reals,
    "val_acc_history": _reals,
}
NEW = {"step_in_epoch": 0, "due": None}  # not in files of format 1
LATER = {"clip_norm": None}  # settings that came later than some files
RECORD = {
    "epoch": False,
    "loss": False,
    "train_acc": False,
    "val_acc": True,
    "learning_rate": True,
    "seconds": False,
}


def _check_progress(progress, headers, span):
    """Types of all entries, lengths that fit together, and the best within the span of the measure."""
    if progress["format"] > 1:  # the losses are an array
        progress = {**progress, "loss_history": _losses(headers)}
    for key, check in PROGRESS.items():
        check(key, progress[key])
    low, high, best = min(span), max(span), progress["best_val_acc"]
    if not low <= best <= high:
        raise ValueError(f"best_val_acc is {best}, expected a number from {low:g} to {high:g}.")
    epoch, iteration = progress["epoch"], progress["iteration"]
    _whole("epoch", epoch, high=2**53)  # as far as floats count
    _whole("step_in_epoch", progress["step_in_epoch"], high=iteration)
    _whole("the length of loss_history", len(progress["loss_history"]), iteration, iteration)
    _whole("the length of history", len(progress["history"]), 0, epoch)
    for key in ("train_acc_history", "val_acc_history"):
        _whole(f"the length of {key}", len(progress[key]), 0, epoch + 1)


def _losses(headers):
    """As many numbers as the file has losses."""
    shape, dtype = headers.get("loss_history", ((), None))
    if len(shape) != 1 or dtype != np.float64:
        raise ValueError(
            f"loss_history has shape {shape} and dtype {dtype}, expected a list of float64."
        )
    return [0.0] * shape[0]
