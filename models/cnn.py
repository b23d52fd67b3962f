"""Convolutional nets."""

import numpy as np

from .net import Net


class LeNet5(Net):
    """LeNet-5 (after LeCun et al. 1998):
    conv 6@5x5 pad 2 - act - pool 2 - conv 16@5x5 - act - pool 2 - 120 - act - 84 - act - classes.

    activation  'relu', 'leaky_relu', 'sigmoid', 'tanh' or 'identity'
    pool        'max' or 'avg'
    With activation='sigmoid', pool='avg' it is the historical kind. Other arguments as in `Net`.
    """

    def __init__(
        self,
        input_dim=(1, 28, 28),
        num_classes=10,
        *,
        activation="relu",
        pool="max",
        weight_scale="xavier",
        reg=0.0,
        loss="softmax",
        dtype=np.float32,
        seed=None,
    ):
        super().__init__(
            input_dim, weight_scale=weight_scale, reg=reg, loss=loss, dtype=dtype, seed=seed
        )
        for F, pad in ((6, 2), (16, 0)):
            self._add_conv(F, 5, pad)
            self._add_activation(activation)
            self._add_pool(pool, 2)
        for width in (120, 84):
            self._add_affine(width)
            self._add_activation(activation)
        self._add_affine(num_classes)


class ThreeLayerConvNet(Net):
    """The course's: conv - relu - 2x2 max pool - affine - relu - affine - loss.

    The convolution is padded to keep the image's size. Arguments as in `Net`.
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
        dtype=np.float32,
        *,
        loss="softmax",
        seed=None,
    ):
        super().__init__(
            input_dim, weight_scale=weight_scale, reg=reg, loss=loss, dtype=dtype, seed=seed
        )
        self._add_conv(num_filters, filter_size, pad=(filter_size - 1) // 2)
        self._add_activation("relu")
        self._add_pool("max", 2)
        self._add_affine(hidden_dim)
        self._add_activation("relu")
        self._add_affine(num_classes)


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
    Other arguments as in `Net`.
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
        reg=0.0,
        loss="softmax",
        dtype=np.float32,
        seed=None,
    ):
        super().__init__(
            input_dim, weight_scale=weight_scale, reg=reg, loss=loss, dtype=dtype, seed=seed
        )
        if filter_size % 2 == 0:
            raise ValueError(f"ConvNet: filter_size = {filter_size}, expected an odd number.")
        for F in self._widths("filters", filters):
            if F == "pool":
                self._add_pool(pool, pool_size, pool_stride)
                continue
            self._add_conv(F, filter_size, pad=(filter_size - 1) // 2)
            self._add_normalization(normalization)
            self._add_activation(activation)
        for width in self._widths("hidden_dims", hidden_dims):
            self._add_affine(width)
            self._add_normalization(normalization)
            self._add_activation(activation)
            self._add_dropout(dropout)
        self._add_affine(num_classes)
