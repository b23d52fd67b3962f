"""Layers one after the other, there and back: the chain rule over a list of pairs of functions."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .. import layers as L
from ..im2col import by_itself
from ..parallel import helpers, run, workers
from ..processes import Helper, at_work
from ..randomness import sequence


@dataclass(frozen=True)
class Layer:
    """One link of the chain: a pair of functions, the names of its parameters, its settings."""

    forward: Callable
    backward: Callable
    names: tuple = ()
    param: dict | None = field(default=None)  # conv_param, pool_param, bn_param, ...


class Chain:
    """Layers over one dict of parameters, on parts of a batch.

    A stretch is a list of indices of neighbouring layers; a part is a slice of the batch. Masks of
    dropout depend on seed, step, layer and part, on nothing else.
    """

    def __init__(self, layers, params, seed, step):
        self.layers, self.params, self.seed, self.step = layers, params, seed, step

    def forward_through(self, stretch, x, mode, part):
        """Some layers, one after the other, on a part of the batch."""
        caches = []
        for k in stretch:
            x, cache = self._call(k, self.layers[k].forward, x, mode, part)
            caches.append(cache if mode == "train" else None)
        return x, caches

    def _call(self, k, forward, x, mode, part=None):
        """The layer's forward function with its arguments; its errors say which layer it was."""
        arrays, settings = self._arguments(k, mode, part)
        try:
            return forward(x, *arrays, *settings)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}, layer {k + 1}: {error}") from error

    def backward_through(self, stretch, dout, caches):
        """The chain rule, from the last of some layers to the first; below the first layer with
        parameters of all there is nothing to be learned.
        """
        grads = {}
        first = next(k for k, layer in enumerate(self.layers) if layer.names)
        for k in reversed(stretch):
            layer, cache = self.layers[k], caches.pop()  # popped: its memory is free from here on
            if k < first:
                break
            if not layer.names:
                dout = layer.backward(dout, cache)
                continue
            skip_dx = {"need_dx": False} if k == first and layer.backward in CAN_SKIP_DX else {}
            dout, *dparams = layer.backward(dout, cache, **skip_dx)
            grads.update(zip(layer.names, dparams, strict=True))
        return dout, grads

    def _arguments(self, k, mode, part):
        """A layer's parameters, and its settings for one pass: the mode, and for dropout a mask of
        its own for each step, layer and part.
        """
        layer = self.layers[k]
        arrays = [self.params[name] for name in layer.names]
        if layer.forward is L.dropout_forward:
            seed = sequence(self.seed, "dropout", self.step, k, part.start)
            return arrays, [{"p": layer.param["p"], "mode": mode, "seed": seed}]
        if layer.forward in BATCHNORMS:
            layer.param["mode"] = mode  # the running statistics stay in this very dict
        return arrays, [] if layer.param is None else [layer.param]

    # ------------------------------------------------------------------ all parts of a batch

    def forward_parts(self, stretch, xs, parts):
        """[(out, caches), ...] of the parts, by threads or with the help of other processes."""
        count = range(len(parts))

        def forward(p):
            return self.forward_through(stretch, xs[p], "train", parts[p])

        crew = helpers(remote, len(parts) - 1 if self._can_travel(stretch, xs) else 0)
        if not crew:
            return run(forward, count)
        share = len(crew) + 1  # every share-th part stays here
        with at_work(crew):
            for k, helper in enumerate(crew, 1):
                there = xs[k::share], parts[k::share]
                helper.send("forward", *self._luggage(stretch), *there, anew=True)
            results = [None if p % share else forward(p) for p in count]
            for k, helper in enumerate(crew, 1):
                for p, out in _answers(helper, count[k::share]):
                    away = Away(helper, helper.turn, xs[p], parts[p])
                    results[p] = forward(p) if out is None else (out, away)
        return results

    def backward_parts(self, stretch, douts, caches):
        """[(dx, grads), ...] of the parts; dx is None where another process did the work."""

        def backward(p):
            held = caches[p]
            if isinstance(held, Away):  # and lost there
                held = self.forward_through(stretch, held.x, "train", held.part)[1]
            return self.backward_through(stretch, by_itself(douts[p]), held)

        count, away = range(len(douts)), _still_away(caches)
        if not away:
            return run(backward, count)
        elsewhere = set().union(*away.values())
        with at_work(away):
            for helper, there in away.items():
                helper.send("backward", np.geterr(), [douts[p] for p in there])
            results = [None if p in elsewhere else backward(p) for p in count]
            for helper, there in away.items():
                for p, grads in _answers(helper, there):
                    results[p] = backward(p) if grads is None else (None, grads)
        return results

    def _can_travel(self, stretch, xs):
        """Can other processes do it: all layers before the first affine one, with something to learn,
        of this package's own functions? And are the parts small, so that it pays?
        """
        layers, following = self.layers[: len(stretch)], self.layers[len(stretch) :][:1]
        return (
            stretch == list(range(len(stretch)))
            and all(layer.forward is L.affine_forward for layer in following)
            and all(layer.forward.__module__ == L.__name__ for layer in layers)
            and any(layer.names for layer in layers)
            and max(x.nbytes for x in xs) <= SMALL
        )

    def _luggage(self, stretch):
        """What another process needs to know besides its parts."""
        chain = Chain(self.layers[: len(stretch)], {}, self.seed, self.step)
        params = {name: self.params[name] for layer in chain.layers for name in layer.names}
        return np.geterr(), chain, params, stretch


class Away(NamedTuple):
    """The caches of a part that another process holds, and what it takes to make them again."""

    helper: Helper
    turn: int
    x: np.ndarray
    part: slice


def _still_away(caches):
    """{helper: [p, ...]}: the parts whose caches it still holds."""
    away = {}
    for p, held in enumerate(caches):
        if isinstance(held, Away) and held.turn == held.helper.turn:
            away.setdefault(held.helper, []).append(p)
    return away


def _answers(helper, there):
    """(p, what it gives for the part p) for each; None where it failed."""
    return zip(there, helper.receive() or [None] * len(there), strict=True)


class Remote:
    """What a helper does: it takes its parts through a stretch, and back."""

    def forward(self, errors, chain, params, stretch, xs, parts):
        self.chain, self.stretch, chain.params = chain, stretch, params
        with np.errstate(**errors):
            results = [
                chain.forward_through(stretch, x, "train", part)
                for x, part in zip(xs, parts, strict=True)
            ]
        outs, self.caches = zip(*results, strict=True)
        return outs

    def backward(self, errors, douts):
        with np.errstate(**errors):
            return [
                self.chain.backward_through(self.stretch, dout, caches)[1]
                for dout, caches in zip(douts, self.caches, strict=True)
            ]


@contextlib.contextmanager
def remote():
    """A `Remote` to be held by a helper: a processor is all that it has."""
    with workers(1):
        yield Remote()


SMALL = 2**18  # bytes of a part: NumPy's calls are short then, and threads in each other's way
BATCHNORMS = (L.batchnorm_forward, L.spatial_batchnorm_forward)
CAN_SKIP_DX = (L.affine_backward, L.conv_backward)
