"""A net as a list of layers over one dict of parameters: what all models have in common."""

import math

import numpy as np

from .. import layers as L
from ..engine.errors import look_up
from ..engine.images import by_itself, joined, output_size
from ..engine.randomness import generator, new_seed
from ..engine.workers import run, slices
from .chain import BATCHNORMS, Chain, Layer

ACTIVATIONS = {
    "identity": None,
    "relu": (L.relu_forward, L.relu_backward),
    "leaky_relu": (L.leaky_relu_forward, L.leaky_relu_backward),
    "sigmoid": (L.sigmoid_forward, L.sigmoid_backward),
    "tanh": (L.tanh_forward, L.tanh_backward),
}
POOLS = {
    "max": (L.max_pool_forward, L.max_pool_backward),
    "avg": (L.avg_pool_forward, L.avg_pool_backward),
}
LOSSES = {"softmax": L.softmax_loss, "svm": L.svm_loss, "mse": L.mse_loss}
NORMALIZATIONS = (None, "batchnorm", "layernorm")


def xavier(rng, shape, fan_in, fan_out):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, shape)


def kaiming(rng, shape, fan_in, fan_out):
    """Normal with deviation sqrt(2 / fan_in) (He et al. 2015)."""
    return rng.standard_normal(shape) * math.sqrt(2 / fan_in)


INITIALIZERS = {"xavier": xavier, "kaiming": kaiming}


class Net(Chain):
    """The base of the models: a subclass adds its layers in `__init__`, and that is all of it.

    params  dict of arrays, read at every call: W1, b1, gamma1, beta1, W2, ...
    loss    loss(X, y) -> loss, grads (same keys as params);  loss(X) -> scores (N, num_classes)

    Common arguments of all models:
      weight_scale  the deviation of the weights at the start, or 'xavier' or 'kaiming'; biases are 0
      reg           L2 penalty: 0.5 * reg * sum(W * W) over weights, not over biases, gammas, betas
      loss          'softmax', 'svm' or 'mse' (on one-hot targets), or a function of scores and y,
                    such as functools.partial(softmax_loss, smoothing=0.1)
      dtype         of the parameters at the start; X is cast to what they are when `loss` is called
      seed          of the initialisation and of dropout's masks. With a seed, `loss` gives the same
                    numbers each time, as gradient checks need, and masks change with `step`, which
                    the Solver counts; without one, each call draws new masks.
    """

    def __init__(self, input_dim, *, weight_scale, reg, loss, dtype, seed):
        criterion = loss if callable(loss) else look_up(type(self).__name__, LOSSES, loss, "loss")
        super().__init__([], {}, criterion, seed=new_seed() if seed is None else seed, step=0)
        self.bn_params = []
        self.input_dim = tuple(input_dim) if np.iterable(input_dim) else (input_dim,)
        self.reg, self.dtype = reg, np.dtype(dtype).type
        self._new_masks_each_call = seed is None
        self._weight_scale = weight_scale
        self._rng = generator(self.seed, "initialisation")
        self._shape = self.input_dim  # of one example, after the layers so far

    # ------------------------------------------------------------------ the two passes

    def loss(self, X, y=None):
        """Loss and gradients of a labelled mini-batch, or scores without labels.

        X: (N, ...) of the model's input_dim; numbers of any kind.  y: labels (N,), integers.
        """
        X = self._as_input(X)
        parts = self._parts(len(X))
        if y is None:
            return self._predict(X, parts, range(len(self.layers)))
        y = np.asarray(y)
        if y.shape != X.shape[:1]:
            raise ValueError(
                f"{type(self).__name__}.loss: X has {len(X)} examples and y the shape {y.shape}, "
                f"expected ({len(X)},)."
            )
        if self._new_masks_each_call:
            self.step += 1
        return self._add_penalty(*self._train(X, y, parts))

    def features(self, X):
        """What enters the last layer, at test time: (N, ...)."""
        X = self._as_input(X)
        return self._predict(X, self._parts(len(X)), range(len(self.layers) - 1))

    def _predict(self, X, parts, stretch):
        outs = run(lambda part: self.forward_through(stretch, X[part], "test", part)[0], parts)
        return outs[0] if len(outs) == 1 else np.concatenate(outs)

    def _parts(self, N):
        """Slices of a batch of images that are computed apart, by its size alone: at most 64 each,
        and two where it can be. Rows are not split: an affine layer has one product to make of all
        of them, and shares that out by itself.
        """
        if N < 16 or len(self.input_dim) == 1:
            return [slice(0, N)]
        return slices(N, max(2, math.ceil(N / 64)))

    def _train(self, X, y, parts):
        """Both passes: of each part by itself, where nothing on the way needs all examples at once."""
        both = self._by_parts if self._apart_to_the_end(parts) else self._by_stretches
        loss, grads = both(X, y, parts)
        return loss, {name: grads[name] for name in self.params}

    def _apart_to_the_end(self, parts):
        """Is each example on its own up to the loss, a mean? And are there so few parameters that they
        do not take longer for several parts than for one?
        """
        function = getattr(self.criterion, "func", self.criterion)  # of functools.partial
        return (
            len(parts) > 1
            and function in LOSSES.values()
            and not any(map(self._joint, range(len(self.layers))))
            and sum(p.size for p in self.params.values()) <= FEW
        )

    def _by_parts(self, X, y, parts):
        losses, grads = zip(*self.passes_of_parts(X, y, parts), strict=True)
        return sum(losses), _added(grads)

    def _by_stretches(self, X, y, parts):
        """The parts of a batch go their own ways from one batch norm to the next, where they meet, and
        are one batch from the first affine layer on.
        """
        trunk, head = self._stretches()
        xs, tape = [X[part] for part in parts], []
        for stretch in trunk:
            xs, caches = self._stretch_forward(stretch, xs, parts)
            tape.append((stretch, caches))
        whole = [slice(0, len(X))]
        xs = [joined(xs)]
        for stretch in head:
            xs, caches = self._stretch_forward(stretch, xs, whole)
            tape.append((stretch, caches))
        loss, dscores = self.criterion(xs[0], y)
        douts, grads = [dscores], {}
        for k, (stretch, caches) in reversed(list(enumerate(tape))):
            if douts[0] is None:  # below the first layer with parameters
                break
            if k == len(trunk) - 1:
                douts = [douts[0][part] for part in parts]
            douts, more = self._stretch_backward(stretch, douts, caches)
            grads |= more
        return loss, grads

    def _stretches(self):
        """The layers in order, as lists of indices, each batch norm by itself and what is between:
        those of the trunk, of images, and those of the head, from the first affine layer on.
        """
        trunk, head = [[]], [[]]
        for k, layer in enumerate(self.layers):
            in_head = head[0] or layer.forward is L.affine_forward
            stretches = head if in_head else trunk
            if self._joint(k):
                stretches += [[k], []]
            else:
                stretches[-1].append(k)
        return trunk, head

    def _joint(self, k):
        """Does this layer need all examples at once?"""
        return self.layers[k].forward in BATCHNORMS

    def _stretch_forward(self, stretch, xs, parts):
        if stretch and self._joint(stretch[0]):
            return self._call(stretch[0], L.batchnorm_parts_forward, xs, "train")
        pairs = list(zip(xs, parts, strict=True))
        results = run(lambda pair: self.forward_through(stretch, pair[0], "train", pair[1]), pairs)
        return [list(column) for column in zip(*results, strict=True)]

    def _stretch_backward(self, stretch, douts, caches):
        if stretch and self._joint(stretch[0]):
            dxs, *dparams = L.batchnorm_parts_backward(douts, caches)
            return dxs, dict(zip(self.layers[stretch[0]].names, dparams, strict=True))
        pairs = list(zip(douts, caches, strict=True))
        results = run(lambda pair: self.backward_through(stretch, by_itself(pair[0]), pair[1]), pairs)
        dxs, grads = zip(*results, strict=True)
        return list(dxs), _added(grads)

    def _add_penalty(self, loss, grads):
        if self.reg:
            for name, w in self.params.items():
                if name.startswith("W"):
                    loss = loss + 0.5 * self.reg * np.dot(w.ravel(), w.ravel())
                    grads[name] = grads[name] + self.reg * w
        return loss, grads

    def _as_input(self, X):
        X = np.asarray(X)
        if X.ndim < 2 or not self._fits(X.shape[1:]):
            expected = ", ".join(map(str, self.input_dim))
            raise ValueError(
                f"{type(self).__name__}.loss: X has shape {X.shape}, expected (N, {expected})."
            )
        first = next(iter(self.params.values()))
        return X.astype(first.real.dtype, copy=False)

    def _fits(self, shape):
        flat = len(self.input_dim) == 1 and math.prod(shape) == self.input_dim[0]
        return flat or tuple(shape) == self.input_dim

    # ------------------------------------------------------------------ what a checkpoint needs

    @property
    def state(self):
        """What a model keeps besides its parameters: seed and step, batch norm's running statistics.

        A dict of arrays; assign one to put it back.
        """
        state = {"seed": np.array(self.seed), "step": np.array(self.step)}
        for k, bn_param in enumerate(self.bn_params, 1):
            for key in ("running_mean", "running_var"):
                state[f"{key}{k}"] = bn_param[key].copy()
        return state

    @state.setter
    def state(self, state):
        self.seed, self.step = int(state["seed"]), int(state["step"])
        for k, bn_param in enumerate(self.bn_params, 1):
            for key in ("running_mean", "running_var"):
                bn_param[key] = state[f"{key}{k}"].copy()

    # ------------------------------------------------------------------ building

    def _widths(self, name, widths):
        """A list of whole numbers from 1 up (and the word 'pool', of a convolutional net)."""
        if not np.iterable(widths) or isinstance(widths, str):
            raise ValueError(f"{type(self).__name__}: {name} = {widths!r}, expected a list of widths.")
        for width in widths:
            if width != "pool" and (not isinstance(width, int | np.integer) or width < 1):
                raise ValueError(
                    f"{type(self).__name__}: {name} holds {width!r}, expected whole numbers from 1 up."
                )
        return list(widths)

    def _add_affine(self, M):
        """Affine layer to M outputs, from whatever shape an example has by now."""
        D = math.prod(self._shape)
        W, b = self._new_weights((D, M), fan_in=D, fan_out=M, biases=M)
        self._add(L.affine_forward, L.affine_backward, (W, b), shape=(M,))

    def _add_conv(self, F, filter_size, pad):
        """F square filters at stride 1."""
        C, H, W = self._shape
        area = filter_size * filter_size
        shape = (F, C, filter_size, filter_size)
        names = self._new_weights(shape, fan_in=C * area, fan_out=F * area, biases=F)
        out = (F, *(output_size(size, filter_size, 1, pad) for size in (H, W)))
        param = {"stride": 1, "pad": pad}
        self._add(L.conv_forward, L.conv_backward, names, param, shape=out)

    def _add_normalization(self, normalization):
        who = type(self).__name__
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"{who}: normalization = {normalization!r}, expected one of {NORMALIZATIONS}."
            )
        if normalization is None:
            return
        features, images = self._shape[0], len(self._shape) == 3
        k = 1 + sum(name.startswith("gamma") for name in self.params)
        names = (f"gamma{k}", f"beta{k}")
        self.params.update(
            zip(names, (np.ones(features, self.dtype), np.zeros(features, self.dtype)), strict=True)
        )
        if normalization == "layernorm":
            if images:
                raise ValueError(f"{who}: layernorm is for affine layers; images take 'batchnorm'.")
            self._add(L.layernorm_forward, L.layernorm_backward, names, {})
            return
        bn_param = {
            "mode": "train",
            "running_mean": np.zeros(features, self.dtype),
            "running_var": np.zeros(features, self.dtype),
        }
        self.bn_params.append(bn_param)
        pair = (
            (L.spatial_batchnorm_forward, L.spatial_batchnorm_backward)
            if images
            else (L.batchnorm_forward, L.batchnorm_backward)
        )
        self._add(*pair, names, bn_param)

    def _add_activation(self, activation):
        pair = look_up(type(self).__name__, ACTIVATIONS, activation, "activation")
        if pair:
            self._add(*pair)

    def _add_pool(self, pool, size, stride=None, pad=0):
        pair = look_up(type(self).__name__, POOLS, pool, "pool")
        stride = stride or size
        C, *image = self._shape
        param = {"pool_height": size, "pool_width": size, "stride": stride, "pad": pad}
        out = (C, *(output_size(side, size, stride, pad) for side in image))
        self._add(*pair, param=param, shape=out)
        # The largest entry stays the largest under a function that never falls, so that
        # pool(act(x)) = act(pool(x)): pooling first leaves the activation a quarter of the work.
        if pool == "max" and len(self.layers) > 1 and self.layers[-2].forward in NEVER_FALLS:
            self.layers[-2:] = reversed(self.layers[-2:])

    def _add_dropout(self, p):
        L.dropout_forward(np.zeros(0), {"p": p, "mode": "test"})  # refuses a wrong p
        if p:
            self._add(L.dropout_forward, L.dropout_backward, param={"p": p})

    def _add(self, forward, backward, names=(), param=None, shape=None):
        if shape is not None and min(shape) < 1:
            raise ValueError(
                f"{type(self).__name__}: after layer {len(self.layers)} an image is "
                f"{self._shape}, too small for {forward.__name__} with {param}."
            )
        self.layers.append(Layer(forward, backward, names, param))
        self._shape = self._shape if shape is None else shape

    def _new_weights(self, shape, fan_in, fan_out, biases):
        k = 1 + sum(name.startswith("W") for name in self.params)
        if isinstance(self._weight_scale, str):
            init = look_up(type(self).__name__, INITIALIZERS, self._weight_scale, "weight_scale")
            weights = init(self._rng, shape, fan_in, fan_out)
        else:
            weights = self._weight_scale * self._rng.standard_normal(shape)
        self.params[f"W{k}"] = weights.astype(self.dtype)
        self.params[f"b{k}"] = np.zeros(biases, self.dtype)
        return f"W{k}", f"b{k}"


def _added(grads):
    """The gradients of several parts, added up in their order and in the memory of the first's."""
    total, *others = grads
    for terms in others:
        for name, term in terms.items():
            total[name] += term
    return total


FEW = 2**19  # parameters
NEVER_FALLS = (L.relu_forward, L.leaky_relu_forward, L.sigmoid_forward, L.tanh_forward)
