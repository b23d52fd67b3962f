"""The course's nets: handgrad's, with the course's arguments and its random numbers, and with functions
of the student's where there are any.
"""

import dataclasses
import functools

import numpy as np

from .. import layers as L
from .. import recurrent as R
from ..models import captioning, cnn, fc_net
from . import layers, replacing

__all__ = ["CaptioningRNN", "ThreeLayerConvNet", "TwoLayerNet", "fully_connected"]


class CourseNet:
    """What makes a net of handgrad one of the course's; it stands first among the bases.

    The first weights are drawn from NumPy's global generator; so are dropout's masks, if the net has
    no seed: dropout is always the course's. Which functions the student has replaced is asked at each
    call.
    """

    p_keeps = True  # the meaning of p in dropout_param
    theirs = None  # the student's functions in use

    def loss(self, X, y=None):
        self._take_functions()
        return super().loss(X, y)

    def _generator(self, seed):
        return np.random

    # ------------------------------------------------------------------ the student's functions

    def _take_functions(self):
        """Compute with the functions that the course's modules hold now."""
        theirs, chain = replacing.layer_functions(), self._chain
        if theirs == self.theirs:
            return
        loss = theirs.get("softmax_loss", L.softmax_loss)
        linked = [self._with_theirs(layer, theirs) for layer in self.layers]
        self._connect(linked, loss, loss is L.softmax_loss, chain.seed, chain.params, chain.step)
        self.theirs = theirs

    def _with_theirs(self, layer, theirs):
        """The layer with the student's functions, if there are any for it. It sees whole batches then,
        and stays in this process.
        """
        kind = layer.forward.__name__.removesuffix("_forward")
        pair = theirs.get(f"{kind}_forward"), theirs.get(f"{kind}_backward")
        if not any(pair) and kind != "dropout":
            return layer
        forward, backward = self._completed(kind, pair)
        if kind == "dropout":
            forward = self._with_course_param(forward)
        return dataclasses.replace(
            layer,
            forward=_gives_out(f"{kind}_forward", forward),
            backward=_gives_gradients(f"{kind}_backward", backward, 1 + len(layer.names)),
            needs_batch=True,
            takes_parts=False,
            can_skip_dx=False,
        )

    def _completed(self, kind, pair):
        """The student's pair; what is missing is handgrad's, if the course lays their cache out."""
        ours = layers.DROPOUT[self.p_keeps] if kind == "dropout" else layers.PAIRS.get(kind)
        if ours is None and not all(pair):
            yours, other = ("forward", "backward") if pair[0] else ("backward", "forward")
            raise ValueError(
                f"{self.name}: {kind}_{yours} is yours and {kind}_{other} is handgrad's, expected both "
                "to be yours: the course does not say what their cache holds."
            )
        return [theirs or own for theirs, own in zip(pair, ours or pair, strict=True)]

    def _with_course_param(self, forward):
        """A dropout layer that is given the course's dropout_param."""
        seed = {} if self.new_masks_each_call else {"seed": self.seed}

        @functools.wraps(forward)
        def with_course_param(x, param):
            p = 1 - param["p"] if self.p_keeps else param["p"]
            return forward(x, {"mode": param["mode"], "p": p} | seed)

        return with_course_param


def _gives_out(name, forward):
    """The student's forward, whose result is looked at."""

    @functools.wraps(forward)
    def looked_at(*args):
        result = forward(*args)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], np.ndarray)):
            raise ValueError(f"{name} gave {_said(result)}, expected an array and a cache.")
        return result

    return looked_at


def _gives_gradients(name, backward, count):
    """The student's backward, whose result is looked at."""

    @functools.wraps(backward)
    def looked_at(dout, cache):
        result = backward(dout, cache)
        grads = result if isinstance(result, tuple) else (result,)
        if len(grads) != count or not all(isinstance(grad, np.ndarray) for grad in grads):
            raise ValueError(f"{name} gave {_said(result)}, expected arrays, {count} in number.")
        return grads

    return looked_at


def _said(result):
    kinds = [type(part).__name__ for part in result] if isinstance(result, tuple) else []
    return f"({', '.join(kinds)})" if kinds else type(result).__name__


# ---------------------------------------------------------------------------- the nets


class TwoLayerNet(CourseNet, fc_net.TwoLayerNet):
    """affine - relu - affine - softmax, in float64."""

    def __init__(
        self, input_dim=3 * 32 * 32, hidden_dim=100, num_classes=10, weight_scale=1e-3, reg=0.0
    ):
        sizes = (input_dim, hidden_dim, num_classes)
        super().__init__(*sizes, weight_scale, reg, dtype=np.float64)


class ThreeLayerConvNet(CourseNet, cnn.ThreeLayerConvNet):
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax."""

    def __init__(
        self,
        input_dim=(3, 32, 32),
        num_filters=32,
        filter_size=7,
        hidden_dim=100,
        num_classes=10,
        weight_scale=1e-3,
        reg=0.0,
        dtype=np.float32,
    ):
        sizes = (input_dim, num_filters, filter_size, hidden_dim, num_classes)
        super().__init__(*sizes, weight_scale, reg, dtype)


class FullyConnectedNet2016(CourseNet, fc_net.FullyConnectedNet):
    """Of 2016 and 2017: dropout is the probability of dropping, 0 for no dropout."""

    p_keeps = False

    def __init__(
        self,
        hidden_dims,
        input_dim=3 * 32 * 32,
        num_classes=10,
        dropout=0,
        use_batchnorm=False,
        reg=0.0,
        weight_scale=1e-2,
        dtype=np.float32,
        seed=None,
        **other,
    ):
        _refuse(other)
        shape = (hidden_dims, input_dim, num_classes)
        super().__init__(*shape, dropout, use_batchnorm, reg, weight_scale, dtype, seed)


class FullyConnectedNet2018(CourseNet, fc_net.FullyConnectedNet):
    """Of 2018 to 2020: dropout is the probability of keeping, 1 for no dropout."""

    def __init__(
        self,
        hidden_dims,
        input_dim=3 * 32 * 32,
        num_classes=10,
        dropout=1,
        normalization=None,
        reg=0.0,
        weight_scale=1e-2,
        dtype=np.float32,
        seed=None,
        **other,
    ):
        _refuse(other)
        drop, norm = layers.dropped(dropout, "FullyConnectedNet", "dropout"), normalization
        shape = (hidden_dims, input_dim, num_classes)
        super().__init__(*shape, drop, False, reg, weight_scale, dtype, seed, normalization=norm)


class FullyConnectedNet2021(CourseNet, fc_net.FullyConnectedNet):
    """Of 2021 and later: the probability of keeping is called dropout_keep_ratio."""

    def __init__(
        self,
        hidden_dims,
        input_dim=3 * 32 * 32,
        num_classes=10,
        dropout_keep_ratio=1,
        normalization=None,
        reg=0.0,
        weight_scale=1e-2,
        dtype=np.float32,
        seed=None,
        **other,
    ):
        _refuse(other)
        drop = layers.dropped(dropout_keep_ratio, "FullyConnectedNet", "dropout_keep_ratio")
        shape, norm = (hidden_dims, input_dim, num_classes), normalization
        super().__init__(*shape, drop, False, reg, weight_scale, dtype, seed, normalization=norm)


for edition in (FullyConnectedNet2016, FullyConnectedNet2018, FullyConnectedNet2021):
    edition.__name__ = "FullyConnectedNet"  # as messages call it


class CaptioningRNN(captioning.CaptioningRNN):
    """handgrad's, with weights from NumPy's global generator and the student's functions."""

    _names = vars(captioning) | {"L": replacing.Live(L), "R": replacing.Live(R)}
    loss = replacing.with_names(captioning.CaptioningRNN.loss, _names)
    sample = replacing.with_names(captioning.CaptioningRNN.sample, _names)

    def _generator(self, seed):
        return np.random


WORDS = {
    "use_batchnorm": "2016 and 2017",
    "normalization": "2018 and later",
    "dropout": "2016 to 2020",
    "dropout_keep_ratio": "2021 and later",
}


def _refuse(other):
    """Raise TypeError for a word of another edition."""
    for name in other:
        hint = f" It is a word of {WORDS[name]}: is `use` given your year?" if name in WORDS else ""
        raise TypeError(f"FullyConnectedNet: this edition has no argument {name}.{hint}")


def fully_connected(year):
    """The classes of cs231n.classifiers.fc_net in an edition."""
    if year < 2018:
        net = FullyConnectedNet2016
    else:
        net = FullyConnectedNet2018 if year < 2021 else FullyConnectedNet2021
    return {"TwoLayerNet": TwoLayerNet, "FullyConnectedNet": net}
