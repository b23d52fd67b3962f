"""The order in which a net's layers are computed, where another one gives the same with less work."""

import dataclasses

from .. import layers as L
from .. import recurrent as R
from .sequence_layers import word_affine_backward

__all__ = ["pool_first", "product_first"]

NEVER_FALL = (L.relu_forward, L.leaky_relu_forward, L.sigmoid_forward, L.tanh_forward)


def pool_first(layers):
    """The layers in the order in which they are computed: max pooling before an activation.

    The largest entry of a window stays the largest under a function f that never falls:
    max(f(a), f(b)) = f(max(a, b)). Pooling first leaves the activation a quarter of the work.
    """
    layers = list(layers)
    for k in range(1, len(layers)):
        pair = layers[k - 1 : k + 1]
        in_line = not any(layer.forks or layer.joins for layer in pair)
        if in_line and layers[k].forward is L.max_pool_forward and _never_falls(layers[k - 1]):
            layers[k - 1 : k + 1] = layers[k], layers[k - 1]
    return layers


def _never_falls(layer):
    slopes = layer.settings if layer.forward is L.leaky_relu_forward else ()
    return layer.forward in NEVER_FALL and all(slope >= 0 for slope in slopes)


def product_first(layers):
    """The layers in the order in which they are computed: x @ Wx + b of a recurrent layer that follows
    the embedding is made for each different word of the batch, not at every place where it stands.
    """
    pays = len(layers) > 2 and layers[1].recurrence  # what enters the last layer, `features`, stays
    if not pays or layers[0].forward is not R.word_embedding_forward:
        return layers
    embedding, layer, *others = layers
    Wx, Wh, b, *biases = layer.names
    forward, backward = layer.recurrence
    words = dataclasses.replace(
        embedding,
        forward=R.word_affine_forward,
        backward=word_affine_backward,
        names=(*embedding.names, Wx, b),
    )
    walk = dataclasses.replace(layer, forward=forward, backward=backward, names=(Wh, *biases))
    return [words, walk, *others]
