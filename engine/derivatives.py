"""Numerical derivatives, along a direction, of a function of a dict of arrays.

*Complex step* (Squire & Trapp 1998), f'(x) = Im f(x + ih) / h, subtracts nothing, so it is right to the
last digits. It needs a function that takes complex numbers and loses no imaginary part on the way:
abs, .real, np.var and a cast lose it in silence. So each array's complex step is compared once with
*central differences*, (f(x + h) - f(x - h)) / 2h, and these take its place where the two differ.
"""

import warnings

import numpy as np

__all__ = ["CENTRAL", "COMPLEX_STEP", "Derivative"]

COMPLEX_H = 1e-30
COMPLEX_STEP, CENTRAL = "complex step", "central differences"


class Derivative:
    """Derivatives of f, a function of a dict of arrays, by one of them.

    method     COMPLEX_STEP if the function takes it, else CENTRAL
    tolerance  how far a right gradient may be from it, relatively
    noise      the rounding error of its numbers, for outputs that are weighted by `weights`. A loss
               near 0 has that of a number near 1, such as the probability of a right class.
    bound      how large it may become where a large number of another array is a factor
    lost       the share of a difference that is lost because x + h is rounded: of a large x few digits
               of h are left

    Give `method` if it is known, as for a function that differs little from another.
    """

    def __init__(self, f, point, name, weights=1.0, method=None):
        self.f, self.point, self.name = f, point, name
        out = np.asarray(f(point))
        self.eps = float(np.finfo(out.dtype if out.dtype.kind == "f" else np.float64).eps)
        self.single = self.eps > 1e-10
        self.h = 1e-2 if self.single else 1e-5
        self._here, self._size = out.astype(np.float64), float(np.linalg.norm(out))
        self.lost = min(0.1, 10 * self.eps * _largest(point[name]) / self.h)
        if method is None:
            method = CENTRAL if self.single or not self._takes_complex() else COMPLEX_STEP
        self.method, takes_complex = method, method == COMPLEX_STEP
        self.tolerance = 1e-10 if takes_complex else 3e-2 if self.single else 1e-5
        size = max(float(np.linalg.norm(out * weights)), float(out.ndim == 0))  # a loss adds 1 - p
        self.noise = 10 * self.eps * size / (1 if takes_complex else self.h)
        self.bound = self.noise * max(_largest(a) for a in point.values())

    def along(self, direction):
        """The derivative of out, shaped as out, and whether a kink may lie there."""
        if self.method == COMPLEX_STEP:
            return self._complex_step(direction), False
        h = self.h / _length(direction)
        above, below = self._at(h * direction), self._at(-h * direction)
        bend = np.linalg.norm(above - 2 * self._here + below)
        may_kink = bend > 1e-3 * np.linalg.norm(above - below) + 1e2 * self.eps * self._size
        return (above - below) / (2 * h), may_kink and not self.single

    def central(self, direction, h):
        """Central differences with a step of h."""
        h /= _length(direction)
        return (self._at(h * direction) - self._at(-h * direction)) / (2 * h)

    def refined(self, direction):
        """Central differences without their error in h^2 (Richardson 1911)."""
        return (4 * self.central(direction, self.h / 2) - self.central(direction, self.h)) / 3

    def sides(self, direction):
        """The derivatives to the left and to the right, if they differ: then there is a kink."""
        gaps = []
        for h in (1e-6, 1e-7):
            h /= _length(direction)
            left = (self._here - self._at(-h * direction)) / h
            right = (self._at(h * direction) - self._here) / h
            gaps.append(np.linalg.norm(right - left))
        size = max(np.linalg.norm(left), np.linalg.norm(right))
        noise = 1e2 * self.eps * self._size / 1e-7
        # where f is smooth, the gap shrinks with h
        is_kink = gaps[1] > 1e-4 * size + noise and gaps[1] > 0.5 * gaps[0]
        return (left, right) if is_kink else None

    def _at(self, step):
        with np.errstate(invalid="ignore", divide="ignore"):  # a step may leave the domain, as of log
            return np.array(self.f({**self.point, self.name: self.point[self.name] + step}), np.float64)

    def _takes_complex(self):
        direction = np.random.default_rng(0).standard_normal(self.point[self.name].shape)
        direction /= max(1.0, float(np.linalg.norm(direction)))
        exact = self._complex_step(direction)
        stays = True  # in the domain of f
        for h in (1e-5, 1e-7, 1e-11) if exact is not None else ():
            central = self.central(direction, h)
            stays = stays and np.all(np.isfinite(central))
            if self._agree(exact, central, h) and self._is_seen(exact, direction, h):
                return True
            # a shorter step crosses fewer kinks; the shortest is for such as log near 0
            if h < 1e-6 and stays:
                return False
        return False

    def _agree(self, exact, central, h):
        size = max(np.linalg.norm(exact), np.linalg.norm(central))
        return np.linalg.norm(exact - central) <= 1e-5 * size + self._noise(h)

    def _is_seen(self, exact, direction, h):
        """Whether rounding leaves something of a difference over h; else one over a longer step, which
        may cross kinks, must agree roughly.
        """
        if self._noise(h) < 0.1 * np.linalg.norm(exact):
            return True
        size = np.linalg.norm(exact)
        return any(
            np.linalg.norm(exact - self.central(direction, longer))
            <= 0.03 * size + self._noise(longer) / 10
            for longer in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
        )

    def _noise(self, h):
        return 30 * self.eps * self._size / h

    def _complex_step(self, direction):
        """Im f(x + ih d) / h, or None where f does not take complex numbers."""
        moved = self.point[self.name] + 1j * COMPLEX_H * direction
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            try:
                out = np.asarray(self.f({**self.point, self.name: moved}))
            except Exception:  # the code of others: real numbers are tried next
                return None
        return np.imag(out) / COMPLEX_H if np.iscomplexobj(out) else None


def _length(direction):
    return max(1.0, _largest(direction))


def _largest(a):
    return float(np.max(np.abs(a), initial=0.0))
