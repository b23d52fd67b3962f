"""The Solver: mini-batches, steps, accuracy, history, checkpoints.

It knows a model by two things only: `params`, a dict of arrays, and `loss(X, y) -> loss, grads`,
with `loss(X) -> scores`. Two more are used if a model has them: `state`, arrays to be kept along
with the parameters, and `step`, which is set to the number of the step before each one.
"""

import contextlib
import functools
import itertools
import sys
import time

import numpy as np

from . import optim
from .engine.errors import check_range, look_up, refuse_unknown
from .engine.files import read_checkpoint, write_checkpoint
from .engine.randomness import generator, new_seed
from .engine.workers import Ahead, workers

SAMPLING = {
    "permutation": "each epoch sees every example once, in a new order",
    "replacement": "the course's way: N // batch_size batches, each drawn with replacement",
}


class DivergenceError(FloatingPointError):
    """The loss is not finite any more."""


class Solver:
    """Trains a model:  `Solver(model, data, update_rule='adam', num_epochs=5).train()`.

    data  dict with X_train, y_train and, if any, X_val, y_val: examples along the first axis, labels
          as integers. `transform`, if there, is called on each batch of X before the model sees it,
          so that images can stay bytes until then. (It may be called by a worker while the step
          before ends, and should look at nothing but X.)

    update_rule        a name in optim.UPDATE_RULES
    optim_config       the rule's settings, such as {'learning_rate': 1e-3}; never written to
    lr_decay           the learning rate's factor after each epoch (1.0)
    schedule           instead of lr_decay: schedule(step, epoch) -> factor, see optim.SCHEDULES
    batch_size         examples a step (100); the last batch of an epoch may be smaller
    num_epochs         passes over the training set (10)
    num_train_samples  examples drawn to measure the training accuracy (1000), None for all
    num_val_samples    the same for validation (None: all)
    print_every        steps between two printed losses (10); 0 for none
    verbose            False prints nothing and shows no progress bar
    progress           a progress bar on stderr; None shows it in a terminal or a notebook
    checkpoint_name    after each epoch everything is saved to this file, with '.npz' added
    sampling           'permutation', or 'replacement' as the course does
    augment            augment(X, rng) -> X, on each training batch, before `transform`
    views              functions X -> X on images that are to be classified, before `transform`: their
                       scores are added up to predict, at every look at an accuracy (None: the
                       images as they are; see augment.views)
    stop               stop(solver) -> truth, asked after each epoch; a string is printed
                       (see stopping.py)
    validate_every     steps between looks at the validation accuracy for the best parameters, besides
                       the one after each epoch (None)
    trainable          names of the parameters that are updated (None: all); the rest stays as it is
    workers            threads, or processes where parts are small, that share a batch's work (None:
                       one a processor); results are the same
    seed               of batches, augmentation and accuracy samples; None draws one, kept in `seed`

    After training `model.params` is the best on the validation set (the last, if there is none).
    loss_history (a loss a step), train_acc_history and val_acc_history (after the first step and
    each epoch), history (a dict an epoch), best_val_acc, best_params, epoch, iteration.
    """

    def __init__(
        self,
        model,
        data,
        *,
        update_rule="sgd",
        optim_config=None,
        lr_decay=1.0,
        schedule=None,
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
        workers=None,
        seed=None,
        **unknown,
    ):
        refuse_unknown("Solver", unknown, KEYWORDS, "keyword arguments", TypeError)
        self.model = model
        self._take_data(data)
        look_up("Solver", SAMPLING, sampling, "sampling")
        self.rule = look_up("Solver", optim.UPDATE_RULES, update_rule, "update_rule")
        self.optim_config = _numbers(optim_config or {})
        known = optim.CONFIGS.get(update_rule, self.optim_config)
        refuse_unknown(f"Solver, {update_rule}", self.optim_config, known, "keys of optim_config")
        if schedule is not None and lr_decay != 1.0:
            raise ValueError("Solver: both lr_decay and schedule came, expected one of them.")
        check_range("Solver", "lr_decay", lr_decay, 0, float("inf"), open_low=True)
        _check_count("num_epochs", num_epochs, low=0)
        _check_count("batch_size", batch_size)
        if batch_size > self.num_train:
            raise ValueError(
                f"Solver: batch_size = {batch_size}, but there are {self.num_train} training "
                f"examples; expected a batch of 1 to {self.num_train}."
            )
        self.update_rule = update_rule
        self.schedule = schedule or functools.partial(optim.epoch_decay, factor=lr_decay)
        self.batch_size, self.num_epochs, self.sampling = batch_size, num_epochs, sampling
        self.num_train_samples, self.num_val_samples = num_train_samples, num_val_samples
        self.print_every, self.verbose, self.progress = print_every, verbose, progress
        self.checkpoint_name, self.augment, self.stop = checkpoint_name, augment, stop
        self.views = _checked_views(views)
        if validate_every is not None:
            _check_count("validate_every", validate_every)
        self.validate_every, self.workers = validate_every, workers
        self.trainable = list(model.params) if trainable is None else list(trainable)
        refuse_unknown("Solver", self.trainable, model.params, "names in trainable")
        if validate_every and self.X_val is None:
            raise ValueError("Solver: validate_every came, but data has no X_val.")
        self._seed_was_given = seed is not None
        self.seed = seed if self._seed_was_given else new_seed()
        self._reset()

    def _reset(self):
        self.epoch = self.iteration = 0
        self.loss_history, self.train_acc_history, self.val_acc_history = [], [], []
        self.history = []
        self.best_val_acc, self.best_params, self._best_state = -1.0, {}, None
        self._last = None  # parameters and state to go on from, once the best ones are in place
        self.optim_configs = self._new_configs()
        self._bar = None

    def _new_configs(self):
        return {name: optim.PrivateConfig(self.optim_config) for name in self.model.params}

    # ------------------------------------------------------------------ training

    def train(self):
        """Train for what is left of num_epochs, then put the best parameters in place.

        Raises DivergenceError at the first loss that is not finite. Called again after num_epochs
        was raised it goes on from the last parameters, not from the best.
        """
        for _ in self.epochs():
            pass

    def epochs(self):
        """Training as an iterator: a dict after each epoch, the one that `history` gets.

        A loop may look at the solver, change it, or break off. At the end, and on a break, the best
        parameters are put in place.
        """
        if self._last is not None:
            self._put(*self._last)
            self._last = None  # a checkpoint on the way is of what is trained now
        quiet = np.errstate(over="ignore", invalid="ignore")  # the loss is looked at instead
        with workers(self.workers), self._open_bar() as self._bar, quiet:
            try:
                stopped = False
                while self.epoch < self.num_epochs and not stopped:
                    yield self._train_epoch()
                    stopped = self._asked_to_stop()
            finally:
                self._last = self._current()
                if self.best_params:
                    self._put(self.best_params, self._best_state)

    def _train_epoch(self):
        started, first = time.perf_counter(), len(self.loss_history)
        for X, y, ahead in self._examples(self._batches()):
            self._step(X, y, ahead)
            self._show_step(len(y))
            if self.iteration == 1:
                self._measure()
            elif self._validates_after(self.iteration):
                self._validate()
        seconds = time.perf_counter() - started
        rate = self._learning_rate()
        self.epoch += 1
        train_acc, val_acc = self._measure()
        record = {
            "epoch": self.epoch,
            "loss": float(np.mean(self.loss_history[first:])),
            "train_acc": train_acc,
            "val_acc": val_acc,
            "learning_rate": rate,
            "seconds": seconds,
        }
        self.history.append(record)
        if self.checkpoint_name:
            self.save_checkpoint(f"{self.checkpoint_name}.npz")
        return record

    def _batches(self):
        """The epoch's batches, as arrays of indices into the training set."""
        rng = generator(self.seed, "shuffle", self.epoch)
        if self.sampling == "replacement":
            for _ in range(self.iterations_per_epoch):
                yield rng.integers(self.num_train, size=self.batch_size)
            return
        order = rng.permutation(self.num_train)
        for start in range(0, self.num_train, self.batch_size):
            yield order[start : start + self.batch_size]

    def _examples(self, batches):
        """X and y of each batch, and the next batch as an `Ahead` of its step: for a worker, unless
        accuracies are measured in between, which call `transform`, too, or images are augmented,
        which all workers may share.
        """
        ahead = Ahead(functools.partial(self._prepared, next(batches)), runs=0)
        for index in itertools.chain(batches, [None]):
            X, y = ahead.result()
            here = self.augment is not None or self._validates_after(self.iteration + 1)
            runs = 0 if here or index is None else ahead.runs  # 0 in the first step, too
            ahead = Ahead(functools.partial(self._prepared, index), runs)
            yield X, y, ahead

    def _validates_after(self, iteration):
        return self.validate_every and iteration % self.validate_every == 0

    def _prepared(self, index):
        """A batch as the model gets it: X and y."""
        X = self.X_train[index]
        if self.augment is not None:
            X = self.augment(X, generator(self.seed, "augmentation", self.iteration))
        return self.transform(X), self.y_train[index]

    def _step(self, X, y, ahead):
        """One batch, one gradient, one update of every parameter."""
        if hasattr(self.model, "step"):
            self.model.step = self.iteration
        with ahead:
            loss, grads = self.model.loss(X, y)
        self.iteration += 1
        self.loss_history.append(float(loss))
        if not np.isfinite(loss):
            raise DivergenceError(self._diagnosis(loss, X, grads))
        rate, updated = self._learning_rate(step=self.iteration - 1), {}
        for name in self.trainable:
            w, config = self.model.params[name], self.optim_configs[name]
            if rate is not None:
                config["learning_rate"] = rate
            updated[name], self.optim_configs[name] = self.rule(w, grads[name], config)
        self.model.params.update(updated)

    def _learning_rate(self, step=None):
        """The base rate times the schedule; None for a rule that has none."""
        defaults = optim.CONFIGS.get(self.update_rule, {})
        base = self.optim_config.get("learning_rate", defaults.get("learning_rate"))
        step = self.iteration if step is None else step
        return None if base is None else float(base) * float(self.schedule(step, self.epoch))

    def _diagnosis(self, loss, X, grads):
        """What is not finite first, and the likely cause."""
        last = next((v for v in reversed(self.loss_history) if np.isfinite(v)), None)
        who = f"Solver: the loss is {loss} at iteration {self.iteration} (epoch {self.epoch + 1})"
        came = f"{who}; the last finite one was {last}."
        if not np.all(np.isfinite(X)):
            return f"{came} The batch itself is not finite: look at the data and their transform."
        for kind, arrays in (("parameter", self.model.params), ("gradient of", grads)):
            for name, array in arrays.items():
                if not np.all(np.isfinite(array)):
                    return f"{came} The first {kind} {name} that is not finite. {self._cure(X)}"
        sizes = {name: float(np.max(np.abs(p))) for name, p in self.model.params.items()}
        largest = max(sizes, key=sizes.get)
        return f"{came} {largest} has grown to {sizes[largest]:.1e}. {self._cure(X)}"

    def _cure(self, X):
        rate = self._learning_rate(step=self.iteration - 1)
        cure = (
            "The learning rate is too high"
            if rate is None
            else (f"The likely cause is the learning rate of {rate:g}: try {rate / 10:g}")
        )
        scale = float(np.max(np.abs(X), initial=0.0))
        unscaled = f", or scale the inputs, which go up to {scale:g}" if scale > 30 else ""
        return f"{cure}{unscaled}."

    # ------------------------------------------------------------------ accuracy

    def predict(self, X, batch_size=100):
        """The class of each example: the one with the largest score. Returns integers (N,)."""
        classes = [
            self._scores(X[start : start + batch_size]).argmax(axis=1)
            for start in range(0, len(X), batch_size)
        ]
        return np.concatenate(classes) if classes else np.empty(0, np.intp)

    def _scores(self, X):
        return sum(self.model.loss(self.transform(view(X))) for view in self.views)

    def check_accuracy(self, X, y, num_samples=None, batch_size=100):
        """The share of examples whose class is predicted, in [0, 1].

        num_samples: measure on that many examples, drawn without repetition; None for all.
        """
        if len(X) != len(y) or not len(X):
            raise ValueError(
                f"Solver.check_accuracy: X has {len(X)} examples and y {len(y)}, "
                "expected as many of both, and at least one."
            )
        if num_samples is not None and num_samples < len(X):
            rng = generator(self.seed, "accuracy", self.iteration, len(X))
            index = np.sort(rng.choice(len(X), num_samples, replace=False))
            X, y = X[index], y[index]
        return float(np.mean(self.predict(X, batch_size) == y))

    def _measure(self):
        """Accuracies of now into the histories, and the parameters kept if they are the best."""
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        self.train_acc_history.append(train_acc)
        said = f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train_acc:f}"
        val_acc = None
        if self.X_val is not None:
            val_acc = self._validate()
            self.val_acc_history.append(val_acc)
            said += f"; val_acc: {val_acc:f}"
        self._say(said)
        return train_acc, val_acc

    def _validate(self):
        """The validation accuracy of now; the parameters are kept if it is the best."""
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params, self._best_state = self._current()
        return val_acc

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, path):
        """Everything that training needs to go on as if it had never stopped, in one .npz file.

        The file is replaced only when the new one is whole.
        """
        params, state = self._last if self._last is not None else self._current()
        groups = {"params": params, "state": state, "best": self.best_params}
        groups["best_state"] = self._best_state
        arrays = {f"{g}/{k}": v for g, group in groups.items() for k, v in (group or {}).items()}
        scalars = {}
        for name, config in self.optim_configs.items():
            for key, value in config.items():
                if isinstance(value, np.ndarray):
                    arrays[f"optim/{name}/{key}"] = value
                else:
                    scalars[f"{name}/{key}"] = float(value)
        meta = {
            "format": 1,
            "settings": self._settings(),
            "seed": self.seed,
            "epoch": self.epoch,
            "iteration": self.iteration,
            "best_val_acc": self.best_val_acc,
            "history": self.history,
            "loss_history": self.loss_history,
            "train_acc_history": self.train_acc_history,
            "val_acc_history": self.val_acc_history,
            "optim": scalars,
        }
        write_checkpoint(path, arrays, meta)

    def load_checkpoint(self, path):
        """Take up a saved run: `Solver(model, data, same settings)`, load_checkpoint, train.

        Raises ValueError if the file is not a checkpoint, or is one of another model or of other
        settings; num_epochs may differ. The solver and the model are changed only if all is well.
        """
        arrays, meta = read_checkpoint(path)
        groups = {g: {} for g in ("params", "state", "best", "best_state", "optim")}
        for name, array in arrays.items():
            group, _, key = name.partition("/")
            groups.get(group, {})[key] = array
        self._check_checkpoint(path, groups["params"], meta)
        for name in KEPT:
            setattr(self, name, meta[name])
        self._put(groups["params"], groups["state"] or None)
        self.best_params, self._best_state = groups["best"], groups["best_state"] or None
        self._last = None
        self.optim_configs = self._new_configs()
        for kept in (meta["optim"], groups["optim"]):
            for name, value in kept.items():
                parameter, key = name.rsplit("/", 1)
                self.optim_configs[parameter][key] = value

    def _check_checkpoint(self, path, params, meta):
        missing = [k for k in (*KEPT, "format", "settings", "optim") if k not in meta]
        if missing or meta["format"] != 1:
            raise ValueError(f"{path}: not a checkpoint of this version; it lacks {missing}.")
        shapes = {name: p.shape for name, p in params.items()}
        expected = {name: p.shape for name, p in self.model.params.items()}
        if shapes != expected:
            raise ValueError(
                f"{path}: holds parameters {shapes}, but the model has {expected}; "
                "expected a checkpoint of the same model."
            )
        ours, theirs = self._settings(), meta["settings"]
        if self._seed_was_given:
            ours, theirs = {**ours, "seed": self.seed}, {**theirs, "seed": meta["seed"]}
        differing = [k for k in ours if ours[k] != theirs.get(k)]
        if differing:
            k = differing[0]
            raise ValueError(
                f"{path}: was trained with {k} = {theirs.get(k)!r}, but the Solver has {ours[k]!r}; "
                "expected the same settings."
            )

    def _settings(self):
        """What must be the same for a resumed run to repeat an uninterrupted one; JSON."""
        return {
            "update_rule": self.update_rule,
            "optim_config": self.optim_config,
            "schedule": described(self.schedule),
            "batch_size": self.batch_size,
            "sampling": self.sampling,
            "num_train": self.num_train,
            "trainable": self.trainable,
            "validate_every": self.validate_every,
        }

    def _current(self):
        """The model's parameters and state, as copies."""
        params = {name: p.copy() for name, p in self.model.params.items()}
        return params, getattr(self.model, "state", None)

    def _put(self, params, state):
        self.model.params.update({name: p.copy() for name, p in params.items()})
        if state is not None:
            self.model.state = state

    # ------------------------------------------------------------------ data and what is shown

    def _take_data(self, data):
        self.data = data
        self.X_train, self.y_train = _checked(data, "train")
        self.X_val, self.y_val = _checked(data, "val") if "X_val" in data else (None, None)
        self.transform = data.get("transform") or _as_they_are
        self.num_train = len(self.X_train)
        classes = self.model.loss(self.transform(self.X_train[:1])).shape[1]
        for split, y in (("train", self.y_train), ("val", self.y_val)):
            if y is not None and not (0 <= y.min() and y.max() < classes):
                at = int(np.argmax((y < 0) | (y >= classes)))
                raise ValueError(
                    f"Solver: y_{split}[{at}] = {y[at]}, but the model has {classes} classes; "
                    f"expected labels from 0 to {classes - 1}."
                )

    @property
    def iterations_per_epoch(self):
        if self.sampling == "replacement":
            return self.num_train // self.batch_size
        return -(-self.num_train // self.batch_size)

    def _asked_to_stop(self):
        reason = self.stop(self) if self.stop is not None else False
        if isinstance(reason, str):
            self._say(f"Stopped after epoch {self.epoch}: {reason}")
        return bool(reason)

    def _show_step(self, images):
        t, every = self.iteration - 1, self.print_every
        if self._bar is not None:
            self._bar.set_description(f"epoch {self.epoch + 1}/{self.num_epochs}", refresh=False)
            shown = {"loss": f"{self.loss_history[-1]:.4f}"}
            if self.val_acc_history:
                shown["val_acc"] = f"{self.val_acc_history[-1]:.4f}"
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(images)
        if every and t % every == 0:
            total = self.num_epochs * self.iterations_per_epoch
            self._say(f"(Iteration {t + 1} / {total}) loss: {self.loss_history[-1]:f}")

    def _say(self, line):
        if self.verbose:
            if self._bar is not None:
                self._bar.write(line)
            else:
                print(line)

    def _open_bar(self):
        """A bar that counts images; at most two updates a second, so that no notebook drowns."""
        watched = sys.stderr.isatty() or "ipykernel" in sys.modules
        if not self.verbose or not (watched if self.progress is None else self.progress):
            return contextlib.nullcontext()
        from tqdm import tqdm  # when first needed: it costs time at import

        return tqdm(
            total=self.num_epochs * self.num_train,
            initial=self.epoch * self.num_train,
            unit=" images",
            mininterval=0.5,
            dynamic_ncols=True,
        )


KEPT = (
    "seed",
    "epoch",
    "iteration",
    "best_val_acc",
    "history",
    "loss_history",
    "train_acc_history",
    "val_acc_history",
)
KEYWORDS = tuple(Solver.__init__.__kwdefaults__)


def load_params(model, path, best=True):
    """Put a checkpoint's parameters and state into a model: the best on validation, or the last."""
    arrays, _ = read_checkpoint(path)
    groups = (
        ("best", "best_state")
        if best and any(k.startswith("best/") for k in arrays)
        else (
            "params",
            "state",
        )
    )
    params, state = (
        {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{group}/")}
        for group in groups
    )
    shapes = {name: p.shape for name, p in params.items()}
    expected = {name: p.shape for name, p in model.params.items()}
    if shapes != expected:
        raise ValueError(f"{path}: holds parameters {shapes}, but the model has {expected}.")
    model.params.update(params)
    if state:
        model.state = state


def _as_they_are(X):
    return X


def _checked_views(views):
    if views is None:
        return (_as_they_are,)
    if not np.iterable(views) or not all(map(callable, views)):
        raise ValueError(f"Solver: views = {views!r}, expected a list of functions X -> X, or None.")
    if not len(views):
        raise ValueError("Solver: views is empty, expected at least one function, or None.")
    return tuple(views)


def _checked(data, split):
    """X and y of a split, or a ValueError that says what is wrong with them."""
    missing = [key for key in (f"X_{split}", f"y_{split}") if key not in data]
    if missing:
        raise ValueError(f"Solver: data has no {missing}; it holds {sorted(data)}.")
    X, y = np.asarray(data[f"X_{split}"]), np.asarray(data[f"y_{split}"])
    if not len(X) or len(X) != len(y) or y.ndim != 1:
        raise ValueError(
            f"Solver: X_{split} has {len(X)} examples and y_{split} the shape {y.shape}, "
            "expected as many labels as examples, and at least one."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(
            f"Solver: y_{split} has dtype {y.dtype}, expected integers; try y.astype(int)."
        )
    if X.dtype.kind == "f" and not (np.isfinite(X.min()) and np.isfinite(X.max())):
        at = next(n for n in range(len(X)) if not np.all(np.isfinite(X[n])))
        raise ValueError(f"Solver: X_{split}[{at}] holds NaN or infinity, expected finite numbers.")
    return X, y


def _numbers(optim_config):
    """A copy of the rule's settings as plain numbers."""
    wrong = {k: v for k, v in optim_config.items() if np.ndim(v) or isinstance(v, str)}
    if wrong:
        raise ValueError(f"Solver: optim_config holds {wrong}, expected one number for each key.")
    return {k: float(v) for k, v in optim_config.items()}


def _check_count(name, value, low=1):
    if not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"Solver: {name} = {value!r}, expected a whole number from {low} up.")


def described(value):
    """A setting in words that two runs can compare: functions by name and what functools.partial
    binds, also inside lists and dicts; anything else as it is.
    """
    if isinstance(value, functools.partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if isinstance(value, list | tuple):
        return [described(v) for v in value]
    if isinstance(value, dict):
        return {key: described(v) for key, v in value.items()}
    if not callable(value):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
