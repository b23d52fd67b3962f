"""The functions under a gradient check as black boxes: called on copies, and watched.

A box has
    title        a name for reports
    point        the dict of arrays to differentiate by, in float64
    dout         the weights of the outputs, which backward gets
    value        value(point) -> out
    gradients    gradients(point, dout) -> a dict with what backward gives for each array
    facts        what was seen at the first calls and needs no derivative, as a list of Fact
"""

import copy
import inspect
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .checks import check_pair

MOST_OUTPUTS = 300

__all__ = ["Fact", "LayerBox", "LossBox", "ModelBox", "Raised", "floats", "raised"]


@dataclass(frozen=True)
class Fact:
    """A breach of the contract: the array that it concerns, a cause, and the evidence in words."""

    array: str
    cause: str
    evidence: str
    breaks_off: bool = False  # no derivative can be compared


class Raised(Exception):  # noqa: N818
    """An exception in the code under examination, in words; no error of ours."""

    def __init__(self, who, error):
        frames = traceback.extract_tb(error.__traceback__)
        last = next((f for f in reversed(frames) if "numpy" not in f.filename), frames[-1])
        place = f"line {last.lineno} of {Path(last.filename).name}, {last.line!r}"
        super().__init__(f"{who} raised {type(error).__name__}: {error} ({place}).")


def raised(box, error):
    """A Fact for each array of a box whose code raised."""
    return [Fact(name, "unknown", str(error), True) for name in box.point]


def floats(a):
    """Whether a is an array of floats."""
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def fresh(arg):
    """A copy, so that nothing under examination can change what the check works with."""
    return arg.copy() if isinstance(arg, np.ndarray) else copy.deepcopy(arg)


def equal(a, b):
    """Whether two arrays hold the same numbers."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def repeated(a, b):
    """Whether two results agree but for rounding, which may differ with the place in memory.

    What is no array of numbers counts as the same, if its shape is.
    """
    try:
        a, b = np.asarray(a), np.asarray(b)
    except ValueError:  # rows of unequal lengths
        return True
    if a.shape != b.shape or a.dtype.kind not in "biufc" or b.dtype.kind not in "biufc":
        return a.shape == b.shape
    digits = 1e3 * np.finfo(a.dtype if a.dtype.kind in "fc" else float).eps
    finite = np.abs(a[np.isfinite(a)])
    return np.allclose(a, b, rtol=digits, atol=digits * np.max(finite, initial=0.0), equal_nan=True)


def _kind(a):
    return f"an array of {a.dtype}" if isinstance(a, np.ndarray) else f"a {type(a).__name__}"


def name_of(function):
    return getattr(function, "__name__", type(function).__name__)


def names_of(function, args):
    """What a function calls these arguments; 'argument k' where its signature does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # as of some functions in C
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*names, *(f"argument {k}" for k in range(len(names), len(args)))][: len(args)]


# ---------------------------------------------------------------------------- a pair


class LayerBox:
    """A pair forward(*args) -> out, cache and backward(dout, cache) -> one gradient an array."""

    kind = "layer"

    def __init__(self, forward, backward, args, seed=0):
        for name, f in (("forward", forward), ("backward", backward)):
            if not callable(f):
                raise TypeError(
                    f"check_layer: {name} is a {type(f).__name__}, expected a function, not its result."
                )
        check_pair("check_layer", forward, backward)
        self._forward, self._backward, self.args = forward, backward, args
        self.title, self.who = name_of(forward), name_of(backward)
        self.names = names_of(forward, args)
        self.place = {self.names[k]: k for k, a in enumerate(args) if floats(a)}
        self.point = {name: args[k].astype(np.float64) for name, k in self.place.items()}
        if not self.point:
            kinds = ", ".join(_kind(a) for a in args) or "nothing"
            raise ValueError(
                f"check_layer: {self.title} got {kinds}, expected an array of floats; "
                "try x.astype(float)."
            )
        self.rng = np.random.default_rng(
            [seed, 15]
        )  # 15: else a caller with this seed may draw x = dout
        self.out, _ = self.forward(self.given(self.point))
        self.dout = self.rng.standard_normal(self.out.shape)

    def given(self, values):
        """The arguments of forward, as copies, with these arrays."""
        given = [fresh(arg) for arg in self.args]
        for name, k in self.place.items():
            given[k] = values[name].copy()
        return given

    def forward(self, given):
        """(out, cache), where out is an array."""
        result = self._forward(*given)
        if not isinstance(result, tuple | list) or len(result) != 2:
            came = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
            raise ValueError(f"check_layer: {self.title} gave {came}, expected two, out and cache.")
        out = np.asarray(result[0])
        if out.dtype.kind not in "fc":
            raise ValueError(
                f"check_layer: out of {self.title} has dtype {out.dtype}, expected floats."
            )
        return out, result[1]

    def backward(self, dout, cache):
        """The gradients as a list; Raised if backward fails."""
        try:
            grads = self._backward(dout, cache)
        except Exception as error:
            raise Raised(self.who, error) from error
        several = isinstance(grads, list) and any(isinstance(g, np.ndarray) for g in grads)
        return list(grads) if several or isinstance(grads, tuple) else [grads]

    def value(self, values):
        return self.forward(self.given(values))[0]

    def value_with(self, position, setting):
        """`value` with another setting in place of one."""

        def value(values):
            given = self.given(values)
            given[position] = fresh(setting)
            return self.forward(given)[0]

        return value

    def gradients(self, values, dout):
        _, cache = self.forward(self.given(values))
        return self.named(self.backward(dout.copy(), cache))

    @cached_property
    def unit_gradients(self):
        """`gradients` for a dout of 1 at each output by itself; None if there are too many."""
        if self.out.size > MOST_OUTPUTS:
            return None
        units = np.eye(self.out.size).reshape(-1, *self.out.shape)
        return [self.gradients(self.point, unit) for unit in units]

    def named(self, grads):
        """The gradients by array. One too few is None; one too many has a name of its own."""
        grads = grads + [None] * (len(self.point) - len(grads))
        names = list(self.point) + [f"gradient {k}" for k in range(len(self.point), len(grads))]
        return dict(zip(names, grads, strict=True))

    # ------------------------------------------------------------------ its conduct

    def facts(self):
        """Whether it changes its arguments, repeats itself, and keeps to its cache."""
        given = self.given(self.point)
        out, cache = self.forward(given)
        changed = self._changed(given, "forward")
        if not repeated(out, self.value(self.point)):
            words = "Two calls of forward with the same arguments gave different numbers."
            return [Fact(name, "random", words, breaks_off=True) for name in self.point]
        dout = self.dout.copy()
        first = self.backward(dout, cache)
        changed = changed or self._changed(given, "backward")
        if not equal(dout, self.dout):
            changed.append(Fact("dout", "input changed", _entries(self.dout, dout, "backward", "dout")))
        facts = [*changed, *self._repeats(first, cache, bool(changed))]
        return facts + single_precision(self, f"forward gave out in {self.out.dtype}")

    def _changed(self, given, who):
        facts, before = [], self.given(self.point)
        for k, (old, new) in enumerate(zip(before, given, strict=True)):
            if isinstance(old, np.ndarray) and not equal(old, new):
                words = _entries(old, new, who, self.names[k])
                facts.append(Fact(self.names[k], "input changed", words))
        return facts

    def _repeats(self, first, cache, changed):
        """Compare backward's gradients with those of later calls."""
        names = list(self.named(first))
        anew = self.backward(self.dout.copy(), self.forward(self.given(self.point))[1])
        words = "Two passes forward and backward with the same numbers gave different gradients."
        facts = _differing(names, first, anew, "random", words)
        if facts:
            return facts
        again = [] if changed else self.backward(self.dout.copy(), cache)
        words = (
            "A second backward call with the same cache gave another gradient: the first changed it."
        )
        return _differing(names, first, again, "input changed", words) or self._stale(names, first)

    def _stale(self, names, first):
        for other in self._others():
            _, cache = self.forward(self.given(self.point))
            try:
                self.forward(other)
            except Exception:  # what is no valid argument tells nothing
                continue
            words = (
                "After forward was called with other numbers, backward gave another gradient for the "
                "first call's cache."
            )
            try:
                late = self.backward(self.dout.copy(), cache)
            except Raised:
                late = [None] * len(first)
            facts = _differing(names, first, late, "stale", words)
            if facts:
                return facts
        return []

    def _others(self):
        """Other arguments: the numbers of each array in another order; and a batch of one."""
        shuffled = {
            name: 1.25 * self.rng.permuted(a.ravel()).reshape(a.shape) for name, a in self.point.items()
        }
        yield self.given(shuffled)
        first = next(iter(self.place.values()), None)
        if first is not None and np.ndim(self.args[first]) > 1 and len(self.args[first]) > 1:
            given = self.given(self.point)
            given[first] = given[first][:1]
            yield given


def single_precision(box, came):
    """A Fact for each array if what forward gives is shorter than float64."""
    if box.out.dtype.itemsize >= 8:
        return []
    words = f"{came} though the arrays were float64."
    return [Fact(name, "precision", words) for name in box.point]


def _entries(old, new, who, name):
    same_shape = old.shape == new.shape
    count = np.sum(old != new) if same_shape else new.size
    at = _index(old != new) if same_shape else ""
    shown = f", e.g. at {at}: {old[at]:.4g} became {new[at]:.4g}" if same_shape else ""
    return f"{who} changed {count} of the {old.size} entries of {name}{shown}."


def _index(mask):
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _differing(names, first, second, cause, words):
    """A Fact for each gradient of `first` that `second` does not repeat."""
    pairs = zip(names, first, second, strict=False)
    return [
        Fact(name, cause, words)
        for name, a, b in pairs
        if (a is None) != (b is None) or not repeated(a, b)
    ]


# ---------------------------------------------------------------------------- losses and models


class LossBox:
    """A loss function, loss(x, y) -> loss, dx."""

    kind = "loss"

    def __init__(self, loss, x, y):
        if not callable(loss):
            raise TypeError(f"check_loss: loss is a {type(loss).__name__}, expected a function.")
        self._loss, self.labels = loss, np.asarray(y)
        self.title = self.who = name_of(loss)
        self.args, self.place = (), {"x": 0}
        self.point, self.dout = {"x": np.asarray(x).astype(np.float64)}, np.ones(())

    @cached_property
    def out(self):
        return np.asarray(self.value(self.point))

    def _call(self, x):
        try:
            result = self._loss(x, fresh(self.labels))
        except Exception as error:
            raise Raised(self.title, error) from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(f"check_loss: {self.title} gave {result!r:.60}, expected loss and dx.")
        if np.shape(result[0]) != ():
            came = np.shape(result[0])
            raise ValueError(
                f"check_loss: {self.title} gave a loss of shape {came}, expected a number."
            )
        return result

    def value(self, values):
        return self._call(values["x"].copy())[0]

    def gradients(self, values, dout):
        return {"x": self._call(values["x"].copy())[1]}  # dout is 1

    def facts(self):
        x = self.point["x"].copy()
        first = self._call(x)
        if not equal(x, self.point["x"]):
            return [Fact("x", "input changed", _entries(self.point["x"], x, self.title, "x"))]
        second = self._call(self.point["x"].copy())
        if not repeated(first[0], second[0]) or not repeated(first[1], second[1]):
            words = "Two calls with the same arguments gave different numbers."
            return [Fact("x", "random", words, breaks_off=True)]
        return single_precision(self, f"The loss came in {self.out.dtype}")


class ModelBox:
    """A model: `params`, a dict of arrays, and loss(X, y) -> loss, gradients.

    Parameters whose entries are all equal, such as first biases, are moved at random: there a penalty
    on them, or one gradient in place of another, would not be seen.
    """

    kind = "model"

    def __init__(self, model, X, y, seed=0):
        self.model, self.X, self.labels = model, np.asarray(X), np.asarray(y)
        self.title = type(model).__name__
        self.who, self.args, self.place = f"{self.title}.loss", (), {}
        rng = np.random.default_rng([seed, 15])
        self.point = {
            name: _moved(np.asarray(p).astype(np.float64), rng) for name, p in model.params.items()
        }
        self.dout = np.ones(())

    @cached_property
    def out(self):
        return np.asarray(self.value(self.point))

    def call(self, values, X=None, y=None):
        """(loss, gradients) at these parameters."""
        X, y = (self.X, self.labels) if X is None else (X, y)
        self.batch = X.copy(), y.copy()
        self.model.params.update({name: p.copy() for name, p in values.items()})
        try:
            result = self.model.loss(*self.batch)
        except Exception as error:
            raise Raised(self.who, error) from error
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
            raise ValueError(f"check_model: {self.who} gave {result!r:.60}, expected loss and a dict.")
        return result

    def value(self, values):
        return self.call(values)[0]

    def gradients(self, values, dout):
        grads = self.call(values)[1]
        return {**dict.fromkeys(self.point), **{k: grads[k] for k in grads}}

    def facts(self):
        loss, grads = self.call(self.point)
        changed = [
            Fact(name, "input changed", _entries(old, new, self.who, name))
            for name, old in self.point.items()
            if not equal(old, new := self.model.params[name])
        ] + [
            Fact(name, "input changed", _entries(old, new, self.who, name))
            for name, old, new in zip("Xy", (self.X, self.labels), self.batch, strict=True)
            if not equal(old, new)
        ]
        again, anew = self.call(self.point)
        if not repeated(loss, again):
            words = f"The loss of the same batch was {loss} and then {again}."
            return [Fact(name, "random", words, breaks_off=True) for name in self.point]
        first, second = ([g.get(name) for name in self.point] for g in (grads, anew))
        words = "Two calls with the same batch gave different gradients."
        random = _differing(list(self.point), first, second, "random", words)
        return changed or random or single_precision(self, f"The loss came in {self.out.dtype}")


def _moved(p, rng):
    constant = p.size > 0 and np.all(p == p.flat[0])
    return p + 0.01 * rng.standard_normal(p.shape) if constant else p
