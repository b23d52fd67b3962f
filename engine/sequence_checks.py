"""Validation of the arguments of layers for sequences. Each refusal is a ValueError."""

import numpy as np

__all__ = [
    "check_affine_steps",
    "check_mask",
    "check_recurrent",
    "check_temporal_labels",
    "check_words",
]


def check_recurrent(who, x, h, Wx, Wh, b, *, blocks=1, hidden="h0", **more):
    """x (N, T, D), or (N, D) for a single step, the states and the weights must fit together.

    hidden: what h (N, H) is called.  blocks: the columns of the weights are so many times H.
    more: further arrays, biases shaped as b, and prev_c, shaped as h.
    """
    ndim, form = (2, "(N, D)") if hidden == "prev_h" else (3, "(N, T, D)")
    if x.ndim != ndim or h.ndim != 2 or len(x) != len(h):
        raise ValueError(
            f"{who}: x has shape {x.shape} and {hidden} {h.shape}, expected {form} and (N, H)."
        )
    D, H = x.shape[-1], h.shape[1]
    M = blocks * H
    expected = {"Wx": (D, M), "Wh": (H, M), "b": (M,), "prev_c": h.shape, "bh": (M,)}
    if "bh" in more:
        expected["bx"] = expected["b"]
    first_bias = "bx" if "bh" in more else "b"
    for name, a in {"Wx": Wx, "Wh": Wh, first_bias: b, **more}.items():
        if a.shape != expected[name]:
            raise ValueError(
                f"{who}: x {x.shape} has D = {D} and {hidden} {h.shape} has H = {H}, "
                f"so {name} should be {expected[name]}, not {a.shape}."
            )


def check_words(who, x, W):
    """Words x as an array of integers, each with a row in W (V, D)."""
    if W.ndim != 2:
        raise ValueError(f"{who}: W has shape {W.shape}, expected (V, D).")
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        raise ValueError(f"{who}: x has dtype {x.dtype}, expected words as integers.")
    _check_in_vocabulary(who, "x", x, len(W))
    return x


def check_affine_steps(who, x, w, b):
    """x (N, ..., D), w (D, M) and b (M,) must fit together."""
    if x.ndim < 2 or b.ndim != 1:
        raise ValueError(f"{who}: x has shape {x.shape} and b {b.shape}, expected (N, T, D) and (M,).")
    if w.shape != (x.shape[-1], len(b)):
        raise ValueError(
            f"{who}: x {x.shape} has D = {x.shape[-1]} and b {b.shape}, "
            f"so w should be {(x.shape[-1], len(b))}, not {w.shape}."
        )


def check_mask(who, mask, shape):
    """The mask as bools; it must have this shape."""
    mask = np.asarray(mask)
    if mask.shape != shape or mask.dtype.kind not in "biu":
        raise ValueError(
            f"{who}: mask has shape {mask.shape} and dtype {mask.dtype}, expected bools {shape}."
        )
    return mask.astype(bool)


def check_temporal_labels(who, x, y, mask):
    """Labels y (N, T) as integers; those that count must be classes of the scores x (N, T, V)."""
    y = np.asarray(y)
    if x.ndim != 3 or y.shape != x.shape[:2]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and y {y.shape}, expected scores (N, T, V) and words (N, T)."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(f"{who}: y has dtype {y.dtype}, expected integers; try y.astype(int).")
    _check_in_vocabulary(who, "y", y[mask], x.shape[2])
    return y


def _check_in_vocabulary(who, name, words, V):
    if words.size and not (0 <= words.min() and words.max() < V):
        wrong = words.min() if words.min() < 0 else words.max()
        raise ValueError(f"{who}: {name} holds the word {wrong}, expected 0 to {V - 1}.")
