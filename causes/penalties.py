"""Models: the gradient of the penalty beside that of the data."""

import numpy as np

from .case import Finding, count
from .ratios import named

__all__ = ["regularisation", "scaled_data_term", "turned_data_term"]

NAMES = ("reg", "regularization", "regularisation", "weight_decay", "l2", "lam", "lambda_")


def regularisation(case):
    """written - numeric is a multiple of the parameter itself."""
    c, d = _two_ratios(case)
    if c is None or abs(c - 1) > 1e-4 or abs(d) < 1e-9:
        return None
    reg = _reg_of(case.box.model)
    share = f", which is {d / reg:.3g} times reg = {reg:g}" if reg else ""
    said = f"written - numeric = {d:.4g} * {case.name} at {count(case.wrong)}{share}"
    if d < 0:
        return Finding(
            f"{said}: the loss has a penalty whose gradient is missing, or too small.",
            "Add the penalty's gradient: reg * W for a loss of 0.5 * reg * sum(W * W).",
        )
    if case.x.ndim == 1:
        return Finding(
            f"{said}: the gradient has a penalty that the loss does not have.",
            "Take the penalty's gradient off the biases.",
        )
    return Finding(
        f"{said}: the penalty's gradient counts too much.",
        "Add reg * W once for a loss of 0.5 * reg * sum(W * W).",
    )


def turned_data_term(case):
    """The data's gradient has the wrong sign, that of the penalty has not."""
    c, d = _two_ratios(case)
    if c is None or abs(d) < 1e-9 or abs(c + 1) > 1e-4:
        return None
    return Finding(
        f"written = -numeric + {d:.4g} * {case.name}: the data's gradient has the wrong sign, the "
        "penalty's has not.",
        "Turn the sign of the gradient that comes from the loss.",
    )


def scaled_data_term(case):
    """The data's gradient has a factor, that of the penalty has not."""
    c, d = _two_ratios(case)
    if c is None or abs(d) < 1e-9 or abs(c - 1) < 1e-4:
        return None
    name = named(case, c)
    return Finding(
        f"written = {c:.6g} * numeric + {d:.4g} * {case.name}: the data's gradient has a factor"
        f"{f', {name},' if name else ''} and the penalty's has another.",
        "Scale the gradient of the loss as the loss itself: the mean over N examples.",
        0.9 if name else 0.7,
    )


def _two_ratios(case):
    """(c, d) with written = c * numeric + d * parameter at all entries; (None, None) without them."""
    if case.box.kind != "model" or not case.fits or np.sum(case.known) < 3:
        return None, None
    w, n, p = (a[case.known] for a in (case.written, case.numeric, case.x))
    (c, d), *_ = np.linalg.lstsq(np.stack([n, p], axis=1), w, rcond=None)
    fits = np.max(np.abs(w - c * n - d * p)) <= 10 * case.tolerance * max(case.scale, np.max(np.abs(w)))
    return (float(c), float(d)) if fits else (None, None)


def _reg_of(model):
    values = (getattr(model, name, None) for name in NAMES)
    return next((v for v in values if isinstance(v, int | float) and v), None)
