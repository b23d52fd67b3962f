"""Descriptions of layers, from which a Net is built.

    Net([Conv(6, 5, pad=2), ReLU(), MaxPool(2), Affine(10)], input_dim=(1, 28, 28))

A description knows what its user says: a width, a window, a probability. Its `build(shape, draw)` adds
what follows from the layers before it: `shape` is that of one example as it arrives, (D,) or (C, H, W),
and `draw` an init.Draw.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import layers as L
from ..engine.checks import check_pair
from ..engine.errors import check_count, look_up

__all__ = [
    "ACTIVATIONS",
    "POOLS",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "Built",
    "Conv",
    "Dropout",
    "GroupNorm",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool",
    "Pair",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Tanh",
    "described",
    "in_line",
]


@dataclass
class Built:
    """A layer in its place: what to show, the pair, its parameters by kind, and its settings.

    params   {'W': array, 'b': array}, in the order of forward's arguments; the net numbers the names
    flags    fields of models.chain.Layer
    borrows  names of parameters of layers before it, which come first among forward's arguments
    """

    title: str
    forward: Callable
    backward: Callable
    params: dict = field(default_factory=dict)
    settings: tuple = ()
    flags: dict = field(default_factory=dict)
    borrows: tuple = ()


# ---------------------------------------------------------------------------- affine and convolution


@dataclass(frozen=True)
class Affine:
    """`affine_forward` to `width` outputs; images are flattened. Parameters W (D, width) and b."""

    width: int

    def build(self, shape, draw):
        D, M = math.prod(shape), _whole("Affine", "width", self.width)
        params = {"W": draw((D, M), fan_in=D, fan_out=M), "b": np.zeros(M)}
        flags = {"prefers_batch": True, "can_skip_dx": True}
        return Built(f"affine {M}", L.affine_forward, L.affine_backward, params, flags=flags)


@dataclass(frozen=True)
class Conv:
    """`conv_forward` with `filters` filters of size x size. Parameters W (F, C, size, size) and b.

    pad: the width of the frame of zeros; 'same' keeps the image's size at stride 1 (odd sizes only).
    """

    filters: int
    size: int = 3
    stride: int = 1
    pad: int | str = 0

    def build(self, shape, draw):
        F, size = _whole("Conv", "filters", self.filters), _whole("Conv", "size", self.size)
        C, pad, area = _image("Conv", shape)[0], self.pad, size * size
        if pad == "same":
            pad = (size - 1) // 2
            if size % 2 == 0:
                raise ValueError(f"Conv: size = {size} with pad = 'same', expected an odd number.")
        W = draw((F, C, size, size), fan_in=C * area, fan_out=F * area)
        title = f"conv {F} of {size}x{size}" + _said(stride=(self.stride, 1), pad=(pad, 0))
        pair = (L.conv_forward, L.conv_backward)
        settings = ({"stride": self.stride, "pad": pad},)
        return Built(title, *pair, {"W": W, "b": np.zeros(F)}, settings, {"can_skip_dx": True})


# ---------------------------------------------------------------------------- pooling


@dataclass(frozen=True)
class MaxPool:
    """`max_pool_forward` with square windows. stride: the window's size unless given."""

    size: int = 2
    stride: int | None = None
    pad: int = 0

    def build(self, shape, draw):
        return _pool(self, "max pool", (L.max_pool_forward, L.max_pool_backward), shape)


@dataclass(frozen=True)
class AvgPool:
    """`avg_pool_forward` with square windows. stride: the window's size unless given."""

    size: int = 2
    stride: int | None = None
    pad: int = 0

    def build(self, shape, draw):
        return _pool(self, "avg pool", (L.avg_pool_forward, L.avg_pool_backward), shape)


def _pool(pool, title, pair, shape):
    _image(type(pool).__name__, shape)
    size, pad = pool.size, pool.pad
    stride = size if pool.stride is None else pool.stride
    param = {"pool_height": size, "pool_width": size, "stride": stride, "pad": pad}
    title = f"{title} {size}x{size}" + _said(stride=(stride, size), pad=(pad, 0))
    return Built(title, *pair, settings=(param,))


# ---------------------------------------------------------------------------- normalisation


@dataclass(frozen=True)
class BatchNorm:
    """`batchnorm_forward`, or `spatial_batchnorm_forward` for images. Parameters gamma and beta."""

    eps: float = 1e-5
    momentum: float = 0.9

    def build(self, shape, draw):
        pair = (
            (L.spatial_batchnorm_forward, L.spatial_batchnorm_backward)
            if len(shape) == 3
            else (L.batchnorm_forward, L.batchnorm_backward)
        )
        zeros = np.zeros(shape[0], draw.dtype)
        bn_param = {"mode": "train", "eps": self.eps, "momentum": self.momentum}
        bn_param |= {"running_mean": zeros, "running_var": zeros.copy()}
        flags = {"needs_batch": True, "takes_parts": True}
        return Built("batch norm", *pair, _gamma_beta(shape), (bn_param,), flags)


@dataclass(frozen=True)
class LayerNorm:
    """`layernorm_forward`, for rows and for each step of sequences. Parameters gamma and beta."""

    eps: float = 1e-5

    def build(self, shape, draw):
        if len(shape) > 2:
            raise ValueError(
                f"LayerNorm: an example has shape {shape} here, expected a row (D,) or a sequence "
                "(T, D); images take BatchNorm ('batchnorm') or GroupNorm(1)."
            )
        pair = (L.layernorm_forward, L.layernorm_backward)
        return Built("layer norm", *pair, _gamma_beta(shape[-1:]), ({"eps": self.eps},))


@dataclass(frozen=True)
class GroupNorm:
    """`spatial_groupnorm_forward` with `groups` groups of channels. Parameters gamma and beta."""

    groups: int
    eps: float = 1e-5

    def build(self, shape, draw):
        _image("GroupNorm", shape)
        pair = (L.spatial_groupnorm_forward, L.spatial_groupnorm_backward)
        settings = (self.groups, {"eps": self.eps})
        return Built(f"group norm {self.groups}", *pair, _gamma_beta(shape), settings)


def _gamma_beta(shape):
    return {"gamma": np.ones(shape[0]), "beta": np.zeros(shape[0])}


# ---------------------------------------------------------------------------- activations and dropout


@dataclass(frozen=True)
class ReLU:
    """`relu_forward`."""

    def build(self, shape, draw):
        return Built("relu", L.relu_forward, L.relu_backward)


@dataclass(frozen=True)
class LeakyReLU:
    """`leaky_relu_forward` with slope alpha below 0."""

    alpha: float = 0.01

    def build(self, shape, draw):
        pair = (L.leaky_relu_forward, L.leaky_relu_backward)
        return Built(f"leaky relu {self.alpha}", *pair, settings=(self.alpha,))


@dataclass(frozen=True)
class Sigmoid:
    """`sigmoid_forward`."""

    def build(self, shape, draw):
        return Built("sigmoid", L.sigmoid_forward, L.sigmoid_backward)


@dataclass(frozen=True)
class Tanh:
    """`tanh_forward`."""

    def build(self, shape, draw):
        return Built("tanh", L.tanh_forward, L.tanh_backward)


@dataclass(frozen=True)
class Dropout:
    """`dropout_forward` with p, the probability of dropping. Each step and layer has its own mask."""

    p: float

    def build(self, shape, draw):
        settings = ({"p": self.p, "mode": "test", "seed": None},)
        pair = (L.dropout_forward, L.dropout_backward)
        return Built(f"dropout {self.p}", *pair, settings=settings)


# ---------------------------------------------------------------------------- residual branches


@dataclass(frozen=True)
class Residual:
    """A branch beside the way through: out = x + branch(x), with the layers of a list as branch, whose
    output is shaped as x (He et al. 2016). In the net they stand in line with the others.
    """

    layers: Sequence


# ---------------------------------------------------------------------------- a pair of one's own


@dataclass(frozen=True)
class Pair:
    """A forward/backward pair of your own, under the contract of layers.py.

        forward(x, *parameters, *settings) -> out, cache
        backward(dout, cache) -> dx, or dx and one gradient for each parameter

    params        params(shape, rng) -> {'W': array, ...}: the first parameters for examples of this
                  shape, in the order of forward's arguments. The net adds a number to each name. Those
                  named W are penalised by `reg`.
    settings      further arguments of forward. A dict among them that has the key 'mode' gets 'train'
                  or 'test' there at each pass; one that has the key 'seed' gets both, and a new seed
                  for each step.
    by_example    True if the output for an example depends on no other example. A batch may then be
                  cut into parts, which is faster.
    """

    forward: Callable
    backward: Callable
    params: Callable | None = None
    settings: tuple = ()
    by_example: bool = False

    def build(self, shape, draw):
        for name in ("forward", "backward"):
            if not callable(getattr(self, name)):
                raise ValueError(f"Pair: {name} = {getattr(self, name)!r}, expected a function.")
        check_pair("Pair", self.forward, self.backward)
        params = self.params(shape, draw.rng) if self.params else {}
        settings = tuple(dict(s) if isinstance(s, dict) else s for s in self.settings)
        title = getattr(self.forward, "__name__", "pair").removesuffix("_forward").replace("_", " ")
        flags = {"needs_batch": not self.by_example}
        return Built(title, self.forward, self.backward, params, settings, flags)


# ---------------------------------------------------------------------------- tables by name

ACTIVATIONS = {
    "identity": None,
    "relu": ReLU(),
    "leaky_relu": LeakyReLU(),
    "sigmoid": Sigmoid(),
    "tanh": Tanh(),
}
POOLS = {"max": MaxPool, "avg": AvgPool}


# ---------------------------------------------------------------------------- checks and words


def _whole(who, name, value):
    check_count(name, value, who=who)
    return value


def _image(who, shape):
    if len(shape) != 3:
        raise ValueError(f"{who}: an example has shape {shape} here, expected an image (C, H, W).")
    return shape


def _said(**settings):
    """Settings that differ from the usual, in words."""
    return "".join(f", {name} {value}" for name, (value, usual) in settings.items() if value != usual)


# ---------------------------------------------------------------------------- a list of them


def described(who, layers):
    """The descriptions that the entries of the list stand for, without the activation 'identity'."""
    entries = layers if isinstance(layers, list | tuple) else ()
    found = [_described(who, layer) for layer in entries if layer != "identity"]
    if not found:
        raise ValueError(
            f"{who}: layers is {layers!r}, expected a list of layers, not empty ('identity' is none)."
        )
    return found


def _described(who, layer):
    if isinstance(layer, str):
        return look_up(who, ACTIVATIONS, layer, "activation")
    if isinstance(layer, tuple) and len(layer) == 2:
        return Pair(*layer)
    if isinstance(layer, Residual):
        return Residual(described(who, layer.layers))
    if isinstance(layer, type) or not (hasattr(layer, "build") or hasattr(layer, "layers")):
        raise ValueError(
            f"{who}: layers holds {layer!r}, expected a description such as Affine(10) or ReLU(), "
            f"the name of an activation ({', '.join(ACTIVATIONS)}), or a pair (forward, backward)."
        )
    return layer


def in_line(descriptions):
    """[description, residual branches that begin before it, and that end after it] of each layer."""
    for description in descriptions:
        if not hasattr(description, "layers"):
            yield [description, 0, 0]
            continue
        several = list(in_line(description.layers))
        if isinstance(description, Residual):
            several[0][1] += 1
            several[-1][2] += 1
        yield from several
