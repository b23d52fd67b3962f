"""What is wrong with a gradient: causes, each tested in numbers.

`gradient_check` calls `diagnose` for the arrays whose gradient is wrong. The functions are black boxes:
nothing is read from names or source. Each cause is a hypothesis about the numbers: written equals
-numeric; written, transposed, equals numeric; adding is replaced by assigning, and written comes out.
A numeric Jacobian (the derivative of every output by every entry) tells what such a gradient would be.

The causes:
    sign            the gradient, or the wrong part of it, is the negative of the right one
    factor          a constant ratio
    transposed      axes in another order, or reversed
    order           the gradients are returned in another order
    sum             not summed over the batch, or over the wrong axis
    mask            the gradient passes where forward did not, or the reverse
    statistics      mean or variance treated as constant
    overwritten     overlapping windows that assign instead of adding
    border          wrong at the edges: padding or stride off by one, a window too few
    detached        zero where it should not be, or a path that is left out
    input changed   forward or backward wrote into its arguments
    stale           backward uses something of the last forward call instead of its cache
    random          two calls differ
    precision       float32 where float64 came in
    kink            no fault: the point lies on a kink of the function; move it
    regularisation  in models: the gradient of the penalty is missing, doubled, or put on biases
    unknown
"""

import itertools
import math
import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .engine.derivatives import COMPLEX_STEP, Derivative

__all__ = ["CAUSES", "Diagnosis", "diagnose", "of_layers", "of_numbered_layers"]

MOST_ENTRIES = 600  # of an array: of a larger one a part is differentiated
MOST_NUMBERS = 4_000_000  # of a Jacobian


@dataclass(frozen=True)
class Diagnosis:
    """Why the gradient of one array is wrong: a cause, the evidence in numbers, and what to do."""

    array: str
    cause: str
    evidence: str
    advice: str

    def __str__(self):
        return f"{self.array}: {self.cause}. {self.evidence} {self.advice}"


@dataclass(frozen=True)
class Finding:
    """What one hypothesis found. strength: 1 where it explains every number."""

    evidence: str
    advice: str
    strength: float = 1.0


# ---------------------------------------------------------------------------- the numbers of a case


class Case:
    """One array of a box: what backward wrote, and what is right."""

    def __init__(self, box, name, written, cases):
        self.box, self.name, self.cases = box, name, cases
        self.x, self.written = box.point[name], as_numbers(written)
        self.raw = written

    @cached_property
    def columns(self):
        """The entries that are differentiated, as flat indices."""
        if self.x.size <= MOST_ENTRIES:
            return np.arange(self.x.size)
        return np.sort(np.random.default_rng(0).choice(self.x.size, MOST_ENTRIES // 2, replace=False))

    @cached_property
    def derivative(self):
        return Derivative(self.box.value, self.box.point, self.name, self.box.dout)

    @property
    def tolerance(self):
        if self.derivative.method == COMPLEX_STEP:
            return 1e-7
        return 5e-2 if self.derivative.single else 2e-5

    @cached_property
    def _parts(self):
        """(Jacobian or None, numeric gradient)."""
        keep = self.box.out.size * len(self.columns) <= MOST_NUMBERS
        J = np.full((self.box.out.size, self.x.size), np.nan) if keep else None
        numeric = np.full(self.x.size, np.nan)
        for k in self.columns:
            column = np.ravel(self._column(k))
            numeric[k] = column @ self.box.dout.ravel()
            if keep:
                J[:, k] = column
        return J, numeric.reshape(self.x.shape)

    def _column(self, k):
        unit = np.zeros(self.x.size)
        unit[k] = 1
        unit = unit.reshape(self.x.shape)
        column, may_kink = self.derivative.along(unit)
        on_kink = may_kink and self.derivative.sides(unit) is not None
        return np.full(column.shape, np.nan) if on_kink else column

    @property
    def numeric(self):
        """The right gradient, NaN where it is not known."""
        return self._parts[1]

    @property
    def jacobian(self):
        """(out.size, x.size), NaN in columns that are not known; None if it is too large."""
        return self._parts[0]

    @cached_property
    def parts(self):
        """What each output adds to each entry, (out.size, x.size): dout_j * J_ji. None if too large."""
        if self.jacobian is None or self.box.kind != "layer":
            return None
        return self.box.dout.reshape(-1, 1) * self.jacobian

    @property
    def fits(self):
        """Whether the written gradient has the right shape."""
        return self.written is not None and self.written.shape == self.x.shape

    @cached_property
    def scale(self):
        return float(np.nanmax(np.abs(self.numeric), initial=0.0))

    @cached_property
    def wrong(self):
        """Where written is not numeric."""
        return self.known & (np.abs(self.written - self.numeric) > self.tolerance * self.scale)

    @cached_property
    def known(self):
        return np.isfinite(self.numeric)

    @cached_property
    def passes(self):
        """Where the right gradient is not zero."""
        return self.known & (np.abs(self.numeric) > 1e-3 * self.tolerance * self.scale)

    def same(self, a, b=None):
        """Whether a, number by number, is numeric, or b; both may be known in part."""
        b = self.numeric if b is None else b
        a, b = np.ravel(a), np.ravel(b)
        if a.size != b.size:
            return False
        known = np.isfinite(a) & np.isfinite(b)
        limit = self.tolerance * max(self.scale, float(np.max(np.abs(b[known]), initial=0.0)))
        return bool(known.any() and limit > 0 and np.all(np.abs(a - b)[known] <= limit))

    def is_written(self, a):
        """Whether this is what backward gave."""
        return self.same(self.written, a)

    def at(self, mask):
        """The first entry of a mask in words: 'at (0, 3) written is 1.2 and numeric 0'."""
        index = tuple(int(i) for i in np.argwhere(mask)[0])
        return f"at {index} written is {self.written[index]:.5g} and numeric {self.numeric[index]:.5g}"

    def gradient_of(self, value, point=None, dout=None, few=None):
        """The numeric gradient of another function, or at another point."""
        derivative = Derivative(value, point or self.box.point, self.name)
        grad = np.full(self.x.size, np.nan)
        for k in self.columns if few is None else self.columns[:: max(1, len(self.columns) // few)]:
            unit = np.zeros(self.x.size)
            unit[k] = 1
            column, _ = derivative.along(unit.reshape(self.x.shape))
            grad[k] = np.sum(column * (self.box.dout if dout is None else dout))
        return grad.reshape(self.x.shape)

    def would_be(self, value, point=None, dout=None):
        """Whether written is the gradient of another function, or at another point."""
        try:
            if not self.is_written(self.gradient_of(value, point, dout, few=8)):
                return False
            return self.is_written(self.gradient_of(value, point, dout))
        except Exception:  # the code under examination may refuse the other arguments
            return False


def as_numbers(grad):
    """A gradient as an array of float64; None if it is not made of numbers."""
    try:
        grad = np.asarray(grad)
        return np.real(grad).astype(np.float64) if grad.dtype.kind in "biufc" else None
    except ValueError:  # rows of unequal lengths
        return None


def count(mask):
    return f"{int(np.sum(mask))} of {mask.size} entries"


def subsets(axes):
    """All subsets of some axes that are not empty, the small ones first."""
    axes = tuple(axes)
    return [s for k in range(1, len(axes) + 1) for s in itertools.combinations(axes, k)]


def permutations(ndim):
    """The orders of axes but the usual one; none for more than five axes."""
    orders = itertools.permutations(range(ndim)) if ndim <= 5 else ()
    return [order for order in orders if order != tuple(range(ndim))]


# ---------------------------------------------------------------------------- shape and place


def order(case):
    """Written is the gradient of another array."""
    for other in case.cases.values():
        shaped = case.written.shape == other.x.shape
        if other is not case and shaped and other.scale and other.same(case.written):
            return Finding(
                f"What came in the place of {case.name} is the gradient of {other.name}, "
                "number by number.",
                "Return the gradients in the order of forward's arguments.",
            )
    return None


def transposed(case):
    """Written is numeric with its axes in another order, or with a factor of it turned."""
    w, n = case.written, case.numeric
    if w.size == n.size and w.shape != n.shape and case.same(w):
        return _only_the_shape(case)
    if not case.scale:
        return None
    for p in permutations(n.ndim):
        if w.size == n.size and case.same(w, n.transpose(p)):
            return Finding(
                f"Written has the right numbers with the axes in the order {p}: its shape is "
                f"{w.shape}, that of {case.name} is {n.shape}.",
                "Transpose it back (.T, or .transpose with the axes in their order before reshape).",
            )
    for axes in subsets(range(n.ndim)[-2:]):
        if w.shape == n.shape and case.same(w, np.flip(n, axes)):
            return Finding(
                f"Written has the right numbers reversed along {_axes(axes)}.",
                "Do not flip the filter: forward is a correlation.",
            )
    return _turned_factor(case) if case.fits and case.box.kind == "layer" else None


def _only_the_shape(case):
    w, n = case.written, case.numeric
    if np.squeeze(w).shape == np.squeeze(n).shape:
        return None  # keepdims, see `sums`
    return Finding(
        f"The numbers are right and in the right order, only the shape is {w.shape}.",
        f"Reshape it to that of {case.name}, {n.shape}.",
    )


def _turned_factor(case):
    """Whether written is the gradient where another array, or dout, has its axes turned."""
    box = case.box
    for name, turned, words in _turned_arrays(box):
        point = {**box.point, name: turned} if name in box.point else None
        dout = turned if name == "dout" else None
        if case.would_be(box.value, point, dout):
            return Finding(
                f"Written is the gradient that {name} would give with {words}.",
                f"Look at how backward multiplies by {name}: a transpose is missing or one too many.",
            )
    return None


def _turned_arrays(box):
    for name, a in [*box.point.items(), ("dout", box.dout)]:
        for p in permutations(a.ndim):
            if a.transpose(p).shape == a.shape:
                yield name, np.ascontiguousarray(a.transpose(p)), f"its axes in the order {p}"
        for axes in subsets(range(a.ndim)[-2:]) if a.ndim > 2 else ():
            yield name, np.flip(a, axes).copy(), f"{_axes(axes)} reversed"


def _axes(axes):
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {tuple(axes)}"


def sums(case):
    """Not summed over the batch, over the wrong axis, or over some of the batch only."""
    w, n = case.written, case.numeric
    if w.shape != n.shape and case.same(w) and np.squeeze(w).shape == np.squeeze(n).shape:
        return Finding(
            f"The numbers are right, but the shape is {w.shape}, expected {n.shape}.",
            "Sum without keepdims=True, or reshape the sum to the array's shape.",
        )
    if not case.scale:
        return None
    for axes in subsets(range(w.ndim)) if w.ndim <= 5 and w.size > n.size else ():
        if case.same(w.sum(axis=axes)):
            return Finding(
                f"Written has the shape {w.shape}; its sum over {_axes(axes)} is the right gradient.",
                f"Sum over {_axes(axes)}: what is used for every example adds up what comes back.",
            )
    return _other_sum(case) or _part_of_the_batch(case) or _softmax_over_the_batch(case)


def _other_sum(case):
    """Each output depends on one entry at most: written is the sum of its terms over other axes."""
    if case.parts is None or case.x.size >= case.box.out.size:
        return None
    known = np.nan_to_num(case.parts)
    if np.max(np.count_nonzero(known, axis=1)) > 1:
        return None
    terms = known.sum(axis=1).reshape(case.box.out.shape)
    right = _right_axes(case, terms)
    for axes in subsets(range(terms.ndim)):
        total = terms.sum(axis=axes)
        for kind, factor in (("sum", 1), ("mean", total.size / terms.size)):
            if axes != right and _fills(case.written, factor * total, case):
                return Finding(
                    f"Written is the {kind} over {_axes(axes)} of out; the right gradient sums "
                    f"over {_axes(right)}.",
                    f"Sum over {_axes(right)} of dout.",
                )
    return None


def _fills(w, total, case):
    """Whether w is total, perhaps spread over more entries."""
    if w.size == total.size:
        return case.same(w, total)
    return total.size == 1 and w.size > 1 and case.same(w, np.full(w.shape, total.item()))


def _right_axes(case, terms):
    for axes in subsets(range(terms.ndim)):
        total = terms.sum(axis=axes)
        if total.size == case.numeric.size and case.same(total):
            return axes
    return (0,)


def _part_of_the_batch(case):
    """Written is what one example, or all but one, adds."""
    shape = case.box.out.shape
    if case.parts is None or not case.fits or not shape or shape[0] < 2:
        return None
    by_example = case.parts.reshape(shape[0], -1, case.x.size).sum(axis=1)
    if np.sum(np.any(np.nan_to_num(by_example) != 0, axis=1)) < 2 or _one_example_each(by_example):
        return None
    for k, words in ((0, "the first example"), (shape[0] - 1, "the last example")):
        rest = by_example.sum(axis=0) - by_example[k]
        if k == 0 and case.is_written(by_example[k]):
            return Finding(
                f"Written is what {words} alone adds; the other {shape[0] - 1} are missing.",
                "Sum over the batch, axis 0.",
            )
        if case.is_written(rest):
            return Finding(
                f"Written is the sum over all examples but {words}.",
                "Let the sum run over the whole batch, axis 0.",
            )
    return None


def _one_example_each(by_example):
    """Whether each entry belongs to one example, as those of x do."""
    return np.max(np.count_nonzero(np.nan_to_num(by_example), axis=0)) < 2


def _softmax_over_the_batch(case):
    """A softmax loss: each column of written + the labels sums to 1, where each row should."""
    labels = case.box.labels if case.box.kind == "loss" else None
    if labels is None or not case.fits or case.x.ndim != 2 or labels.shape != case.x.shape[:1]:
        return None
    if labels.dtype.kind not in "iu" or not np.allclose(np.nansum(case.numeric, axis=1), 0, atol=1e-7):
        return None
    right = np.zeros(case.x.shape)
    right[np.arange(len(labels)), labels] = 1
    for factor in (len(labels), 1):
        p = factor * case.written + right
        if np.allclose(p.sum(axis=0), 1) and np.all(p > 0):
            return Finding(
                "The probabilities in written sum to 1 over axis 0, the batch; they should over axis 1, "
                "the classes.",
                "Normalise with sum(axis=1, keepdims=True).",
            )
    return None


# ---------------------------------------------------------------------------- one number for all


def sign(case):
    """Written is -numeric, everywhere or where it is wrong."""
    if not case.fits or not case.scale:
        return None
    wrong = case.wrong & case.passes
    turned = case.wrong & (np.abs(case.written + case.numeric) <= case.tolerance * case.scale)
    if not wrong.any() or not np.array_equal(turned, case.wrong):
        return _label_added(case)
    if np.array_equal(wrong, case.passes):
        return Finding(
            f"written = -numeric at {count(wrong)}: {case.at(wrong)}.",
            "Turn the sign of this gradient: a minus is missing or one too many.",
        )
    where = _where(case, wrong)
    strength = 0.95 if np.sum(wrong) > 1 else 0.6
    return Finding(
        f"written = -numeric at {count(wrong)}{where}, the others are right: {case.at(wrong)}.",
        "Turn the sign of this part of the gradient.",
        strength,
    )


def _label_added(case):
    """A loss that adds the label's term instead of subtracting it."""
    extra = _extra_at_labels(case)
    if extra is None or not np.isclose(extra * len(case.box.labels), 2, rtol=1e-4):
        return None
    return Finding(
        "Written is right but at the right class of each example, where it is 2 / N too large: the "
        "label's term came with the wrong sign.",
        "Subtract 1 (over N) at the right class instead of adding it.",
    )


def _extra_at_labels(case):
    """The constant that written has too much at the right class, if it is wrong there only."""
    labels = case.box.labels if case.box.kind == "loss" else None
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or case.x.ndim != 2:
        return None
    at = np.zeros(case.x.shape, bool)
    at[np.arange(len(labels)), labels] = True
    if not np.array_equal(at, case.wrong):
        return None
    extra = (case.written - case.numeric)[at]
    return float(extra[0]) if np.allclose(extra, extra[0], rtol=1e-5) else None


def factor(case):
    """A constant ratio, of all entries, of those that are wrong, or along some axes."""
    if not case.fits or not case.passes.any():
        return None
    return _whole_factor(case) or _factor_by_entry(case) or _partial_factor(case)


def _ratio(case, mask):
    """The constant c with written = c * numeric at a mask; None if there is none."""
    w, n = case.written[mask], case.numeric[mask]
    c = float(w @ n / (n @ n))
    constant = np.all(np.abs(w - c * n) <= case.tolerance * max(1, abs(c)) * np.max(np.abs(n)))
    near_one = abs(c - 1) <= case.tolerance
    return None if near_one or abs(c) < 1e-9 or not constant else c


def _whole_factor(case):
    c = _ratio(case, case.known)
    if c is None or abs(c + 1) < case.tolerance:
        return None
    if np.sum(case.passes) < 2 and not _same_ratio_elsewhere(case, c):
        return None
    named = _named(case, c)
    return Finding(
        f"written = {c:.6g} * numeric at {count(case.passes)}" + (f"; {c:.4g} is {named}." if named else "."),
        f"Take this factor out of the gradient, or put it into forward{'' if c > 0 else '; turn the sign'}.",
        1.0 if named or np.sum(case.passes) > 1 else 0.5,
    )


def _same_ratio_elsewhere(case, c):
    """Whether an array of one number has the same ratio for another dout and another point."""
    box, rng = case.box, np.random.default_rng(5)
    if box.kind != "layer":
        return False
    try:
        point = {name: a * (1 + 0.1 * rng.random(a.shape)) for name, a in box.point.items()}
        dout = rng.standard_normal(box.dout.shape)
        written = as_numbers(box.gradients(point, dout)[case.name])
        numeric = case.gradient_of(box.value, point, dout)
        return bool(np.allclose(written, c * numeric, rtol=1e-4))
    except Exception:  # the code under examination
        return False


def _factor_by_entry(case):
    """A ratio that is constant along some axes: a missing or doubled array, such as gamma."""
    varying = [axes for axes in subsets(range(case.x.ndim)) if len(axes) < case.x.ndim]
    if case.x.ndim < 2 or not case.known.all():
        return None
    for axes in reversed(varying):
        products = np.sum(case.numeric**2, axis=axes, keepdims=True)
        if any(case.x.shape[a] < 2 for a in axes) or not np.all(products):
            continue
        mean = np.sum(case.written * case.numeric, axis=axes, keepdims=True) / products
        if case.is_written(mean * case.numeric):
            named = _named_by_array(case, np.squeeze(mean))
            return Finding(
                f"written / numeric is constant along {_axes(axes)}, from {mean.min():.4g} to "
                f"{mean.max():.4g}{f': {named}' if named else ''}.",
                "Look for a factor with one number for each entry of the other axes, such as gamma.",
                0.95 if named else 0.8,
            )
    return None


def _named_by_array(case, ratio):
    for name, a in case.box.point.items():
        if name != case.name and a.size == ratio.size:
            flat = a.ravel()
            with np.errstate(all="ignore"):
                if np.allclose(ratio.ravel(), flat, rtol=1e-4):
                    return f"it is {name}, which counts twice"
                if np.allclose(ratio.ravel(), 1 / flat, rtol=1e-4):
                    return f"it is 1 / {name}, which is left out"
    return ""


def _partial_factor(case):
    wrong = case.wrong & case.passes
    if np.sum(wrong) < 2 or not np.array_equal(wrong, case.wrong):
        return None
    c = _ratio(case, wrong)
    if c is None:
        return None
    named = _named(case, c)
    return Finding(
        f"written = {c:.6g} * numeric at {count(wrong)}{_where(case, wrong)}, the others are right"
        + (f"; {c:.4g} is {named}." if named else "."),
        "Look at the branch of backward that these entries take.",
        0.85,
    )


def _named(case, c):
    """What a factor is, in words; '' if no number of this problem fits."""
    words = []
    for value, name in _numbers(case):
        for v, n in ((value, name), (1 / value, f"1/{name}" if name.isalnum() else f"1/({name})")):
            if abs(abs(c) - v) <= max(1e-6, 10 * case.tolerance) * v and abs(v - 1) > 1e-9:
                words.append(f"-{n}" if c < 0 else n)
    return " or ".join(list(dict.fromkeys(words))[:3])


def _numbers(case):
    """The numbers of this problem that a factor may come from, the likely ones first."""
    box, out = case.box, case.box.out.shape
    N = len(box.labels) if box.kind != "layer" else out[0] if out else 1
    yield N, "N"
    yield 2, "2"
    if box.kind == "loss":
        for size in case.x.shape[1:2]:
            yield size, "C"
    yield from _settings(box)
    if N > 1:
        yield N / (N - 1), "N/(N-1)"
    for name, a in {case.name: case.x, **box.point, "out": box.out}.items():
        for axis, size in enumerate(a.shape):
            yield size, f"the length of axis {axis} of {name}"
        if a.ndim == 4:
            yield a.shape[2] * a.shape[3], f"H W of {name}"
            yield a.shape[0] * a.shape[2] * a.shape[3], f"N H W of {name}"
        yield max(1, a.size), f"the size of {name}"
    if N > 1:
        yield N * N, "N^2"
    yield math.sqrt(2), "sqrt(2)"


def _settings(box):
    """Numbers among the settings: sizes of windows, probabilities, slopes."""
    values = {}
    for k, arg in enumerate(box.args):
        values |= dict(arg) if isinstance(arg, dict) else {f"argument {k}": arg}
    values = {k: v for k, v in values.items() if isinstance(v, int | float) and v and v > 0}
    values = {str(k): v for k, v in values.items() if not isinstance(v, bool)}
    window = [v for k, v in values.items() if "height" in k or "width" in k]
    if len(window) == 2:
        yield math.prod(window), "the window's size"
    for name, v in values.items():
        if v < 1:
            yield 1 - v, f"(1 - {name})"
        yield v, name
        yield v * v, f"{name}^2"


def _where(case, mask):
    """What the entries of a mask have in common, in words."""
    labels = case.box.labels if case.box.kind == "loss" else None
    if labels is not None and labels.dtype.kind in "iu" and case.x.ndim == 2 and labels.ndim == 1:
        at = np.zeros(case.x.shape, bool)
        at[np.arange(len(labels)), labels] = True
        if np.array_equal(mask, at & case.passes):
            return " (the right class of each example)"
    for words, half in (("x < 0", case.x < 0), ("x > 0", case.x > 0)):
        if half.any() and not half.all() and np.array_equal(mask, half & case.passes):
            return f" (where {words})"
    return ""


def precision(case):
    """Right but for the rounding of float32, or cut to integers."""
    if not case.fits or not case.scale:
        return None
    kind = np.asarray(case.raw).dtype
    if kind.kind in "iub":
        cut = [np.trunc, np.round, np.floor]
        if any(np.allclose(case.written[case.known], f(case.numeric[case.known])) for f in cut):
            return Finding(
                f"The gradient came in {kind}: its decimals are cut off.",
                "Make the array by np.zeros_like of an array of floats, or np.zeros(shape).",
            )
        return None
    off = np.abs(case.written - case.numeric)[case.known]
    single = kind.itemsize < 8
    limit = 2e-2 if kind.itemsize < 4 else 1e-4
    rounded = np.array_equal(case.written, case.written.astype(np.float32))
    many = np.mean(off > 1e-11 * case.scale) > 0.3
    if not (np.max(off) <= limit * case.scale and (single or rounded or (many and np.max(off) < 1e-5 * case.scale))):
        return None
    came = f"came in {kind}" if single else "is that of float32"
    return Finding(
        f"Written is right to {np.max(off) / case.scale:.0e} of the largest entry, no further: its precision "
        f"{came}, but the arguments were float64.",
        "Keep the dtype of the arguments: np.zeros_like(x), no astype(np.float32).",
        1.0 if single or rounded else 0.7,
    )


# ---------------------------------------------------------------------------- parts left out


def detached(case):
    """Zero where it should not be, or without one of its paths."""
    if not case.fits or not case.scale:
        return None
    zero = case.written == 0
    if zero.all():
        return Finding(
            f"Written is 0 everywhere, numeric is up to {case.scale:.4g}.",
            "Let backward compute this gradient: the path from dout to it is cut.",
        )
    return _missing_path(case) or _missing_label(case) or _zero_slices(case, zero)


def _missing_path(case):
    """Written lacks dout itself, or has it once too often: the path of a sum out = x + f(x)."""
    if case.box.kind != "layer" or case.x.shape != case.box.dout.shape:
        return None
    for words, total in (
        ("lacks dout itself", case.numeric - case.box.dout),
        ("is dout alone", case.box.dout),
    ):
        diagonal = _slopes(case) is not None
        if case.is_written(total) and not diagonal:
            return Finding(
                f"Written {words}: x reaches out in two ways, and one of them is left out.",
                "Add what comes back on each path (copy <-> add).",
                0.95,
            )
    return None


def _missing_label(case):
    extra = _extra_at_labels(case)
    if extra is None or not np.isclose(abs(extra) * len(case.box.labels), 1, rtol=1e-4):
        return None
    return Finding(
        "Written is right but at the right class of each example, where it is 1 / N too large: the label's "
        "term is left out.",
        "Subtract 1 (over N) at the right class.",
        0.95,
    )


def _zero_slices(case, zero):
    """Zero in whole slices along an axis, right elsewhere."""
    if not np.array_equal(case.wrong, case.passes & zero):
        return None
    for axis in range(case.x.ndim):
        others = tuple(a for a in range(case.x.ndim) if a != axis)
        empty = np.all(zero, axis=others) & np.any(case.passes, axis=others)
        expand = np.expand_dims(empty, others)
        if empty.any() and not empty.all() and np.array_equal(case.wrong, case.passes & expand):
            which = np.flatnonzero(empty)
            return Finding(
                f"Written is 0 at index {', '.join(map(str, which[:5]))} of axis {axis}, the rest is right.",
                "Let backward reach these entries too: a loop ends too early, or a part is not assigned.",
                0.8,
            )
    labels = _where(case, case.wrong)
    strength = 0.85 if "right class" in labels else 0.3
    return Finding(
        f"Written is 0 at {count(case.wrong)}{labels} where numeric is not, e.g. {case.at(case.wrong)}.",
        "Let the gradient reach these entries.",
        strength,
    )


def _slopes(case):
    """The derivative of each out by its own entry of x, if it depends on no other; else None."""
    J = case.jacobian
    if J is None or case.box.out.shape != case.x.shape or not case.known.any():
        return None
    known = np.nan_to_num(J)
    off = known - np.diag(np.diag(known)) if known.shape[0] == known.shape[1] else known
    if np.any(np.abs(off) > 1e-9 * np.max(np.abs(known), initial=1e-300)):
        return None
    return np.where(case.known.ravel(), np.diag(J), np.nan).reshape(case.x.shape)


def mask(case):
    """The gradient passes where forward did not, or the reverse."""
    if not case.fits or not case.scale:
        return None
    if case.box.kind == "model":
        return _mask_of_a_model(case)
    opened = case.wrong & ~case.passes & (case.written != 0)
    closed = case.wrong & case.passes & (case.written == 0)
    slopes = _slopes(case)
    if slopes is not None and (found := _wrong_slopes(case, slopes, opened, closed)):
        return found
    whole = np.array_equal(opened | closed, case.wrong)
    if (opened.any() and whole) or _all_but_labels(case, opened | closed):
        return _passing(case, opened, closed, 0.95)
    if opened.any() and _routes(case):
        return _passing(case, opened, closed, 0.9)
    if closed.any() and whole and _routes(case):
        return _passing(case, opened, closed, 0.8)
    return None


def _routes(case):
    """Whether each output takes one entry as it is, as in max pooling."""
    if case.jacobian is None or case.box.out.size >= case.x.size:
        return False
    known = np.nan_to_num(case.jacobian)
    return np.max(np.count_nonzero(known, axis=1)) == 1 and np.mean(case.passes) < 1


def _all_but_labels(case, mask):
    """The rest of what is wrong lies at the right classes, which count the others."""
    if case.box.kind != "loss" or case.box.labels.ndim != 1 or case.x.ndim != 2:
        return False
    at = np.zeros(case.x.shape, bool)
    at[np.arange(len(case.box.labels)), case.box.labels] = True
    return bool(np.any(mask & ~at)) and not np.any(case.wrong & ~mask & ~at)


def _wrong_slopes(case, slopes, opened, closed):
    """An elementwise function of few slopes: where written is wrong, it has another of them."""
    distinct = np.unique(np.round(slopes[np.isfinite(slopes)], 6))
    written = case.written / case.box.dout
    known = [*distinct, 0.0, 1.0]
    one_of = np.min([np.abs(written - s) for s in known], axis=0) < max(1e-5, case.tolerance)
    if len(distinct) > 3:
        return None
    wrong = case.wrong
    if np.all(one_of[wrong]) and (len(distinct) > 1 or closed.any()):
        return _passing(case, opened, closed, 1.0)
    if opened.any() and len(distinct) > 1:
        return _passing(case, opened, closed, 0.9)
    return None


def _passing(case, opened, closed, strength):
    words = []
    if opened.any():
        words.append(f"The gradient passes at {count(opened)} where forward does not: {case.at(opened)}.")
    if closed.any():
        words.append(f"It is stopped at {count(closed)} where forward passes: {case.at(closed)}.")
    if not words:
        words.append(f"At {count(case.wrong)} it has the slope of another branch: {case.at(case.wrong)}.")
    by_dout = _mask_by_dout(case)
    advice = "Make the mask of backward from forward's input: the entries that passed, and only these."
    return Finding(" ".join(words) + by_dout, advice, strength)


def _mask_by_dout(case):
    dout = case.box.dout
    if dout.shape != case.x.shape:
        return ""
    passed = case.written != 0
    for words, by in (("dout > 0", dout > 0), ("dout < 0", dout < 0)):
        if passed.any() and not passed.all() and np.array_equal(passed, by):
            return f" It passes exactly where {words}."
    return ""


def _mask_of_a_model(case):
    """With one example, the gradient of a bias is what reaches its layer: an activation's mask shows."""
    box, found = case.box, 0
    if case.x.ndim != 1:
        biases = [c for c in case.cases.values() if c.x.ndim == 1 and c.x.size in case.x.shape]
        return next(filter(None, map(_mask_of_a_model, biases)), None) if biases else None
    for n in range(min(len(box.labels), 6)):
        X, y = box.X[n : n + 1], box.labels[n : n + 1]
        try:
            written = as_numbers(box.call(box.point, X, y)[1][case.name])
            numeric = case.gradient_of(lambda v, X=X, y=y: box.call(v, X, y)[0], dout=1.0)
        except Exception:  # the code under examination may not take one example
            return None
        scale = np.nanmax(np.abs(numeric), initial=0.0)
        if not np.isfinite(scale) or written.shape != numeric.shape:
            return None
        limit = max(case.tolerance * scale, 1e-9)
        wrong = np.abs(written - numeric) > limit
        dead = np.abs(numeric) <= limit
        if np.any(wrong & ~dead & (written != 0)):
            return None
        found += int(np.sum(wrong))
    if not found:
        return None
    return Finding(
        f"With one example at a time, {found} entries of the gradient of {case.name} pass where the forward "
        "pass is stopped, or the reverse; the others are right.",
        "Look at the activation after this layer: its mask is that of forward's input.",
        0.9,
    )


# ---------------------------------------------------------------------------- normalisation


def statistics(case):
    """Batch or layer norm: written - numeric is constant over, or proportional to the deviations of, the
    numbers that share a mean.
    """
    if not case.fits or case.x.ndim < 2 or case.box.kind != "layer" or not case.known.all():
        return None
    found = [f for groups, words in _groupings(case) if (f := _frozen(case, groups, words))]
    return max(found, key=lambda f: f.strength, default=None)


def _groupings(case):
    """Ways to share a mean: the number of each entry's group, and the way in words."""
    shape = case.x.shape
    for axes in subsets(range(len(shape))):
        kept = [np.arange(size) if a not in axes else np.zeros(size, int) for a, size in enumerate(shape)]
        index = np.meshgrid(*kept, indexing="ij")
        yield np.ravel_multi_index(index, shape), _axes(axes)
    if len(shape) == 4:
        N, C, H, W = shape
        for G in (g for g in range(2, C) if C % g == 0):
            n, c = np.indices((N, C))
            groups = (n * G + c // (C // G))[:, :, None, None] + np.zeros((H, W), int)
            yield groups, f"each of {G} groups of channels"


def _frozen(case, groups, words):
    ids, sizes = groups.ravel(), np.unique(groups, return_counts=True)[1]
    w, n, x = case.written.ravel(), case.numeric.ravel(), case.x.ravel()
    if sizes.min() < 3:
        return None

    def mean(a):
        return _mean(a, ids)

    def vanishes(a, of):
        return np.max(np.abs(mean(a))) <= 1e-4 * case.tolerance**0.5 * np.mean(np.abs(of)) + case.tolerance * case.scale

    forward_has, backward_has = vanishes(n, n), vanishes(w, w)
    if not (forward_has or backward_has):
        return None
    if not np.any(np.abs(n) > 0):
        return None
    d, c = w - n, x - mean(x)
    size = np.max(np.abs(d))

    def none_left(rest):
        return np.max(np.abs(rest)) <= 1e-4 * size + 10 * case.tolerance * case.scale

    if size <= case.tolerance * case.scale:
        return None
    slope = mean(d * c) / np.maximum(mean(c * c), 1e-300)
    fits = {
        "the mean": d - mean(d),
        "the variance": d - slope * c,
        "mean and variance": d - mean(d) - slope * c,
    }
    which = next((name for name, rest in fits.items() if none_left(rest)), None)
    if which is None or (which == "mean and variance" and sizes.min() < 4 and len(sizes) < 3):
        return None
    how = {
        "the mean": "is the same number",
        "the variance": "is proportional to x - mean",
        "mean and variance": "is a + b * (x - mean)",
    }[which]
    if forward_has:
        treated = f"so looks a gradient that takes {which} for constant"
        advice = f"Add the path through {which}: x enters {which} too."
    else:
        treated = f"written has a path through {which} that forward does not"
        advice = f"Leave out the path through {which}: here the running statistics do not depend on x."
    return Finding(
        f"written - numeric {how} for all entries that share a mean (over {words}); {treated}.",
        advice,
        0.98 if which != "mean and variance" else 0.9,
    )


def wrong_axis(case):
    """A norm whose backward takes its means over other entries than forward."""
    if not case.fits or case.x.ndim < 2 or case.box.kind != "layer" or not case.known.all():
        return None
    groupings = [(groups.ravel(), words) for groups, words in _groupings(case)]
    for xhat, dxhat in _normalized(case):
        for ids, right in groupings:
            c = case.x.ravel() - _mean(case.x.ravel(), ids)
            s = np.where(c == 0, 0, xhat / np.where(c == 0, 1, c))
            if not case.same(s * _centred(dxhat, xhat, ids)):
                continue
            for others, wrong in groupings:
                if case.is_written(s * _centred(dxhat, xhat, others)):
                    return Finding(
                        f"Written takes its means over {wrong}, forward over {right}.",
                        f"Take the sums of backward over {right}, as forward does.",
                    )
    return None


def _centred(dxhat, xhat, ids):
    """dx of a norm but for the scale, with means over the entries of equal ids."""
    return dxhat - _mean(dxhat, ids) - xhat * _mean(dxhat * xhat, ids)


def _mean(a, ids):
    """The mean of each entry's group."""
    _, ids, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    return (np.bincount(ids, a) / sizes)[ids]


def _normalized(case):
    """(xhat, dxhat), flat, for each array that may be gamma, and for a norm without one."""
    box = case.box
    if box.out.shape != case.x.shape:
        return
    yield box.out.ravel(), box.dout.ravel()
    for other in case.cases.values():
        J = other.jacobian if other.x.size < box.out.size else None
        if J is None or not np.all(np.isfinite(J)) or np.max(np.count_nonzero(J, axis=1)) > 1:
            continue
        gamma = other.x.ravel()[np.argmax(J != 0, axis=1)]
        yield J.sum(axis=1), gamma * box.dout.ravel()


# ---------------------------------------------------------------------------- windows


def overwritten(case):
    """Entries that several windows use have what one of them adds."""
    if case.parts is None or not case.fits or not case.wrong.any():
        return None
    shape, w, wrong = case.box.out.shape, case.written.ravel(), case.wrong.ravel()
    cover = _cover(case).astype(float)
    for kept in subsets(range(len(shape))):
        C, covered = _grouped(case.parts, shape, kept), _grouped(cover, shape, kept) > 0
        which = _one_of_the_groups(case, C, covered, w, wrong)
        if which:
            return Finding(
                f"At {count(case.wrong)} several windows or examples meet, and written has what {which} "
                f"adds: {case.at(case.wrong)}.",
                "Write += instead of =: an entry that is used several times adds up what comes back.",
                1.0 if "last" in which else 0.9,
            )
    return None


def _one_of_the_groups(case, C, covered, w, wrong):
    """Which group of outputs alone explains written, in words; '' if none does. C: (groups, x.size)."""
    limit = case.tolerance * case.scale
    if not np.all((np.count_nonzero(C, axis=0) > 1)[wrong] | (covered.sum(axis=0) > 1)[wrong]):
        return ""
    known = case.known.ravel()
    hit = np.abs(C - w) <= limit
    last = len(C) - 1 - np.argmax(covered[::-1], axis=0)
    if np.all(hit[last, np.arange(w.size)][known & covered.any(axis=0)]):
        return "the last one that covers it"
    if np.all(hit[-1][known]):
        return "the last one"
    shown = wrong & (np.abs(w) > limit)
    return "one of them" if np.all(hit.any(axis=0)[wrong]) and np.sum(shown) > 0.25 * np.sum(wrong) else ""


def _grouped(T, shape, kept):
    """Sums of the rows of T (out.size, x.size) with equal indices along the kept axes of out."""
    others = tuple(a for a in range(len(shape)) if a not in kept)
    return T.reshape(*shape, T.shape[1]).sum(axis=others).reshape(-1, T.shape[1])


def _cover(case):
    """Which output looks at which entry, (out.size, x.size): a max looks at all of its window."""
    cover = np.nan_to_num(case.jacobian) != 0
    if case.x.size > MOST_ENTRIES or not _routes(case):
        return cover
    large = 10 * float(np.max(np.abs(case.x))) + 1
    for k in case.columns:
        moved = case.x.copy()
        moved.flat[k] = large
        out = case.box.value({**case.box.point, case.name: moved})
        cover[:, k] |= (out != case.box.out).ravel()
    return cover


def border(case):
    """Wrong at the edges: a frame, a shift, a row of windows, another padding or stride."""
    if case.x.ndim < 3 and not case.fits:
        return None
    if not case.fits:
        return _framed(case)
    return _shifted(case) or _windows_left_out(case) or _other_setting(case) or _edges(case)


def _framed(case):
    w, n = case.written, case.numeric
    if w.ndim != n.ndim or w.shape[:-2] != n.shape[:-2] or w.shape == n.shape:
        return None
    offs = [max(0, a - b) for a, b in zip(w.shape[-2:], n.shape[-2:], strict=True)]
    for top, left in itertools.product(*(range(o + 1) for o in offs)):
        H, W = n.shape[-2:]
        if case.same(w[..., top : top + H, left : left + W]):
            return Finding(
                f"Written has the shape {w.shape}; from row {top} and column {left} on it holds the right "
                f"gradient {n.shape}.",
                f"Cut off the frame of padding: dx[:, :, pad : pad + {H}, pad : pad + {W}].",
            )
    return Finding(
        f"Written has the shape {w.shape}, expected {n.shape}: it differs along the image only.",
        "Cut the frame of padding by pad : pad + H, not by pad : -pad, which is empty for pad = 0.",
        0.9,
    )


def _shifted(case):
    """Written is numeric moved by a row or two."""
    if case.x.ndim < 3:
        return None
    w, n = case.written, case.numeric
    H, W = n.shape[-2:]
    for dy, dx in itertools.product(range(-2, 3), repeat=2):
        if (dy, dx) == (0, 0) or abs(dy) >= H or abs(dx) >= W:
            continue
        there = np.s_[..., max(0, -dy) : H - max(0, dy), max(0, -dx) : W - max(0, dx)]
        here = np.s_[..., max(0, dy) : H + min(0, dy), max(0, dx) : W + min(0, dx)]
        a, b = w[here], n[there]
        if b.size > 3 and np.nanmax(np.abs(b)) > 0 and case.same(a, b):
            return Finding(
                f"Written is numeric moved by {dy} rows and {dx} columns.",
                "Cut the frame at the right place: [pad : pad + H, pad : pad + W].",
                0.97,
            )
    return None


def _windows_left_out(case):
    """Written is what all outputs but those of some edge rows and columns add."""
    shape = case.box.out.shape
    if case.parts is None or len(shape) < 3:
        return None
    sides = {
        "first row": np.s_[..., 0, :],
        "last row": np.s_[..., -1, :],
        "first column": np.s_[..., :, 0],
        "last column": np.s_[..., :, -1],
    }
    for names in subsets(sides):
        keep = np.ones(shape)
        for name in names:
            keep[sides[name]] = 0
        if case.is_written(keep.ravel() @ case.parts):
            return Finding(
                f"Written is what all windows add but those of the {' and '.join(names)} of out.",
                "Let the loops of backward run over every row and column of out.",
            )
    return None


def _other_setting(case):
    """Written is the gradient for another stride, padding or size among forward's settings."""
    box = case.box
    if box.kind != "layer" or case.x.ndim < 3 and box.out.ndim < 3:
        return None
    for position, name, changed, words in _other_settings(box):
        value = box.value_with(position, changed)
        try:
            shape = value(box.point).shape
        except Exception:  # the code under examination may refuse the setting
            continue
        dout = _fitted(box.dout, shape)
        if dout is not None and case.would_be(value, dout=dout):
            return Finding(
                f"Written is the gradient for {name} = {words}.",
                f"Use forward's {name} in backward: keep it in the cache.",
                0.97,
            )
    return None


def _other_settings(box):
    for position, arg in enumerate(box.args):
        for key, value in arg.items() if isinstance(arg, dict) else ():
            if isinstance(value, int) and not isinstance(value, bool):
                for other in sorted({value - 1, value + 1, 0, 1} - {value}):
                    if other >= 0:
                        yield position, key, {**arg, key: other}, f"{other}, where forward has {value}"


def _fitted(dout, shape):
    """dout cut, or filled up with zeros, to another shape; None if the numbers of axes differ."""
    if dout.ndim != len(shape):
        return None
    fitted = np.zeros(shape)
    common = tuple(slice(0, min(a, b)) for a, b in zip(dout.shape, shape, strict=True))
    fitted[common] = dout[common]
    return fitted


def _edges(case):
    """All wrong entries lie in the outer rows and columns, and not in the inner ones."""
    if case.x.ndim < 3 or not case.wrong.any():
        return None
    H, W = case.x.shape[-2:]
    for width in (1, 2):
        inner = np.zeros(case.x.shape, bool)
        inner[..., width : H - width, width : W - width] = True
        if inner.any() and not np.any(case.wrong & inner):
            rows, columns = (np.unique(np.nonzero(case.wrong)[a]) for a in (-2, -1))
            return Finding(
                f"Only edges are wrong, {count(case.wrong)}: rows {_short(rows)} and columns {_short(columns)} of "
                f"{H} x {W}; inside all is right.",
                "Look at padding and at the ends of the loops: something is off by one.",
                0.85,
            )
    return None


def _short(numbers):
    shown = ", ".join(map(str, numbers[:6]))
    return shown + (", ..." if len(numbers) > 6 else "")


# ---------------------------------------------------------------------------- models


def regularisation(case):
    """written - numeric is a multiple of the parameter itself."""
    if case.box.kind != "model" or not case.fits or np.sum(case.known) < 3:
        return None
    c, d = _two_ratios(case)
    if c is None or abs(c - 1) > 1e-4 or abs(d) < 1e-9:
        return None
    reg = _reg_of(case.box.model)
    ratio = d / reg if reg else None
    said = f"written - numeric = {d:.4g} * {case.name} at {count(case.wrong)}"
    bias = case.x.ndim == 1
    if ratio is not None:
        said += f", which is {ratio:.3g} times reg = {reg:g}"
    if bias and d > 0:
        return Finding(
            f"{said}: the gradient has a penalty that the loss does not have.",
            "Take the penalty's gradient off the biases.",
        )
    if d < 0:
        return Finding(
            f"{said}: the loss has a penalty whose gradient is missing, or too small.",
            "Add the penalty's gradient: reg * W for a loss of 0.5 * reg * sum(W * W).",
        )
    return Finding(
        f"{said}: the penalty's gradient counts too much.",
        "Add reg * W once for a loss of 0.5 * reg * sum(W * W).",
    )


def _two_ratios(case):
    """(c, d) with written = c * numeric + d * parameter at all entries; (None, None) if there are none."""
    w, n, p = (a[case.known] for a in (case.written, case.numeric, case.x))
    (c, d), *_ = np.linalg.lstsq(np.stack([n, p], axis=1), w, rcond=None)
    left = np.max(np.abs(w - c * n - d * p))
    size = max(case.scale, float(np.max(np.abs(w))))
    return (float(c), float(d)) if left <= 10 * case.tolerance * size else (None, None)


def scaled_data_term(case):
    """A factor of the data's gradient, while that of the penalty is right."""
    if case.box.kind != "model" or not case.fits or np.sum(case.known) < 4:
        return None
    c, d = _two_ratios(case)
    if c is None or abs(d) < 1e-9 or abs(c - 1) < 1e-4:
        return None
    if abs(c) < 1e-6:
        return Finding(
            f"Written is {d:.4g} * {case.name}, the penalty's gradient alone.",
            "Let the gradient of the data's loss reach this parameter.",
            0.9,
        )
    named = _named(case, c)
    return Finding(
        f"written = {c:.6g} * numeric + {d:.4g} * {case.name}: the data's gradient has a factor"
        + (f", {named}," if named else "")
        + " and the penalty's has not.",
        "Scale the gradient of the loss as the loss itself: the mean over N examples.",
        0.9 if named else 0.7,
    )


def _reg_of(model):
    for name in ("reg", "regularization", "regularisation", "weight_decay", "l2", "lam", "lambda_"):
        value = getattr(model, name, None)
        if isinstance(value, int | float) and value:
            return float(value)
    return None


# ---------------------------------------------------------------------------- the table


def unknown(case):
    """What can be said where no hypothesis fits."""
    w, n = case.written, case.numeric
    if not case.fits:
        came = "no numbers" if w is None else f"the shape {w.shape}"
        return Finding(f"The gradient has {came}, expected {n.shape}.", "Return one number for each entry.", 0)
    if not np.all(np.isfinite(w)):
        bad = ~np.isfinite(w)
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        return Finding(
            f"{count(bad)} are not finite, e.g. {w[index]} at {index}.",
            "Look for a division by 0, a log of 0, or an exp that overflows.",
            0,
        )
    words = f"{count(case.wrong)} are wrong{_where(case, case.wrong)}"
    if case.wrong.any():
        words += f": {case.at(case.wrong)}"
    nw, nn = np.linalg.norm(w[case.known]), np.linalg.norm(n[case.known])
    if nw and nn:
        words += f". The directions agree to {float(w[case.known] @ n[case.known]) / (nw * nn):.3f} (1 is equal)"
    advice = "Derive this gradient again for one entry, and compare it with the table's row."
    return Finding(words + "." + _not_linear(case), advice, 0)


def _not_linear(case):
    """A sentence if twice dout does not give twice the gradient."""
    if case.box.kind != "layer":
        return ""
    try:
        twice = as_numbers(case.box.gradients(case.box.point, 2 * case.box.dout)[case.name])
    except Exception:  # the code under examination
        return ""
    if np.allclose(twice, 2 * case.written):
        return ""
    if np.allclose(twice, case.written):
        return " Twice dout gives the same gradient: backward does not multiply by dout."
    return " Twice dout does not give twice the gradient, but backward must be linear in dout."


# Each hypothesis is asked; the strongest finding wins, and of equal ones the first. Those that explain
# a gradient by its place or shape come before those that change its numbers, and those with one number
# for all entries before those that look at entries one by one: the simpler explains as much.
CAUSES = [
    ("order", order),
    ("detached", detached),
    ("sign", sign),
    ("sum", sums),
    ("transposed", transposed),
    ("regularisation", regularisation),
    ("factor", factor),
    ("factor", scaled_data_term),
    ("precision", precision),
    ("overwritten", overwritten),
    ("border", border),
    ("statistics", statistics),
    ("sum", wrong_axis),
    ("mask", mask),
    ("unknown", unknown),
]

ADVICE = {
    "unknown": "Call backward by itself on small arrays, and look at this line.",
    "input changed": "Work on a copy: out = x.copy(), or an expression that makes a new array.",
    "stale": "Take everything backward needs from its cache, not from globals or attributes.",
    "random": "Draw from a generator with a fixed seed, and keep the mask in the cache.",
    "precision": "Keep the dtype of the arguments: np.zeros_like(x), no astype(np.float32).",
}


def diagnose(box, written, rows, facts):
    """The diagnoses of a box's arrays, and those of breaches of the contract that concern no array.

    written: what backward gave, by array.  rows: of the report.  facts: from the box.
    """
    cases = {name: Case(box, name, written.get(name), {}) for name in box.point}
    for case in cases.values():
        case.cases = cases
    said = {fact.array: Diagnosis(fact.array, fact.cause, fact.evidence, ADVICE[fact.cause]) for fact in facts}
    for row in rows:
        if row.passed and row.kink:
            said.setdefault(row.name, _kink(row))
        elif not row.passed and (row.name not in said or said[row.name].cause == "precision"):
            worse = _of_case(cases[row.name], said.get(row.name))
            said[row.name] = worse
    for name in written:
        if name not in box.point:
            said[name] = Diagnosis(
                name,
                "unknown",
                f"There is a gradient too many: {len(written)} came for {len(box.point)} arrays.",
                f"Return one gradient for each of {', '.join(box.point)}.",
            )
    return list(said.values())


def _kink(row):
    return Diagnosis(
        row.name,
        "kink",
        f"At {row.kink} the derivatives to the left and to the right differ, and written is one that fits.",
        "This is no fault: move the point a little to check these entries too.",
    )


def _of_case(case, fact):
    """The strongest finding; a fact that is known already stands unless another explains the numbers."""
    if case.raw is None:
        return Diagnosis(
            case.name,
            "detached",
            "No gradient came for it.",
            "Return one gradient for each array, in the order of forward's arguments.",
        )
    with np.errstate(all="ignore"):
        name, finding = _strongest(case)
    if fact is not None and (name in ("unknown", "precision") or _nearly_right(case)):
        return fact
    prefix = "The gradient came as a list, expected an array. " if isinstance(case.raw, list) else ""
    return Diagnosis(case.name, name, prefix + finding.evidence, finding.advice)


def _nearly_right(case):
    """Whether written is as near to numeric as float32 lets one see."""
    w, n = case.written[case.known], case.numeric[case.known]
    return case.derivative.single and np.linalg.norm(w - n) < 0.4 * np.linalg.norm(n)


def _strongest(case):
    usable = case.written is not None and np.all(np.isfinite(case.written))
    causes = CAUSES if usable else [("unknown", unknown)]
    if case.fits and usable and not case.wrong.any():
        return "precision", Finding(
            "The numbers are right, but not to the last digits.",
            "Keep the dtype of the arguments in every step.",
        )
    best = ("unknown", None)
    for name, cause in causes:
        finding = cause(case)
        if finding and (best[1] is None or finding.strength > best[1].strength):
            best = (name, finding)
            if finding.strength >= 1:
                break
    return best


# ---------------------------------------------------------------------------- models, layer by layer


def of_layers(report, layers):
    """Complete a model's report by the first of its layers, from the loss down, that is wrong itself.

    layers: (title, names of its arrays, report) from the loss down; the first name is that of its input.
    """
    for title, names, found in layers:
        if found:
            continue
        report.layer = title
        of_array = dict(zip([row.name for row in found.rows], names, strict=True))
        inside = {of_array.get(d.array, d.array): d for d in found.diagnoses if d.cause != "kink"}
        first = next(iter(inside.values()))
        reaching = inside.get(names[0], first)
        report.diagnoses = [
            _placed(d, title, inside.get(d.array), reaching) for d in report.diagnoses
        ]
        inner = [replace(d, array=f"d{name}" if name == names[0] else name, evidence=f"{title}: {d.evidence}")
                 for name, d in inside.items() if name not in {d.array for d in report.diagnoses}]
        report.diagnoses = [*inner, *report.diagnoses]
        return


def _placed(diagnosis, title, own, reaching):
    """The diagnosis of a parameter: its own in the wrong layer, or that of what reaches it from there."""
    if own is not None:
        return replace(own, array=diagnosis.array, evidence=f"{title}: {own.evidence}")
    if diagnosis.cause in ("kink", "regularisation"):
        return diagnosis
    return Diagnosis(
        diagnosis.array,
        reaching.cause,
        f"What reaches its layer from {title} is wrong: {reaching.evidence}",
        reaching.advice,
    )


def of_numbered_layers(report):
    """Name the first wrong layer of a model by the numbers in its parameters' names."""
    failed = {row.name for row in report.rows if not row.passed}
    numbers = {row.name: int(m[0]) for row in report.rows if (m := re.findall(r"\d+", row.name)[-1:])}
    wrong = [n for name, n in numbers.items() if name in failed]
    if not wrong:
        return
    number = max(wrong)
    own = [name for name, n in numbers.items() if n == number]
    right = [name for name in own if name not in failed]
    above = [name for name, n in numbers.items() if n > number]
    names = " and ".join(name for name in own if name in failed)
    if right:
        report.layer = f"layer {number}, in {names} itself: {' and '.join(right)} is right"
    elif above:
        report.layer = (
            f"layer {number} ({names}), or what lies between it and layer {number + 1}: "
            f"{' and '.join(above)} are right"
        )
    else:
        report.layer = f"layer {number} ({names}), the last one, or the loss"
