"""Functions of the student's in the place of handgrad's.

Whoever calls a layer or an update rule here (the nets, the sandwiches, the Solver) looks first whether
the student has put another function under its name into the course's modules.
"""

import importlib.util
import sys
import types
from pathlib import Path

from .. import layer_utils
from .. import layers as L
from ..engine.errors import refuse_unknown, suggestion

__all__ = ["CourseModule", "Live", "layer_functions", "rules", "sandwiches", "take", "with_names"]

KINDS = ("_forward", "_backward", "_loss")
VERSIONS = ("_naive", "_fast", "_im2col", "_strides", "_reshape", "_alt")  # of one and the same layer


class CourseModule(types.ModuleType):
    """A module of the course. What is put under a name in one module holds in all that have it."""

    def __setattr__(self, name, value):
        vars(self)[name] = value
        if name in self._given:
            _put(name, value)
        elif callable(value) and any(kind in name for kind in KINDS):
            del vars(self)[name]
            raise AttributeError(
                f"{self.__name__} has no function {name} that yours could replace."
                + suggestion(name, self._given)
            )


def _modules():
    """The course's modules, as far as they are handgrad's."""
    return [module for module in list(sys.modules.values()) if type(module) is CourseModule]


def _put(name, function):
    for module in _modules():
        if name in module._given:
            vars(module)[name] = function


# ---------------------------------------------------------------------------- what is the student's


def rules():
    """The student's update rules by name."""
    return _replaced("cs231n.optim")


def layer_functions():
    """The student's layers and losses by handgrad's names: conv_forward for a conv_forward_naive."""
    modules = ("cs231n.fast_layers", "cs231n.layers", "cs231n.rnn_layers")
    return {_of_any_version(name): function for m in modules for name, function in _replaced(m).items()}


def _replaced(name):
    """{name: function} of what was put into a module of the course since `use`."""
    module = sys.modules.get(name)
    if type(module) is not CourseModule:
        return {}
    now, given = vars(module), module._given
    return {name: now[name] for name, ours in given.items() if now.get(name, ours) is not ours}


def _of_any_version(name):
    for version in VERSIONS:
        name = name.removesuffix(version)
    return name


def sandwiches(functions):
    """The functions of layer_utils, on these layers (by the course's names) or on the student's.

    They are handgrad's code; only the functions that its global names mean are others.
    """
    names = {"__name__": layer_utils.__name__}
    for name in set(L.__all__) & set(vars(layer_utils)):
        names[name] = _live(name, functions.get(f"{name}_fast") or functions[name])
    for name in layer_utils.__all__:
        names[name] = with_names(getattr(layer_utils, name), names)
    return {name: names[name] for name in layer_utils.__all__}


def with_names(function, names):
    """The same function with other global names."""
    other = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    other.__doc__ = function.__doc__
    return other


class Live:
    """A module of handgrad, with the student's functions where there are any."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return layer_functions().get(name) or getattr(self._module, name)


def _live(name, ours):
    def call(*args, **named):
        return layer_functions().get(name, ours)(*args, **named)

    return call


# ---------------------------------------------------------------------------- a file of the student's


def take(mine, only=None):
    """Put functions of a file or a module into the course's modules: all, or `only` some.

    Returns their names.
    """
    module = mine if isinstance(mine, types.ModuleType) else _run(mine)
    theirs = {name: f for name, f in vars(module).items() if _replaces(name, f, module)}
    if not theirs:
        raise ValueError(
            f"handgrad.cs231n.use: {mine} has no function that replaces one of handgrad's, expected a "
            "name such as affine_backward."
        )
    only = theirs if only is None else [only] if isinstance(only, str) else only
    refuse_unknown("handgrad.cs231n.use", only, theirs, f"functions for {mine}")
    for name in only:
        _put(name, theirs[name])
    return sorted(only)


def _run(path):
    """The module that a file makes, read anew and not kept."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _replaces(name, f, module):
    modules = [sys.modules.get(f"cs231n.{m}") for m in ("layers", "fast_layers", "optim", "rnn_layers")]
    places = [module._given for module in modules if type(module) is CourseModule]
    made_there = callable(f) and getattr(f, "__module__", None) == module.__name__
    return made_there and any(name in given for given in places)
