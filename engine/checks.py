"""Validation of the arguments of layers: settings, shapes and labels. Each refusal is a ValueError."""

import math
import re

import numpy as np

from .arrays import as_float
from .errors import check_range, look_up, refuse_settings
from .images import output_size

__all__ = [
    "check_affine",
    "check_batchnorm",
    "check_dout",
    "check_groups",
    "check_labels",
    "check_norm",
    "check_pair",
    "check_targets",
    "conv_settings",
    "dropout_settings",
    "layer_of",
    "pool_settings",
]

TRAINING = {"train": True, "test": False}  # by mode
RUNNING = ("running_mean", "running_var")
KEEP_HINT = (
    " p is the probability of dropping; where p was the probability of keeping "
    "(the course since 2018), pass 1 - p, and 0 for no dropout."
)


def layer_of(function):
    """'conv' of conv_forward and of conv_backward_fast; the whole name of another function."""
    return re.sub("_(forward|backward)(_.*)?$", "", getattr(function, "__name__", "?"))


def check_pair(who, forward, backward):
    """Two functions of handgrad must be of one layer; a user's may go with any."""
    ours = [getattr(f, "__module__", None) or "" for f in (forward, backward)]
    both_ours = all(name.split(".")[0] == __name__.split(".")[0] for name in ours)
    if both_ours and layer_of(forward) != layer_of(backward):
        raise ValueError(
            f"{who}: {forward.__name__} and {backward.__name__} came, expected functions of one layer, "
            f"such as {forward.__name__} and {layer_of(forward)}_backward."
        )


def check_dout(who, dout, shape, name="dout"):
    """dout as floats; it must have the shape of out."""
    if type(dout) is not np.ndarray or dout.dtype.kind not in "fc":
        dout = as_float(who, name, dout)
    if dout.shape != shape:
        raise ValueError(f"{who}: {name} has shape {dout.shape}, expected that of out, {shape}.")
    return dout


def check_affine(who, x, w, b):
    """x (N, d_1, ..., d_k), w (D, M) and b (M,) must fit together."""
    if x.ndim == 0 or b.ndim != 1:
        raise ValueError(
            f"{who}: x has shape {x.shape} and b {b.shape}, expected (N, d_1, ..., d_k) and (M,)."
        )
    D = math.prod(x.shape[1:])
    if w.shape != (D, len(b)):
        raise ValueError(
            f"{who}: x {x.shape} has D = {D} and b {b.shape}, "
            f"so w should be {(D, len(b))}, not {w.shape}."
        )


def dropout_settings(who, param):
    """(p, whether it is training)."""
    refuse_settings(who, "dropout_param", param, ("p", "mode", "seed"))
    check_range(who, "p", param.get("p"), 0, 1, open_high=True, hint=KEEP_HINT)
    return float(param["p"]), _is_training(who, param)


def _is_training(who, param):
    return look_up(who, TRAINING, param.get("mode"), "mode")


def check_batchnorm(who, x, gamma, beta, param, ndim):
    """Whether it is training; the running statistics must hold a number for each feature."""
    check_norm(who, x, gamma, beta, param, ndim, known=("eps", "mode", "momentum", *RUNNING))
    for key in RUNNING:
        if key in param and np.size(param[key]) != x.shape[1]:
            raise ValueError(
                f"{who}: {key} has shape {np.shape(param[key])}, but x {x.shape} has "
                f"{x.shape[1]} features."
            )
    return _is_training(who, param)


def check_norm(who, x, gamma, beta, param, ndim, known=("eps", "mode")):
    """x must have `ndim` axes, gamma and beta a number for each feature, param known keys only."""
    refuse_settings(who, "its settings", param, known)
    if x.ndim != ndim:
        expected = "(N, D)" if ndim == 2 else "(N, C, H, W)"
        raise ValueError(f"{who}: x has shape {x.shape}, expected {expected}.")
    features = x.shape[1]
    if gamma.size != features or beta.size != features:
        raise ValueError(
            f"{who}: x {x.shape} has {features} features, so gamma and beta should hold {features} "
            f"numbers each, not {gamma.shape} and {beta.shape}."
        )


def check_groups(who, G, C):
    """G must divide the number of channels."""
    if isinstance(G, bool) or not isinstance(G, int | np.integer) or G < 1 or C % G:
        raise ValueError(f"{who}: G = {G!r}, expected a divisor of C = {C}.")


def conv_settings(who, x, w, b, conv_param):
    """(stride, pad) as pairs (along H, along W), and the output's (OH, OW)."""
    refuse_settings(who, "conv_param", conv_param, ("stride", "pad"))
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"{who}: x has shape {x.shape} and w {w.shape}, "
            "expected images (N, C, H, W) and filters (F, C, HH, WW)."
        )
    if x.shape[1] != w.shape[1]:
        raise ValueError(
            f"{who}: x {x.shape} has C = {x.shape[1]}, but w {w.shape} expects C = {w.shape[1]}."
        )
    if b.shape != w.shape[:1]:
        raise ValueError(
            f"{who}: w {w.shape} has F = {len(w)}, so b should be {w.shape[:1]}, not {b.shape}."
        )
    stride = _pair(who, "stride", conv_param.get("stride", 1), low=1)
    pad = _pair(who, "pad", conv_param.get("pad", 0), low=0)
    return stride, pad, _output_shape(who, x, w.shape[2:], stride, pad)


def pool_settings(who, x, pool_param):
    """(window, stride, pad) as pairs, and the output's (OH, OW)."""
    known = ("pool_height", "pool_width", "stride", "pad")
    refuse_settings(who, "pool_param", pool_param, known)
    missing = [key for key in known[:2] if key not in pool_param]
    if missing:
        raise ValueError(f"{who}: pool_param lacks {missing}, expected pool_height and pool_width.")
    if x.ndim != 4:
        raise ValueError(f"{who}: x has shape {x.shape}, expected images (N, C, H, W).")
    window = _pair(who, "window", (pool_param["pool_height"], pool_param["pool_width"]), low=1)
    stride = _pair(who, "stride", pool_param.get("stride", window), low=1)
    pad = _pair(who, "pad", pool_param.get("pad", 0), low=0)
    if any(2 * p > size for p, size in zip(pad, window, strict=True)):
        raise ValueError(f"{who}: pad = {pad} is more than half of the window {window}.")
    return window, stride, pad, _output_shape(who, x, window, stride, pad)


def _output_shape(who, x, window, stride, pad):
    """(OH, OW); ValueError if not one window fits."""
    size = [output_size(x.shape[a + 2], window[a], stride[a], pad[a]) for a in (0, 1)]
    if min(size) < 1:
        raise ValueError(
            f"{who}: a window of {tuple(window)} does not fit into images of {x.shape[2:]} "
            f"with pad {pad}; expected smaller windows or larger images."
        )
    return tuple(size)


def _pair(who, name, value, low):
    """A setting that is one number for both image axes, or a pair (along H, along W)."""
    if type(value) is int and value >= low:  # nearly always; the rest takes ten times as long
        return value, value
    pair = tuple(value) if np.iterable(value) else (value, value)
    if len(pair) != 2 or any(not isinstance(v, int | np.integer) or v < low for v in pair):
        raise ValueError(
            f"{who}: {name} = {value!r}, expected a whole number of at least {low}, or two."
        )
    return pair


def check_labels(who, x, y):
    """The index (rows, labels) of each example's own class in scores x (N, C)."""
    y = np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"{who}: x has shape {x.shape} and y {y.shape}, expected scores (N, C) and labels (N,)."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(f"{who}: y has dtype {y.dtype}, expected integers; try y.astype(int).")
    if y.size and not (0 <= y.min() and y.max() < x.shape[1]):
        wrong = y.min() if y.min() < 0 else y.max()
        raise ValueError(f"{who}: y holds the label {wrong}, expected 0 to {x.shape[1] - 1}.")
    return np.arange(len(y)), y


def check_targets(who, x, y):
    """Targets as floats in the shape of x; a last axis of length 1 may be left out."""
    y = as_float(who, "y", y)
    if y.shape != x.shape and (y.shape != x.shape[:-1] or x.shape[-1] != 1):
        raise ValueError(
            f"{who}: y has shape {y.shape}, expected targets {x.shape} or labels {x.shape[:1]}."
        )
    return y.reshape(x.shape)
