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

Several processes may share a batch (ranks.py). Each then gets some of its parts, and there is no stage
that sees the whole: only sums over the parts travel.
"""

import contextlib
import itertools
import math
from dataclasses import dataclass

import numpy as np

from .helpers import all_or_none
from .parts import Parts, joined
from .products import undivided
from .workers import last_piece_of_work, ready_helpers, run

__all__ = ["Passes"]

LARGEST_PART = 64  # images or sequences
SMALLEST_CUT = {"rows": math.inf, "images": 16, "sequences": 2}  # smaller batches are not cut
FEW_PARAMETERS = 2**19  # gradients of several parts are added up fast for nets of up to so many
LARGEST_SHARED = {"rows": 128, "images": 32, "sequences": 32}  # parts that processes share
FEWEST_SHARED = 4  # of these parts
SMALL_PART = 2**18  # bytes: NumPy's calls are so short then that threads wait for each other

LOSS = "loss"  # goes among the gradients; no parameter is called so


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
        if chain.carried:
            _check_that_states_can_be_carried(chain, self._cut)
            self._uncut = self._cut
        self._shared = _stages_of_a_shared_batch(chain)
        pairs = [(layer.forward, layer.backward) for layer in chain.layers]
        self._can_travel = all(_is_ours(function) for pair in pairs for function in pair)

    def predict(self, X, layers):
        """The output of the first `layers` layers at test time, part by part."""
        parts = self._parts(len(X))
        with self._products_of(parts):
            outs = run(lambda part: self.chain.predict(X[part], range(layers)), parts)
        return outs[0] if len(outs) == 1 else np.concatenate(outs)

    def loss_and_gradients(self, X, y):
        """The loss of a labelled batch, and its gradients as a dict.

        X, y: arrays; or Parts, if other processes have other parts of the batch.
        """
        share = X.share if isinstance(X, Parts) else None
        parts = self._parts(len(X)) if share is None else share.mine
        with self._products_of(parts, share):
            return self._there_and_back(X, y, parts, share)

    def _products_of(self, parts, share=None):
        """Inside, a product of a part of sequences is not shared out. Those of images are stacks."""
        is_apart = self.examples == "sequences" and (share is not None or len(parts) > 1)
        return undivided(is_apart)

    def _there_and_back(self, X, y, parts, share):
        *stages, turn = self._stages(share, parts)
        x, tape, sums = X, [], _Sums(share)
        for stage in stages:
            x, caches = self._forward(stage, x, parts)
            tape.append(caches)
        dout = self._turn(turn, x, y, parts, sums)
        for stage in reversed(stages):
            caches = tape.pop()  # popped: its memory is free when the stage is done
            if self.chain.bottom < stage.layers.stop:  # else nothing in it learns
                dout = self._backward(stage, dout, caches, parts, sums)
        return sums.loss_and_gradients()

    def shared_parts(self, N):
        """The slices in which several processes share a batch of N examples: a power of two, at least
        four of them if N allows. ValueError if the net needs a batch whole.
        """
        _check_that_it_can_be_shared(self.chain, self._shared)
        count, enough = 1, max(N / LARGEST_SHARED[self.examples], FEWEST_SHARED)
        while count < enough and 2 * count <= N:
            count *= 2
        return _cut(N, count)

    def _stages(self, share, parts):
        if share is not None:
            return self._shared
        return self._uncut if len(parts) == 1 else self._cut

    def _parts(self, N):
        """The slices of a batch of N examples that are computed apart: at most 64 examples each, at
        least two slices.
        """
        if N < SMALLEST_CUT[self.examples]:
            return [slice(0, N)]
        return _cut(N, max(2, math.ceil(N / LARGEST_PART)))

    def _forward(self, stage, x, parts):
        if stage.sees != "parts":
            return self.chain.forward(_seen(stage, x, parts), stage.layers)
        x = _seen(stage, x, parts)
        pairs = list(zip(x.arrays, parts, strict=True))
        results = run(lambda p: self.chain.forward(p[0], stage.layers, p[1].start), pairs)
        outs, caches = zip(*results, strict=True)
        return Parts(outs, x.share), caches

    def _backward(self, stage, dout, caches, parts, sums):
        """Backward through a stage: dx. The gradients go to the sums."""
        dout, is_last = _seen(stage, dout, parts), self.chain.bottom in stage.layers
        with last_piece_of_work() if is_last else contextlib.nullcontext():
            if stage.sees != "parts":
                dx, grads = self.chain.backward(dout, caches, stage.layers)
                sums.take(grads)
                return dx
            pairs = list(zip(dout.arrays, caches, strict=True))
            results = run(lambda p: self.chain.backward(*p, stage.layers), pairs)
        dxs, grads = zip(*results, strict=True)
        sums.add(grads)
        return None if dxs[0] is None else Parts(dxs, dout.share)

    def _turn(self, stage, x, y, parts, sums):
        """Forward through the last stage, the loss, and backward: dx. The rest goes to the sums."""
        x = _seen(stage, x, parts)
        if stage.sees == "whole":
            loss, dx, grads, _ = self.chain.turn(x, y, stage.layers)
            sums.take({LOSS: loss, **grads})
            return dx
        y = _seen(stage, y, parts)
        places = zip(x.arrays, y.arrays, parts, _shares(y), strict=True)
        given = [(x_, y_, stage.layers, part.start, share) for x_, y_, part, share in places]
        is_last = self.chain.bottom in stage.layers
        with last_piece_of_work() if is_last else contextlib.nullcontext():
            results = self._by_helpers(given) or run(lambda args: self.chain.turn(*args), given)
        losses, dxs, grads, left = zip(*results, strict=True)
        self.chain.left = {k: np.concatenate([part[k] for part in left]) for k in self.chain.carried}
        sums.add([{LOSS: loss, **g} for loss, g in zip(losses, grads, strict=True)])
        return None if dxs[0] is None else Parts(dxs, x.share)

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
                state = chain.params, chain.step, chain.carried, self.examples == "sequences"
                helper.send(turns, chain.setup, *state, given[k::count])
            results[::count] = [chain.turn(*args) for args in given[::count]]
            for k, helper in enumerate(helpers, 1):
                mine = given[k::count]
                results[k::count] = helper.receive() or [chain.turn(*args) for args in mine]
        return results


def turns(setup, params, step, carried, is_apart, given):
    """What a helper does: make a chain like the caller's, and take some parts through it."""
    make, *description = setup
    chain = make(*description, params, step)
    chain.carried = carried
    with undivided(is_apart):
        return [chain.turn(*args) for args in given]


def _shares(y):
    """The parts' shares of what the loss is a mean over: examples, or words that are not below 0.

    y: the targets, as Parts.
    """
    words = y.ndim == 2 and y.dtype.kind == "i"
    counts = [int(np.count_nonzero(a >= 0)) if words else len(a) for a in y.arrays]
    if y.share is None:
        total = sum(counts)
    else:
        total = int(y.share.total(list(map(np.array, counts)))) if words else len(y)
    return [count / max(1, total) for count in counts]


def _is_ours(function):
    """Whether a function belongs to this package, so that another process can import it."""
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] == __package__.split(".")[0]


def _seen(stage, x, parts):
    """A batch as the stage sees it: as one array, or as Parts."""
    if stage.sees == "whole":
        return joined(x)
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


def _stages_of_a_shared_batch(chain):
    """Each part by itself, but for the layers that sum over all parts; the loss last, part by part.

    A stage that would have to see the whole makes it impossible to share.
    """
    kinds = {(False, False): "parts", (True, False): "whole"}
    sees = [kinds.get((layer.needs_batch, layer.takes_parts), "together") for layer in chain.layers]
    stages = [stage for stage in _stages(chain, sees) if stage.layers]
    if not stages or stages[-1].sees != "parts":
        stages.append(Stage("parts", range(len(sees), len(sees))))
    return stages


def _check_that_it_can_be_shared(chain, stages):
    if chain.carried:
        raise ValueError(
            f"{chain.name}: processes cannot share a batch, because the net carries states from "
            "batch to batch; expected streams=None, or no comm."
        )
    whole = [k for stage in stages if stage.sees == "whole" for k in stage.layers]
    needy = [chain.layers[k].number for k in whole if chain.layers[k].needs_batch]
    if needy:
        raise ValueError(
            f"{chain.name}: processes cannot share a batch, because layer {needy[0]} needs all of it "
            "at once; expected layers that see each example by itself (a Pair: by_example=True), and "
            "batch norm outside of residual branches."
        )
    if not chain.loss_is_mean:
        raise ValueError(
            f"{chain.name}: processes cannot share a batch, because a loss of your own may be no mean "
            "over the examples; expected 'softmax', 'svm' or 'mse'."
        )


def _check_that_states_can_be_carried(chain, stages):
    if len(stages) > 1:
        raise ValueError(
            f"{chain.name}: states cannot be carried from batch to batch, because a layer needs the "
            "whole batch at once or a loss of your own may be no mean over it; expected streams=None, "
            "or layers that see each sequence by itself and the loss 'softmax' or 'mse'."
        )


def _cut(N, count):
    """`count` slices of about the same size."""
    bounds = [N * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


class _Sums:
    """The loss and the gradients of a batch, added up over its parts.

    If processes share the batch, what the parts give waits, and travels all at once in the end.
    """

    def __init__(self, share):
        self.share, self.total, self.waiting = share, {}, []

    def take(self, grads):
        """Gradients of the whole batch."""
        self.total = _added([self.total, grads])

    def add(self, grads):
        """Gradients of each part."""
        if self.share is None:
            self.take(_added(grads))
        else:
            self.waiting.append(grads)

    def loss_and_gradients(self):
        if self.share is not None:
            self.take(self.share.totals([_added(terms) for terms in zip(*self.waiting, strict=True)]))
        return self.total.pop(LOSS), self.total


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
