"""Refitting the last layer of a trained net in closed form."""

import math

import numpy as np

from ..data_utils import one_hot
from ..engine.errors import check_range
from ..layers import affine_forward

__all__ = ["refit_last_layer"]


def refit_last_layer(model, X, y, ridge=0.0):
    """Give the last affine layer the weights that fit one-hot targets best, by least squares.

    H are the activations that enter the layer. W and b minimise
    ||H @ W + b - one_hot(y)||^2 + ridge * ||W||^2; if there are many solutions, the smallest is taken.

    model: a Net whose last layer is affine.  X: (N, ...) as `model.loss` takes it.  y: labels (N,).
    ridge: 0 or more. The model's parameters are replaced; their dtype stays. Raises ValueError if the
    last layer is another one.
    """
    check_range("refit_last_layer", "ridge", ridge, 0, math.inf, open_high=True)
    last, X, y = model.layers[-1], np.asarray(X), np.asarray(y)
    if last.forward is not affine_forward or last.joins:
        raise ValueError(
            f"refit_last_layer: the last layer of {model.name} is {model.descriptions[-1]!r}, expected "
            "a net that ends with Affine."
        )
    if y.shape != X.shape[:1] or not y.size:
        raise ValueError(
            f"refit_last_layer: X has {len(X)} examples and y the shape {y.shape}, expected a label "
            "for each, and at least one."
        )
    w_name, b_name = last.names
    w, b = model.params[w_name], model.params[b_name]
    H = model.features(X).astype(np.float64)
    targets = one_hot(y, len(b), np.float64)
    center, level = H.mean(axis=0), targets.mean(axis=0)  # b takes up the means, without penalty
    rows = np.concatenate([H - center, np.sqrt(ridge) * np.eye(len(w))])
    wanted = np.concatenate([targets - level, np.zeros((len(w), len(b)))])
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    model.params[w_name] = solution.astype(w.dtype)
    model.params[b_name] = (level - center @ solution).astype(b.dtype)
