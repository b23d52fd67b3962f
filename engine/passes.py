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

What enters a residual branch is added to what leaves it, so the layers of a branch are in one stage.
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

LARGEST_PART = 64  # images or sequences
SMALLEST_CUT = {"rows": math.inf, "images": 16, "sequences": 2}  # smaller batches are not cut
FEW_PARAMETERS = 2**19  # gradients of several parts are added up fast for nets of up to so many
SMALL_PART = 2**18  # bytes: NumPy's calls are so short then that threads wait for each other


@dataclass(frozen=True)
class Stage:
    """Neighbouring layers, and how they see the batch: 'parts', 'together' or 'whole'."""

    sees: str
    layers: range


class Passes:
    """Takes batches through a chain of layers: forward to predict, there and back to learn.

    examples: what they are, 'rows', 'images' or 'sequences'. Rows are never cut into parts.
    """

    def __init__(self, chain, examples):
        self.chain, self.examples = chain, examples
        self._uncut = _stages(chain, ["whole"] * len(chain.layers))
        self._cut = _stages_of_a_cut_batch(chain, examples)
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
                grads = _added([grads, more])
        return loss, grads

    def _parts(self, N):
        """The slices of a batch of N examples that are computed apart: at most 64 examples each, at
        least two slices.
        """
        if N < SMALLEST_CUT[self.examples]:
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
        counts = [_labels_that_count(y[p]) for p in parts]
        shares = [count / max(1, sum(counts)) for count in counts]
        places = zip(parts, shares, strict=True)
        given = [(x[p], y[p], stage.layers, p.start, share) for p, share in places]
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


def _labels_that_count(y):
    """What the loss of these examples is a mean over. Words below 0 do not count."""
    return np.count_nonzero(y >= 0) if y.ndim == 2 and y.dtype.kind == "i" else len(y)


def _is_ours(function):
    """Whether a function belongs to this package, so that another process can import it."""
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] == __package__.split(".")[0]


def _seen(stage, x, parts):
    """A batch as the stage sees it: as one array, or as Parts."""
    if stage.sees == "whole":
        return x.joined() if isinstance(x, Parts) else x
    return x if isinstance(x, Parts) else Parts([x[part] for part in parts])


def _stages_of_a_cut_batch(chain, examples):
    parameters = sum(p.size for p in chain.params.values())
    is_small = parameters <= FEW_PARAMETERS or examples == "sequences"  # there each is used many times
    batch_is_needed = any(layer.needs_batch for layer in chain.layers)
    if chain.loss_is_mean and not batch_is_needed and is_small:
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

    def seen(layers):
        kinds = {sees[k] for k in layers}
        return kinds.pop() if len(kinds) == 1 else "whole"

    def group(layers):
        how, last = seen(layers), layers[-1]
        return how, last if how == "together" else how == "whole" and last > chain.bottom

    groups = [list(rows) for _, rows in itertools.groupby(_undivided(chain.layers), group)]
    stages = [Stage(seen(rows[0]), range(rows[0].start, rows[-1].stop)) for rows in groups]
    if not stages or stages[-1].sees != "whole" or chain.bottom in stages[-1].layers:
        stages.append(Stage("whole", range(len(sees), len(sees))))
    return stages


def _undivided(layers):
    """Ranges of layers that belong together: a residual branch with all that is in it, or one layer."""
    start, depth = 0, 0
    for k, layer in enumerate(layers):
        depth += layer.forks - layer.joins
        if depth == 0:
            yield range(start, k + 1)
            start = k + 1


def _added(grads):
    """The gradients of several parts or stages, added up in their order and in the first's memory."""
    total, *others = grads
    for terms in others:
        for name, term in terms.items():
            if name in total:
                total[name] += term
            else:
                total[name] = term
    return total
