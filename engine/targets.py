"""What a model learns from: labels of classes, one-hot rows, or numbers."""

import numpy as np

__all__ = ["as_numbers", "checked_kind", "kind_of"]


def kind_of(y, shape):
    """What y is beside scores of this shape: 'labels', 'one-hot', 'numbers', or None: it does not fit.

    labels   integers, shaped as the scores without their last axis, that of the classes
    one-hot  shaped as the scores, with one 1 and else zeros along the last axis
    numbers  shaped as the scores; a last axis of length 1 may be left out
    """
    if y.dtype.kind in "iu" and y.shape == shape[:-1]:
        return "labels"
    if y.dtype.kind not in "biuf":
        return None
    if y.shape == shape and shape[-1] > 1 and _is_one_hot(y):
        return "one-hot"
    fits = y.shape == shape or (shape[-1] == 1 and y.shape == shape[:-1])
    return "numbers" if fits else None


def _is_one_hot(y):
    ones, zeros = (np.count_nonzero(y == value, axis=-1) for value in (1, 0))
    return bool(np.all(ones == 1) and np.all(zeros == y.shape[-1] - 1))


def checked_kind(who, name, y, shape, takes_numbers=True):
    """`kind_of(y, shape)`; ValueError if y does not fit, or is numbers where classes are learned."""
    kind = kind_of(y, shape)
    if kind is None or (kind == "numbers" and not takes_numbers):
        raise ValueError(f"{who}: {_refusal(name, y, shape, takes_numbers)}")
    return kind


def _refusal(name, y, shape, takes_numbers):
    """What came, what was expected, and the cure."""
    expected = f"integers {shape[:-1]} as labels, or one-hot rows {shape}"
    if takes_numbers:
        expected = f"numbers {shape}, {expected}"
    if y.dtype.kind in "OSU":
        cure = f"try names, {name} = np.unique({name}, return_inverse=True)"
        return f"{name} has dtype {y.dtype}, expected {expected}; if it names classes, {cure}."
    if y.shape == (*shape[:-1], 1) and y.dtype.kind in "iu":
        return f"{name} has shape {y.shape}, expected {expected}; try {name}[..., 0]."
    if y.shape not in (shape, shape[:-1]):
        return f"{name} has shape {y.shape}, expected {expected}."
    if y.shape == shape[:-1] and np.array_equal(y, np.round(y)):
        return f"{name} has dtype {y.dtype}, expected integers; try {name}.astype(int)."
    if takes_numbers:  # one number an example, for a net of several outputs
        return f"{name} has shape {y.shape}, expected {expected}; a net for one number has 1 output."
    return (
        f"{name} has dtype {y.dtype} and is not one-hot, but the loss learns classes; expected "
        f"{expected}. To learn numbers, take loss='mse'."
    )


def as_numbers(y, shape):
    """Targets that are numbers or one-hot rows, in float64 and shaped as the scores. ValueError if they
    have neither that shape nor, beside a single output, that without the last axis.
    """
    y = np.asarray(y, np.float64)
    if y.shape != shape and (y.shape != shape[:-1] or shape[-1] != 1):
        raise ValueError(f"y has shape {y.shape}, expected numbers {shape}.")
    return y.reshape(shape)
