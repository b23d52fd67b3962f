"""Validation of the arguments of layers for sequences. Each refusal is a ValueError."""

import functools

import numpy as np

from .errors import refuse_settings

__all__ = [
    "attention_settings",
    "check_affine_steps",
    "check_attention",
    "check_conv1d",
    "check_last_step",
    "check_multi_head",
    "check_positions",
    "check_recurrence",
    "check_recurrent",
    "check_rmsnorm",
    "check_word_affine",
    "check_word_scores",
    "check_words",
    "checked_labels",
    "checked_mask",
]


def check_recurrent(who, x, h, Wx, Wh, b, *, blocks=1, hidden="h0", **more):
    """x (N, T, D), or (N, D) for a single step, the states and the weights must fit together.

    hidden: what h (N, H) is called.  blocks: the columns of the weights are so many times H.
    more: further arrays, biases shaped as b, and prev_c or c0, shaped as h.
    """
    ndim, form = (2, "(N, D)") if hidden == "prev_h" else (3, "(N, T, D)")
    if x.ndim != ndim or h.ndim != 2 or len(x) != len(h):
        raise ValueError(
            f"{who}: x has shape {x.shape} and {hidden} {h.shape}, expected {form} and (N, H)."
        )
    D, H = x.shape[-1], h.shape[1]
    M = blocks * H
    expected = {"Wx": (D, M), "Wh": (H, M), "b": (M,), "prev_c": h.shape, "c0": h.shape, "bh": (M,)}
    if "bh" in more:
        expected["bx"] = expected["b"]
    first_bias = "bx" if "bh" in more else "b"
    for name, a in {"Wx": Wx, "Wh": Wh, first_bias: b, **more}.items():
        if a.shape != expected[name]:
            raise ValueError(
                f"{who}: x {x.shape} has D = {D} and {hidden} {h.shape} has H = {H}, "
                f"so {name} should be {expected[name]}, not {a.shape}."
            )


def check_recurrence(who, a, h0, Wh, blocks=1, **more):
    """a (N, T, M), M = blocks * H, the state h0 (N, H), Wh, and perhaps bh or c0, must fit together."""
    if a.ndim != 3 or h0.ndim != 2 or len(a) != len(h0):
        raise ValueError(
            f"{who}: a has shape {a.shape} and h0 {h0.shape}, expected (N, T, M) and (N, H)."
        )
    H = h0.shape[1]
    M = blocks * H
    expected = {"a": (*a.shape[:2], M), "Wh": (H, M), "bh": (M,), "c0": h0.shape}
    for name, array in {"a": a, "Wh": Wh, **more}.items():
        if array.shape != expected[name]:
            raise ValueError(
                f"{who}: h0 {h0.shape} has H = {H}, so {name} should be {expected[name]}, "
                f"not {array.shape}."
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


def check_word_affine(who, x, W, Wx, b):
    """Words x (N, T), W (V, D), Wx (D, M) and b (M,) must fit together."""
    if x.ndim != 2 or b.ndim != 1:
        raise ValueError(f"{who}: x has shape {x.shape} and b {b.shape}, expected (N, T) and (M,).")
    if Wx.shape != (W.shape[1], len(b)):
        raise ValueError(
            f"{who}: W {W.shape} has D = {W.shape[1]} and b {b.shape}, "
            f"so Wx should be {(W.shape[1], len(b))}, not {Wx.shape}."
        )


def check_affine_steps(who, x, w, b):
    """x (N, ..., D), w (D, M) and b (M,) must fit together."""
    if x.ndim < 2 or b.ndim != 1:
        raise ValueError(f"{who}: x has shape {x.shape} and b {b.shape}, expected (N, T, D) and (M,).")
    if w.shape != (x.shape[-1], len(b)):
        raise ValueError(
            f"{who}: x {x.shape} has D = {x.shape[-1]} and b {b.shape}, "
            f"so w should be {(x.shape[-1], len(b))}, not {w.shape}."
        )


def check_word_scores(who, x, W):
    """x (N, T, D) and W (V, D) must fit together."""
    if x.ndim < 2 or W.ndim != 2 or x.shape[-1] != W.shape[1]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and W {W.shape}, expected (N, T, D) and (V, D)."
        )


def check_last_step(who, x):
    """x (N, T, D) must have a step."""
    if x.ndim != 3 or not x.shape[1]:
        raise ValueError(f"{who}: x has shape {x.shape}, expected (N, T, D) with a step at least.")


def checked_labels(who, x, y, mask):
    """Labels y (N, T) as integers and the mask (N, T) as bools. Labels that count must be classes of
    the scores x (N, T, V).
    """
    y, mask = np.asarray(y), np.asarray(mask)
    if x.ndim != 3 or y.shape != x.shape[:2]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and y {y.shape}, expected scores (N, T, V) and words (N, T)."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(f"{who}: y has dtype {y.dtype}, expected integers; try y.astype(int).")
    if mask.shape != y.shape or mask.dtype.kind not in "biu":
        raise ValueError(
            f"{who}: mask has shape {mask.shape} and dtype {mask.dtype}, expected bools {y.shape}."
        )
    mask = mask.astype(bool)
    _check_in_vocabulary(who, "y", y[mask], x.shape[2])
    return y, mask


def _check_in_vocabulary(who, name, words, V):
    if words.size and not (0 <= words.min() and words.max() < V):
        wrong = words.min() if words.min() < 0 else words.max()
        raise ValueError(f"{who}: {name} holds the word {wrong}, expected 0 to {V - 1}.")


def check_rmsnorm(who, x, gamma, param):
    """gamma must hold a number for each feature, the last axis of x. Returns eps."""
    refuse_settings(who, "its settings", param, ("eps",))
    if x.ndim < 2 or gamma.shape != x.shape[-1:]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and gamma {gamma.shape}, expected (N, ..., D) and (D,)."
        )
    return float(param.get("eps", 1e-5))


def check_positions(who, x, W):
    """x (N, T, D) and W (P, D) must fit together, and T must not be above P."""
    if x.ndim != 3 or W.ndim != 2 or x.shape[2] != W.shape[1]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and W {W.shape}, expected (N, T, D) and (P, D)."
        )
    if x.shape[1] > len(W):
        raise ValueError(
            f"{who}: x {x.shape} has T = {x.shape[1]} steps, but W {W.shape} has positions for "
            f"{len(W)}; expected shorter sequences."
        )


def check_conv1d(who, x, w, b, conv_param):
    """(stride, pad); x (N, T, D), w (F, D, K) and b (F,) must fit together."""
    refuse_settings(who, "conv_param", conv_param, ("stride", "pad"))
    if x.ndim != 3 or w.ndim != 3 or x.shape[2] != w.shape[1] or b.shape != w.shape[:1]:
        raise ValueError(
            f"{who}: x has shape {x.shape}, w {w.shape} and b {b.shape}, expected (N, T, D), (F, D, K) "
            "and (F,)."
        )
    stride, pad = conv_param.get("stride", 1), conv_param.get("pad", 0)
    for name, value, low in (("stride", stride, 1), ("pad", pad, 0)):
        if not isinstance(value, int | np.integer) or value < low:
            raise ValueError(f"{who}: {name} = {value!r}, expected a whole number of at least {low}.")
    if x.shape[1] + 2 * pad < w.shape[2]:
        raise ValueError(
            f"{who}: a filter of K = {w.shape[2]} steps does not fit into T = {x.shape[1]} steps "
            f"with pad {pad}; expected a shorter filter or longer sequences."
        )
    return stride, pad


# ---------------------------------------------------------------------------- attention


def check_attention(who, q, k, v, causal):
    """q (N, ..., T, E), k (N, ..., S, E) and v (N, ..., S, D) must fit together."""
    fit = (
        q.ndim >= 3
        and q.ndim == k.ndim == v.ndim
        and q.shape[:-2] == k.shape[:-2]
        and q.shape[-1] == k.shape[-1]
        and k.shape[:-1] == v.shape[:-1]
    )
    if not fit:
        raise ValueError(
            f"{who}: q has shape {q.shape}, k {k.shape} and v {v.shape}, expected (N, ..., T, E), "
            "(N, ..., S, E) and (N, ..., S, D)."
        )
    if causal and q.shape[-2] > k.shape[-2]:
        raise ValueError(
            f"{who}: q {q.shape} has T = {q.shape[-2]} and k {k.shape} has S = {k.shape[-2]}; "
            "with causal=True expected T up to S."
        )


def attention_settings(who, param):
    """(heads, causal, mask) of attention_param."""
    refuse_settings(who, "attention_param", param, ("heads", "causal", "mask"))
    if "heads" not in param:
        raise ValueError(f"{who}: attention_param lacks 'heads', expected a divisor of D.")
    return param["heads"], bool(param.get("causal", False)), param.get("mask")


def check_multi_head(who, x, W, b, Wo, bo, heads):
    """x (N, T, D) and the weights must fit together, and heads divide D."""
    if x.ndim != 3:
        raise ValueError(f"{who}: x has shape {x.shape}, expected (N, T, D).")
    D = x.shape[2]
    expected = {"W": (D, 3 * D), "b": (3 * D,), "Wo": (D, D), "bo": (D,)}
    for name, a in {"W": W, "b": b, "Wo": Wo, "bo": bo}.items():
        if a.shape != expected[name]:
            raise ValueError(
                f"{who}: x {x.shape} has D = {D}, so {name} should be {expected[name]}, not {a.shape}."
            )
    whole = isinstance(heads, int | np.integer) and not isinstance(heads, bool)
    if not whole or heads < 1 or D % heads:
        raise ValueError(f"{who}: heads = {heads!r}, expected a divisor of D = {D}.")


def checked_mask(who, mask, causal, shape):
    """What a mask adds to scores of this shape (..., T, S): 0, or -inf where a key is not seen.

    None if every query sees every key. Raises ValueError if the mask has a wrong shape or dtype, or
    leaves a query no key.
    """
    if mask is None:
        return _causal(*shape[-2:]) if causal else None
    mask = np.asarray(mask)
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits or mask.dtype != bool:
        raise ValueError(
            f"{who}: mask has shape {mask.shape} and dtype {mask.dtype}, expected bools that broadcast "
            f"to {shape}, true where a query sees a key."
        )
    seen = np.atleast_1d(mask)
    if causal:
        seen = seen & (_causal(*shape[-2:]) == 0)
    blind = ~seen.any(axis=-1)
    if blind.any():
        where = tuple(int(i) for i in np.argwhere(blind)[0])
        blind_one = f"query {where}" if where else "every query"
        raise ValueError(f"{who}: the mask leaves {blind_one} no key to attend to; expected one.")
    return np.where(seen, np.float32(0), np.float32(-np.inf))


@functools.lru_cache(maxsize=64)
def _causal(T, S):
    """-inf above the diagonal that ends at the last query and the last key, else 0: (T, S)."""
    return np.where(np.tri(T, S, S - T, dtype=bool), np.float32(0), np.float32(-np.inf))
