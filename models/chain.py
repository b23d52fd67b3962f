"""Layers one after the other, there and back: the chain rule over a list of pairs of functions."""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .. import layers as L
from ..engine.helpers import at_work
from ..engine.randomness import sequence
from ..engine.workers import helpers, run, workers


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

    def __init__(self, layers, params, criterion, seed, step):
        self.layers, self.params, self.criterion = layers, params, criterion
        self.seed, self.step = seed, step

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
        skip_cache = {"need_cache": False} if mode == "test" and forward in CAN_SKIP_CACHE else {}
        try:
            return forward(x, *arrays, *settings, **skip_cache)
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

    def passes(self, x, y, part, N):
        """Both passes of a part of N examples, through all layers: its share of the loss, a mean over
        all N, and of its gradients.
        """
        stretch, share = range(len(self.layers)), len(x) / N
        scores, caches = self.forward_through(stretch, x, "train", part)
        loss, dscores = self.criterion(scores, y)
        _, grads = self.backward_through(stretch, share * dscores, caches)
        return share * loss, grads

    # ------------------------------------------------------------------ all parts of a batch

    def passes_of_parts(self, X, y, parts):
        """[(loss, grads), ...] of the parts, by threads or with the help of other processes."""
        given = [(X[part], y[part], part, len(X)) for part in parts]
        crew = helpers(remote, len(parts) - 1 if self._can_travel(given[0][0]) else 0)
        if not crew:
            return run(lambda args: self.passes(*args), given)
        share = len(crew) + 1  # every share-th part stays here
        results = [None] * len(parts)
        with at_work(crew):
            for k, helper in enumerate(crew, 1):
                helper.send(
                    "passes", np.geterr(), self._news(helper), self.step, self.params, given[k::share]
                )
            results[::share] = [self.passes(*args) for args in given[::share]]
            for k, helper in enumerate(crew, 1):
                results[k::share] = helper.receive() or [self.passes(*args) for args in given[k::share]]
        return results

    def _can_travel(self, x):
        """Can other processes do it, layers of this package's own? And are the parts small, so that it
        pays?
        """
        return x.nbytes <= SMALL and all(
            layer.forward.__module__ == L.__name__ for layer in self.layers
        )

    def _news(self, helper):
        """What the helper needs to make a chain of its own, unless it has been told before."""
        told = (self.layers, self.criterion, self.seed)
        with contextlib.suppress(ValueError):  # arrays among the settings do not say: then once more
            if helper.told == told:
                return None
        helper.told = copy.deepcopy(told)
        return told


class Remote:
    """What a helper does: it takes its parts through a chain, there and back."""

    def passes(self, errors, news, step, params, given):
        if news is not None:
            layers, criterion, seed = news
            self.chain = Chain(layers, {}, criterion, seed, step)
        self.chain.params, self.chain.step = params, step
        with np.errstate(**errors):
            return [self.chain.passes(*args) for args in given]


@contextlib.contextmanager
def remote():
    """A `Remote` to be held by a helper: a processor is all that it has."""
    with workers(1):
        yield Remote()


SMALL = 2**18  # bytes of a part: NumPy's calls are short then, and threads in each other's way
BATCHNORMS = (L.batchnorm_forward, L.spatial_batchnorm_forward)
CAN_SKIP_DX = (L.affine_backward, L.conv_backward)
CAN_SKIP_CACHE = (L.max_pool_forward,)
