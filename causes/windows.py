"""Windows over images: assigned in place of added, or wrong at the border."""

import itertools

import numpy as np

from .case import MOST_ENTRIES, Finding, count, subsets

__all__ = ["border", "overwritten"]


def overwritten(case):
    """Entries that several windows use have what one of them adds."""
    if case.parts is None or not case.fits or not case.wrong.any():
        return None
    shape, cover = case.box.out.shape, _cover(case).astype(float)
    for loops in subsets(range(len(shape))):
        added, covered = (_grouped(a, shape, loops) for a in (case.parts, cover))
        which = _lone_turn(case, added, covered > 0)
        if which:
            return Finding(
                f"At {count(case.wrong)} several windows or examples meet; written has what {which} "
                f"adds: {case.at(case.wrong)}.",
                "Write += instead of =: an entry that is used several times adds up what comes back.",
                1.0 if "last" in which else 0.9,
            )
    return None


def _grouped(a, shape, loops):
    """Sums of the rows of a (out.size, x.size) over the axes of out that are not looped over."""
    others = tuple(axis for axis in range(len(shape)) if axis not in loops)
    return a.reshape(*shape, a.shape[1]).sum(axis=others).reshape(-1, a.shape[1])


def _lone_turn(case, added, covered):
    """Which turn of the loops alone explains written, in words; '' if none does.

    added: what each turn adds to each entry, (turns, x.size).  covered: whether it looks at the entry.
    """
    w, wrong, known = case.written.ravel(), case.wrong.ravel(), case.known.ravel()
    turns = np.maximum(np.count_nonzero(added, axis=0), covered.sum(axis=0))
    if np.any(turns[wrong] < 2):
        return ""
    hit = np.abs(added - w) <= case.limit
    last = len(added) - 1 - np.argmax(covered[::-1], axis=0)
    if np.all(hit[last, np.arange(w.size)][known & covered.any(axis=0)]):
        return "the last one that covers it"
    if np.all(hit[-1][known]):
        return "the last one"
    shown = np.sum(wrong & (np.abs(w) > case.limit))  # a zero fits too easily
    return "one of them" if np.all(hit.any(axis=0)[wrong]) and 4 * shown > np.sum(wrong) else ""


def _cover(case):
    """Which output looks at which entry, (out.size, x.size): a max looks at all of its window."""
    cover = np.nan_to_num(case.jacobian) != 0
    if case.x.size > MOST_ENTRIES or not case.routes:
        return cover
    for k in case.columns:
        moved = case.x.copy()
        moved.flat[k] = 10 * np.max(np.abs(case.x)) + 1
        out = case.box.value({**case.box.point, case.name: moved})
        cover[:, k] |= (out != case.box.out).ravel()
    return cover


# ---------------------------------------------------------------------------- the border


def border(case):
    """Wrong at the edges: a frame, a shift, a row of windows, another padding or stride."""
    if not case.fits:
        return _framed(case)
    if case.box.out.ndim < 3:
        return None
    return _shifted(case) or _windows_left_out(case) or _other_setting(case) or _edges(case)


def _framed(case):
    """Written has another height or width than x."""
    w, n = case.written, case.numeric
    if n.ndim < 3 or w.ndim != n.ndim or w.shape[:-2] != n.shape[:-2] or w.shape == n.shape:
        return None
    H, W = n.shape[-2:]
    rows, columns = (range(1 + max(0, a - b)) for a, b in zip(w.shape[-2:], (H, W), strict=True))
    for top, left in itertools.product(rows, columns):
        if case.same(w[..., top : top + H, left : left + W]):
            return Finding(
                f"Written has the shape {w.shape}; from row {top} and column {left} on it holds the "
                f"right gradient {n.shape}.",
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
    H, W = case.x.shape[-2:]
    for dy, dx in itertools.product(range(-2, 3), repeat=2):
        if (dy, dx) == (0, 0) or abs(dy) >= H or abs(dx) >= W:
            continue
        here = np.s_[..., max(0, dy) : H + min(0, dy), max(0, dx) : W + min(0, dx)]
        there = np.s_[..., max(0, -dy) : H + min(0, -dy), max(0, -dx) : W + min(0, -dx)]
        b = case.numeric[there]
        if b.size > 3 and np.any(b) and case.same(case.written[here], b):
            return Finding(
                f"Written is numeric moved by {dy} rows and {dx} columns.",
                "Cut the frame at the right place: [pad : pad + H, pad : pad + W].",
                0.97,
            )
    return None


def _windows_left_out(case):
    """Written is what all outputs but those of some edge rows and columns add."""
    if case.parts is None:
        return None
    sides = {
        "first row": np.s_[..., 0, :],
        "last row": np.s_[..., -1, :],
        "first column": np.s_[..., :, 0],
        "last column": np.s_[..., :, -1],
    }
    for names in subsets(sides):
        kept = np.ones(case.box.out.shape)
        for name in names:
            kept[sides[name]] = 0
        if case.is_written(kept.ravel() @ case.parts):
            return Finding(
                f"Written is what all windows add but those of the {' and '.join(names)} of out.",
                "Let the loops of backward run over every row and column of out.",
            )
    return None


def _other_setting(case):
    """Written is the gradient for another stride, padding or size among forward's settings."""
    box = case.box
    for position, key, settings, words in _other_settings(box):
        value = box.value_with(position, settings)
        try:
            dout = _fitted(box.dout, value(box.point).shape)
        except Exception:  # the code under examination may refuse the setting
            continue
        if case.would_be(value, dout=dout):
            return Finding(
                f"Written is the gradient for {key} = {words}.",
                f"Use forward's {key} in backward: keep it in the cache.",
                0.97,
            )
    return None


def _other_settings(box):
    for position, arg in enumerate(box.args):
        for key, value in arg.items() if isinstance(arg, dict) else ():
            if isinstance(value, int) and not isinstance(value, bool):
                for other in sorted({value - 1, value + 1, 0, 1} - {value, -1}):
                    yield position, key, {**arg, key: other}, f"{other}, where forward has {value}"


def _fitted(dout, shape):
    """dout cut, or filled up with zeros, to another shape with as many axes."""
    fitted = np.zeros(shape)
    common = tuple(slice(0, min(a, b)) for a, b in zip(dout.shape, shape, strict=True))
    fitted[common] = dout[common]
    return fitted


def _edges(case):
    """All wrong entries lie in the outer rows and columns."""
    if case.x.ndim < 3 or not case.wrong.any():
        return None
    H, W = case.x.shape[-2:]
    for width in (1, 2):
        inner = case.wrong[..., width : H - width, width : W - width]
        if inner.size and not inner.any():
            *_, rows, columns = np.nonzero(case.wrong)
            return Finding(
                f"Only edges are wrong, {count(case.wrong)}: rows {_listed(rows)} and columns "
                f"{_listed(columns)} of {H} x {W}; inside all is right.",
                "Look at padding and at the ends of the loops: something is off by one.",
                0.85,
            )
    return None


def _listed(numbers):
    numbers = np.unique(numbers)
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
