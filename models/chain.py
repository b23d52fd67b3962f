"""Layers one after the other, forward and backward: the chain rule over a list of pairs of functions.

x, cache = layer.forward(x, *parameters, *settings)          from the first layer to the last
dout, *gradients = layer.backward(dout, cache)               from the last layer to the first
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine.randomness import sequence

__all__ = ["Chain", "Layer"]


@dataclass(frozen=True)
class Layer:
    """One link of the chain: a pair of functions, the names of its parameters, its settings.

    number         its place in the net, from 1, for error messages
    needs_batch    what it makes of one example depends on the others
    takes_parts    it accepts a batch in parts (engine/parts.py)
    prefers_batch  one product of the whole batch is faster than several of its parts
    can_skip_dx    its backward takes need_dx=False, for the first layer of a net
    reads_words    its input is integers, words of a vocabulary
    forks, joins   how many residual branches begin before it and end after it: what enters a branch is
                   added to what leaves it
    carries        S, if it is recurrent: its state is S numbers a sequence. The dict among its settings
                   that has the key 'state' says where it begins, and its cache ends with the state
                   (N, S) after the last step
    mixes_steps    a step of its output may depend on later steps of its input
    advance        advance(x, state, *parameters, *settings) -> out, state: further steps of sequences,
                   for any other layer that looks back, or a faster way; state is None at first
    products       multiplications an example, where they are not known from a weight's shape
    recurrence     of a recurrent layer what comes behind its x @ Wx + b, as (forward, backward)
    """

    forward: Callable
    backward: Callable
    names: tuple = ()
    settings: tuple = ()
    number: int = 1
    needs_batch: bool = False
    takes_parts: bool = False
    prefers_batch: bool = False
    can_skip_dx: bool = False
    reads_words: bool = False
    forks: int = 0
    joins: int = 0
    carries: int = 0
    mixes_steps: bool = False
    advance: Callable | None = None
    products: int = 0
    recurrence: tuple = ()


class Chain:
    """Layers over one dict of parameters, and the loss at their end.

    `layers` below are ranges of indices, and `start` says where in the batch the examples of x begin.
    Three things change from pass to pass. A dict among a layer's settings that has the key 'mode' gets
    'train' or 'test' there. One that has the key 'seed', as dropout's, gets a seed made of the net's
    seed, the step, the layer and `start`. One that has the key 'state', as a recurrent layer's, gets
    the state (N, S) at which its sequences begin, or None for 0.

    carried  {k: state (N, S) of layer k at which a batch in training begins}; empty: all begin at 0
    left     the same after the last batch in training
    """

    def __init__(self, name, layers, loss, loss_is_mean, seed, params=None, step=0):
        self.name, self.layers, self.seed = name, layers, seed
        self.loss, self.loss_is_mean = loss, loss_is_mean
        self.params, self.step, self.carried, self.left = params, step, {}, {}
        with_parameters = (k for k, layer in enumerate(layers) if layer.names)
        self.bottom = next(with_parameters, len(layers))  # nothing below it learns

    @property
    def setup(self):
        """What it takes to make the same chain elsewhere."""
        return Chain, self.name, self.layers, self.loss, self.loss_is_mean, self.seed

    def at_rest(self, N, dtype):
        """The states of N sequences at their beginning, all 0: {k: (N, S)}. ValueError if the layers
        cannot go on with a sequence from their states alone.
        """
        for layer in self.layers:
            looks_back = layer.advance is not None and not layer.carries
            if layer.mixes_steps or looks_back:
                raise ValueError(
                    f"{self.name}, layer {layer.number}: {layer.forward.__name__} cannot go on from a "
                    "carried state; expected streams=None, or recurrent layers and layers that treat "
                    "each step by itself."
                )
        states = {k: np.zeros((N, a.carries), dtype) for k, a in enumerate(self.layers) if a.carries}
        if not states:
            raise ValueError(
                f"{self.name}: no layer has a state to be carried; expected streams=None, or an RNN, "
                "LSTM or GRU."
            )
        return states

    def predict(self, x, layers):
        """The output of these layers at test time."""
        return self.walk(x, layers, lambda k, x: (self.call(k, x, "test")[0], None))[0]

    def forward(self, x, layers, start=0):
        """The output of these layers in training, and their caches."""
        return self.walk(x, layers, lambda k, x: self.call(k, x, "train", start))

    def advance(self, x, states):
        """The output of all layers for the next steps of sequences, and the layers' states after them.

        states: one for each layer, from the call for the steps before; None at the beginning.
        """
        return self.walk(x, range(len(self.layers)), lambda k, x: self._advanced(k, x, states[k]))

    def walk(self, x, layers, call):
        """Through these layers: x, and what else call(k, x) -> x, more gives at each of them.

        What enters a residual branch is kept, and added to what leaves it.
        """
        kept, gathered = [], []
        for k in layers:
            layer = self.layers[k]
            kept += layer.forks * [x]
            x, more = call(k, x)
            for _ in range(layer.joins):
                x = kept.pop() + x
            gathered.append(more)
        return x, gathered

    def backward(self, dout, caches, layers):
        """The chain rule: dout of the last of these layers to dx of the first, and all gradients.

        Two things are used twice, and so get a sum (copy <-> add): what enters a residual branch, and
        a parameter of two layers.

        caches: from `forward`; the list is emptied, so that their memory is free as soon as possible.
        """
        grads, kept = {}, []
        for k in reversed(layers):
            layer, cache = self.layers[k], caches.pop()
            if k < self.bottom:
                return None, grads
            kept += layer.joins * [dout]
            skip_dx = {"need_dx": False} if k == self.bottom and layer.can_skip_dx else {}
            result = layer.backward(dout, cache, **skip_dx)
            dout, *dparams = result if isinstance(result, tuple) else (result,)
            for name, grad in zip(layer.names, dparams, strict=True):
                grads[name] = grads[name] + grad if name in grads else grad
            for _ in range(layer.forks):
                beside = kept.pop()
                dout = None if dout is None else beside + dout
        return dout, grads

    def turn(self, x, y, layers, start=0, share=1):
        """Forward to the end, the loss, and backward again.

        share: these examples' share of the batch, since the loss of a batch is a mean over it.
        Returns the share of the loss, dx, the shares of the gradients, and the states that the layers
        leave, {k: (N, S)} for those in `carried`.
        """
        scores, caches = self.forward(x, layers, start)
        left = {k: caches[k - layers.start][-1].copy() for k in self.carried}
        loss, dscores = self.loss(scores, y)
        dx, grads = self.backward(share * dscores, caches, layers)
        return share * loss, dx, grads, left

    def arguments(self, k, x, mode, start=0, state=None):
        """What the forward of layer k gets. state: at which it begins; in training a carried one."""
        if mode == "train" and k in self.carried:
            state = self.carried[k][start : start + len(x)]
        layer = self.layers[k]
        settings = layer.settings and [
            self._of_this_pass(s, k, mode, start, state) for s in layer.settings
        ]
        return x, *map(self.params.__getitem__, layer.names), *settings

    def call(self, k, x, mode, start=0, state=None):
        """Output and cache of layer k, whose name is put before what it refuses."""
        layer = self.layers[k]
        try:
            return layer.forward(*self.arguments(k, x, mode, start, state))
        except ValueError as error:
            raise ValueError(f"{self.name}, layer {layer.number}: {error}") from error

    def _advanced(self, k, x, state):
        layer = self.layers[k]
        if layer.advance is not None:
            parameters = (self.params[name] for name in layer.names)
            return layer.advance(x, state, *parameters, *layer.settings)
        out, cache = self.call(k, x, "test", state=state)
        return out, cache[-1] if layer.carries else None  # else it treats each step by itself

    def _of_this_pass(self, setting, k, mode, start, state):
        if isinstance(setting, dict) and "state" in setting:
            return setting | {"state": state}
        if isinstance(setting, dict) and "seed" in setting:
            seed = sequence(self.seed, "dropout", self.step, k, start)
            return setting | {"mode": mode, "seed": seed}
        if isinstance(setting, dict) and "mode" in setting:
            setting["mode"] = mode  # in place: batch norm keeps its running statistics in this dict
        return setting
