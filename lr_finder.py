"""A learning rate for a net and its data, from one short training in which the rate rises.

found = find_learning_rate(model, data, update_rule="adam")
found.plot()
rule = dict(update_rule="adam", optim_config={"learning_rate": found.suggestion})
Solver(model, data, **rule).train()
"""

import contextlib
import functools
import math
from dataclasses import dataclass

import numpy as np

from .callbacks import Callback
from .engine.checkpoints import copied_state
from .engine.errors import check_range, refuse_unknown
from .solver import DivergenceError, Solver

__all__ = ["RangeTest", "find_learning_rate"]

SETTINGS = (  # what the Solver is told of the training that the rate is for
    *("update_rule", "optim_config", "batch_size", "sampling", "augment", "clip_norm", "trainable"),
    *("workers", "seed"),
)
FEWEST_STEPS = 100
TOO_MUCH = 4.0  # times the lowest loss
MEMORY = 20  # the smoothed loss looks back on about a twentieth of the steps


def find_learning_rate(model, data, *, low=1e-6, high=10.0, optim_config=None, **settings):
    """The learning-rate range test (Smith 2017): train with rates that rise from `low` to `high`, by
    the same factor at each step, over one epoch, or as many as make 100 steps. It ends before, when
    the smoothed loss is above four times its lowest, or not finite.

    model     anything that the Solver takes; its parameters and state are left as they were
    data      as for the Solver
    settings  update_rule, optim_config, batch_size and more of the Solver's: those of the training that
              the rate is for

    Returns a RangeTest with rates, losses, `suggestion` and `plot()`.
    """
    refuse_unknown("find_learning_rate", settings, SETTINGS, "keyword arguments", TypeError)
    check_range("find_learning_rate", "low", low, 0, math.inf, open_low=True)
    check_range("find_learning_rate", "high", high, low, math.inf, open_low=True, open_high=True)
    if optim_config and "learning_rate" in optim_config:
        raise ValueError(
            "find_learning_rate: optim_config holds learning_rate, which is to be found; expected the "
            "other settings of the rule alone."
        )
    watch = _Watch()
    settings |= dict(callbacks=[watch], num_train_samples=1, num_val_samples=1, verbose=False)
    config = {**(optim_config or {}), "learning_rate": low}
    solver = Solver(model, data, optim_config=config, **settings)
    solver.num_epochs = math.ceil(FEWEST_STEPS / solver.iterations_per_epoch)
    steps = solver.num_epochs * solver.iterations_per_epoch
    solver.schedule = functools.partial(_rising, factor=(high / low) ** (1 / (steps - 1)))
    watch.share = MEMORY / steps
    with _restored(model):
        return _trained(solver, watch)


def _rising(step, epoch, *, factor):
    return factor**step


def _trained(solver, watch):
    """Train, and pair each rate with the loss of the next batch, the first that feels it."""
    try:
        solver.train()
    except DivergenceError:
        if solver.iteration == 0:
            raise  # no rate has been tried yet
        watch.too_much = True
    losses, smoothed = solver.loss_history[1 : solver.iteration], watch.smoothed[1:]
    rates = [solver.learning_rate_at(step, 0) for step in range(len(losses))]
    return RangeTest(np.array(rates), np.array(losses), np.array(smoothed), watch.too_much)


class _Watch(Callback):
    """Smooths the losses by a mean whose weights fall step by step; stops when it is too much.

    share: of the newest loss in the mean, which is corrected for its short past as Adam's are.
    """

    def __init__(self):
        self.mean, self.smoothed, self.too_much = 0.0, [], False

    def on_step_end(self, solver):
        self.mean += self.share * (solver.loss_history[-1] - self.mean)
        self.smoothed.append(self.mean / (1 - (1 - self.share) ** solver.iteration))
        self.too_much = self.smoothed[-1] > TOO_MUCH * min(self.smoothed)
        solver.stop_training = self.too_much


@contextlib.contextmanager
def _restored(model):
    """Put the model's parameters and state back, also after Ctrl-C."""
    params, state = dict(model.params), copied_state(model)
    try:
        yield
    finally:
        model.params.update(params)
        if state:
            model.state = state


@dataclass(frozen=True, eq=False, repr=False)
class RangeTest:
    """What a range test found.

    rates     the rates, rising
    losses    of a mini-batch after the step with each rate
    smoothed  the same without most of the noise
    diverged  whether the test ended because the loss rose too much
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: bool

    @property
    def suggestion(self):
        """A tenth of the rate at which the smoothed loss was lowest; None if it never fell."""
        lowest = self._lowest()
        return float(self.rates[lowest]) / 10 if lowest else None

    def plot(self):
        """The loss over the rate, with the suggestion: a matplotlib Figure."""
        from .vis_utils import plot_learning_rates

        return plot_learning_rates(self)

    def _lowest(self):
        return int(np.argmin(self.smoothed)) if len(self.smoothed) else 0

    def __repr__(self):
        if self.suggestion is None:
            return (
                "RangeTest: the loss never fell; try a smaller `low`, or look at the data and the net."
            )
        lowest = self._lowest()
        text = (
            f"RangeTest: {len(self.rates)} learning rates from {self.rates[0]:.2g} to "
            f"{self.rates[-1]:.2g}; the loss was lowest at {self.rates[lowest]:.2g}; suggestion "
            f"{self.suggestion:.2g}, a tenth of it."
        )
        if lowest == len(self.rates) - 1:
            text += " The loss still falls there; try a larger `high`."
        return text
