"""What a Solver refuses before it trains, and why a loss is not finite."""

import inspect
from collections.abc import Mapping

import numpy as np

from .errors import check_count, check_range, suggestion
from .parts import joined
from .targets import checked_kind

__all__ = [
    "check_batch_size",
    "check_callable",
    "check_loss",
    "check_model",
    "check_schedule",
    "check_streams",
    "check_takes",
    "check_update",
    "checked_data",
    "checked_examples",
    "checked_scores",
    "checked_split",
    "checked_targets",
    "checked_views",
    "divergence",
    "numbers",
    "refuse_keywords",
]

LARGE_INPUT = 30.0  # inputs beyond this are likely to be unscaled
OTHER_NAMES = {  # what other libraries call it
    "optimizer": "update_rule",
    "epochs": "num_epochs",
    "n_epochs": "num_epochs",
    "checkpoint": "checkpoint_name",
    "clipnorm": "clip_norm",
    "max_grad_norm": "clip_norm",
    "early_stopping": "stop",
    "scheduler": "schedule",
    "shuffle": "sampling",
}


# ---------------------------------------------------------------------------- arguments


def refuse_keywords(unknown, known, rule_settings):
    """Raise TypeError if there are unknown keywords, and say where what they hold belongs."""
    if not unknown:
        return
    name, value = next(iter(unknown.items()))
    came = f"Solver: unknown keyword arguments {list(unknown)}"
    setting = "learning_rate" if name == "lr" else name
    if setting in rule_settings:
        raise TypeError(
            f"{came}. {name} is a setting of the update rule; expected "
            f"optim_config={{{setting!r}: {value!r}}}."
        )
    if name.startswith(("X_", "y_")):
        raise TypeError(f"{came}. Images and labels come together; expected {DATA}.")
    near = f" Did you mean {OTHER_NAMES[name]!r}?" if name in OTHER_NAMES else suggestion(name, known)
    raise TypeError(f"{came}; it knows {sorted(known)}.{near}")


def check_model(model, who="Solver"):
    """Raise TypeError unless the model has what the Solver needs."""
    if isinstance(model, type):
        name = model.__name__
        raise TypeError(f"{who}: model is the class {name}, expected a model: {name}(...).")
    if not isinstance(getattr(model, "params", None), dict) or not hasattr(model, "loss"):
        hint = " Are model and data swapped?" if isinstance(model, dict) else ""
        raise TypeError(
            f"{who}: model is a {type(model).__name__}, expected an object with `params`, a dict of "
            f"arrays, and `loss(X, y)`.{hint}"
        )


def check_batch_size(batch_size, examples):
    """Raise ValueError unless there are enough examples for a batch; None: any number will do."""
    check_count("batch_size", batch_size)
    if examples is not None and batch_size > examples:
        raise ValueError(
            f"Solver: batch_size = {batch_size}, but there are {examples} training examples; "
            f"expected a batch of 1 to {examples}."
        )


def check_streams(streams, sampling, batch_size, examples):
    """Raise ValueError unless each example of a batch goes on with that of the batch before."""
    if streams is None:
        return
    came = sampling, batch_size, examples % streams
    if came != ("sequential", streams, 0):
        raise ValueError(
            f"Solver: the model carries the states of {streams} streams, but sampling = {sampling!r}, "
            f"batch_size = {batch_size} and there are {examples} training examples; expected "
            f"'sequential', {streams} and a multiple of {streams}, as data_utils.streams gives them."
        )


def check_callable(name, value, form):
    """Raise TypeError unless `value` is None or a function of the arguments in `form`: 'f(a, b)'."""
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"Solver: {name} = {value!r}, expected a function {form}, or None.")
    check_takes(f"Solver: {name}", value, form)


def check_takes(who, function, form):
    """Raise TypeError unless a function can be called with the arguments in `form`."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some functions in C
        return
    try:
        signature.bind(*form.split(")")[0].split(","))
    except TypeError:
        raise TypeError(
            f"{who} takes {signature}, expected a function {form}; functools.partial fills in the rest."
        ) from None


def check_schedule(schedule, lr_decay, rule, rate):
    """Raise if there are two schedules, or one without a learning rate to multiply."""
    check_callable("schedule", schedule, "schedule(step, epoch) -> factor, see optim.SCHEDULES")
    check_range("Solver", "lr_decay", lr_decay, 0, float("inf"), open_low=True)
    if schedule is not None and lr_decay != 1.0:
        raise ValueError("Solver: both lr_decay and schedule came, expected one of them.")
    if rate is None and (schedule is not None or lr_decay != 1.0):
        raise ValueError(
            f"Solver: a schedule or lr_decay came, but the learning rate of {rule} is not known; "
            "expected optim_config={'learning_rate': ...}."
        )


def numbers(optim_config):
    """A copy of the rule's settings as plain numbers."""
    if optim_config is not None and not isinstance(optim_config, dict):
        raise TypeError(
            f"Solver: optim_config = {optim_config!r}, expected a dict such as "
            "{'learning_rate': 0.001}."
        )
    config = optim_config or {}
    wrong = {k: v for k, v in config.items() if np.ndim(v) or isinstance(v, str) or v is None}
    if wrong:
        raise ValueError(f"Solver: optim_config holds {wrong}, expected one number for each key.")
    rate = config.get("learning_rate", 0)
    check_range("Solver", "optim_config['learning_rate']", rate, 0, float("inf"))
    return {k: float(v) for k, v in config.items()}


def checked_views(views):
    """The views as a tuple; empty for None."""
    if views is None:
        return ()
    if not np.iterable(views) or not all(map(callable, views)):
        raise ValueError(f"Solver: views = {views!r}, expected a list of functions X -> X, or None.")
    if not len(views):
        raise ValueError("Solver: views is empty, expected at least one function, or None.")
    return tuple(views)


# ---------------------------------------------------------------------------- what a step gives


def checked_scores(scores):
    """The scores of one example, if they are an array for one example."""
    if not isinstance(scores, np.ndarray) or scores.shape[:1] != (1,):
        shape = "" if isinstance(scores, tuple | list) else f" of shape {np.shape(scores)}"
        raise TypeError(
            f"Solver: model.loss(X) gave a {type(scores).__name__}{shape} for 1 example, expected an "
            "array of scores (1, ...)."
        )
    return scores


def check_loss(result, params, trainable):
    """Raise unless a model gave a loss, and a gradient for each parameter that is trained."""
    expected = "expected a loss and a dict of gradients"
    if not isinstance(result, tuple | list):
        raise TypeError(f"Solver: model.loss gave a {type(result).__name__}, {expected}.")
    if len(result) != 2:
        values = f"{len(result)} value{'s' * (len(result) != 1)}"
        raise TypeError(f"Solver: model.loss gave {values}, {expected}.")
    loss, grads = result
    if np.shape(loss) != ():
        raise TypeError(f"Solver: model.loss gave a loss of shape {np.shape(loss)}, expected a number.")
    if not isinstance(grads, dict):
        raise TypeError(
            f"Solver: model.loss gave gradients in a {type(grads).__name__}, expected a dict."
        )
    _check_gradients(grads, {name: params[name] for name in trainable})


def _check_gradients(grads, params):
    missing = [name for name in params if name not in grads]
    if missing:
        raise ValueError(
            f"Solver: model.loss gave gradients of {sorted(grads)}, but none of {missing}; "
            "expected one for each trainable parameter."
        )
    for name, w in params.items():
        if np.shape(grads[name]) != np.shape(w):
            raise ValueError(
                f"Solver: model.loss gave {name} a gradient of shape {np.shape(grads[name])}, expected "
                f"{np.shape(w)}."
            )


def check_update(rule, name, w, result):
    """Raise if an update rule did not give next_w, shaped as w, and a config."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise TypeError(
            f"Solver: {rule} gave a {type(result).__name__} for {name}, expected next_w, config."
        )
    if np.shape(result[0]) != np.shape(w):
        raise ValueError(
            f"Solver: {rule} gave {name} the shape {np.shape(result[0])}, expected {np.shape(w)}."
        )


# ---------------------------------------------------------------------------- data

DATA = "one dict as `data`: {'X_train': X, 'y_train': y, 'X_val': ..., 'y_val': ...}"


def checked_data(data, more):
    """The data, if they are one dict; more: what came after them without a keyword."""
    if more or not isinstance(data, Mapping):
        came = [type(value).__name__ for value in (data, *more)]
        raise TypeError(f"Solver: data came as {', '.join(came)}; expected {DATA}.")
    return data


def checked_split(data, split):
    """X and y of 'train' or 'val', or a ValueError that says what is wrong with them."""
    missing = [key for key in (f"X_{split}", f"y_{split}") if key not in data]
    if missing:
        raise ValueError(f"Solver: data has no {missing}; it holds {sorted(data)}.")
    X, y = np.asarray(data[f"X_{split}"]), np.asarray(data[f"y_{split}"])
    if not X.shape:
        came = type(data[f"X_{split}"]).__name__
        raise ValueError(f"Solver: X_{split} is a {came}, expected an array with an example a row.")
    if not len(X) or y.shape[:1] != X.shape[:1]:
        raise ValueError(
            f"Solver: X_{split} has {len(X)} examples and y_{split} the shape "
            f"{y.shape}, expected as many labels as examples, and at least one."
        )
    if X.dtype.kind not in "biufc":
        raise ValueError(f"Solver: X_{split} has dtype {X.dtype}, expected numbers.")
    _check_finite(f"X_{split}", X)
    _check_finite(f"y_{split}", y)
    return X, y


def checked_examples(who, X, batch_size):
    """X as an array with an example a row, to be computed batch by batch."""
    check_count("batch_size", batch_size, who=who)
    came, X = type(X).__name__, np.asarray(X)
    if not X.shape:
        raise ValueError(f"{who}: X is a {came}, expected an array (N, ...).")
    return X


def _check_finite(name, array):
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        at = next(n for n in range(len(array)) if not np.all(np.isfinite(array[n])))
        raise ValueError(f"Solver: {name}[{at}] holds NaN or infinity, expected finite numbers.")


def checked_targets(targets, outputs, takes_numbers):
    """The kind of the targets {split: y} (targets.py), if they fit the model and each other; 'words'
    for labels at each step.

    outputs: the shape of one example's scores.  takes_numbers: whether the model learns numbers.
    """
    kinds = {}
    for split, y in targets.items():
        kinds[split] = checked_kind("Solver", f"y_{split}", y, (len(y), *outputs), takes_numbers)
        if kinds[split] == "labels":
            _check_labels(split, y, outputs[-1], takes_numbers)
    if ("labels" if kinds["train"] == "numbers" else "numbers") in kinds.values():
        raise ValueError(f"Solver: the targets are {kinds}, expected the same kind in both.")
    return "words" if kinds["train"] == "labels" and len(outputs) > 1 else kinds["train"]


def _check_labels(split, y, classes, takes_numbers):
    """Raise ValueError if a label is not one of the model's classes. A word may be -1, not to count."""
    least = 0 if y.ndim == 1 else -1
    if not (least <= y.min() and y.max() < classes):  # a mask of all words would be large
        at = next(tuple(i.tolist()) for i in np.argwhere((y < least) | (y >= classes)))
        cure = ""
        if classes == 1:
            numbers = f"to learn numbers, try y_{split}.astype(float)"
            cure = f" A net needs an output for each class{'; ' + numbers if takes_numbers else ''}."
        raise ValueError(
            f"Solver: y_{split}[{', '.join(map(str, at))}] = {y[at]}, but the model has {classes} "
            f"classes; expected labels from 0 to {classes - 1}.{cure}"
        )


# ---------------------------------------------------------------------------- a loss that diverged


def divergence(losses, X, y, params, grads, epoch, rate):
    """What is not finite first, and the likely cause, in words.

    losses: the history, whose last entry is not finite.  X, y: the batch, perhaps in parts.
    rate: of learning, or None.
    """
    X, y = joined(X), joined(y)
    last = next((loss for loss in reversed(losses) if np.isfinite(loss)), None)
    came = (
        f"Solver: the loss is {losses[-1]} at iteration {len(losses)} (epoch {epoch + 1}); "
        f"the last finite one was {last}."
    )
    if not np.all(np.isfinite(X)):
        return f"{came} The batch itself is not finite: look at the data and their transform."
    for kind, arrays in (("parameter", params), ("gradient of", grads)):
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                return f"{came} The first {kind} {name} that is not finite. {_cure(X, y, rate)}"
    sizes = {name: float(np.max(np.abs(p))) for name, p in params.items()}
    largest = max(sizes, key=sizes.get)
    return f"{came} {largest} has grown to {sizes[largest]:.1e}. {_cure(X, y, rate)}"


def _cure(X, y, rate):
    cure = (
        "The learning rate is too high"
        if rate is None
        else f"The likely cause is the learning rate of {rate:g}: try {rate / 10:g}"
    )
    numbers = {"inputs": X} | ({"targets": y} if np.asarray(y).dtype.kind == "f" else {})
    for name, array in numbers.items():
        scale = float(np.max(np.abs(array), initial=0.0))
        if scale > LARGE_INPUT:
            cure += f", or scale the {name}, which go up to {scale:g}"
    return f"{cure}."
