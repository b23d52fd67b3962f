"""Convolutional nets."""

from ..engine.errors import look_up
from .descriptions import POOLS, Affine, Conv, MaxPool
from .fc_net import hidden_layers, normalized, widths_of
from .net import Net

__all__ = ["ConvNet", "LeNet5", "ThreeLayerConvNet"]


class LeNet5(Net):
    """LeNet-5 (after LeCun et al. 1998):
    conv 6@5x5 pad 2 - act - pool 2 - conv 16@5x5 - act - pool 2 - 120 - act - 84 - act - classes.

    activation  'relu', 'leaky_relu', 'sigmoid', 'tanh' or 'identity'
    pool        'max' or 'avg'
    common      reg, loss, dtype, seed, as in `Net`
    The net of the paper resembles activation='sigmoid', pool='avg'.
    """

    def __init__(
        self,
        input_dim=(1, 28, 28),
        num_classes=10,
        *,
        activation="relu",
        pool="max",
        weight_scale="xavier",
        **common,
    ):
        pooling, act = look_up("LeNet5", POOLS, pool, "pool")(2), activation
        layers = [
            *(Conv(6, 5, pad=2), act, pooling),
            *(Conv(16, 5), act, pooling),
            *(Affine(120), act, Affine(84), act, Affine(num_classes)),
        ]
        super().__init__(layers, input_dim, weight_scale=weight_scale, **common)


class ThreeLayerConvNet(Net):
    """The course's net: conv - relu - 2x2 max pool - affine - relu - affine - loss.

    The convolution is padded to keep the image's size. `common`: loss and seed, as in `Net`.
    """

    def __init__(
        self,
        input_dim=(3, 32, 32),
        num_filters=32,
        filter_size=7,
        hidden_dim=100,
        num_classes=10,
        weight_scale=1e-3,
        reg=0.0,
        dtype="float32",
        **common,
    ):
        layers = [
            *(Conv(num_filters, filter_size, pad=(filter_size - 1) // 2), "relu", MaxPool(2)),
            *(Affine(hidden_dim), "relu", Affine(num_classes)),
        ]
        super().__init__(layers, input_dim, weight_scale=weight_scale, reg=reg, dtype=dtype, **common)


class ConvNet(Net):
    """{conv - [batch norm] - act - [pool]} x n - {affine - [batch norm] - act - [dropout]} x m -
    affine - loss, in any size.

    filters        the convolutions and pools in order, each a number of filters or the word 'pool':
                   (32, 32, 'pool', 64, 64, 'pool', 128, 'pool') is a small VGG
    hidden_dims    the widths of the affine layers before the last
    filter_size    odd; the convolutions are padded to keep the image's size
    pool, pool_size, pool_stride   'max' or 'avg', its window, and its stride (the window's size)
    normalization  None or 'batchnorm', after each convolution and each hidden affine layer
    dropout        the probability of dropping, after each hidden affine layer
    common         reg, loss, dtype, seed, as in `Net`
    """

    def __init__(
        self,
        filters=(32, "pool", 64, "pool"),
        hidden_dims=(128,),
        input_dim=(3, 32, 32),
        num_classes=10,
        *,
        filter_size=3,
        pool="max",
        pool_size=2,
        pool_stride=None,
        normalization=None,
        activation="relu",
        dropout=0,
        weight_scale="kaiming",
        **common,
    ):
        pooling = look_up("ConvNet", POOLS, pool, "pool")(pool_size, pool_stride)
        layers = []
        for F in widths_of("ConvNet", "filters", filters):
            conv = (Conv(F, filter_size, pad="same"), *normalized("ConvNet", normalization), activation)
            layers += [pooling] if F == "pool" else conv
        layers += hidden_layers("ConvNet", hidden_dims, normalization, activation, dropout)
        super().__init__([*layers, Affine(num_classes)], input_dim, weight_scale=weight_scale, **common)
