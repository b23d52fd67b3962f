"""The Solver: mini-batches, steps, epochs. What happens beside them is done by callbacks.

It knows a model by two things only: `params`, a dict of arrays, and `loss(X, y) -> loss, grads`,
with `loss(X) -> scores`. It uses three more if a model has them: `state`, a dict of arrays to be kept
along with the parameters; `step`, which it sets to the number of the step before each one; and
`streams`, how many long sequences the model learns window by window (see models.Net).
"""

import contextlib
import functools
import time

import numpy as np

from . import optim
from .callbacks import call_what_is_due, callbacks_for, watched
from .engine import diagnosis, html
from .engine.checkpoints import described, load_params
from .engine.diagnosis import check_callable
from .engine.errors import check_count, check_range, look_up, refuse_unknown
from .engine.randomness import generator, new_seed
from .engine.ranks import ranks_of
from .engine.resuming import Resumable
from .engine.workers import Later, session
from .measures import MEASURES

__all__ = ["SAMPLING", "DivergenceError", "Solver", "load_params"]

SAMPLING = {
    "permutation": "each epoch sees every example once, in a new order",
    "sequential": "each epoch sees every example once, in the order of the data, as streams need it",
    "replacement": "the course's way: N // batch_size batches, at least 1, each drawn with replacement",
}


class DivergenceError(FloatingPointError):
    """The loss is not finite any more."""


class Solver(Resumable):
    """Trains a model:  `Solver(model, data, update_rule='adam', num_epochs=5).train()`.

    data  dict with X_train, y_train and, if any, X_val, y_val: examples along the first axis. Classes
          are labels, integers (N,), or one-hot rows (N, C). For regression y is floats (N,) or
          (N, K). `transform`, if there, is called on each batch of X before the model sees it, so
          that images can stay bytes until then. A worker may call it while the step before ends, so
          it should look at nothing but X. `class_names`, if there, go to the model.

    update_rule        a name in optim.UPDATE_RULES, or a function rule(w, dw, config) that returns
                       next_w, config and writes its state into config as new arrays or numbers
    optim_config       the rule's settings, such as {'learning_rate': 1e-3}; never written to
    lr_decay           the learning rate's factor after each epoch (1.0)
    schedule           instead of lr_decay: schedule(step, epoch) -> factor, see optim.SCHEDULES
    clip_norm          the gradient of all trained parameters together is shortened to this norm if it
                       is longer (None: never), see optim.clip_by_norm
    batch_size         examples a step (100); the last batch of an epoch may be smaller
    num_epochs         passes over the training set (10)
    num_train_samples  examples drawn to measure the training accuracy (1000), None for all; in
                       regression, R squared stands wherever accuracy is said (see measures.py)
    num_val_samples    the same for validation (None: all)
    print_every        steps between two printed losses (10); 0 for none
    verbose            False prints nothing and shows no progress bar
    progress           a progress bar on stderr; None shows it in a terminal or a notebook
    checkpoint_name    after each epoch everything is saved to this file, with '.npz' added
    sampling           'permutation'; 'sequential', in the order of the data, as data_utils.streams need
                       it; or 'replacement', as the course does
    augment            augment(X, rng) -> X, on each training batch, before `transform`
    views              functions X -> X on images that are to be classified, before `transform`; their
                       scores are added up to predict (None: the images as they are; see augment.views)
    stop               stop(solver) -> truth, asked after each epoch; a string is printed (stopping.py)
    validate_every     steps between looks at the validation accuracy for the best parameters, besides
                       the one after each epoch (None)
    trainable          names of the parameters that are updated (None: all); the rest stays as it is
    callbacks          a list of callbacks, see callbacks.py
    workers            threads, or processes where parts are small, that share a batch's work (None:
                       one a processor); results are the same
    comm               an mpi4py communicator, whose processes share each batch, such as
                       MPI.COMM_WORLD. Each makes the same Solver and calls `train`; callbacks are
                       called in all, and only the first process prints and saves (docs/scaling.md)
    seed               of batches, augmentation and accuracy samples; None draws one, kept in `seed`

    A model is trained by one Solver at a time: two threads with one model would mix their steps.

    After training `model.params` is the best on the validation set (the last, if there is none).
    loss_history (a loss a step), train_acc_history and val_acc_history (after the first step and
    each epoch), history (a dict an epoch), best_val_acc, best_params; epoch and iteration count what
    is done, step_in_epoch the steps of the epoch under way. stop_training: see callbacks.py.
    """

    def __init__(
        self,
        model,
        data=None,
        *more,
        update_rule="sgd",
        optim_config=None,
        lr_decay=1.0,
        schedule=None,
        clip_norm=None,
        batch_size=100,
        num_epochs=10,
        num_train_samples=1000,
        num_val_samples=None,
        print_every=10,
        verbose=True,
        progress=None,
        checkpoint_name=None,
        sampling="permutation",
        augment=None,
        views=None,
        stop=None,
        validate_every=None,
        trainable=None,
        callbacks=(),
        workers=None,
        comm=None,
        seed=None,
        **unknown,
    ):
        diagnosis.refuse_keywords(unknown, KEYWORDS, RULE_SETTINGS)
        diagnosis.check_model(model)
        self.model, self.data = model, diagnosis.checked_data(data, more)
        self._take_data()
        self._take_rule(update_rule, optim_config, lr_decay, schedule)
        if clip_norm is not None:
            check_range("Solver", "clip_norm", clip_norm, 0, float("inf"), open_low=True)
        self.clip_norm = clip_norm
        look_up("Solver", SAMPLING, sampling, "sampling")
        check_count("num_epochs", num_epochs, low=0)
        largest = self.num_train if sampling != "replacement" else None
        diagnosis.check_batch_size(batch_size, largest)
        self.streams = getattr(model, "streams", None)
        diagnosis.check_streams(self.streams, sampling, batch_size, self.num_train)
        self.batch_size, self.num_epochs, self.sampling = batch_size, num_epochs, sampling
        check_count("num_train_samples", num_train_samples, optional=True)
        check_count("num_val_samples", num_val_samples, optional=True)
        self.num_train_samples, self.num_val_samples = num_train_samples, num_val_samples
        check_callable("augment", augment, "augment(X, rng) -> X")
        self.augment, self.views = augment, diagnosis.checked_views(views) or (_as_they_are,)
        if isinstance(trainable, str):
            raise ValueError(f"Solver: trainable = {trainable!r}, expected a list of names.")
        self.trainable = list(model.params) if trainable is None else list(trainable)
        refuse_unknown("Solver", self.trainable, model.params, "names in trainable")
        self.seed_was_given = seed is not None
        check_count("seed", seed, low=0, optional=True)
        self.seed = int(seed) if self.seed_was_given else new_seed()
        self.ranks = ranks_of(comm, model, batch_size)
        self.workers = self.ranks.threads if workers is None else workers
        self.verbose, self.print_line = verbose and self.ranks.is_first, print
        self.validate_every = validate_every
        kept = dict(
            print_every=print_every, progress=progress, validate_every=validate_every, stop=stop
        )
        self.callbacks = callbacks_for(self, callbacks, **kept, checkpoint_name=checkpoint_name)
        self.begin_at_zero()

    def _take_data(self):
        """Check the data, and what the model makes of one example."""
        data = self.data
        self.X_train, self.y_train = diagnosis.checked_split(data, "train")
        has_val = "X_val" in data or "y_val" in data
        self.X_val, self.y_val = diagnosis.checked_split(data, "val") if has_val else (None, None)
        transform = data.get("transform")
        check_callable("transform", transform, "transform(X) -> X")
        self.transform, self.num_train = transform or _as_they_are, len(self.X_train)
        if "class_names" in data and hasattr(self.model, "class_names"):
            self.model.class_names = list(map(str, data["class_names"]))
        scores = diagnosis.checked_scores(self.model.loss(self.transform(self.X_train[:1])))
        targets = {"train": self.y_train} | ({"val": self.y_val} if has_val else {})
        takes_numbers = getattr(self.model, "takes_numbers", True)
        self.measure = MEASURES[diagnosis.checked_targets(targets, scores.shape[1:], takes_numbers)]

    def _take_rule(self, rule, optim_config, lr_decay, schedule):
        """Check the update rule, its settings and the schedule of its learning rate."""
        names = [name for name, function in optim.UPDATE_RULES.items() if function is rule]
        self.rule = (
            rule if callable(rule) else look_up("Solver", optim.UPDATE_RULES, rule, "update_rule")
        )
        self.update_rule = names[0] if names else described(rule)
        self.rule_keys = getattr(self.rule, "defaults", {})  # empty for a function without them
        self.optim_config = diagnosis.numbers(optim_config)
        if self.rule_keys:
            who = f"Solver, {self.update_rule}"
            refuse_unknown(who, self.optim_config, self.rule_keys, "keys of optim_config")
        rate = {**self.rule_keys, **self.optim_config}.get("learning_rate")
        diagnosis.check_schedule(schedule, lr_decay, self.update_rule, rate)
        self.schedule = schedule or functools.partial(optim.epoch_decay, factor=lr_decay)

    def __repr__(self):
        return "Solver: " + ";\n  ".join(self._facts())

    def _repr_html_(self):
        facts = html.table(("Solver",), [(fact,) for fact in self._facts()])
        if not self.history:
            return facts
        head, label = list(self.history[-1]), self.measure.label
        if f"train_{label}" not in head:
            head = [key.replace("acc", label) for key in head]
        rows = [map(html.shown, record.values()) for record in self.history[-20:]]
        return facts + html.table(head, rows, "the last 20 epochs" if len(self.history) > 20 else "")

    def _facts(self):
        """The net and its data, the rule, the course of the training."""
        parameters = sum(p.size for p in self.model.params.values())
        examples = f"{self.num_train} examples"
        if self.X_val is not None:
            examples += f", {len(self.X_val)} to validate"
        settings = "".join(f", {key} {value:g}" for key, value in self.optim_config.items())
        if self.clip_norm is not None:
            settings += f", clip_norm {self.clip_norm:g}"
        steps = self.iterations_per_epoch
        return (
            f"{type(self.model).__name__} with {parameters} parameters on {examples}",
            f"{self.update_rule}{settings}; schedule {_in_words(self.schedule)}",
            f"{self.num_epochs} epochs of {steps} steps, {self.batch_size} examples each; "
            f"seed {self.seed}; {self.epoch} epochs and {self.iteration} steps done",
        )

    # ------------------------------------------------------------------ training

    def train(self):
        """Train for what is left of num_epochs, then put the best parameters in place.

        Raises DivergenceError at the first loss that is not finite. Called again, after an error or
        Ctrl-C or when num_epochs was raised, it goes on from the last parameters, not from the best.
        """
        for _ in self.epochs():
            pass

    def epochs(self):
        """Training as an iterator: a dict after each epoch, the one that `history` gets.

        A loop may look at the solver, change it, or break off. At the end, and on a break, the best
        parameters are put in place.
        """
        with session(self.workers) as threads, self.ranks.together(self), watched(self):
            while self.due or (self.epoch < self.num_epochs and not self.stop_training):
                # The loss is looked at, so NumPy need not warn of overflow on the way to it.
                with threads.at_work(), np.errstate(over="ignore", invalid="ignore"):
                    is_whole = self._train_epoch()
                if is_whole:
                    yield self.history[-1]
            self._say_why_it_stops()
        self.stop_training = False

    def _train_epoch(self):
        """Take the steps that are left of this epoch and end it. False if a callback stops it."""
        if self.due is None or self.due[0] == "on_step_end":
            started = time.perf_counter()
            call_what_is_due(self)  # after a step that was broken off here
            for _ in self._steps(self._batches()[self.step_in_epoch :]):
                call_what_is_due(self)
            if self.step_in_epoch < self.iterations_per_epoch:
                return False
            self.end_epoch(self.ranks.agreed(time.perf_counter() - started))
        call_what_is_due(self)
        self.stop_training = self.ranks.agreed(self.stop_training)
        return True

    def _batches(self):
        """The epoch's batches: a list of arrays of indices into the training set."""
        rng, steps = generator(self.seed, "shuffle", self.epoch), self.iterations_per_epoch
        if self.sampling == "replacement":
            return [rng.integers(self.num_train, size=self.batch_size) for _ in range(steps)]
        in_order = self.sampling == "sequential"
        order = np.arange(self.num_train) if in_order else rng.permutation(self.num_train)
        return [order[k * self.batch_size : (k + 1) * self.batch_size] for k in range(steps)]

    def _steps(self, batches):
        """Take a step with each batch of indices, and yield after it, until stop_training is set."""
        batches = iter(batches)
        batch = self._later(next(batches, None), self.iteration)
        while batch is not None and not self.stop_training:
            current, batch = [*batch.result()], self._later(next(batches, None), self.iteration + 1)
            self._step(current, batch if self._may_prepare(batch) else contextlib.nullcontext())
            yield

    def _later(self, index, iteration):
        """The batch of these indices as the model gets it, when it is asked for; None for None."""
        return None if index is None else Later(functools.partial(self._prepared, index, iteration))

    def _prepared(self, index, iteration):
        return self.ranks.batch(self._examples, index, iteration)

    def _examples(self, index, *place):
        X = self.X_train[index]
        if self.augment is not None:
            X = self.augment(X, generator(self.seed, "augmentation", *place))
        return self.transform(X), self.y_train[index]

    def _may_prepare(self, batch):
        """Whether a worker may prepare the next batch during this step. It may not if an accuracy is
        measured after the step, because that calls `transform`, too; nor if images are augmented,
        because that may use all workers.
        """
        step, every = self.iteration + 1, self.validate_every
        is_measured = step == 1 or (every and step % every == 0)
        return batch is not None and self.augment is None and not is_measured

    def _step(self, batch, beside):
        """One gradient and one update of every parameter. Broken off, it is done or not done at all.

        batch: a list [X, y], which is emptied.
        """
        step = self.iteration
        self.begin_step()
        if hasattr(self.model, "step"):
            self.model.step = step
        if self.streams and self.step_in_epoch == 0:
            self.model.carried = self.model.at_rest()
        with beside:
            result = self.model.loss(*batch)
            if step == 0:
                diagnosis.check_loss(result, self.model.params, self.trainable)
            loss, grads = result
        rate = self.learning_rate_at(step, self.epoch)
        if not np.isfinite(loss):
            self._refuse(float(loss), *batch, grads, rate)
        batch.clear()  # the update can use its memory, which the cache still holds
        self.end_step(float(loss), *self._updated(grads, rate))

    def _refuse(self, loss, X, y, grads, rate):
        """Raise DivergenceError: this loss is not finite."""
        self.loss_history[self.iteration :] = [loss]
        facts = X, y, self.model.params, grads, self.epoch, rate
        raise DivergenceError(diagnosis.divergence(self.loss_history, *facts))

    def _updated(self, grads, rate):
        """New parameters and configs; nothing that is in use is written to."""
        params, configs = {}, {}
        if self.clip_norm is not None:
            grads = optim.clip_by_norm({name: grads[name] for name in self.trainable}, self.clip_norm)
        for name in self.trainable:
            config = dict(self.optim_configs[name])
            if rate is not None:
                config["learning_rate"] = rate
            result = self.rule(self.model.params[name], grads[name], config)
            if self.iteration == 0:
                diagnosis.check_update(self.update_rule, name, self.model.params[name], result)
            params[name], configs[name] = result
        return params, configs

    def learning_rate_at(self, step, epoch):
        """The base rate times the schedule's factor; None for a rule without one."""
        base = self.optim_config.get("learning_rate", self.rule_keys.get("learning_rate"))
        return None if base is None else float(base) * float(self.schedule(step, epoch))

    @property
    def iterations_per_epoch(self):
        """Steps an epoch."""
        if self.sampling == "replacement":
            return max(1, self.num_train // self.batch_size)
        return -(-self.num_train // self.batch_size)

    def say(self, line):
        """Print a line, above the progress bar if there is one, unless verbose is False."""
        if self.verbose:
            self.print_line(line)

    def _say_why_it_stops(self):
        if isinstance(self.stop_training, str):
            where = f"after epoch {self.epoch}"
            if self.step_in_epoch:
                where = f"in epoch {self.epoch + 1}, after step {self.iteration}"
            self.say(f"Stopped {where}: {self.stop_training}")

    # ------------------------------------------------------------------ accuracy

    def predict(self, X, batch_size=100):
        """The class of each example, the one with the largest score: integers (N,). In regression the
        outputs, (N,) or (N, K). ValueError if the score of a class is NaN.
        """
        X = diagnosis.checked_examples("Solver.predict", X, batch_size)
        decide = lambda part: self.measure.decide(self._scores(X[part]))  # noqa: E731
        decided = self.ranks.map(decide, _parts(len(X), batch_size))
        return np.concatenate(decided) if decided else np.empty(0, np.intp)

    def _scores(self, X):
        return sum(self.model.loss(self.transform(view(X))) for view in self.views)

    def check_accuracy(self, X, y, num_samples=None, batch_size=100):
        """The share of examples whose class is predicted, in [0, 1]; in regression R squared.

        num_samples: measure on that many examples, drawn without repetition; None for all.
        All that was measured is kept in `measured`, such as {'R2': 0.9, 'rmse': 0.1}.
        """
        who = "Solver.check_accuracy"
        X, y = diagnosis.checked_examples(who, X, batch_size), np.asarray(y)
        if y.shape[:1] != X.shape[:1] or not len(X):
            raise ValueError(
                f"{who}: X has {len(X)} examples and y the shape {y.shape}, expected as many of both, "
                "and at least one."
            )
        check_count("num_samples", num_samples, optional=True, who=who)
        if num_samples is not None and num_samples < len(X):
            rng = generator(self.seed, "accuracy", self.iteration, len(X))
            index = np.sort(rng.choice(len(X), num_samples, replace=False))
            X, y = X[index], y[index]
        parts = _parts(len(X), batch_size)
        sums = lambda part: self.measure.sums(self._scores(X[part]), y[part])  # noqa: E731
        total = sum(self.ranks.map(sums, parts))
        self.measured = self.measure.values(total, y)
        return self.measured[self.measure.label]


def _in_words(schedule):
    """A schedule's name, and the settings that functools.partial gave it."""
    if not callable(schedule):
        return str(schedule)
    inner = getattr(schedule, "func", schedule)
    name = getattr(inner, "__name__", type(inner).__name__)
    settings = getattr(schedule, "keywords", {})
    return ", ".join([name, *(f"{key} {_in_words(value)}" for key, value in settings.items())])


def _as_they_are(X):
    return X


def _parts(N, size):
    return [slice(start, start + size) for start in range(0, N, size)]


KEYWORDS = tuple(Solver.__init__.__kwdefaults__)
RULE_SETTINGS = {
    key
    for config in optim.CONFIGS.values()
    for key, default in config.items()
    if default is not None and key != "t"
}
