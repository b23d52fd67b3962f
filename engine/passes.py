"""How a batch passes through a net: cut into parts, spread over the workers, put together again.

The net is a chain of layers (models/chain.py), which knows nothing of this. Here the chain is cut into
stages. A stage is a row of neighbouring layers that see the batch in the same way:

    parts     each part of the batch by itself, spread over the workers
    together  all parts at once: batch norm, which needs the sums over all examples (parts.py)
    whole     the batch as one array: from the first affine layer on, where one product of the whole
              batch is faster than several of its parts

In the last stage the pass turns round: forward, the loss, and backward at once. Where no layer needs
the whole batch there is a single stage: each part goes through all layers, to the loss and back, while
its arrays are in the processor's cache, and helper processes can take parts.

Parts and stages depend on the net and the size of the batch only, and sums are added in the order of
the parts. So the result is the same, bit for bit, for any number of workers.
"""

import contextlib
import itertools
import math
from dataclasses import dataclass

import numpy as np

from .helpers import all_or_none
from .parts import Parts
from .workers import last_piece_of_work, ready_helpers, run

__all__ = ["Passes"]

LARGEST_PART = 64  # images
SMALLEST_CUT = 16  # images: smaller batches are not cut
FEW_PARAMETERS = 2**19  # gradients of several parts are added up fast for nets of up to so many
SMALL_PART = 2**18  # bytes: NumPy's calls are so short then that threads wait for each other


@dataclass(frozen=True)
class Stage:
    """Neighbouring layers, and how they see the batch: 'parts', 'together' or 'whole'."""

    sees: str
    layers: range


class Passes:
    """Takes batches through a chain of layers: forward to predict, there and back to learn.

    images: whether an example is an image; batches of rows are never cut into parts.
    """

    def __init__(self, chain, images):
        self.chain, self.images = chain, images
        self._uncut = _stages(chain, ["whole"] * len(chain.layers))
        self._cut = _stages_of_a_cut_batch(chain)
        pairs = [(layer.forward, layer.backward) for layer in chain.layers]
        self._can_travel = all(_is_ours(function) for pair in pairs for function in pair)

    def predict(self, X, layers):
        """The output of the first `layers` layers at test time, part by part."""
        outs = run(lambda part: self.chain.predict(X[part], range(layers)), self._parts(len(X)))
        return outs[0] if len(outs) == 1 else np.concatenate(outs)

    def loss_and_gradients(self, X, y):
        """The loss of a labelled batch, and its gradients as a dict."""
        parts = self._parts(len(X))
        *stages, turn = self._uncut if len(parts) == 1 else self._cut
        x, tape = X, []
        for stage in stages:
            x, caches = self._forward(stage, x, parts)
            tape.append(caches)
        loss, dout, grads = self._turn(turn, x, y, parts)
        for stage in reversed(stages):
            caches = tape.pop()  # popped: its memory is free when the stage is done
            if self.chain.bottom < stage.layers.stop:  # else nothing in it learns
                dout, more = self._backward(stage, dout, caches, parts)
                grads |= more
        return loss, grads

    def _parts(self, N):
        """The slices of a batch of N examples that are computed apart: at most 64 images each, at
        least two.
        """
        if not self.images or N < SMALLEST_CUT:
            return [slice(0, N)]
        count = max(2, math.ceil(N / LARGEST_PART))
        bounds = [N * k // count for k in range(count + 1)]
        return [slice(*pair) for pair in itertools.pairwise(bounds)]

    def _forward(self, stage, x, parts):
        if stage.sees != "parts":
            return self.chain.forward(_seen(stage, x, parts), stage.layers)
        pairs = list(zip(_seen(stage, x, parts).arrays, parts, strict=True))
        results = run(lambda p: self.chain.forward(p[0], stage.layers, p[1].start), pairs)
        outs, caches = zip(*results, strict=True)
        return Parts(outs), caches

    def _backward(self, stage, dout, caches, parts):
        is_last = self.chain.bottom in stage.layers
        with last_piece_of_work() if is_last else contextlib.nullcontext():
            if stage.sees != "parts":
                return self.chain.backward(_seen(stage, dout, parts), caches, stage.layers)
            pairs = list(zip(_seen(stage, dout, parts).arrays, caches, strict=True))
            results = run(lambda p: self.chain.backward(*p, stage.layers), pairs)
        dxs, grads = zip(*results, strict=True)
        return (None if dxs[0] is None else Parts(dxs)), _added(grads)

    def _turn(self, stage, x, y, parts):
        """Forward through the last stage, the loss, and backward: (loss, dx, gradients)."""
        if stage.sees == "whole":
            return self.chain.turn(_seen(stage, x, parts), y, stage.layers)
        given = [(x[p], y[p], stage.layers, p.start, len(x[p]) / len(x)) for p in parts]
        with last_piece_of_work():
            results = self._by_helpers(given) or run(lambda args: self.chain.turn(*args), given)
        losses, _, grads = zip(*results, strict=True)
        return sum(losses), None, _added(grads)

    def _by_helpers(self, given):
        """The turns of all parts, shared with helper processes; None if there are none."""
        small = self._can_travel and given[0][0].nbytes <= SMALL_PART
        helpers = ready_helpers(len(given) - 1 if small else 0)
        if not helpers:
            return None
        chain, count = self.chain, len(helpers) + 1  # every count-th part is ours
        results = [None] * len(given)
        with all_or_none(helpers):
            for k, helper in enumerate(helpers, 1):
                helper.send(turns, chain.setup, chain.params, chain.step, given[k::count])
            results[::count] = [chain.turn(*args) for args in given[::count]]
            for k, helper in enumerate(helpers, 1):
                mine = given[k::count]
                results[k::count] = helper.receive() or [chain.turn(*args) for args in mine]
        return results


def turns(setup, params, step, given):
    """What a helper does: make a chain like the caller's, and take some parts through it."""
    make, *description = setup
    chain = make(*description, params, step)
    return [chain.turn(*args) for args in given]


def _is_ours(function):
    """Whether a function belongs to this package, so that another process can import it."""
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] == __package__.split(".")[0]


def _seen(stage, x, parts):
    """A batch as the stage sees it: as one array, or as Parts."""
    if stage.sees == "whole":
        return x.joined() if isinstance(x, Parts) else x
    return x if isinstance(x, Parts) else Parts([x[part] for part in parts])


def _stages_of_a_cut_batch(chain):
    parameters = sum(p.size for p in chain.params.values())
    batch_is_needed = any(layer.needs_batch for layer in chain.layers)
    if chain.loss_is_mean and not batch_is_needed and parameters <= FEW_PARAMETERS:
        return [Stage("parts", range(len(chain.layers)))]
    sees, whole = [], False
    for layer in chain.layers:
        whole = whole or layer.prefers_batch
        in_parts = "together" if layer.takes_parts else "parts"
        needs_all = layer.needs_batch and not layer.takes_parts
        sees.append("whole" if whole or needs_all else in_parts)
    return _stages(chain, sees)


def _stages(chain, sees):
    """Neighbours that see the batch in the same way, as stages.

    A whole stage ends at the first layer with parameters, whose gradients are the last piece of work.
    The last stage is whole, if need be without layers: there the loss is computed.
    """

    def group(k):
        return sees[k], k if sees[k] == "together" else sees[k] == "whole" and k > chain.bottom

    groups = [list(ks) for _, ks in itertools.groupby(range(len(sees)), group)]
    stages = [Stage(sees[ks[0]], range(ks[0], ks[-1] + 1)) for ks in groups]
    if not stages or stages[-1].sees != "whole" or chain.bottom in stages[-1].layers:
        stages.append(Stage("whole", range(len(sees), len(sees))))
    return stages


def _added(grads):
    """The gradients of several parts, added up in their order and in the memory of the first's."""
    total, *others = grads
    for terms in others:
        for name, term in terms.items():
            total[name] += term
    return total
