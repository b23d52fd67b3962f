"""One number for many entries: a sign, a factor, a rounding."""

import math

import numpy as np

from .case import Finding, as_numbers, axes_in_words, count, subsets

__all__ = ["extra_at_labels", "factor", "named", "precision", "sign"]


def sign(case):
    """Written is -numeric, everywhere or where it is wrong."""
    if not case.fits:
        return None
    wrong = case.wrong
    if not np.any(wrong & case.passes) or np.any(
        np.abs(case.written + case.numeric)[wrong] > case.limit
    ):
        return _label_added(case)
    if np.array_equal(wrong, case.passes):
        return Finding(
            f"written = -numeric at {count(wrong)}: {case.at(wrong)}.",
            "Turn the sign of this gradient: a minus is missing or one too many.",
        )
    return Finding(
        f"written = -numeric at {count(wrong)}{case.where(wrong)}, the others are right: "
        f"{case.at(wrong)}.",
        "Turn the sign of this part of the gradient.",
        0.95 if np.sum(wrong) > 1 else 0.6,
    )


def _label_added(case):
    """A loss that adds the label's term instead of subtracting it."""
    extra = extra_at_labels(case)
    if extra is None or not math.isclose(extra * len(case.box.labels), 2, rel_tol=1e-4):
        return None
    return Finding(
        "Written is right but at the right class of each example, where it is 2 / N too large: the "
        "label's term came with the wrong sign.",
        "Subtract 1 (over N) at the right class instead of adding it.",
    )


def extra_at_labels(case):
    """The constant that written has too much at the right class, if it is wrong there only."""
    right = case.right_class
    if right is None or not np.array_equal(right, case.wrong):
        return None
    extra = (case.written - case.numeric)[right]
    return float(extra[0]) if np.allclose(extra, extra[0], rtol=1e-5) else None


# ---------------------------------------------------------------------------- factors


def factor(case):
    """A constant ratio: of all entries, along some axes, or of the entries that are wrong."""
    if not case.fits or not case.passes.any():
        return None
    return _of_all(case) or _left_out(case) or _along_axes(case) or _of_the_wrong(case)


def _ratio(case, mask):
    """The constant c with written = c * numeric at a mask; None if there is none, or c is 0 or 1."""
    w, n = case.written[mask], case.numeric[mask]
    c = float(w @ n / (n @ n))
    limit = case.tolerance * max(1, abs(c)) * np.max(np.abs(n))
    trivial = abs(c - 1) <= case.tolerance or abs(c) < 1e-9
    return None if trivial or np.any(np.abs(w - c * n) > limit) else c


def _of_all(case):
    c = _ratio(case, case.known)
    if c is None or (case.passes.sum() < 2 and not _same_elsewhere(case, c)):
        return None
    turn = "; turn the sign, too" if c < 0 else ""
    return Finding(
        f"written = {c:.6g} * numeric at {count(case.passes)}{_is_named(case, c)}.",
        f"Take this factor out of the gradient, or put it into forward{turn}.",
    )


def _same_elsewhere(case, c):
    """Whether an array of one number has the same ratio for another dout at another point."""
    box, rng = case.box, np.random.default_rng(5)
    if box.kind != "layer":
        return False
    try:
        point = {name: a * (1 + 0.1 * rng.random(a.shape)) for name, a in box.point.items()}
        dout = rng.standard_normal(box.dout.shape)
        written = as_numbers(box.gradients(point, dout)[case.name])
        return bool(np.allclose(written, c * case.gradient_of(box.value, point, dout), rtol=1e-4))
    except Exception:  # the code under examination may refuse the other arguments
        return False


def _left_out(case):
    """Written is the gradient for ones in place of another array, such as gamma."""
    box = case.box
    vectors = (
        name for name, a in box.point.items() if name != case.name and a.ndim == 1 and a.size > 1
    )
    for name in vectors if box.kind == "layer" else ():
        if case.would_be(box.value, {**box.point, name: np.ones_like(box.point[name])}):
            return Finding(
                f"Written is the gradient for {name} = 1 everywhere.",
                f"Multiply by {name} in backward: forward does.",
            )
    return None


def _along_axes(case):
    """A ratio that is constant along some axes: another array, such as gamma, is missing or doubled."""
    for axes in reversed(subsets(range(case.x.ndim))[:-1]):  # not along all of them
        squares = np.sum(case.numeric**2, axis=axes, keepdims=True)
        if any(case.x.shape[a] < 2 for a in axes) or not np.all(squares > 0):
            continue
        ratio = np.sum(case.written * case.numeric, axis=axes, keepdims=True) / squares
        if np.all(ratio) and case.is_written(ratio * case.numeric):
            cause = _array_of(case, ratio.ravel())
            return Finding(
                f"written / numeric is constant along {axes_in_words(axes)}, from {ratio.min():.4g} to "
                f"{ratio.max():.4g}{cause}.",
                "Look for a factor with one number for each entry of the other axes, such as gamma.",
                0.95 if cause else 0.8,
            )
    return None


def _array_of(case, ratio):
    """The array that the ratio consists of, in words."""
    for name, a in case.box.point.items():
        if name != case.name and a.size == ratio.size and np.all(a):
            if np.allclose(ratio, a.ravel(), rtol=1e-4):
                return f": it is {name}, which counts twice"
            if np.allclose(ratio, 1 / a.ravel(), rtol=1e-4):
                return f": it is 1 / {name}, which is left out"
    return ""


def _of_the_wrong(case):
    wrong = case.wrong & case.passes
    if np.sum(wrong) < 2 or not np.array_equal(wrong, case.wrong):
        return None
    c = _ratio(case, wrong)
    if c is None:
        return None
    return Finding(
        f"written = {c:.6g} * numeric at {count(wrong)}{case.where(wrong)}, the others are right"
        f"{_is_named(case, c)}.",
        "Look at the branch of backward that these entries take.",
        0.85,
    )


def _is_named(case, c):
    name = named(case, c)
    return f"; {c:.4g} is {name}" if name else ""


def named(case, c):
    """What a factor is, in words; '' if no number of this problem fits."""
    words = []
    for value, name in _numbers(case):
        inverse = f"1/{name}" if name.isalnum() else f"1/({name})"
        for v, word in ((value, name), (1 / value, inverse)):
            if v != 1 and math.isclose(abs(c), v, rel_tol=max(1e-6, 10 * case.tolerance)):
                words.append(f"-{word}" if c < 0 else word)
    return " or ".join(list(dict.fromkeys(words))[:3])


def _numbers(case):
    """The numbers of this problem that a factor may come from, the likely ones first."""
    box, out = case.box, case.box.out.shape
    N = len(box.labels) if box.kind != "layer" else out[0] if out else 1
    yield from ((N, "N"), (2, "2"))
    if case.right_class is not None:
        yield case.x.shape[1], "C"
    yield from _settings(box)
    if N > 1:
        yield from ((N / (N - 1), "N/(N-1)"), (N * N, "N^2"))
    for name, a in {case.name: case.x, **box.point, "out": box.out}.items():
        yield from ((size, f"the length of axis {axis} of {name}") for axis, size in enumerate(a.shape))
        if a.ndim == 4:
            area = a.shape[2] * a.shape[3]
            yield from ((area, f"H W of {name}"), (len(a) * area, f"N H W of {name}"))
        yield a.size, f"the size of {name}"
    yield math.sqrt(2), "sqrt(2)"


def _settings(box):
    """Numbers among the settings: sizes of windows, probabilities, slopes."""
    values = {}
    for k, arg in enumerate(box.args):
        values |= arg if isinstance(arg, dict) else {box.names[k]: arg}
    real = (int, float, np.integer, np.floating)
    values = {str(k): float(v) for k, v in values.items() if isinstance(v, real) and v > 0}
    window = [v for k, v in values.items() if "height" in k or "width" in k]
    if len(window) == 2:
        yield math.prod(window), "the window's size"
    for name, v in values.items():
        if v < 1:
            yield 1 - v, f"(1 - {name})"
        yield from ((v, name), (v * v, f"{name}^2"))


# ---------------------------------------------------------------------------- rounding


def precision(case):
    """Right but for the rounding of float32, or cut to integers."""
    if not case.fits:
        return None
    dtype = np.asarray(case.raw).dtype
    if dtype.kind in "iub":
        return _integers(case, dtype)
    off = np.abs(case.written - case.numeric)[case.known]
    short = dtype.itemsize < 8
    rounded = np.array_equal(case.written, case.written.astype(np.float32))
    spread = np.mean(off > 1e-11 * case.scale) > 0.3 and np.max(off) < 1e-5 * case.scale
    limit = (2e-2 if dtype.itemsize < 4 else 1e-4) * case.scale
    if np.max(off) > limit or not (short or rounded or spread):
        return _half(case)
    came = f"came in {dtype}" if short else "is that of float32"
    return Finding(
        f"Written is right to {np.max(off) / case.scale:.0e} of the largest entry and no further: its "
        f"precision {came}, but the arguments were float64.",
        "Keep the dtype of the arguments: np.zeros_like(x), no astype(np.float32).",
        1.0 if short or rounded else 0.7,
    )


def _half(case):
    """Whether written is the gradient for an array that was rounded to float16."""
    box = case.box
    for name, a in {**box.point, "dout": box.dout}.items() if box.kind == "layer" else ():
        rounded = a.astype(np.float16).astype(np.float64)
        point = {**box.point, name: rounded} if name in box.point else None
        if case.would_be(box.value, point, rounded if name == "dout" else None):
            return Finding(
                f"Written is the gradient for {name} rounded to float16.",
                "Keep the dtype of the arguments in the cache.",
            )
    return None


def _integers(case, dtype):
    w, n = case.written[case.known], case.numeric[case.known]
    if not any(np.array_equal(w, cut(n)) for cut in (np.trunc, np.round, np.floor)):
        return None
    return Finding(
        f"The gradient came in {dtype}: its decimals are cut off.",
        "Make the array by np.zeros_like of an array of floats, or np.zeros(shape).",
    )
