"""How well a model does: what the Solver measures and keeps the best parameters by.

A measure looks at a data set batch by batch. `sums` of all batches are added up, and `values` makes
numbers of the total:

    total = sum(measure.sums(scores, y) for each batch)
    measure.values(total, all_y)    {'acc': 0.93}  or  {'R2': 0.87, 'rmse': 0.21}

The first of them is *the* measure, and the others are kept beside it in `Solver.history`. Scores are
(N, ..., C). Targets are labels (N, ...), one-hot rows or numbers (engine/targets.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .engine.targets import as_numbers, checked_kind

__all__ = ["ACCURACY", "BITS", "MEASURES", "R_SQUARED", "Measure"]


@dataclass(frozen=True)
class Measure:
    """A way to say how well a model does.

    name    in words, for pictures and tables
    label   in printed lines, and the first key of `values`
    sums    sums(scores, y) -> array: what is added up over the batches of a data set
    values  values(total, y) -> {label: number, ...}: from the total and all targets of the set
    decide  decide(scores) -> what the model says of each example
    worst   no value is worse; the best so far before there is one
    ideal   the value of a model without error
    """

    name: str
    label: str
    sums: Callable
    values: Callable
    decide: Callable
    worst: float
    ideal: float

    @property
    def best(self):
        """The function that picks the best of several values: max or min."""
        return max if self.ideal > self.worst else min

    def is_better(self, value, than):
        """Whether a value is strictly better than another; NaN is not."""
        return self.best(than, value) != than


# ---------------------------------------------------------------------------- accuracy


def _classes(scores):
    return scores.argmax(axis=-1)


def _decided(scores):
    """The likeliest class of each example. ValueError if a score is NaN, which argmax would choose."""
    if np.isnan(scores).any():
        raise ValueError(
            "predict: the scores of an example are NaN; expected finite numbers in X and in the model."
        )
    return _classes(scores)


def _right(scores, y):
    """[how many examples are taken for their class, how many there are]"""
    kind = checked_kind("accuracy", "y", y, scores.shape, takes_numbers=False)
    right = _classes(scores) == (y.argmax(axis=-1) if kind == "one-hot" else y)
    return np.array([np.count_nonzero(right), right.size])


def _accuracy(total, y):
    right, examples = total.tolist()
    return {"acc": right / examples}


# ---------------------------------------------------------------------------- R squared


def _outputs(scores):
    return scores[..., 0] if scores.shape[-1] == 1 else scores


def _squares(scores, y):
    """The sum of the squared errors of each output."""
    scores = scores.astype(np.float64)
    return ((scores - as_numbers(y, scores.shape)) ** 2).sum(axis=0)


def _r_squared(errors, y):
    """R2 = 1 - squared errors / squared deviations of y from its mean, the mean over the outputs, and
    the root of the mean squared error. An output that is constant has R2 = 1 without error, else 0.
    """
    y = as_numbers(y, (len(y), *errors.shape))
    deviations = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    unexplained = np.where(errors == 0, 0.0, 1.0)
    np.divide(errors, deviations, out=unexplained, where=(y != y[0]).any(axis=0))
    return {
        "R2": float(np.mean(1 - unexplained)),
        "rmse": float(np.sqrt(np.mean(errors) / len(y))),
    }


# ---------------------------------------------------------------------------- words
# Words that are -1 do not count.


def _nats(scores, y):
    """[the sum of -log p of the words that came, how many were the likeliest, how many there are]"""
    if y.shape != scores.shape[:-1] or y.dtype.kind not in "iu":
        raise ValueError(
            f"bits: y has shape {y.shape} and dtype {y.dtype}, expected words {scores.shape[:-1]}, "
            "integers."
        )
    counts = y >= 0
    scores, y = scores[counts].astype(np.float64), y[counts]  # (words, V)
    scores -= scores.max(axis=-1, keepdims=True)
    log_p = scores[np.arange(len(y)), y] - np.log(np.exp(scores).sum(axis=-1))
    return np.array([-log_p.sum(), np.count_nonzero(_classes(scores) == y), len(y)])


def _surprise(total, y):
    """Bits a word, nats a word (the loss), the perplexity, and the share that was the likeliest."""
    nats, right, words = total.tolist()
    mean = nats / max(1, words)
    perplexity = math.exp(min(mean, 700))
    return {
        "bits": mean / math.log(2),
        "nats": mean,
        "perplexity": perplexity,
        "acc": right / max(1, words),
    }


# ---------------------------------------------------------------------------- tables

ACCURACY = Measure("accuracy", "acc", _right, _accuracy, _decided, worst=-1.0, ideal=1.0)
R_SQUARED = Measure("R squared", "R2", _squares, _r_squared, _outputs, worst=-np.inf, ideal=1.0)
BITS = Measure("bits a word", "bits", _nats, _surprise, _decided, worst=np.inf, ideal=0.0)

# By the kind of targets (engine/targets.py); 'words' are labels at each step of a sequence.
MEASURES = {"labels": ACCURACY, "one-hot": ACCURACY, "numbers": R_SQUARED, "words": BITS}
