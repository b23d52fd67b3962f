"""One wrong gradient, and the numbers that the causes look at."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..engine.derivatives import COMPLEX_STEP, Derivative

__all__ = ["Case", "Finding", "as_numbers", "axes_in_words", "count", "permutations", "subsets"]

MOST_ENTRIES = 600  # of an array: of a larger one a part is differentiated
MOST_NUMBERS = 4_000_000  # of a Jacobian


@dataclass(frozen=True)
class Finding:
    """What one hypothesis found. strength: 1 where it explains every number."""

    evidence: str
    advice: str
    strength: float = 1.0


class Case:
    """One array of a box (engine/blackbox.py): what backward wrote for it, and what is right.

    raw, written   what backward gave, and the same as an array of float64, or None
    cases          those of all arrays of the box, by name
    """

    def __init__(self, box, name, written, cases):
        self.box, self.name, self.cases = box, name, cases
        self.x, self.raw, self.written = box.point[name], written, as_numbers(written)

    # ------------------------------------------------------------------ what is right

    @cached_property
    def derivative(self):
        return Derivative(self.box.value, self.box.point, self.name, self.box.dout)

    @property
    def numeric(self):
        """The right gradient, NaN where it is not known."""
        return self._differentiated[1]

    @property
    def jacobian(self):
        """J_ji, the derivative of output j by entry i, (out.size, x.size); None if it is too large."""
        return self._differentiated[0]

    @cached_property
    def parts(self):
        """What each output adds to each entry, dout_j * J_ji, (out.size, x.size), or None."""
        if self.jacobian is None or self.box.kind != "layer":
            return None
        return self.box.dout.reshape(-1, 1) * self.jacobian

    @cached_property
    def written_jacobian(self):
        """The Jacobian by which backward multiplies, from a dout of 1 at each output, or None."""
        outputs = self.box.unit_gradients if self.box.kind == "layer" else None
        rows = [as_numbers(grads[self.name]) for grads in outputs or ()]
        if not rows or any(row is None or row.shape != self.x.shape for row in rows):
            return None
        return np.reshape(rows, (len(rows), -1))

    @cached_property
    def columns(self):
        """The entries that are differentiated, as flat indices."""
        if self.x.size <= MOST_ENTRIES:
            return np.arange(self.x.size)
        return np.sort(np.random.default_rng(0).choice(self.x.size, MOST_ENTRIES // 2, replace=False))

    @cached_property
    def _differentiated(self):
        keep = self.box.out.size * self.x.size <= MOST_NUMBERS
        J = np.full((self.box.out.size, self.x.size), np.nan) if keep else None
        numeric = np.full(self.x.size, np.nan)
        for k in self.columns:
            column = self._column(k)
            numeric[k] = column @ self.box.dout.ravel()
            if keep:
                J[:, k] = column
        return J, numeric.reshape(self.x.shape)

    def _column(self, k):
        """The derivative of the outputs by entry k; NaN on a kink."""
        unit = self._unit(k)
        column, may_kink = self.derivative.along(unit)
        on_kink = may_kink and self.derivative.sides(unit) is not None
        return np.full(column.size, np.nan) if on_kink else column.ravel()

    def _unit(self, k):
        unit = np.zeros(self.x.size)
        unit[k] = 1
        return unit.reshape(self.x.shape)

    @cached_property
    def scale(self):
        """The largest entry of the right gradient."""
        return float(np.nanmax(np.abs(self.numeric), initial=0.0))

    @property
    def tolerance(self):
        if self.derivative.method == COMPLEX_STEP:
            return 1e-7
        return 5e-2 if self.derivative.single else 2e-5

    @property
    def limit(self):
        """How far equal numbers may be apart."""
        return self.tolerance * self.scale

    # ------------------------------------------------------------------ masks, shaped as x

    @property
    def fits(self):
        """Whether the written gradient has the right shape."""
        return self.written is not None and self.written.shape == self.x.shape

    @cached_property
    def known(self):
        return np.isfinite(self.numeric)

    @cached_property
    def wrong(self):
        """Where written is not numeric."""
        return self.known & (np.abs(self.written - self.numeric) > self.limit)

    @cached_property
    def passes(self):
        """Where the right gradient is not zero."""
        return self.known & (np.abs(self.numeric) > 1e-3 * self.limit)

    @cached_property
    def right_class(self):
        """Of a loss: the entry of each example's own class, else None."""
        labels = self.box.labels if self.box.kind == "loss" else None
        if labels is None or labels.dtype.kind not in "iu" or self.x.ndim != 2:
            return None
        if labels.shape != self.x.shape[:1]:
            return None
        mask = np.zeros(self.x.shape, bool)
        mask[np.arange(len(labels)), labels] = True
        return mask

    @cached_property
    def slopes(self):
        """Of an elementwise layer: the derivative of each output by its own entry, else None."""
        J = self.jacobian
        if J is None or self.box.out.shape != self.x.shape or not self.known.any():
            return None
        others = np.nan_to_num(J) * (1 - np.eye(len(J)))
        if np.any(np.abs(others) > 1e-9 * np.nanmax(np.abs(J), initial=1e-300)):
            return None
        return np.where(self.known.ravel(), np.diag(J), np.nan).reshape(self.x.shape)

    @cached_property
    def routes(self):
        """Whether each output takes one entry as it is, as in max pooling."""
        if self.jacobian is None or self.box.out.size >= self.x.size:
            return False
        taken = np.count_nonzero(np.nan_to_num(self.jacobian), axis=1)
        return bool(np.max(taken) == 1 and np.mean(self.passes) < 1)

    # ------------------------------------------------------------------ comparisons

    def same(self, a, b=None):
        """Whether a is numeric, or b, number by number; both may hold NaN for what is not known."""
        a, b = np.ravel(a), np.ravel(self.numeric if b is None else b)
        if a.size != b.size:
            return False
        known = np.isfinite(a) & np.isfinite(b)
        limit = self.tolerance * max(self.scale, float(np.max(np.abs(b[known]), initial=0.0)))
        return bool(known.any() and limit > 0 and np.all(np.abs(a - b)[known] <= limit))

    def is_written(self, a):
        """Whether this is what backward gave."""
        return self.same(self.written, a)

    def would_be(self, value, point=None, dout=None):
        """Whether written is the gradient of another function, or elsewhere, or for another dout."""
        try:
            few = self.columns[:: max(1, len(self.columns) // 4)]
            return all(
                self.is_written(self.gradient_of(value, point, dout, columns))
                for columns in (few, self.columns)
            )
        except Exception:  # the code under examination may refuse the other arguments
            return False

    def gradient_of(self, value, point=None, dout=None, columns=None):
        """The numeric gradient of another function, NaN where it is not known."""
        point = point or self.box.point
        derivative = Derivative(value, point, self.name, method=self.derivative.method)
        grad = np.full(self.x.size, np.nan)
        for k in self.columns if columns is None else columns:
            column, _ = derivative.along(self._unit(k))
            grad[k] = np.sum(column * (self.box.dout if dout is None else dout))
        return grad.reshape(self.x.shape)

    # ------------------------------------------------------------------ words

    def at(self, mask):
        """The first entry of a mask: 'at (0, 3) written is 1.2 and numeric 0'."""
        index = tuple(int(i) for i in np.argwhere(mask)[0])
        written, numeric = self.written[index] + 0.0, self.numeric[index] + 0.0  # no -0
        return f"at {index} written is {written:.5g} and numeric {numeric:.5g}"

    def where(self, mask):
        """What the entries of a mask have in common, in brackets."""
        if self.right_class is not None and np.array_equal(mask, self.right_class & self.passes):
            return " (the right class of each example)"
        for words, half in (("x < 0", self.x < 0), ("x > 0", self.x > 0)):
            if half.any() and not half.all() and np.array_equal(mask, half & self.passes):
                return f" (where {words})"
        return ""


def as_numbers(grad):
    """A gradient as an array of float64; None if it is not made of numbers."""
    try:
        grad = np.asarray(grad)
        return np.real(grad).astype(np.float64) if grad.dtype.kind in "biufc" else None
    except ValueError:  # rows of unequal lengths
        return None


def count(mask):
    return f"{int(np.sum(mask))} of {mask.size} entries"


def axes_in_words(axes):
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {tuple(axes)}"


def subsets(items):
    """All subsets that are not empty, the small ones first."""
    items = tuple(items)
    return [s for k in range(1, len(items) + 1) for s in itertools.combinations(items, k)]


def permutations(ndim):
    """The orders of axes but the usual one; none for more than five axes."""
    orders = itertools.permutations(range(ndim)) if ndim <= 5 else ()
    return [order for order in orders if order != tuple(range(ndim))]
