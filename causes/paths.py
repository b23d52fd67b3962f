"""Paths of the gradient that are left out, or open where forward is closed."""

import math

import numpy as np

from .case import Finding, as_numbers, count
from .ratios import extra_at_labels

__all__ = ["detached", "mask"]


def detached(case):
    """Zero where it should not be, or without one of its paths."""
    if not case.fits:
        return None
    if not np.any(case.written):
        return Finding(
            f"Written is 0 everywhere, numeric is up to {case.scale:.4g}.",
            "Let backward compute this gradient: the path from dout to it is cut.",
        )
    return (
        _without_later_steps(case)
        or _without_dout(case)
        or _own_output_only(case)
        or _without_own_path(case)
        or _without_label(case)
        or _zero_slice(case)
    )


def _without_dout(case):
    """Of out = x + f(x): written has one of the two paths."""
    dout = case.box.dout
    if case.box.kind != "layer" or case.x.shape != dout.shape or case.slopes is not None:
        return None
    for words, path in (("lacks dout itself", case.numeric - dout), ("is dout alone", dout)):
        if case.is_written(path):
            return Finding(
                f"Written {words}: x reaches out in two ways, and one of them is left out.",
                "Add what comes back on each path (copy <-> add).",
                0.95,
            )
    return None


def _without_later_steps(case):
    """Of a sequence, out (N, T, ...): written has what the entry's own step adds, and no later one."""
    if not len(_first_steps(case)) or not any(
        len(np.unique(_first_steps(other))) > 1 for other in case.cases.values() if other.fits
    ):
        return None
    return Finding(
        "Written is what comes back from the first step of out that an entry reaches; it reaches all "
        "later steps, too.",
        "Carry the gradient of the state back from step to step, and add it to dout.",
    )


def _first_steps(case):
    """The first step that each entry reaches, if written is what that one adds; else ()."""
    shape = case.box.out.shape
    if case.parts is None or len(shape) != 3 or shape[1] < 3 or not case.known.all():
        return ()
    added = case.parts.reshape(*shape, -1).sum(axis=(0, 2))  # (T, x.size)
    first = np.argmax(added != 0, axis=0)
    alone = case.is_written(added[first, np.arange(case.x.size)])
    return first if alone and np.all(added[-1]) else ()


def _own_output_only(case):
    """Written has the diagonal of the Jacobian only, as for an elementwise function."""
    J = case.jacobian
    if J is None or case.box.out.shape != case.x.shape or case.slopes is not None:
        return None
    if not case.is_written(case.box.dout.ravel() * np.diag(J)):
        return None
    return Finding(
        "Written is dout times the derivative of each output by its own entry of x; the other outputs "
        "depend on that entry, too.",
        "Sum over all outputs that an entry reaches: dx_i = sum over j of dout_j * d out_j / d x_i.",
    )


def _without_own_path(case):
    """Right but for the derivative of each output by its own entry: (1 - z) n + z h may lack z."""
    right, written = case.jacobian, case.written_jacobian
    if (
        written is None
        or right is None
        or case.box.out.shape != case.x.shape
        or case.slopes is not None
    ):
        return None
    missing = right - written
    own = np.diag(missing)
    if not np.all(own) or not case.known.all() or not case.same(missing, np.diag(own)):
        return None
    return Finding(
        "Backward has the right derivatives of each output by the other entries; that by its own entry "
        f"lacks something, from {own.min():.4g} to {own.max():.4g}.",
        "Add the path on which an entry goes to its own output (copy <-> add).",
        0.6,
    )


def _without_label(case):
    extra = extra_at_labels(case)
    if extra is None or not math.isclose(extra * len(case.box.labels), 1, rel_tol=1e-4):
        return None
    return Finding(
        "Written is right but at the right class of each example, where it is 1 / N too large: the "
        "label's term is left out.",
        "Subtract 1 (over N) at the right class.",
        0.95,
    )


def _zero_slice(case):
    """Zero in whole slices along an axis, or at the right classes; right elsewhere."""
    zero = case.written == 0
    if not np.array_equal(case.wrong, case.passes & zero):
        return None
    for axis in range(case.x.ndim):
        others = tuple(a for a in range(case.x.ndim) if a != axis)
        empty = np.all(zero, axis=others) & np.any(case.passes, axis=others)
        if not empty.all() and np.array_equal(case.wrong, case.passes & np.expand_dims(empty, others)):
            which = np.flatnonzero(empty)
            lone = np.sum(case.wrong) < 2 * len(which) or _at_the_edge(case, axis, which)
            numbers = ", ".join(map(str, which[:5]))
            return Finding(
                f"Written is 0 at index {numbers} of axis {axis}, the rest is right.",
                "Let backward reach these entries: a loop ends too early, or a part is not assigned.",
                0.8 if lone else 0.96,
            )
    words = case.where(case.wrong)
    return Finding(
        f"Written is 0 at {count(case.wrong)}{words} where numeric is not: {case.at(case.wrong)}.",
        "Let the gradient reach these entries.",
        0.85 if "right class" in words else 0.3,
    )


def _at_the_edge(case, axis, which):
    """Whether these are edges of images, see `border`."""
    edges = (0, case.x.shape[axis] - 1)
    return case.x.ndim > 3 and axis >= case.x.ndim - 2 and all(k in edges for k in which)


# ---------------------------------------------------------------------------- masks


def mask(case):
    """The gradient passes where forward did not, or the reverse."""
    if not case.fits:
        return None
    if case.box.kind == "model":
        return _of_a_model(case)
    opened = case.wrong & ~case.passes & (case.written != 0)
    closed = case.wrong & case.passes & (case.written == 0)
    either = opened | closed
    if case.slopes is not None:
        return _of_slopes(case, opened, closed)
    by_output = _of_outputs(case) or _of_a_bias(case)
    if by_output:
        return by_output
    if (opened.any() and np.array_equal(either, case.wrong)) or _all_but_labels(case, either):
        return _passing(case, opened, closed, 0.95)
    if case.routes and opened.any():
        return _passing(case, opened, closed, 0.9)
    if case.routes and closed.any() and np.array_equal(closed, case.wrong):
        return _passing(case, opened, closed, 0.8)
    return None


def _of_slopes(case, opened, closed):
    """An elementwise function: where written is wrong, it stops, or has another branch's slope."""
    if closed.any() and np.array_equal(closed, case.wrong):
        return _passing(case, opened, closed, 0.95)
    distinct = np.unique(np.round(case.slopes[case.known], 6))
    if not 1 < len(distinct) <= 3:
        return None
    written = case.written / case.box.dout
    near = np.min([np.abs(written - s) for s in (*distinct, 0, 1)], axis=0) < max(1e-5, case.tolerance)
    if np.all(near[case.wrong]):
        return _passing(case, opened, closed, 1.0)
    return _passing(case, opened, closed, 0.9) if opened.any() else None


def _of_outputs(case):
    """By outputs: whether backward passes where no entry reaches the output, or the reverse."""
    if case.jacobian is None or not case.known.all():
        return None
    right, written = case.jacobian, case.written_jacobian
    if written is None or not np.any(right):
        return None
    limit = case.tolerance * np.max(np.abs(right))
    off = np.any(np.abs(written - right) > limit, axis=1)
    stopped, passed = (np.all(np.abs(J) <= limit, axis=1) for J in (right, written))
    opened, closed = off & stopped, off & passed
    if not np.any(off) or not np.array_equal(opened | closed, off) or np.all(closed):
        return None
    return Finding(
        f"Of {off.size} outputs {opened.sum()} do not depend on {case.name}, but backward passes "
        f"their dout; {closed.sum()} do, but backward stops it.",
        "Make the mask of backward from what forward saw: the entries that passed, and only these.",
        0.9,
    )


def _of_a_bias(case):
    """A bias before an activation inside: a term of its gradient passes where forward stops it."""
    right, written = case.jacobian, case.written_jacobian
    if case.x.ndim != 1 or right is None or written is None or not case.known.all():
        return None
    limit = case.tolerance * np.max(np.abs(right), initial=0.0)
    off = np.abs(written - right) > limit
    opened, closed = off & (np.abs(right) <= limit), off & (np.abs(written) <= limit)
    if not opened.any() or not np.array_equal(off, opened | closed):
        return None
    return Finding(
        f"Of {off.size} derivatives of out by {case.name}, backward has {opened.sum()} that are 0 in "
        f"forward, and lacks {closed.sum()}; the others are right.",
        "Look at the activation after it: its mask is that of forward's input.",
        0.7,
    )


def _all_but_labels(case, either):
    """Of a loss: what is wrong besides lies at the right classes, which count the others."""
    right = case.right_class
    if right is None:
        return False
    return bool(np.any(either & ~right)) and not np.any(case.wrong & ~either & ~right)


def _passing(case, opened, closed, strength):
    words = []
    if opened.any():
        words.append(f"It passes at {count(opened)} where forward does not: {case.at(opened)}.")
    if closed.any():
        words.append(f"It stops at {count(closed)} where forward passes: {case.at(closed)}.")
    if not words:
        words.append(f"At {count(case.wrong)} it has another branch's slope: {case.at(case.wrong)}.")
    words += _mask_by_dout(case)
    return Finding(
        " ".join(words),
        "Make the mask of backward from forward's input: the entries that passed, and only these.",
        strength,
    )


def _mask_by_dout(case):
    dout, passed = case.box.dout, case.written != 0
    if dout.shape != case.x.shape or passed.all():
        return []
    signs = {"dout > 0": dout > 0, "dout < 0": dout < 0}
    return [f"It passes just where {s}." for s, where in signs.items() if np.array_equal(passed, where)]


def _of_a_model(case):
    """With one example, the gradient of a bias is all that reaches its layer: a mask shows there."""
    vectors = (c for c in case.cases.values() if c.fits and c.x.ndim == 1)
    biases = [c for c in vectors if c.x.size in case.x.shape]
    for bias in biases:
        wrong = _wrong_for_single_examples(bias)
        if wrong:
            return Finding(
                f"With one example at a time, {wrong} entries of the gradient of {bias.name} pass "
                "where the forward pass stops, or the reverse; the others are right.",
                "Look at the activation after this layer: its mask is that of forward's input.",
                0.9,
            )
    return None


def _wrong_for_single_examples(bias):
    """How many entries are wrong, all of them like a mask; 0 if one is not."""
    box, total = bias.box, 0
    for n in range(min(len(box.labels), 6)):
        X, y = box.X[n : n + 1], box.labels[n : n + 1]
        try:
            written = as_numbers(box.call(box.point, X, y)[1][bias.name])
            numeric = bias.gradient_of(lambda v, X=X, y=y: box.call(v, X, y)[0])
        except Exception:  # the code under examination may not take one example
            return 0
        limit = max(bias.tolerance * np.nanmax(np.abs(numeric), initial=0.0), 1e-9)
        wrong = np.abs(written - numeric) > limit
        if np.any(wrong & (np.abs(numeric) > limit) & (written != 0)):
            return 0
        total += int(np.sum(wrong))
    return total
