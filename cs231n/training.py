"""The course's Solver: handgrad's, with the course's random numbers and its patience."""

import contextlib

import numpy as np

from .. import solver
from ..engine import diagnosis
from . import replacing

__all__ = ["Solver"]

KEYWORDS = (
    *("update_rule", "optim_config", "lr_decay", "batch_size", "num_epochs", "num_train_samples"),
    *("num_val_samples", "checkpoint_name", "print_every", "verbose"),
)


class Solver(solver.Solver):
    """Draws its batches with replacement from NumPy's global generator, as it does the examples that an
    accuracy is measured on. An update rule that the student put into cs231n.optim is used. A loss that
    is not finite is spoken of once, and training goes on.
    """

    def __init__(self, model, data, **keywords):
        unknown = {name: value for name, value in keywords.items() if name not in KEYWORDS}
        diagnosis.refuse_keywords(unknown, KEYWORDS, solver.RULE_SETTINGS)
        rule = keywords.get("update_rule", "sgd")
        theirs = replacing.rules().get(rule)
        keywords["update_rule"] = rule if theirs is None else _on_copies(theirs)
        self.spoke_of_divergence = False
        super().__init__(model, data, sampling="replacement", progress=False, **keywords)

    def _batches(self):
        return range(self.iterations_per_epoch)  # drawn one by one

    def _steps(self, batches):
        for _ in batches:
            index = np.random.choice(self.num_train, self.batch_size)
            X = self.transform(self.X_train[index])
            self._step([X, self.y_train[index]], contextlib.nullcontext())
            yield
            if self.stop_training:
                return

    def check_accuracy(self, X, y, num_samples=None, batch_size=100):
        """The share of examples whose class is predicted; num_samples: of as many, drawn at random."""
        if num_samples is not None and num_samples < len(X):
            index = np.random.choice(len(X), num_samples)
            X, y = X[index], y[index]
        return super().check_accuracy(X, y, batch_size=batch_size)

    def _refuse(self, *facts):
        try:
            super()._refuse(*facts)
        except solver.DivergenceError as error:
            if not self.spoke_of_divergence:
                self.say(str(error))
            self.spoke_of_divergence = True


def _on_copies(rule):
    """The student's rule on a copy of w: the course's sgd writes to it."""

    def on_copies(w, dw, config):
        return rule(w.copy(), dw, config)

    on_copies.__name__ = rule.__name__
    return on_copies
