"""What makes a training resumable: nothing is ever half done, and everything can be saved.

A training may be broken off at any moment, by Ctrl-C or by an error in a user's function. Each change
of it is therefore one of two kinds. A change of attributes is a single call of C, which Python does not
divide. A step changes more than that; it is first noted down in `unfinished`, as a call that may be
repeated, then made, then crossed out. `settle` makes what is noted down.
"""

import functools

from . import checkpoints
from .checkpoints import as_json, copied_state, described

__all__ = ["Resumable"]


class Resumable:
    """The part of the Solver that keeps, saves and restores where a training is.

    due         the moment whose callbacks are to be called and the number of the next one, or None
    unfinished  a call without arguments that settles a step that was broken off, or None
    last        parameters and state to go on from while the best ones are in the model, or None
    """

    def begin_at_zero(self):
        """Forget all training. The model stays as it is."""
        self.epoch = self.iteration = self.step_in_epoch = 0
        self.loss_history, self.train_acc_history, self.val_acc_history = [], [], []
        self.history, self.epoch_seconds = [], 0.0
        self.best_val_acc, self.best_params, self.best_state = self.measure.worst, {}, {}
        self.measured = {}
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}
        self.stop_training, self.in_callback = False, False
        self.due = self.unfinished = self.last = None

    def set_together(self, **attributes):
        """Set attributes so that Ctrl-C finds all of them changed, or none."""
        vars(self).update(attributes)

    # ------------------------------------------------------------------ a step

    def begin_step(self):
        """Note down how to take back what the step changes in the model's state."""
        self.unfinished = functools.partial(self._put_state, copied_state(self.model))

    def end_step(self, loss, params, configs):
        """Put new parameters and configs in place and count the step."""
        done = self.iteration + 1, self.step_in_epoch + 1
        left = self.model.left if self.streams else None
        self.unfinished = functools.partial(self._apply, done, loss, params, configs, left)
        self.settle()

    def _apply(self, done, loss, params, configs, left):
        iteration, step_in_epoch = done
        if left is not None:
            self.model.carried = left
        self.model.params.update(params)
        self.optim_configs.update(configs)
        self.loss_history[iteration - 1 :] = [loss]
        due = self.after("on_step_end", -1)
        self.set_together(iteration=iteration, step_in_epoch=step_in_epoch, due=due)

    def end_epoch(self, seconds):
        """Count the epoch, whose callbacks are due then."""
        due = self.after("on_epoch_end", -1)
        self.set_together(epoch=self.epoch + 1, step_in_epoch=0, epoch_seconds=seconds, due=due)

    def settle(self):
        """Finish or take back a step that was broken off."""
        if self.unfinished is not None:
            self.unfinished()
            self.unfinished = None

    def after(self, moment, number):
        """What is due after the callback of this number: a moment and a number, or None."""
        return (moment, number + 1) if number + 1 < len(self.callbacks) else None

    # ------------------------------------------------------------------ the best and the last

    def keep_as_best(self, accuracy):
        """Keep the parameters of now as the best, with their validation accuracy."""
        params, state = self._current()
        self.set_together(best_params=params, best_state=state, best_val_acc=accuracy)

    def put_best(self):
        """Put the best parameters into the model, and keep the last to go on from."""
        self.settle()
        self.last = self._current()
        if self.best_params:
            self._put(self.best_params, self.best_state)

    def go_on_from_last(self):
        """Put the last parameters into the model."""
        self.settle()
        if self.last is not None:
            self._put(*self.last)
            self.last = None  # from here on the model has what is trained

    def _current(self):
        """The model's parameters and state, as copies."""
        return {name: p.copy() for name, p in self.model.params.items()}, copied_state(self.model)

    def _put(self, params, state):
        self.model.params.update({name: p.copy() for name, p in params.items()})
        self._put_state(state)

    def _put_state(self, state):
        if state:
            self.model.state = state

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, path):
        """Everything that training needs to go on as if it had never stopped, in one .npz file.

        The file is replaced only when the new one is whole.
        """
        if self.ranks.is_first:
            checkpoints.save(path, self.as_checkpoint())

    def load_checkpoint(self, path):
        """Take up a saved run: `Solver(model, data, same settings)`, load_checkpoint, train.

        Raises ValueError if the file is not a checkpoint, or is one of another model or of other
        settings; num_epochs may differ. The solver and the model are changed only if all is well.
        """
        if self.ranks.is_first:  # the others take up what it has when training begins
            rule_keys = self.rule_keys or None
            self.take_up(checkpoints.load(path, self.as_checkpoint(), rule_keys, self.seed_was_given))

    def take_up(self, taken):
        """Go on where a Checkpoint is."""
        due = taken.progress.pop("due")
        self.set_together(
            **taken.progress,
            due=due and self.after(due[0], due[1] - 1),
            best_params=taken.best,
            best_state=taken.best_state,
            optim_configs=taken.optim,
            last=(taken.params, taken.state),
            unfinished=None,
            stop_training=False,
        )
        self.go_on_from_last()

    def as_checkpoint(self):
        """Where the training is, as a Checkpoint."""
        self.settle()
        last = self.last if self.last is not None else self._current()
        progress = {key: getattr(self, key) for key in checkpoints.PROGRESS}
        progress["loss_history"] = self.loss_history[: self.iteration]  # without one that diverged
        if self.in_callback and self.due is not None:  # the callback that saves is not due again
            progress["due"] = self.after(*self.due)
        best, span = (self.best_params, self.best_state), (self.measure.worst, self.measure.ideal)
        optim, settings = self.optim_configs, self.settings()
        return checkpoints.Checkpoint(*last, *best, optim, progress, settings, span)

    def settings(self):
        """What must be the same for a resumed run to repeat an uninterrupted one; JSON."""
        return as_json({name: described(getattr(self, name)) for name in SETTINGS})


SETTINGS = (
    "update_rule",
    "optim_config",
    "schedule",
    "batch_size",
    "sampling",
    "num_train",
    "trainable",
    "validate_every",
    "augment",
    "views",
    "transform",
    "num_train_samples",
    "num_val_samples",
    "clip_norm",
)
