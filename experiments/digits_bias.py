"""Digits: biases, none, and a constant input instead."""

import functools

import numpy as np

from . import digits
from .study import Study, main


@functools.cache
def with_constant_input():
    """The digits with a column of ones behind their pixels."""
    data = digits.load()
    return {**data, "transform": functools.partial(_append_ones, transform=data["transform"])}


def _append_ones(X, transform):
    rows = transform(X).reshape(len(X), -1)
    return np.concatenate([rows, np.ones((len(X), 1), rows.dtype)], axis=1)


STUDY = Study(
    "digits_bias",
    "Digits: bias as a constant input",
    """One hidden layer of 100, 60 epochs. Without biases: they stay at zero, only the weights are
trained. With a constant input the images have a column of ones, whose weights are the first layer's
biases; the second layer has none.""",
    digits.build,
    {
        "biases": dict(num_epochs=60),
        "none": dict(num_epochs=60, trainable="W"),
        "none, and a constant input": dict(num_epochs=60, trainable="W", data=with_constant_input),
    },
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
