"""Batch, layer and group norm: the paths through mean and variance.

For numbers x_i that share a mean, dx_i = s (dxhat_i - mean(dxhat) - xhat_i mean(dxhat xhat)), see
layers.py. Without the second term dx is wrong by one number for all i, without the third by a multiple
of xhat_i, which is a multiple of x_i - mean(x). So the difference tells which term is missing, and over
which entries, without a look inside. Where numbers are divided by their norm and no mean is subtracted,
as in RMS norm, the missing term is a multiple of x_i.
"""

import numpy as np

from .case import Finding, axes_in_words, subsets

__all__ = ["statistics", "wrong_axis"]


def statistics(case):
    """Mean or variance is treated as constant, or has a path in backward that forward does not have."""
    if not _applies(case):
        return None
    found = [
        f
        for ids, words in _groupings(case.x.shape)
        for hypothesis in (_frozen, _frozen_norm)
        if (f := hypothesis(case, ids, words))
    ]
    return max(found, key=lambda f: f.strength, default=None)


def _applies(case):
    is_layer = case.box.kind == "layer" and case.x.ndim > 1
    return is_layer and case.fits and case.known.all() and bool(case.passes.any())


def _groupings(shape):
    """Ways to share a mean: the number of each entry's group, flat, and the way in words."""
    for axes in subsets(range(len(shape))):
        kept = [0 if a in axes else np.arange(size) for a, size in enumerate(shape)]
        index = np.broadcast_arrays(*np.ix_(*map(np.atleast_1d, kept)), np.empty(shape))[:-1]
        yield np.ravel_multi_index(index, shape).ravel(), axes_in_words(axes)
    if len(shape) == 4:
        N, C, H, W = shape
        for G in (g for g in range(2, C) if C % g == 0):
            groups = np.arange(N)[:, None] * G + np.arange(C) // (C // G)  # (N, C)
            yield np.repeat(groups.ravel(), H * W), f"each of {G} groups of channels"


def _mean(a, ids):
    """The mean of each entry's group."""
    _, ids, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    return (np.bincount(ids, a) / sizes)[ids]


def _frozen(case, ids, words):
    """A Finding if written - numeric is a + b (x - mean) in each group, as without those paths."""
    w, n, x = case.written.ravel(), case.numeric.ravel(), case.x.ravel()
    zero = 1e-3 * case.tolerance**0.5 * case.scale
    forward_has, backward_has = (np.max(np.abs(_mean(g, ids))) <= zero for g in (n, w))
    if np.min(np.unique(ids, return_counts=True)[1]) < 3 or not (forward_has or backward_has):
        return None
    d, c = w - n, x - _mean(x, ids)
    a, b = _mean(d, ids), _mean(d * c, ids) / np.maximum(_mean(c * c, ids), 1e-300)
    left = {
        ("the mean", "is the same number"): d - a,
        ("the variance", "is proportional to x - mean"): d - b * c,
        ("mean and variance", "is a + b * (x - mean)"): d - a - b * c,
    }
    limit = 1e-4 * np.max(np.abs(d)) + 10 * case.limit
    which, how = next((k for k, rest in left.items() if np.max(np.abs(rest)) <= limit), ("", ""))
    if not which:
        return None
    evidence = f"written - numeric {how} for all entries that share a mean (over {words})"
    strength = 0.9 if " and " in which else 0.98
    if forward_has:
        return Finding(
            f"{evidence}: so looks a gradient that takes {which} for constant.",
            f"Add the path through {which}: x enters {which}, too.",
            strength,
        )
    return Finding(
        f"{evidence}: written has a path through {which} that forward does not have.",
        f"Leave out the path through {which}: running statistics do not depend on x.",
        strength,
    )


def _frozen_norm(case, ids, words):
    """A Finding if x / |x| has a gradient without the path through |x|, a multiple of x."""
    n, x, d = case.numeric.ravel(), case.x.ravel(), (case.written - case.numeric).ravel()
    square, along = _mean(x * x, ids), np.abs(_mean(n * x, ids))  # 0, since |x| does not matter
    if np.min(np.unique(ids, return_counts=True)[1]) < 3 or np.any(
        along > 1e-4 * case.scale * square**0.5
    ):
        return None
    left = d - _mean(d * x, ids) / np.maximum(square, 1e-300) * x
    if np.max(np.abs(left)) > 1e-4 * np.max(np.abs(d)) + 10 * case.limit:
        return None
    return Finding(
        f"written - numeric is proportional to x for all entries that share a norm (over {words}): so "
        "looks a gradient that takes the norm for constant.",
        "Add the path through the norm, or the mean square: x enters it, too.",
        0.98,
    )


def wrong_axis(case):
    """A norm whose backward takes its means over other entries than forward."""
    if not _applies(case):
        return None
    for xhat, dxhat in _normalized(case):
        for ids, right in _groupings(case.x.shape):
            c = case.x.ravel() - _mean(case.x.ravel(), ids)
            s = np.divide(xhat, c, out=np.zeros_like(c), where=c != 0)
            if not case.same(s * _centred(dxhat, xhat, ids)):
                continue
            for others, wrong in _groupings(case.x.shape):
                if case.is_written(s * _centred(dxhat, xhat, others)):
                    return Finding(
                        f"Written takes its means over {wrong}, forward over {right}.",
                        f"Take the sums of backward over {right}, as forward does.",
                    )
    return None


def _centred(dxhat, xhat, ids):
    """dx of a norm without its scale s."""
    return dxhat - _mean(dxhat, ids) - xhat * _mean(dxhat * xhat, ids)


def _normalized(case):
    """(xhat, dxhat), flat: of a norm without gamma, and with each array that may be gamma."""
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
