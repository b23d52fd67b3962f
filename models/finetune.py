"""Refitting the last layer of a trained net in closed form."""

import numpy as np

from ..data_utils import one_hot

__all__ = ["refit_last_layer"]


def refit_last_layer(model, X, y, ridge=0.0):
    """Give the last affine layer the weights that fit one-hot targets best, by least squares.

    H are the activations that enter the layer. W and b minimise
    ||H @ W + b - one_hot(y)||^2 + ridge * ||W||^2; if there are many solutions, the smallest is taken.

    model: a Net whose last layer is affine.  X: (N, ...) as `model.loss` takes it.  y: labels (N,).
    ridge: 0 or more. The model's parameters are replaced; their dtype stays.
    """
    if ridge < 0:
        raise ValueError(f"refit_last_layer: ridge = {ridge}, expected 0 or more.")
    w_name, b_name = model.layers[-1].names
    w, b = model.params[w_name], model.params[b_name]
    H = model.features(X).astype(np.float64)
    targets = one_hot(y, len(b), np.float64)
    center, level = H.mean(axis=0), targets.mean(axis=0)  # b takes up the means, without penalty
    rows = np.concatenate([H - center, np.sqrt(ridge) * np.eye(len(w))])
    wanted = np.concatenate([targets - level, np.zeros((len(w), len(b)))])
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    model.params[w_name] = solution.astype(w.dtype)
    model.params[b_name] = (level - center @ solution).astype(b.dtype)
