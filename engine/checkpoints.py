"""Checkpoints: all that a training needs to go on, in one file (archives.py).

Everything in it is checked before any of it is taken: names, shapes and dtypes, numbers that fit
together, and the settings of the training that is to go on.
"""

import copy
import functools
import hashlib
import json
import math
import re
from dataclasses import dataclass

import numpy as np

from .archives import alike, file_named, group_of, grouped, read_archive, write_archive
from .errors import refuse_unknown

__all__ = [
    "Checkpoint",
    "as_json",
    "copied_state",
    "described",
    "last_epoch",
    "load",
    "load_params",
    "plain",
    "save",
]

FORMAT = 2
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
    write_archive(path, arrays, meta)


def _number(path, what, value):
    try:
        return int(value) if isinstance(value, int | np.integer) else float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: not written, because {what} = {value!r}; expected a number or an array."
        ) from None


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

    arrays, meta = read_archive(path, choose)
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
        has_best = best and group_of(headers, "best")
        params, state = ("best", "best_state") if has_best else ("params", "state")
        with file_named(path):
            names = alike(params, headers, "parameters", model.params)
            if group_of(headers, state):
                names += alike(state, headers, "a state with", copied_state(model))
        return names

    arrays, _ = read_archive(path, choose)
    groups = grouped(arrays)
    model.params.update(groups["best"] or groups["params"])
    if new := groups["best_state"] or groups["state"]:
        model.state = new


def last_epoch(path):
    """The number of epochs that a checkpoint holds."""
    _, meta = read_archive(path, lambda headers, meta: [])
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


# ---------------------------------------------------------------------------- what is checked


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
    shapes = {name: shape for name, (shape, _) in group_of(headers, "params").items()}
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
    if group_of(headers, "best") or group_of(headers, "best_state"):
        _check_group("best", headers, params)
        _check_group("best_state", headers, state)
    for name, came in group_of(headers, "optim").items():
        parameter, key = _parameter_and_key(name, like, optim_keys)
        is_state = optim_keys is None or optim_keys[key] is None
        expected = params[parameter] if optim_keys is not None else came
        if not is_state or came != expected:
            raise ValueError(f"optim/{name} has shape and dtype {came}, expected {expected}.")
    known = {"loss_history", *(f"{g}/{n}" for g, named in grouped(headers).items() for n in named)}
    refuse_unknown("checkpoint", headers, known, "arrays")


def _check_group(group, headers, expected):
    found = {n: _kind(shape, dtype) for n, (shape, dtype) in group_of(headers, group).items()}
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
