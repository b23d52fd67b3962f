"""Update rules for one array, learning-rate schedules, and a table of each.

    next_w, config = rule(w, dw, config)

`w` and `dw` are never written to; `next_w` is a new array of w's dtype. `config` is one dict for one
array and holds two kinds of things: the *settings*, which the rule only reads, and the *state*,
which it writes back for the next step. A missing setting has its default, missing state starts at
zero, and any other key is refused. New state comes in new arrays, so that whoever holds the old ones
has them as they were; in a `PrivateConfig` it is written into the arrays that are there.

    factor = schedule(step, epoch)

multiplies the learning rate before each step; step counts the steps taken, epoch the whole epochs,
both from 0. A schedule with settings is given by `functools.partial(halving, every=10)`.
"""

import math

import numpy as np

from .engine.errors import refuse_unknown
from .engine.workers import run, slices


class PrivateConfig(dict):
    """A config whose arrays nobody else holds, such as the Solver's: rules update its state in place,
    which takes less time than to fill new arrays.
    """


# ---------------------------------------------------------------------------- update rules


def sgd(w, dw, config=None):
    """Gradient descent: next_w = w - learning_rate * dw.

    Settings: learning_rate (1e-2).  State: none.
    """
    config, (rate,) = _settings("sgd", w, dw, config)

    def step(w, dw, next_w):
        np.multiply(-rate, dw, out=next_w)
        next_w += w

    (next_w,) = _by_blocks(step, w, dw, config)
    return next_w, config


def sgd_momentum(w, dw, config=None):
    """Heavy ball (Polyak 1964): v = momentum * v - learning_rate * dw;  next_w = w + v.

    Settings: learning_rate (1e-2), momentum (0.9).  State: velocity, shaped as w.
    """
    config, (rate, momentum, velocity) = _settings("sgd_momentum", w, dw, config)

    def step(w, dw, v, next_w, next_v):
        np.multiply(momentum, v, out=next_v)
        next_v -= np.multiply(rate, dw, out=next_w)
        np.add(w, next_v, out=next_w)

    next_w, config["velocity"] = _by_blocks(step, w, dw, config, velocity)
    return next_w, config


def nesterov_momentum(w, dw, config=None):
    """Nesterov's momentum, with the gradient taken at w (Sutskever et al. 2013, as rewritten by
    Bengio et al. 2013):  v = momentum * v - learning_rate * dw;
    next_w = w + momentum * v - learning_rate * dw.

    Settings: learning_rate (1e-2), momentum (0.9).  State: velocity, shaped as w.
    """
    config, (rate, momentum, velocity) = _settings("nesterov_momentum", w, dw, config)

    def step(w, dw, v, next_w, next_v):
        descent = rate * dw
        np.multiply(momentum, v, out=next_v)
        next_v -= descent
        np.multiply(momentum, next_v, out=next_w)
        next_w += w
        next_w -= descent

    next_w, config["velocity"] = _by_blocks(step, w, dw, config, velocity)
    return next_w, config


def rmsprop(w, dw, config=None):
    """RMSProp (Tieleman & Hinton 2012), epsilon outside the root:
    cache = decay_rate * cache + (1 - decay_rate) * dw ** 2;
    next_w = w - learning_rate * dw / (sqrt(cache) + epsilon).

    Settings: learning_rate (1e-2), decay_rate (0.99), epsilon (1e-8).  State: cache, shaped as w.
    """
    config, (rate, decay, epsilon, cache) = _settings("rmsprop", w, dw, config)

    def step(w, dw, cache, next_w, next_cache):
        np.multiply(decay, cache, out=next_cache)
        next_cache += (1 - decay) * (dw * dw)
        np.multiply(-rate, dw, out=next_w)
        next_w /= np.sqrt(next_cache) + epsilon
        next_w += w

    next_w, config["cache"] = _by_blocks(step, w, dw, config, cache)
    return next_w, config


def adam(w, dw, config=None):
    """Adam (Kingma & Ba 2015, algorithm 1), epsilon outside the root and after the correction:
    m = beta1 * m + (1 - beta1) * dw;  v = beta2 * v + (1 - beta2) * dw ** 2;  t = t + 1;
    next_w = w - learning_rate * m / (1 - beta1 ** t) / (sqrt(v / (1 - beta2 ** t)) + epsilon).

    Settings: learning_rate (1e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-8).
    State: m and v, shaped as w; t, the number of steps taken (0).
    """
    config, settings = _settings("adam", w, dw, config)
    return _adam(w, dw, config, *settings, weight_decay=0.0), config


def adamw(w, dw, config=None):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019):
    as `adam`, from w * (1 - learning_rate * weight_decay) instead of w.

    Settings: those of `adam`, and weight_decay (1e-2).  State: that of `adam`.
    """
    config, settings = _settings("adamw", w, dw, config)
    return _adam(w, dw, config, *settings), config


def _adam(w, dw, config, rate, beta1, beta2, epsilon, m, v, t, weight_decay):
    t = int(t) + 1
    root = math.sqrt(1 - beta2**t)  # taken out of the root of v / (1 - beta2 ** t)
    scale, epsilon = rate * root / (1 - beta1**t), epsilon * root

    def step(w, dw, m, v, next_w, next_m, next_v):
        np.multiply(beta1, m, out=next_m)
        next_m += (1 - beta1) * dw
        np.multiply(beta2, v, out=next_v)
        next_v += (1 - beta2) * (dw * dw)
        np.multiply(-scale, next_m, out=next_w)
        next_w /= np.sqrt(next_v) + epsilon
        next_w += w * (1 - rate * weight_decay) if weight_decay else w

    next_w, m, v = _by_blocks(step, w, dw, config, m, v)
    config.update(m=m, v=v, t=t)
    return next_w


BLOCK = 2**18  # entries: what a step makes on the way is no larger than a block
FEW = 4  # blocks: for fewer it does not pay to wake another thread


def _by_blocks(step, w, dw, config, *state):
    """step(w, dw, *state, next_w, *next_state), which writes the last ones, on blocks of the arrays.

    Entry by entry it is the same as at once; the workers share the blocks. Returns
    [next_w, *next_state], shaped as w and of its dtype.
    """
    results = [np.empty(w.shape, w.dtype), *(_next(state, w, config) for state in state)]
    count = math.ceil(w.size / BLOCK)
    if count < FEW:
        step(w, dw, *state, *results)
        return results
    arrays = [a.reshape(-1) for a in (w, dw, *state, *results)]
    run(lambda block: step(*(a[block] for a in arrays)), slices(w.size, count))
    return results


def _next(state, w, config):
    """Where the state's next value goes: into a new array, or into its own in a PrivateConfig, unless
    that one has another order or precision.
    """
    in_place = isinstance(config, PrivateConfig) and state.flags.carray and state.dtype == w.dtype
    return state if in_place else np.empty(w.shape, w.dtype)


UPDATE_RULES = {
    "sgd": sgd,
    "sgd_momentum": sgd_momentum,
    "nesterov_momentum": nesterov_momentum,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}


# What each config may hold, with defaults; None stands for an array of zeros, shaped as w.
_MOMENTUM = dict(learning_rate=1e-2, momentum=0.9, velocity=None)
_ADAM = dict(learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, m=None, v=None, t=0)
CONFIGS = {
    "sgd": dict(learning_rate=1e-2),
    "sgd_momentum": _MOMENTUM,
    "nesterov_momentum": _MOMENTUM,
    "rmsprop": dict(learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8, cache=None),
    "adam": _ADAM,
    "adamw": {**_ADAM, "weight_decay": 1e-2},
}


def _settings(rule, w, dw, config):
    """The caller's dict (a new one for None), and the values of the rule's keys in their order."""
    if np.shape(dw) != np.shape(w):
        raise ValueError(f"{rule}: dw has shape {np.shape(dw)}, expected that of w, {np.shape(w)}.")
    config = {} if config is None else config
    known = CONFIGS[rule]
    refuse_unknown(rule, config, known, kind="config keys")
    return config, [_value(rule, w, key, config.get(key, known[key])) for key in known]


def _value(rule, w, key, value):
    """State as an array shaped as w, settings as plain numbers: a NumPy one would widen float32."""
    if value is None:
        return np.zeros_like(w)
    if isinstance(value, float) or np.ndim(value) == 0:
        return float(value)
    if np.shape(value) != np.shape(w):
        raise ValueError(f"{rule}: {key} has shape {np.shape(value)}, but w has {np.shape(w)}.")
    return value


# ---------------------------------------------------------------------------- schedules


def constant(step, epoch):
    """The learning rate as it is."""
    return 1.0


def epoch_decay(step, epoch, *, factor):
    """Times `factor` after every epoch: the Solver's lr_decay."""
    return factor**epoch


def halving(step, epoch, *, every):
    """Halved every `every` epochs."""
    return 0.5 ** (epoch // every)


def step_decay(step, epoch, *, every, factor):
    """Times `factor` every `every` steps (mini-batches)."""
    return factor ** (step // every)


def cosine(step, epoch, *, steps, floor=0.0):
    """Half a cosine from 1 down to `floor` over `steps` steps (Loshchilov & Hutter 2017)."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def linear_warmup(step, epoch, *, steps, then=constant):
    """A straight line up to 1 over the first `steps` steps, times the schedule `then`."""
    return min(1.0, (step + 1) / steps) * then(step, epoch)


SCHEDULES = {
    "constant": constant,
    "epoch_decay": epoch_decay,
    "halving": halving,
    "step_decay": step_decay,
    "cosine": cosine,
    "linear_warmup": linear_warmup,
}
