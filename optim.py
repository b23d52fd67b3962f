"""Update rules for one array, learning-rate schedules, and a table of each.

    next_w, config = rule(w, dw, config)

`w` and `dw` are never written to; `next_w` is a new array of w's dtype. `config` is one dict for one
array. It holds the rule's *settings*, which the rule only reads, and its *state*, which the rule
replaces by new arrays for the next step. A missing setting has its default, missing state starts at
zero, and any other key is refused. Each rule is written as a formula, and `update_rule` makes a rule
of it; None stands for state that starts as zeros.

    factor = schedule(step, epoch)

multiplies the learning rate before each step. `step` counts the steps taken and `epoch` the whole
epochs, both from 0. `functools.partial(halving, every=10)` is a schedule with its settings.
"""

import functools
import math

import numpy as np

from .engine.errors import check_range, refuse_unknown

__all__ = [
    "CONFIGS",
    "SCHEDULES",
    "UPDATE_RULES",
    "adam",
    "adamw",
    "clip_by_norm",
    "constant",
    "cosine",
    "epoch_decay",
    "halving",
    "linear_warmup",
    "nesterov_momentum",
    "rmsprop",
    "sgd",
    "sgd_momentum",
    "step_decay",
    "update_rule",
]


def update_rule(**defaults):
    """Make an update rule of a formula:  next_w, next_state = formula(w, dw, *settings and state).

    defaults: what the config may hold, in the order of the formula's arguments. None stands for state
    that starts as zeros, shaped as w. next_state is a dict of the keys that change.

    The formula returns new arrays and writes to none. The rule has the attributes formula and defaults.
    """

    def make(formula):
        name = formula.__name__

        @functools.wraps(formula)
        def rule(w, dw, config=None):
            config = {} if config is None else config
            if not isinstance(config, dict):
                raise TypeError(
                    f"{name}: config = {config!r}, expected a dict such as {{'learning_rate': 0.001}}."
                )
            if not isinstance(w, np.ndarray) or w.dtype.kind not in "fc":
                came = getattr(w, "dtype", type(w).__name__)
                raise TypeError(f"{name}: w is of {came}, expected an array of floats.")
            if np.shape(dw) != w.shape:
                raise ValueError(f"{name}: dw has shape {np.shape(dw)}, expected that of w, {w.shape}.")
            if not config.keys() <= defaults.keys():
                refuse_unknown(name, config, defaults, kind="config keys")
            values = [
                # as a plain number: a NumPy float64 would widen float32
                _state(name, w, key, config.get(key))
                if default is None
                else float(config.get(key, default))
                for key, default in defaults.items()
            ]
            next_w, state = formula(w, np.asarray(dw, w.dtype, order="C"), *values)
            for key, value in state.items():
                config[key] = np.asarray(value, w.dtype) if defaults[key] is None else value
            return np.asarray(next_w, w.dtype), config

        del rule.__wrapped__  # its signature is rule(w, dw, config)
        rule.defaults, rule.formula = defaults, formula
        return rule

    return make


# ---------------------------------------------------------------------------- update rules


@update_rule(learning_rate=1e-2)
def sgd(w, dw, learning_rate):
    """Gradient descent.

    Settings: learning_rate (1e-2).  State: none.
    """
    return w - learning_rate * dw, {}


@update_rule(learning_rate=1e-2, momentum=0.9, velocity=None)
def sgd_momentum(w, dw, learning_rate, momentum, velocity):
    """Heavy ball (Polyak 1964).

    Settings: learning_rate (1e-2), momentum (0.9).  State: velocity, shaped as w.
    """
    v = momentum * velocity - learning_rate * dw
    return w + v, {"velocity": v}


@update_rule(learning_rate=1e-2, momentum=0.9, velocity=None)
def nesterov_momentum(w, dw, learning_rate, momentum, velocity):
    """Nesterov's momentum, with the gradient taken at w (Sutskever et al. 2013, as rewritten by
    Bengio et al. 2013).

    Settings: learning_rate (1e-2), momentum (0.9).  State: velocity, shaped as w.
    """
    descent = learning_rate * dw
    v = momentum * velocity - descent
    return w + momentum * v - descent, {"velocity": v}


@update_rule(learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8, cache=None)
def rmsprop(w, dw, learning_rate, decay_rate, epsilon, cache):
    """RMSProp (Tieleman & Hinton 2012), epsilon outside the root.

    Settings: learning_rate (1e-2), decay_rate (0.99), epsilon (1e-8).  State: cache, shaped as w.
    """
    cache = decay_rate * cache + (1 - decay_rate) * (dw * dw)
    return w - learning_rate * dw / (np.sqrt(cache) + epsilon), {"cache": cache}


@update_rule(learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, m=None, v=None, t=0)
def adam(w, dw, learning_rate, beta1, beta2, epsilon, m, v, t):
    """Adam (Kingma & Ba 2015, algorithm 1), epsilon outside the root and after the correction:
    next_w = w - learning_rate * m / (1 - beta1 ** t) / (sqrt(v / (1 - beta2 ** t)) + epsilon).

    Settings: learning_rate (1e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-8).
    State: m and v, shaped as w; t, the number of steps taken (0).
    """
    m = beta1 * m + (1 - beta1) * dw
    v = beta2 * v + (1 - beta2) * (dw * dw)
    t = int(t) + 1
    # With r = sqrt(1 - beta2 ** t):  1 / (sqrt(v) / r + epsilon) = r / (sqrt(v) + r * epsilon).
    r = math.sqrt(1 - beta2**t)
    rate = learning_rate * r / (1 - beta1**t)
    return w - rate * m / (np.sqrt(v) + epsilon * r), {"m": m, "v": v, "t": t}


@update_rule(
    learning_rate=1e-3,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    m=None,
    v=None,
    t=0,
    weight_decay=1e-2,
    least_ndim=0,
)
def adamw(w, dw, learning_rate, beta1, beta2, epsilon, m, v, t, weight_decay, least_ndim):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): as `adam`, from
    w * (1 - learning_rate * weight_decay) instead of w.

    Settings: those of `adam`, weight_decay (1e-2), and least_ndim (0): arrays of fewer axes are not
    decayed. 2 decays matrices, and neither biases nor gammas, as GPT-2 is trained.
    State: that of `adam`.
    """
    decayed = w * (1 - learning_rate * weight_decay) if w.ndim >= least_ndim else w
    return adam.formula(decayed, dw, learning_rate, beta1, beta2, epsilon, m, v, t)


UPDATE_RULES = {
    "sgd": sgd,
    "sgd_momentum": sgd_momentum,
    "nesterov_momentum": nesterov_momentum,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}
CONFIGS = {name: rule.defaults for name, rule in UPDATE_RULES.items()}


# ---------------------------------------------------------------------------- from formula to rule


def _state(rule, w, key, value):
    """State as an array like w, zeros at first."""
    if value is None:
        return np.zeros(w.shape, w.dtype)
    if np.shape(value) != w.shape:
        raise ValueError(f"{rule}: {key} has shape {np.shape(value)}, but w has {w.shape}.")
    return np.asarray(value, w.dtype, order="C")


# ---------------------------------------------------------------------------- clipping


def clip_by_norm(grads, max_norm):
    """Shorten the gradient if it is longer than max_norm (Pascanu et al. 2013, algorithm 1):
    g <- g * max_norm / ||g||, where ||g|| is the norm over all arrays together.

    grads: {name: array}.  max_norm: above 0.  Returns a dict of new arrays, or grads itself if it is
    short enough, or not finite, which no factor cures. The squares are added up in float64.
    """
    check_range("clip_by_norm", "max_norm", max_norm, 0, math.inf, open_low=True)
    if not isinstance(grads, dict):
        came = type(grads).__name__
        raise TypeError(f"clip_by_norm: grads is a {came}, expected a dict {{name: array}}.")
    norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads.values()))
    if not max_norm < norm < math.inf:
        return grads
    factor = float(max_norm) / norm
    return {name: g * factor for name, g in grads.items()}


# ---------------------------------------------------------------------------- schedules


def constant(step, epoch):
    """The learning rate as it is."""
    return 1.0


def epoch_decay(step, epoch, *, factor):
    """Times `factor` after every epoch: the Solver's lr_decay."""
    return factor**epoch


def halving(step, epoch, *, every):
    """Halved every `every` epochs."""
    check_range("halving", "every", every, 0, math.inf, open_low=True)
    return 0.5 ** (epoch // every)


def step_decay(step, epoch, *, every, factor):
    """Times `factor` every `every` steps (mini-batches)."""
    check_range("step_decay", "every", every, 0, math.inf, open_low=True)
    return factor ** (step // every)


def cosine(step, epoch, *, steps, floor=0.0):
    """Half a cosine from 1 down to `floor` over `steps` steps (Loshchilov & Hutter 2017)."""
    check_range("cosine", "steps", steps, 0, math.inf, open_low=True)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def linear_warmup(step, epoch, *, steps, then=constant):
    """A straight line up to 1 over the first `steps` steps, times the schedule `then`."""
    check_range("linear_warmup", "steps", steps, 0, math.inf, open_low=True)
    return min(1.0, (step + 1) / steps) * then(step, epoch)


SCHEDULES = {
    "constant": constant,
    "epoch_decay": epoch_decay,
    "halving": halving,
    "step_decay": step_decay,
    "cosine": cosine,
    "linear_warmup": linear_warmup,
}
