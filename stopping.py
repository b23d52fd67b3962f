"""Rules for stopping early. The Solver asks stop(solver) after each epoch; it gives a reason or ''.

functools.partial binds a rule's settings:  Solver(..., stop=partial(patience, epochs=5)).
The histories of accuracy begin before the first epoch: entry e is the accuracy after e epochs. In
regression they are those of R squared, and of language models those of bits a word (measures.py).
"""

from .engine.errors import check_range
from .measures import ACCURACY

__all__ = ["STOPPING_RULES", "patience", "small_gain", "threshold"]


def patience(solver, *, epochs):
    """Validation accuracy has not risen above its best for `epochs` epochs."""
    check_range("patience", "epochs", epochs, 1, float("inf"))
    history, measure = _validation("patience", solver), _measure(solver)
    since = len(history) - 1 - history.index(measure.best(history))
    return f"no better validation {measure.name} for {since} epochs." if since >= epochs else ""


def threshold(solver, *, limit):
    """The validation error is above its best by more than a share: (err - best) / best > limit.

    The error is 1 - accuracy, 1 - R squared, or the bits a word. After a best of zero, any error stops
    the training.
    """
    check_range("threshold", "limit", limit, 0, float("inf"))
    ideal = _measure(solver).ideal
    errors = [abs(ideal - value) for value in _validation("threshold", solver)]
    last, best = errors[-1], min(errors)
    if last - best > limit * best:
        return f"the validation error is {last:.4f} after a best of {best:.4f}."
    return ""


def small_gain(solver, *, limit):
    """The last epoch raised the training accuracy, or lowered the bits a word, by less than `limit`."""
    (*_, before, now), measure = solver.train_acc_history, _measure(solver)
    gain = now - before if measure.best is max else before - now
    return f"an epoch gained {gain:.4f} of training {measure.name}." if gain < limit else ""


STOPPING_RULES = {"patience": patience, "threshold": threshold, "small_gain": small_gain}


def _measure(solver):
    return getattr(solver, "measure", ACCURACY)


def _validation(who, solver):
    if not solver.val_acc_history:
        raise ValueError(f"{who}: the data has no X_val, expected a validation set to watch.")
    return solver.val_acc_history
