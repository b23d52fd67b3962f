"""Callbacks: what happens beside the training. The Solver calls them at four moments.

    class Timer(Callback):
        def on_epoch_end(self, solver):
            print(solver.epoch, solver.history[-1]["seconds"])

    Solver(model, data, callbacks=[Timer()])

A callback is an object with some of the methods of `Callback`, or a plain function f(solver), which is
called at the end of each epoch. It may look at the solver and its model, and change them. It stops the
training by `solver.stop_training = True`, or by a reason as a string, which is printed.

Training that was broken off, by an error or by Ctrl-C, goes on where it was when `train()` is called
again. A callback that was broken off is then called again for the same step or epoch; those that were
finished are not. What a callback keeps for itself is not in a checkpoint.

The Solver makes the callbacks below from its keywords. It calls them before the user's, but for the
checkpoint, which is written last.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np

from .engine.diagnosis import check_callable, check_takes
from .engine.errors import check_count, suggestion
from .engine.events import EventFile
from .engine.extras import need
from .engine.files import remove_leftovers

__all__ = [
    "BestParameters",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "MeasureAccuracy",
    "PrintLoss",
    "ProgressBar",
    "TensorBoard",
]


class Callback:
    """The base of callbacks: it does nothing at all four moments."""

    def on_train_begin(self, solver):
        """Before the first step of a call of `train` or `epochs`."""

    def on_step_end(self, solver):
        """After each step. solver.loss_history[-1] is its loss."""

    def on_epoch_end(self, solver):
        """After each epoch. solver.history[-1] tells about it."""

    def on_train_end(self, solver):
        """When training ends, also by an error, with the best parameters in place."""


MOMENTS = [name for name in vars(Callback) if name.startswith("on_")]


# ---------------------------------------------------------------------------- what is shown


class PrintLoss(Callback):
    """Prints the loss of the first step, and then of every so many."""

    def __init__(self, every):
        self.every = every

    def on_step_end(self, solver):
        if self.every and (solver.iteration - 1) % self.every == 0:
            total = solver.num_epochs * solver.iterations_per_epoch
            loss = solver.loss_history[-1]
            solver.say(f"(Iteration {solver.iteration} / {total}) loss: {loss:f}")


class ProgressBar(Callback):
    """A bar on stderr that counts examples. show: None shows it in a terminal or a notebook."""

    def __init__(self, show=None):
        self.show, self.bar = show, None

    def on_train_begin(self, solver):
        watched = sys.stderr.isatty() or "ipykernel" in sys.modules
        if not solver.verbose or not (watched if self.show is None else self.show):
            return
        from tqdm import tqdm  # when first needed: it costs time at import

        self.bar = tqdm(
            total=solver.num_epochs * solver.num_train,
            initial=_examples_seen(solver),
            unit=" images" if solver.X_train.ndim == 4 else " examples",
            mininterval=0.5,  # seconds: no notebook drowns
            dynamic_ncols=True,
        )
        solver.print_line = self.bar.write

    def on_step_end(self, solver):
        if self.bar is None:
            return
        epoch = solver.epoch + 1
        self.bar.set_description(f"epoch {epoch}/{solver.num_epochs}", refresh=False)
        shown = {"loss": f"{solver.loss_history[-1]:.4f}"}
        if solver.val_acc_history:
            shown[f"val_{solver.measure.label}"] = f"{solver.val_acc_history[-1]:.4f}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(_examples_seen(solver) - self.bar.n)

    def on_train_end(self, solver):
        solver.print_line = print
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _examples_seen(solver):
    of_this_epoch = min(solver.step_in_epoch * solver.batch_size, solver.num_train)
    return solver.epoch * solver.num_train + of_this_epoch


# ---------------------------------------------------------------------------- what is kept
# Each writes at the place that the epoch gives, so it may be called twice for the same one.


class MeasureAccuracy(Callback):
    """Training and validation accuracy after the first step and after each epoch; prints them. After
    an epoch it also puts a dict about it into solver.history.
    """

    def on_step_end(self, solver):
        if solver.iteration == 1:
            self._measure(solver)

    def on_epoch_end(self, solver):
        record = self._measure(solver)
        solver.history[solver.epoch - 1 :] = [_of_the_epoch(solver) | record]

    def _measure(self, solver):
        """Measure both sets. Returns all that was measured, by 'train_acc', 'val_acc' and so on."""
        epoch, label = solver.epoch, solver.measure.label
        train = solver.check_accuracy(solver.X_train, solver.y_train, solver.num_train_samples)
        line = f"(Epoch {epoch} / {solver.num_epochs}) train {label}: {train:f}"
        solver.train_acc_history[epoch:] = [train]
        record = {"train_acc": train, **_others(solver, "train")}
        if solver.X_val is not None:
            val = solver.check_accuracy(solver.X_val, solver.y_val, solver.num_val_samples)
            solver.val_acc_history[epoch:] = [val]
            line += f"; val_{label}: {val:f}"
            record |= {"val_acc": val, **_others(solver, "val")}
        solver.say(line)
        return record


def _others(solver, split):
    """What was measured besides what 'train_acc' and 'val_acc' hold: the measure itself, unless an
    accuracy was measured, too.
    """
    measured = solver.measured
    held = None if "acc" in measured else solver.measure.label
    return {f"{split}_{name}": value for name, value in measured.items() if name != held}


def _of_the_epoch(solver):
    epoch, steps = solver.epoch, solver.iterations_per_epoch
    return {
        "epoch": epoch,
        "loss": float(np.mean(solver.loss_history[-steps:])),
        "train_acc": None,
        "val_acc": None,
        "learning_rate": solver.learning_rate_at(solver.iteration, epoch - 1),
        "seconds": solver.epoch_seconds,
    }


class BestParameters(Callback):
    """Keeps the parameters of the best validation accuracy: of the first step, of the ends of epochs,
    and of every so many steps.
    """

    def __init__(self, every=None):
        self.every = every

    def on_step_end(self, solver):
        if solver.iteration == 1:
            self.on_epoch_end(solver)
        elif self.every and solver.iteration % self.every == 0:
            accuracy = solver.check_accuracy(solver.X_val, solver.y_val, solver.num_val_samples)
            self._consider(solver, accuracy)

    def on_epoch_end(self, solver):
        self._consider(solver, solver.val_acc_history[-1])

    def _consider(self, solver, accuracy):
        if solver.measure.is_better(accuracy, than=solver.best_val_acc):
            solver.keep_as_best(accuracy)


class Checkpoint(Callback):
    """Saves everything to a file after each epoch. It begins by removing what a killed process left."""

    def __init__(self, path):
        self.path = Path(path)

    def on_train_begin(self, solver):
        if solver.ranks.is_first:
            remove_leftovers(self.path.parent, self.path.stem)

    def on_epoch_end(self, solver):
        solver.save_checkpoint(self.path)


class TensorBoard(Callback):
    """Writes event files into a folder, which `tensorboard --logdir folder` shows. It needs the extra
    `tensorboard`.

    folder  one for each run; it is made if need be
    every   steps between two losses (1)

    `loss` is drawn by step; so are, from the end of each epoch, its accuracies and learning rate, under
    the names in solver.history. A run that is resumed goes on in its curves.
    """

    def __init__(self, folder, every=1):
        need("TensorBoard", "tensorboardX", "tensorboard")
        if not isinstance(every, int | np.integer) or every < 1:
            raise ValueError(f"TensorBoard: every = {every!r}, expected a whole number from 1 up.")
        self.folder, self.every, self.file = Path(folder), every, None

    def on_train_begin(self, solver):
        self.file = EventFile(self.folder, solver.iteration)

    def on_step_end(self, solver):
        if (solver.iteration - 1) % self.every == 0:
            self.file.write(solver.iteration, {"loss": solver.loss_history[-1]})

    def on_epoch_end(self, solver):
        others = ("epoch", "loss", "seconds")
        numbers = {k: v for k, v in solver.history[-1].items() if k not in others and v is not None}
        self.file.write(solver.iteration, numbers)

    def on_train_end(self, solver):
        self.file.close()


class EarlyStopping(Callback):
    """Stops when rule(solver), asked after each epoch, gives a reason or True (see stopping.py)."""

    def __init__(self, rule):
        self.rule = rule

    def on_epoch_end(self, solver):
        reason = self.rule(solver)
        if reason:
            solver.stop_training = reason if isinstance(reason, str) else True


# ---------------------------------------------------------------------------- how the Solver calls them


def callbacks_for(solver, users, *, print_every, progress, validate_every, stop, checkpoint_name):
    """The callbacks that the Solver's keywords ask for, around the user's."""
    check_count("print_every", print_every or 0, low=0)
    check_count("validate_every", validate_every, optional=True)
    check_callable("stop", stop, "stop(solver), see stopping.py")
    _check_callbacks(users)
    if validate_every and solver.X_val is None:
        raise ValueError("Solver: validate_every came, but data has no X_val.")
    best = [] if solver.X_val is None else [BestParameters(validate_every)]
    stopping = [] if stop is None else [EarlyStopping(stop)]
    path = f"{str(checkpoint_name).removesuffix('.npz')}.npz"
    saving = [Checkpoint(path)] if checkpoint_name else []
    shown = [PrintLoss(print_every), ProgressBar(progress)]
    return [*shown, MeasureAccuracy(), *best, *stopping, *users, *saving]


def _check_callbacks(callbacks):
    """Raise TypeError if something in the list cannot be a callback."""
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"Solver: callbacks = {callbacks!r}, expected a list.")
    for callback in callbacks:
        if isinstance(callback, type):
            name = callback.__name__
            raise TypeError(f"Solver: the callback {name} is a class, expected an object: {name}(...).")
        wrong = [n for n in dir(callback) if n.startswith("on_") and n not in MOMENTS]
        if wrong or not (callable(callback) or any(hasattr(callback, m) for m in MOMENTS)):
            raise TypeError(
                f"Solver: the callback {callback!r} has methods {wrong}, expected some of {MOMENTS}, "
                f"or a function.{suggestion(wrong[0], MOMENTS) if wrong else ''}"
            )
        methods = [getattr(callback, m) for m in MOMENTS if hasattr(callback, m)]
        for method in methods or [callback]:
            name = getattr(method, "__qualname__", type(method).__name__)
            check_takes(f"Solver: the callback {name}", method, "f(solver)")


@contextlib.contextmanager
def watched(solver):
    """Tell the callbacks of the begin and the end of a training. It goes on from the last parameters,
    and leaves the best in place.
    """
    solver.go_on_from_last()
    with contextlib.ExitStack() as ends:
        for callback in solver.callbacks:
            _call(callback, "on_train_begin", solver)
            ends.callback(_call, callback, "on_train_end", solver)
        ends.callback(solver.put_best)
        yield


def call_what_is_due(solver):
    """Call the callbacks at the moment that is due, if one is. One that is broken off stays due."""
    while solver.due is not None:
        moment, number = solver.due
        try:
            solver.in_callback = True
            _call(solver.callbacks[number], moment, solver)
        finally:
            solver.in_callback = False
        solver.due = solver.after(moment, number)


def _call(callback, moment, solver):
    """Call what a callback does at a moment, if it does anything."""
    method = getattr(callback, moment, None)
    if method is not None:
        method(solver)
    elif moment == "on_epoch_end" and not any(hasattr(callback, other) for other in MOMENTS):
        callback(solver)  # a plain function
