"""Whole nets in files: layers and all, without pickle.

A file is an .npz, as a checkpoint is (engine/archives.py): arrays under names such as 'params/W1',
and JSON that describes the net. What JSON lacks stands in it as a dict {kind: content}, see KINDS.

Reading runs no code of the file's choice: the functions that it may name are those of handgrad's
layers, and those that the caller passes. The net is built to the shapes of the arrays in the file.
"""

import dataclasses
import functools
import importlib
import os
from pathlib import Path

import numpy as np

from ..engine.archives import (
    alike,
    damage_named,
    file_named,
    grouped,
    read_archive,
    write_archive,
)
from ..engine.errors import look_up

__all__ = ["load", "save"]

FORMAT = "handgrad model 1"
PACKAGE = __package__.split(".")[0]
MODULES = ("layers", "layer_utils", "recurrent", "attention")  # the functions that a file may name


def save(model, path):
    """Write a net to one .npz file, which `load` reads; '.npz' is added to a path without it.

    It holds the layers, loss and settings, the parameters, running statistics and seed, all to the
    last bit, and class_names. Functions of your own, such as a Pair's, are kept by name. The file is
    replaced when the new one is whole. Returns its path. ValueError if a file cannot describe the net.
    """
    path, own = _npz(path), {}
    with file_named(path):
        net = encoded(_description(model), own)
    arrays = {f"params/{name}": p for name, p in model.params.items()}
    arrays |= {f"state/{name}": a for name, a in model.state.items()}
    write_archive(path, arrays, {"model": FORMAT, "net": net})
    return path


def load(path, pairs=None):
    """The net in a file that `save` wrote; '.npz' is added to a path without it.

    pairs: {name: function}, the functions of your own that the net needs.
    Raises ValueError, which names the file, if it does not hold a whole model or needs more functions.
    """
    path, net, pairs = _npz(path), None, pairs or {}
    if not path.exists():
        raise FileNotFoundError(f"load: {path} is not there, expected a file that Net.save wrote.")
    if not isinstance(pairs, dict) or not all(map(callable, pairs.values())):
        raise ValueError(f"load: pairs = {pairs!r}, expected a dict {{name: function}}.")

    def choose(headers, meta):
        nonlocal net
        with file_named(path):
            _check_format(meta)
            _check_functions(meta, pairs)
        with damage_named(path, "model"):
            net = _built(decoded(meta["net"], pairs), headers)
            params = alike("params", headers, "parameters", net.params)
            return params + alike("state", headers, "a state with", net.state)

    arrays, _ = read_archive(path, choose, "model")
    groups = grouped(arrays)
    net.params.update(groups["params"])
    net.state = groups["state"]
    return net


def _npz(path):
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path = {path!r}, expected the name of a file.")
    return Path(f"{str(path).removesuffix('.npz')}.npz")


# ---------------------------------------------------------------------------- a net and its description


def _description(model):
    """What it takes to build the same net again."""
    return {
        "class": _class_name(type(model)),
        "layers": model.descriptions,
        "input_dim": model.input_dim,
        "reg": model.reg,
        "loss": model.criterion,
        "dtype": np.dtype(model.dtype).name,
        "streams": model.streams,
        "seed": None if model.new_masks_each_call else model.seed,
        "class_names": None if model.class_names is None else list(map(str, model.class_names)),
        "learned_numbers": model.learned_numbers,
    }


def _built(description, headers):
    """The net of a description, with zeros for weights."""
    net_class = look_up("Net.load", _classes(), description["class"], "class")
    settings = {
        key: description[key] for key in ("layers", "input_dim", "reg", "loss", "dtype", "seed")
    }
    settings["streams"] = description.get("streams")  # not in older files
    model = net_class.__new__(net_class)
    _classes()["Net"].__init__(model, **settings, weight_scale=_zeros_of(headers))
    names = description["class_names"]
    model.class_names = None if names is None else [_word(name) for name in names]
    model.learned_numbers = bool(description["learned_numbers"])
    return model


def _word(name):
    if not isinstance(name, str):
        raise ValueError(f"a class is called {name!r}")
    return name


def _zeros_of(headers):
    """First weights for which there is an array in the file; others are refused, and take no memory."""
    left = [shape for name, (shape, _) in headers.items() if name.startswith("params/")]

    def zeros(rng, shape, fan_in, fan_out):
        if shape not in left:
            raise ValueError(f"there is no parameter of shape {shape}")
        left.remove(shape)
        return np.zeros(shape)

    return zeros


@functools.cache
def _classes():
    package = importlib.import_module(__package__)
    return package.MODELS | package.SEQUENCE_MODELS | {"Net": package.Net}


def _class_name(model):
    """The name of a class of nets. One of your own is a Net, if it only lists layers."""
    for ancestor in model.__mro__:
        if _classes().get(ancestor.__name__) is ancestor:
            return ancestor.__name__ if ancestor is model else "Net"
        if ancestor.__module__.startswith(f"{PACKAGE}.cs231n."):
            continue  # a net of the course computes what its layers do
        if changed := sorted(set(vars(ancestor)) - set(vars(_AddsNothing))):
            raise ValueError(
                f"not written, because {ancestor.__name__} has {changed} of its own; expected a class "
                "that adds nothing to Net but its __init__."
            )


class _AddsNothing:
    """The names that every class has."""

    def __init__(self):
        pass


# ---------------------------------------------------------------------------- descriptions as JSON


@functools.cache
def _functions():
    """{name: function} of handgrad's layers and losses."""
    modules = [importlib.import_module(f"..{name}", __package__) for name in MODULES]
    return {name: vars(module)[name] for module in modules for name in module.__all__}


@functools.cache
def _layers():
    """{name: class} of handgrad's descriptions."""
    package = importlib.import_module(__package__)
    classes = {name: vars(package)[name] for name in package.__all__}
    return {name: c for name, c in classes.items() if dataclasses.is_dataclass(c)}


def encoded(value, own):
    """A value as JSON can hold it. Functions that are not handgrad's are added to `own`, by name."""
    inside = functools.partial(encoded, own=own)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [inside(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [inside(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[inside(key), inside(item)] for key, item in value.items()]}
    if isinstance(value, functools.partial):
        return {"partial": [inside(part) for part in (value.func, value.args, value.keywords)]}
    if type(value) is _layers().get(type(value).__name__):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"layer": [type(value).__name__, inside(fields)]}
    name = getattr(value, "__name__", None)
    if not callable(value) or name is None:
        raise ValueError(
            f"not written, because the net holds {value!r:.60}; expected layers of handgrad, functions "
            "with a name, numbers, words, lists, tuples and dicts."
        )
    if _functions().get(name) is value:
        return {"function": name}
    if own.setdefault(name, value) is not value:
        raise ValueError(
            f"not written, because the net holds two functions called {name!r}; expected a name "
            "of its own for each."
        )
    return {"own": name}


def decoded(value, pairs):
    """What `encoded` made into JSON."""
    if isinstance(value, list):
        return [decoded(item, pairs) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("function", "own"):
        return look_up("Net.load", _functions() if kind == "function" else pairs, content, "function")
    return look_up("Net.load", KINDS, kind, "kind")(decoded(content, pairs))


def _partial(content):
    function, args, keywords = content
    return functools.partial(function, *args, **keywords)


def _layer(content):
    name, fields = content
    return look_up("Net.load", _layers(), name, "layer")(**fields)


KINDS = {"tuple": tuple, "dict": dict, "partial": _partial, "layer": _layer}


# ---------------------------------------------------------------------------- what is checked


def _check_format(meta):
    expected = "expected a .npz file written by Net.save"
    if "settings" in meta:
        raise ValueError(
            f"is a checkpoint of a Solver, which does not hold the layers; {expected}. Its parameters "
            "alone: handgrad.solver.load_params(model, path)."
        )
    if meta.get("model") != FORMAT:
        raise ValueError(f"its format is {meta.get('model')!r}; {expected}.")


def _check_functions(meta, pairs):
    """Raise if functions of the user's are missing."""
    missing = sorted(set(_own_functions(meta.get("net"))) - set(pairs))
    if missing:
        form = ", ".join(f"{name!r}: ..." for name in missing)
        raise ValueError(f"needs functions of your own; expected load(path, pairs={{{form}}}).")


def _own_functions(value):
    """The names under 'own', at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("own"), str):
            yield value["own"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _own_functions(item)
