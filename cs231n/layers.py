"""handgrad's layers under the course's conventions: what a cache holds, and what p of dropout means.

The course says what the caches of five layers hold: the arguments of forward; for relu x, for dropout
dropout_param and the mask. Here they hold just that, and handgrad's own cache beside it. So a student's
backward can follow handgrad's forward, and handgrad's backward a student's forward.
"""

import functools
import inspect

import numpy as np

from .. import layers as L
from ..engine.checks import layer_of
from ..engine.errors import check_range

__all__ = ["DROPOUT", "PAIRS", "dropped", "named", "of_edition"]


class Cache(tuple):
    """A cache as the course lays it out; `own` is handgrad's, `maker` the forward pass that made it."""

    own = maker = None

    @classmethod
    def of(cls, content, own, maker):
        cache = cls(content)
        cache.own, cache.maker = own, maker
        return cache


def _with_course_cache(forward, backward):
    """The pair with a cache that holds the arguments of forward."""
    signature = inspect.signature(forward)

    @functools.wraps(forward)
    def course_forward(*args, **named):
        args = signature.bind(*args, **named).args
        out, own = forward(*args)
        return out, Cache.of(args, own, forward)

    @functools.wraps(backward)
    def course_backward(dout, cache):
        _check_cache(backward, cache, *signature.parameters)
        own = cache.own if getattr(cache, "maker", None) is forward else forward(*cache)[1]
        return backward(dout, own)

    return course_forward, course_backward


def _check_cache(backward, cache, *parts):
    """A cache must hold these parts, and not come from another layer; without parts it is an array."""
    maker, is_tuple = getattr(cache, "maker", None), isinstance(cache, tuple | list)
    foreign = maker is not None and layer_of(maker) != layer_of(backward)
    if foreign or is_tuple != bool(parts) or (parts and len(cache) != len(parts)):
        many = f"{len(cache)} parts" if is_tuple else f"a {type(cache).__name__}"
        raise ValueError(
            f"{backward.__name__}: the cache {f'of {maker.__name__}' if foreign else f'with {many}'} "
            f"came, expected that of {layer_of(backward)}_forward, {', '.join(parts) or 'x'}."
        )


@functools.wraps(L.relu_forward)
def _relu_forward(x):
    x = np.asarray(x)
    out, _ = L.relu_forward(x)
    return out, x  # handgrad's backward asks where its cache is positive: of x and out the same


@functools.wraps(L.relu_backward)
def _relu_backward(dout, cache):
    _check_cache(L.relu_backward, cache)
    return L.relu_backward(dout, cache)


# ---------------------------------------------------------------------------- dropout


class Draws(np.random.Generator):
    """Numbers for masks as solutions draw them: np.random.rand(*x.shape) < p for p of keeping.

    The numbers of a seed are those that follow np.random.seed, but the global generator stays as it is.
    """

    def __init__(self, seed, p_keeps):
        super().__init__(np.random.get_bit_generator())
        self.source = np.random if seed is None else np.random.RandomState(seed)
        self.p_keeps = p_keeps

    def random(self, size, dtype):
        """As handgrad's dropout asks for them: what is at least the p of dropping is kept."""
        draws = self.source.rand(*size)
        return 1 - draws if self.p_keeps else draws


def _dropout(p_keeps):
    """The pair for an edition; without a seed it draws from NumPy's global generator.

    p_keeps: whether p is the probability of keeping.
    """

    @functools.wraps(L.dropout_forward)
    def dropout_forward(x, dropout_param):
        own = dropout_param | {"seed": Draws(dropout_param.get("seed"), p_keeps)}
        if p_keeps and "p" in own:
            own["p"] = dropped(own["p"], "dropout_forward", "p")
        out, cache = L.dropout_forward(x, own)
        return out, Cache.of((dropout_param, cache[0]), cache, dropout_forward)

    @functools.wraps(L.dropout_backward)
    def dropout_backward(dout, cache):
        _check_cache(L.dropout_backward, cache, "dropout_param", "mask")
        if isinstance(cache, Cache):
            return L.dropout_backward(dout, cache.own)
        (param, mask), dout = cache, np.asarray(dout)  # of a student's forward
        own = (mask if param["mode"] == "train" else None, dout.shape, dout.dtype)
        return L.dropout_backward(dout, own)

    return dropout_forward, dropout_backward


def dropped(keep, who, name):
    """The probability of dropping, from that of keeping."""
    hint = " It is the probability of keeping in this edition, and 1 drops nothing."
    check_range(who, name, keep, 0, 1, open_low=True, hint=hint)
    return 1 - keep


# ---------------------------------------------------------------------------- by name

PAIRS = {
    "affine": _with_course_cache(L.affine_forward, L.affine_backward),
    "relu": (_relu_forward, _relu_backward),
    "conv": _with_course_cache(L.conv_forward, L.conv_backward),
    "max_pool": _with_course_cache(L.max_pool_forward, L.max_pool_backward),
}
NAIVE = {
    "conv": _with_course_cache(L.conv_forward_naive, L.conv_backward_naive),
    "max_pool": _with_course_cache(L.max_pool_forward_naive, L.max_pool_backward_naive),
}
DROPOUT = {p_keeps: _dropout(p_keeps) for p_keeps in (False, True)}


def of_edition(year):
    """The functions of cs231n.layers that differ from handgrad's, by name."""
    return (
        named("affine_{}", PAIRS["affine"])
        | named("relu_{}", PAIRS["relu"])
        | named("dropout_{}", DROPOUT[year >= 2018])
        | named("conv_{}_naive", NAIVE["conv"])
        | named("max_pool_{}_naive", NAIVE["max_pool"])
    )


def named(pattern, pair):
    """A pair under its names, such as 'conv_{}_fast'."""
    return {pattern.format(way): f for way, f in zip(("forward", "backward"), pair, strict=True)}
