"""Numerical gradients, and reports that compare a written gradient with them.

`check_layer`, `check_loss` and `check_model` differentiate by *complex step* (Squire & Trapp 1998):
f'(x) = Im f(x + ih) / h. Nothing is subtracted, so h can be 1e-30, and the derivative is right to the
last digits. If a function does not accept complex numbers, they use central differences,
(f(x + h) - f(x - h)) / 2h, which are right to about 1e-8.

The `eval_numerical_gradient` functions have the course's names and meaning: the array is changed *in
place* and restored, so a function that ignores its argument, such as
`lambda _: model.loss(X, y)[0]`, sees the change.
"""

import contextlib
import copy
import warnings
from dataclasses import dataclass, field

import numpy as np

__all__ = [
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
COMPLEX_H = 1e-30
TOLERANCE = {"complex step": 1e-10, "central differences": 1e-5}

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
    grad = eval_numerical_gradient_array(f, x, 1.0, h)
    if verbose:
        for index in np.ndindex(x.shape):
            print(index, grad[index])
    return grad


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

    `passed` is true if the error is within the method's tolerance.
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

    @property
    def passed(self):
        return not self.fault and self.error <= TOLERANCE[self.method]


@dataclass
class Report:
    """The result of a check: true if every row passed. Prints as a table."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def __bool__(self):
        return all(row.passed for row in self.rows)

    @property
    def error(self):
        """The largest relative error of all rows."""
        return max((row.error for row in self.rows), default=0.0)

    def require(self):
        """Returns the report; raises AssertionError with the table if a gradient is wrong."""
        if not self:
            raise AssertionError(f"wrong gradient\n{self}")
        return self

    def __str__(self):
        head = ("array", "shape", "checked", "error", "at", "written", "numeric", "verdict")
        lines = [head] + [
            (
                row.name,
                str(row.shape),
                str(row.checked),
                f"{row.error:.1e}",
                str(row.where),
                f"{row.written:.9g}",
                f"{row.numeric:.9g}",
                row.fault or ("ok" if row.passed else "WRONG"),
            )
            for row in self.rows
        ]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
        table = "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        methods = ", ".join(sorted({row.method for row in self.rows}))
        return f"{self.title} ({methods})\n{table}"


def check_layer(forward, backward, *args, seed=0):
    """Check a forward/backward pair on given arguments, against a random dout.

    args: the arguments of `forward`. Arrays of floats are differentiated, in float64; other arguments
    are passed on, dicts as copies. backward returns one gradient for each array.
    Returns a Report with a row for each array.
    """
    arrays = {f"argument {k}": a for k, a in enumerate(args) if _is_floats(a)}
    point = {name: a.astype(np.float64) for name, a in arrays.items()}

    def run(values):
        given = [values.get(f"argument {k}", a) for k, a in enumerate(args)]
        return forward(*(copy.deepcopy(a) if isinstance(a, dict) else a for a in given))

    out, cache = run(point)
    dout = np.random.default_rng(seed).standard_normal(out.shape)
    grads = backward(dout, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    if len(grads) != len(point):
        raise ValueError(
            f"check_layer: {backward.__name__} gave {len(grads)} gradients, "
            f"expected {len(point)}, one for each array that {forward.__name__} takes."
        )
    written = dict(zip(point, grads, strict=True))
    return _report(forward.__name__, lambda v: np.sum(run(v)[0] * dout), point, written)


def check_loss(loss, x, y):
    """Check a loss function, `loss(x, y) -> loss, dx`. Returns a Report with one row."""
    point = {"x": x.astype(np.float64)}
    _, dx = loss(point["x"], y)
    return _report(loss.__name__, lambda v: loss(v["x"], y)[0], point, {"x": dx})


def check_model(model, X, y, entries=30, seed=0):
    """Check the gradients of a whole model, parameter by parameter, in float64.

    model: anything with `params`, a dict of arrays, and `loss(X, y) -> loss, grads`. The check leaves
    it unchanged. A parameter with up to `entries` entries is checked entry by entry. Of a larger one,
    `entries` random entries are checked, and the derivative along a random direction, which depends
    on every entry. A model with dropout needs a seed, so that each call draws the same mask.
    Returns a Report with a row for each parameter.
    """
    with _restored(model):
        point = {name: p.astype(np.float64) for name, p in model.params.items()}

        def f(values):
            model.params.update(values)
            return model.loss(X, y)[0]

        first, again = f(point), f(point)
        if first != again:
            raise ValueError(
                f"check_model: {type(model).__name__}.loss gave {first} and then {again} for the "
                "same batch, expected equal numbers; a model with dropout needs a seed."
            )
        _, written = model.loss(X, y)
        if set(written) != set(point):
            raise ValueError(
                f"check_model: {type(model).__name__}.loss gave gradients of {sorted(written)}, "
                f"expected those of its parameters, {sorted(point)}."
            )
        return _report(type(model).__name__, f, point, written, entries, seed)


def _is_floats(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


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


def _report(title, f, point, written, entries=None, seed=0):
    """A row for each array: the numerical derivative of f, a function of the dict of arrays."""
    largest = max((np.max(np.abs(g), initial=0.0) for g in written.values()), default=0.0)
    floor = max(1e-4 * largest, np.finfo(np.float64).tiny)
    rng = np.random.default_rng(seed)
    report = Report(title)
    for name in point:
        report.rows.append(_row(f, point, name, written[name], floor, entries, rng))
    return report


def _row(f, point, name, grad, floor, entries, rng):
    x = point[name]
    fault = _fault(grad, x)
    if fault:
        nan = float("nan")
        return Row(name, x.shape, float("inf"), "", nan, nan, "complex step", 0, fault)
    probes = list(_probes(x, entries, rng))
    rows = [_compare(f, point, name, grad, floor, *probe) for probe in probes]
    zero = Row(name, x.shape, 0.0, "", 0.0, 0.0, "complex step", 0)
    worst = max(rows, key=lambda row: row.error, default=zero)
    return Row(**{**worst.__dict__, "checked": sum(where != "direction" for where, _ in probes)})


def _fault(grad, x):
    """What is wrong with a gradient's shape, or with numbers that are not finite; else ''."""
    if np.shape(grad) != x.shape:
        return f"shape {np.shape(grad)}"
    if not np.all(np.isfinite(grad)):
        return "not finite"
    return ""


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


def _compare(f, point, name, grad, floor, where, direction):
    """The written derivative along a direction and the numerical one, by the better method."""
    written = float(np.sum(grad * direction))
    # a sum over all entries has the rounding error of its terms
    scale = max(floor, 1e-4 * float(np.sum(np.abs(grad * direction))))

    def row(numeric, method):
        error = abs(written - numeric) / max(abs(written), abs(numeric), scale)
        error = float(error) if np.isfinite(error) else float("inf")
        return Row(name, grad.shape, error, where, written, numeric, method, 1)

    exact = _complex_step(f, point, name, direction)
    if exact is not None and row(exact, "complex step").passed:
        return row(exact, "complex step")
    # Either the gradient is wrong, or the function breaks the complex step (abs, conjugate, a cast).
    central = _central_difference(f, point, name, direction)
    if exact is not None and abs(exact - central) <= 1e-4 * max(abs(exact), abs(central), scale):
        return row(exact, "complex step")
    return row(central, "central differences")


def _complex_step(f, point, name, direction):
    """Im f(x + ih d) / h, or None where f does not take complex numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            value = f({**point, name: point[name] + 1j * COMPLEX_H * direction})
        except (TypeError, np.exceptions.ComplexWarning):
            return None
    return float(np.imag(value) / COMPLEX_H) if np.iscomplexobj(value) else None


def _central_difference(f, point, name, direction):
    h = H / max(1.0, float(np.max(np.abs(direction), initial=0.0)))
    above = f({**point, name: point[name] + h * direction})
    below = f({**point, name: point[name] - h * direction})
    return float((above - below) / (2 * h))
