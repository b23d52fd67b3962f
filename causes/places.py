"""Right numbers in the wrong place: gradients in another order, axes in another, another sum."""

import itertools

import numpy as np

from .case import Finding, axes_in_words, permutations, subsets

__all__ = ["order", "sums", "transposed"]


def order(case):
    """Written is the gradient of another array."""
    for other in case.cases.values():
        shaped = case.written.shape == other.x.shape
        if other is not case and shaped and other.scale and other.same(case.written):
            swapped = other.written is None or not other.same(other.written)
            return Finding(
                f"What came in the place of {case.name} is the gradient of {other.name}, "
                "number by number.",
                "Return the gradients in the order of forward's arguments.",
                1.0 if swapped else 0.7,  # else it may only look like the other's, as in x - y
            )
    return None


# ---------------------------------------------------------------------------- axes


def transposed(case):
    """Written is numeric with its axes in another order, or with a factor of it turned."""
    w, n = case.written, case.numeric
    if case.same(w) and w.shape != n.shape:
        return Finding(
            f"The numbers are right and in the right order, only the shape is {w.shape}.",
            f"Reshape it to that of {case.name}, {n.shape}.",
        )
    for p in permutations(n.ndim):
        if case.same(w, n.transpose(p)):
            return Finding(
                f"Written has the right numbers with the axes in the order {p}: its shape is "
                f"{w.shape}, that of {case.name} is {n.shape}.",
                "Transpose it back (.T, or .transpose to the order of the axes before reshape).",
            )
    for axes in subsets(range(n.ndim)[-2:]):
        if w.shape == n.shape and case.same(w, np.flip(n, axes)):
            return Finding(
                f"Written has the right numbers reversed along {axes_in_words(axes)}.",
                "Do not flip the filter: forward is a correlation.",
            )
    if not case.fits:
        return None
    hypotheses = (_turned_factor, _turned_jacobian, _turned_weights)
    turned = (turn(case) for turn in hypotheses if case.box.kind == "layer")
    return next(filter(None, turned), None) or _elsewhere(case)


def _turned_jacobian(case):
    """Whether backward multiplies by a matrix that lacks a transpose: an axis of out is one of x."""
    right, written = case.jacobian, case.written_jacobian
    if right is None or written is None or not case.known.all() or case.same(right, written):
        return None
    right = right.reshape(case.box.out.shape + case.x.shape)
    for i, j in itertools.product(range(case.box.out.ndim), range(-case.x.ndim, 0)):
        fits = right.shape[i] == right.shape[j] > 1
        if fits and case.same(right.swapaxes(i, j), written):
            return Finding(
                f"Backward has the derivatives of out with axis {i} of out and axis "
                f"{j + case.x.ndim} of {case.name} exchanged.",
                "Look at the matrix that stands beside dout: a transpose is missing or one too many.",
            )
    return None


def _turned_weights(case):
    """Whether each output has a row of a square array as its derivatives, and written a column.

    So it is in a step of a recurrence, where each is multiplied by the slope of tanh, too.
    """
    right, written, shape = case.jacobian, case.written_jacobian, case.x.shape
    if right is None or written is None or len(shape) != 2 or case.box.out.shape != shape:
        return None
    n = np.arange(shape[0])
    right, written = (J.reshape(*shape, *shape)[n, :, n, :] for J in (right, written))
    for name, a in case.box.point.items():
        for b in (a, a.T) if a.shape == (shape[1], shape[1]) and np.any(a != a.T) else ():
            slopes = (np.sum(right * b, axis=2) / np.sum(b * b, axis=1))[:, :, None]
            if case.same(right, slopes * b) and case.same(written, slopes * b.T):
                return Finding(
                    f"Written is the gradient that {name} would give with its axes exchanged.",
                    f"Look at how backward multiplies by {name}: a transpose is missing or too many.",
                )
    return None


def _elsewhere(case):
    """Written has the right numbers, each as often as it should be, in other places."""
    w, n = np.sort(case.written, axis=None), np.sort(case.numeric, axis=None)
    distinct = 1 + np.sum(np.diff(n) > 100 * case.limit)
    if not case.known.all() or distinct < 6 or 2 * case.passes.sum() < n.size or not case.same(w, n):
        return None
    return Finding(
        f"Written has the right numbers in other places: {case.at(case.wrong)}.",
        "Look at reshape (its order, and the order of the axes), repeat or tile, and at the order of "
        "what is joined.",
        0.75,
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
            yield name, np.flip(a, axes).copy(), f"{axes_in_words(axes)} reversed"


# ---------------------------------------------------------------------------- sums


def sums(case):
    """Not summed over the batch, over the wrong axis, or over some of the batch only."""
    w, n = case.written, case.numeric
    if case.same(w) and w.shape != n.shape and np.squeeze(w).shape == np.squeeze(n).shape:
        return Finding(
            f"The numbers are right, but the shape is {w.shape}, expected {n.shape}.",
            "Sum without keepdims=True, or reshape the sum to the array's shape.",
        )
    for axes in subsets(range(w.ndim)) if w.ndim <= 5 and w.size > n.size else ():
        if case.same(w.sum(axis=axes)):
            over = axes_in_words(axes)
            return Finding(
                f"Written has the shape {w.shape}; its sum over {over} is the right gradient.",
                f"Sum over {over}: what is used for every example adds up what comes back.",
            )
    others = (_other_sum, _part_of_the_batch, _softmax_over_the_batch, _one_number)
    return next(filter(None, (other(case) for other in others)), None)


def _other_sum(case):
    """If each output depends on one entry: whether written sums its terms over other axes."""
    if case.parts is None or case.x.size >= case.box.out.size:
        return None
    parts = np.nan_to_num(case.parts)
    if np.max(np.count_nonzero(parts, axis=1)) > 1:
        return None
    terms = parts.sum(axis=1).reshape(case.box.out.shape)
    axes = subsets(range(terms.ndim))
    right = [a for a in axes if case.same(terms.sum(axis=a))] or [(0,)]
    for wrong in (a for a in axes if a not in right):
        total = terms.sum(axis=wrong)
        for kind, share in (("sum", 1), ("mean", total.size / terms.size)):
            if _fills(case, share * total):
                return Finding(
                    f"Written is the {kind} over {axes_in_words(wrong)} of out; the right gradient "
                    f"sums over {axes_in_words(right[0])}.",
                    f"Sum over {axes_in_words(right[0])} of dout.",
                )
    return None


def _fills(case, total):
    """Whether written is a total; one number may stand at all entries."""
    if total.size == 1:
        return case.is_written(np.full(case.written.shape, total.item()))
    return case.is_written(total)


def _part_of_the_batch(case):
    """Written is what the first example adds, or all but the first or the last."""
    shape = case.box.out.shape
    if case.parts is None or not case.fits or not shape or shape[0] < 2:
        return None
    by_example = np.nan_to_num(case.parts.reshape(shape[0], -1, case.x.size).sum(axis=1))
    if np.max(np.count_nonzero(by_example, axis=0)) < 2:  # each entry belongs to one example, as in x
        return None
    total = by_example.sum(axis=0)
    others = [
        ("what the first example alone adds", by_example[0]),
        ("the sum over all examples but the first", total - by_example[0]),
        ("the sum over all examples but the last", total - by_example[-1]),
    ]
    for words, part in others:
        if case.is_written(part):
            strength = 0.95 if "but" in words else 1.0  # so may the last one of two that overwrite
            return Finding(f"Written is {words}.", "Sum over the whole batch, axis 0.", strength)
    return None


def _one_number(case):
    """Written has one number at all entries, the right gradient has not."""
    w, n = case.written, case.numeric
    if w.size < 3 or not np.any(w) or np.ptp(w) > case.limit or np.ptp(n[case.known]) <= case.limit:
        return None
    return Finding(
        f"Written is {w.flat[0]:.5g} at all {w.size} entries; the right ones differ.",
        "Sum over the batch only, and keep the axis of the array.",
        0.75,
    )


def _softmax_over_the_batch(case):
    """Of a softmax loss: whether the probabilities in written sum to 1 over the batch."""
    right = case.right_class
    if right is None or not case.fits or np.any(np.abs(case.numeric.sum(axis=1)) > 1e-7):
        return None
    for factor in (len(right), 1):
        p = factor * case.written + right
        if np.allclose(p.sum(axis=0), 1) and np.all(p > 0):
            return Finding(
                "The probabilities in written sum to 1 over axis 0, the batch; they should over "
                "axis 1, the classes.",
                "Normalise with sum(axis=1, keepdims=True).",
            )
    return None
