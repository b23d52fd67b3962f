"""Numerical gradients, and reports that compare a written gradient with them.

`check_layer`, `check_loss` and `check_model` differentiate by *complex step*, which is right to the
last digits, or by central differences, right to about 1e-8, where a function takes no complex numbers
(engine/derivatives.py). They also watch the contract of layers.py: no argument is written to, two calls
agree, a cache is all that backward needs. For each array that fails, doctor.py says what is wrong.

A point on a kink, such as 0 for relu, has several right gradients. Entries there are set aside if the
written gradient is between the derivatives to the left and to the right, or is right close by. The
report stays true and has a note with the cause 'kink'.

The `eval_numerical_gradient` functions have the course's names and meaning: the array is changed *in
place* and restored, so a function that ignores its argument, such as
`lambda _: model.loss(X, y)[0]`, sees the change.
"""

import contextlib
import copy
import math
import textwrap
from dataclasses import dataclass, field, replace

import numpy as np

from .doctor import Diagnosis, diagnose, of_layers, of_numbered_layers
from .engine import diagnosis, html
from .engine.blackbox import LayerBox, LossBox, ModelBox, Raised, floats, raised
from .engine.columns import in_columns
from .engine.derivatives import COMPLEX_STEP, Derivative
from .engine.workers import workers

__all__ = [
    "Diagnosis",
    "Report",
    "Row",
    "check_layer",
    "check_loss",
    "check_model",
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "eval_numerical_gradient_blobs",
    "grad_check_sparse",
    "rel_error",
]

H = 1e-5  # of central differences

# ---------------------------------------------------------------------------- the course's functions


def rel_error(x, y):
    """The largest |x - y| / max(1e-8, |x| + |y|) over all entries; 0 for empty arrays."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        raise ValueError(f"rel_error: x has shape {x.shape} and y {y.shape}, expected equal ones.")
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)), initial=0.0)


def eval_numerical_gradient(f, x, verbose=False, h=H):
    """The gradient of the number f(x) with respect to the array x, by central differences.

    x: floats, changed in place and restored.  verbose: print every entry.
    """
    grad = eval_numerical_gradient_array(lambda x: _one_number(f(x)), x, 1.0, h)
    if verbose:
        for index in np.ndindex(x.shape):
            print(index, grad[index])
    return grad


def _one_number(value):
    if np.size(value) != 1:
        raise ValueError(
            f"eval_numerical_gradient: f gave an array of shape {np.shape(value)}, expected a number; "
            "eval_numerical_gradient_array takes such an f."
        )
    return value


def eval_numerical_gradient_array(f, x, df, h=H):
    """The gradient of sum(f(x) * df) with respect to x: what backward should return for dout = df.

    f: a function of x whose result has df's shape.  x: floats, changed in place and restored.
    """
    _check_floats("eval_numerical_gradient_array", x)
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = _both_sides(f, x, index, h)
        grad[index] = np.sum((above - below) * df) / (2 * h)
    return grad


def eval_numerical_gradient_blobs(f, inputs, output, h=H):
    """Numerical gradients of a function on blobs: objects with `vals` and `diffs`.

    f(*inputs, output) writes output.vals; output.diffs is the gradient of the loss with respect to it.
    Returns a list with one gradient for each input.
    """

    def values(_):
        f(*inputs, output)
        return output.vals

    return [eval_numerical_gradient_array(values, b.vals, output.diffs, h) for b in inputs]


def grad_check_sparse(f, x, analytic_grad, num_checks=10, h=H, seed=None):
    """Compare analytic_grad with central differences of the number f(x) at random entries.

    x, analytic_grad: arrays of one shape; x holds floats, is changed in place and restored.
    num_checks: how many entries (10); one may come twice.  seed: of the draw (None: another each time).
    Prints a line for each entry, as the course does. Returns the largest relative error
    |a - b| / (|a| + |b|), which is 0 where both are 0.
    """
    _check_floats("grad_check_sparse", x)
    worst = 0.0
    for flat in np.random.default_rng(seed).integers(x.size, size=num_checks):
        index = np.unravel_index(flat, x.shape)
        above, below = _both_sides(f, x, index, h)
        numeric, analytic = (above - below) / (2 * h), analytic_grad[index]
        size = abs(numeric) + abs(analytic)
        error = abs(numeric - analytic) / size if size else 0.0
        print(f"numerical: {numeric:f} analytic: {analytic:f}, relative error: {error:e}")
        worst = max(worst, error)
    return worst


def _both_sides(f, x, index, h):
    """f at x[index] + h and at x[index] - h, as copies; x is restored also after an error."""
    old = x[index]
    try:
        x[index] = old + h
        above = np.array(f(x))
        x[index] = old - h
        return above, np.array(f(x))
    finally:
        x[index] = old


def _check_floats(who, x):
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        came = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(
            f"{who}: x is of type {came}, expected an array of floats, which is changed by h in place; "
            "try x.astype(float)."
        )


# ---------------------------------------------------------------------------- reports


@dataclass(frozen=True)
class Row:
    """The result for one array: its entry where the written gradient is furthest from the numerical.

    `passed` is true if the error is within the method's tolerance, and nothing else is at fault.
    """

    name: str
    shape: tuple
    error: float  # |written - numeric| / max(|written|, |numeric|, 1e-4 * the largest gradient)
    where: tuple | str
    written: float
    numeric: float
    method: str
    checked: int  # entries looked at one by one
    fault: str = ""
    tolerance: float = 1e-10
    kink: tuple | str = ""  # an entry that lies on a kink, and was set aside

    @property
    def passed(self):
        """Whether the gradient of this array is right."""
        return not self.fault and self.error <= self.tolerance

    @property
    def verdict(self):
        """'ok', 'WRONG', or what is at fault, in a few words."""
        if self.passed:
            return "ok, on a kink" if self.kink != "" else "ok"
        return self.fault or "WRONG"

    @property
    def cells(self):
        """The row as text, under HEAD."""
        numbers = (f"{self.error:.1e}", self.where, f"{self.written:.9g}", f"{self.numeric:.9g}")
        return tuple(map(str, (self.name, self.shape, self.checked, *numbers, self.verdict)))


HEAD = ("array", "shape", "checked", "error", "at", "written", "numeric", "verdict")


@dataclass
class Report:
    """The result of a check: true if every row passed. Prints as a table; a table in notebooks, too.

    diagnoses   what is wrong with each array that failed, as doctor.Diagnosis; notes on kinks
    layer       of a model: the first layer, from the loss down, whose gradient is wrong while what
                reaches it is right; '' if that is not known
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)
    layer: str = ""

    def __bool__(self):
        faults = [d for d in self.diagnoses if d.cause != "kink"]
        return not faults and all(row.passed for row in self.rows)

    @property
    def error(self):
        """The largest relative error of all rows."""
        return max((row.error for row in self.rows), default=0.0)

    def require(self):
        """Returns the report; raises AssertionError with the table if a gradient is wrong."""
        if not self:
            raise AssertionError(f"wrong gradient\n{self}")
        return self

    @property
    def caption(self):
        """What was checked, and by which method."""
        methods = ", ".join(sorted({row.method for row in self.rows}))
        return f"{self.title} ({methods})"

    def __repr__(self):
        lines = [HEAD, *(row.cells for row in self.rows)]
        first = [f"The first wrong layer from the loss down: {self.layer}."] if self.layer else []
        return "\n".join([self.caption, in_columns(lines), *first, *map(_wrapped, self.diagnoses)])

    def _repr_html_(self):
        rows = html.table(HEAD, [row.cells for row in self.rows], self.caption)
        if not self.diagnoses:
            return rows
        cells = [(d.array, d.cause, d.evidence, d.advice) for d in self.diagnoses]
        caption = f"The first wrong layer from the loss down: {self.layer}" if self.layer else ""
        return rows + html.table(("array", "cause", "evidence", "advice"), cells, caption)


def _wrapped(diagnosis):
    return textwrap.fill(str(diagnosis), 100, subsequent_indent="    ", break_long_words=False)


@workers(1)  # more threads of BLAS take longer for products as small as these
def check_layer(forward, backward, *args, seed=0):
    """Check a forward/backward pair on given arguments, against a random dout.

    args: the arguments of `forward`, which gets copies. Arrays of floats are differentiated, in
    float64; other arguments are passed on. backward returns one gradient for each array.
    seed: of dout.
    Returns a Report with a row for each array. An exception in backward is a row's fault; one in
    forward is passed on.
    """
    return _report(LayerBox(forward, backward, args, seed))


@workers(1)  # more threads of BLAS take longer for products as small as these
def check_loss(loss, x, y):
    """Check a loss function, `loss(x, y) -> loss, dx`. Returns a Report with one row."""
    return _report(LossBox(loss, x, y))


@workers(1)  # more threads of BLAS take longer for products as small as these
def check_model(model, X, y, entries=30, seed=0):
    """Check the gradients of a whole model, parameter by parameter, in float64.

    model: anything with `params`, a dict of arrays, and `loss(X, y) -> loss, grads`. The check leaves
    it unchanged. A parameter with up to `entries` entries is checked entry by entry. Of a larger one,
    `entries` random entries are checked, and the derivative along a random direction, which depends
    on every entry. Parameters that are constant, as first biases, are moved by random numbers of 0.01:
    at 0 the gradient of a penalty on them would not show. A model with dropout needs a seed, so that
    each call draws the same mask.
    Returns a Report with a row for each parameter. A Net's layers are checked one by one if a
    parameter fails, with what the net passes to them.
    """
    diagnosis.check_model(model, "check_model")
    with _restored(model):
        box = ModelBox(model, X, y, seed)
        report = _report(box, entries, seed)
        if not report and hasattr(model, "layer_calls"):
            of_layers(report, _layer_reports(model, box, entries, seed))
        elif not report:
            of_numbered_layers(report)
    return report


def _layer_reports(model, box, entries, seed):
    """(title, names of its arrays, report) of a net's loss and layers, from the loss down."""
    model.params.update(box.point)
    calls, loss, scores = model.layer_calls(box.X)
    yield "the loss", ["scores"], _report(LossBox(loss, scores, box.labels), entries, seed)
    for title, forward, backward, args, names in reversed(calls):
        arrays = [name for name, a in zip(names, args, strict=False) if floats(a)]
        if arrays:
            yield title, arrays, _report(LayerBox(forward, backward, args, seed), entries, seed)


@contextlib.contextmanager
def _restored(model):
    """Put the model's parameters and state back at the end."""
    params = dict(model.params)
    state = copy.deepcopy(getattr(model, "state", None))
    try:
        yield
    finally:
        model.params.update(params)
        if state is not None:
            model.state = state


# ---------------------------------------------------------------------------- rows


def _report(box, entries=None, seed=0):
    """Compare what the box's backward gives with numerical derivatives, array by array."""
    try:
        return _compared(box, entries, seed)
    except Raised as error:
        rows = [_no_numbers(name, x, "raised") for name, x in box.point.items()]
        return Report(box.title, rows, diagnose(box, {}, rows, raised(box, error)))


def _compared(box, entries, seed):
    report = Report(box.title)
    written = box.gradients(box.point, box.dout)
    facts = box.facts()
    largest = max((_largest(g) for g in written.values()), default=0.0)
    floor = max(1e-4 * largest, np.finfo(np.float64).tiny)
    rng = np.random.default_rng(seed)
    comparison = Comparison(box, written, floor)
    faults = {fact.array: fact for fact in facts}
    for name, x in box.point.items():
        fault = faults.get(name)
        if fault and fault.breaks_off:
            report.rows.append(_no_numbers(name, x, fault.cause))
        else:
            row = _row(comparison, name, _probes(x, entries, rng))
            cause = fault.cause if fault else _short(written[name])
            report.rows.append(replace(row, fault=row.fault or cause))
    if facts or set(written) - set(box.point) or not all(_is_clean(row) for row in report.rows):
        report.diagnoses = diagnose(box, written, report.rows, facts)
    return report


def _is_clean(row):
    return row.passed and row.kink == ""


def _largest(grad):
    try:
        return float(np.max(np.abs(np.asarray(grad, np.complex128)), initial=0.0))
    except (TypeError, ValueError):  # `_fault` says that it holds no numbers
        return 0.0


def _no_numbers(name, x, fault):
    nan = float("nan")
    return Row(name, x.shape, float("inf"), "", nan, nan, COMPLEX_STEP, 0, fault)


def _fault(grad, x):
    """What is wrong with a gradient but its numbers; else ''."""
    if grad is None:
        return "missing"
    if isinstance(grad, list | tuple | dict):
        return f"a {type(grad).__name__}"
    dtype = np.asarray(grad).dtype
    if dtype.kind not in "fc" or np.any(np.imag(grad)):
        return f"of {dtype}"
    if np.shape(grad) != x.shape:
        return f"shape {np.shape(grad)}"
    if not np.all(np.isfinite(grad)):
        return "not finite"
    return ""


def _short(grad):
    """'of float32' for a gradient shorter than the float64 of its array, else ''."""
    dtype = getattr(grad, "dtype", np.dtype(float))
    return f"of {dtype}" if dtype.kind == "f" and dtype.itemsize < 8 else ""


def _row(comparison, name, probes):
    box = comparison.box
    grad, x = comparison.written[name], box.point[name]
    fault = _fault(grad, x)
    if fault:
        return _no_numbers(name, x, fault)
    derivative = Derivative(box.value, box.point, name, box.dout)
    rows = [comparison.row(derivative, *probe) for probe in probes]
    zero = Row(name, x.shape, 0.0, "", 0.0, 0.0, derivative.method, 0)
    worst = max(rows, key=lambda row: row.error, default=zero)
    kink = next((row.kink for row in rows if row.kink != ""), "")
    checked = sum(row.where != "direction" for row in rows)
    return replace(worst, checked=checked, kink=kink)


def _probes(x, entries, rng):
    """Directions to differentiate along, (name, array): unit vectors, and one through all entries."""
    flat = np.arange(x.size)
    if entries is not None and x.size > entries:
        yield "direction", rng.standard_normal(x.shape)
        flat = rng.choice(x.size, entries, replace=False)
    for k in flat:
        unit = np.zeros(x.shape)
        index = tuple(int(i) for i in np.unravel_index(k, x.shape))
        unit[index] = 1
        yield index, unit


class Comparison:
    """Compares the written derivatives along directions with numerical ones."""

    def __init__(self, box, written, floor):
        self.box, self.written, self.floor = box, written, floor
        self._moved = self._rounded = None

    def row(self, derivative, where, direction):
        dout, grad = self.box.dout, np.real(self.written[derivative.name])
        written = float(np.sum(grad * direction))
        # a sum over all entries has the rounding error of its terms
        scale = max(self.floor, 1e-4 * float(np.sum(np.abs(grad * direction))))
        scale = max(scale, derivative.noise / derivative.tolerance)

        def compared(numeric, scale=scale):
            error = abs(written - numeric) / max(abs(written), abs(numeric), scale)
            error = float(error) if np.isfinite(error) else float("inf")
            numbers = (error, where, written, numeric, derivative.method, 1)
            return Row(derivative.name, grad.shape, *numbers, tolerance=derivative.tolerance)

        slope, may_kink = derivative.along(direction)
        if derivative.method != COMPLEX_STEP:
            lost = derivative.lost * float(np.linalg.norm(slope * dout))
            scale = max(scale, lost / derivative.tolerance)
        row = compared(float(np.sum(slope * dout)), scale)
        off = abs(written - row.numeric)
        if 1e-10 < row.error and (row.error < 1e-6 or off < derivative.bound):
            noise = self._rounding(derivative.name, written, direction)
            row = compared(row.numeric, max(scale, noise / derivative.tolerance))
        if row.passed or derivative.method == COMPLEX_STEP:
            return row
        refined = compared(float(np.sum(derivative.refined(direction) * dout)), scale)
        if refined.passed or not may_kink:
            return refined if refined.passed else row
        nearer = compared(float(np.sum(derivative.central(direction, 1e-7) * dout)))
        if nearer.passed:
            return nearer
        sides = derivative.sides(direction)
        if sides is not None and self._is_one_of_several(derivative.name, sides, written, direction):
            return replace(row, error=0.0, kink=where)
        return row

    def _rounding(self, name, written, direction):
        """A bound on written's own rounding error: how far it moves if the arrays move by theirs."""
        if self._rounded is None:
            rng = np.random.default_rng(2)
            points = (
                {k: a * (1 + 1e-15 * rng.standard_normal(a.shape)) for k, a in self.box.point.items()}
                for _ in range(4)
            )
            self._rounded = [self.box.gradients(point, self.box.dout) for point in points]
        moved = [float(np.sum(np.real(grads[name]) * direction)) for grads in self._rounded]
        return 10 * max(abs(m - written) for m in moved)

    def _is_one_of_several(self, name, sides, written, direction):
        """Whether written lies between the derivatives to both sides, or is right close by."""
        left, right = (side * self.box.dout for side in sides)
        low, high = np.sum(np.minimum(left, right)), np.sum(np.maximum(left, right))
        slack = 1e-5 * max(abs(low), abs(high), self.floor)
        return low - slack <= written <= high + slack or self._is_right_nearby(name, direction)

    def _is_right_nearby(self, name, direction):
        moved, grads = self._nearby()
        if _fault(grads[name], moved[name]):
            return False
        derivative = Derivative(self.box.value, moved, name, self.box.dout)
        numeric = float(np.sum(derivative.along(direction)[0] * self.box.dout))
        written = float(np.sum(grads[name] * direction))
        size = max(abs(written), abs(numeric), self.floor)
        return math.isclose(written, numeric, rel_tol=0, abs_tol=10 * derivative.tolerance * size)

    def _nearby(self):
        """A point close by, off the kinks, and the gradients there."""
        if self._moved is None:
            rng = np.random.default_rng(1)
            point = {
                name: a
                + 1e-3 * max(1e-3, float(np.max(np.abs(a), initial=0.0))) * rng.standard_normal(a.shape)
                for name, a in self.box.point.items()
            }
            self._moved = point, self.box.gradients(point, self.box.dout)
        return self._moved
