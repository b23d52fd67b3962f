"""Fully connected nets."""

import numpy as np

from .net import Net


class TwoLayerNet(Net):
    """affine - relu - affine - loss. Arguments as in `Net`; the loss is 'softmax' by default."""

    def __init__(
        self,
        input_dim=3 * 32 * 32,
        hidden_dim=100,
        num_classes=10,
        weight_scale=1e-3,
        reg=0.0,
        *,
        activation="relu",
        loss="softmax",
        dtype=np.float32,
        seed=None,
    ):
        super().__init__(
            input_dim, weight_scale=weight_scale, reg=reg, loss=loss, dtype=dtype, seed=seed
        )
        self._add_affine(hidden_dim)
        self._add_activation(activation)
        self._add_affine(num_classes)


class FullyConnectedNet(Net):
    """{affine - [normalisation] - activation - [dropout]} x (L - 1) - affine - loss.

    hidden_dims    the widths of the hidden layers
    input_dim      numbers an example: an image is flattened, so 3 * 32 * 32 takes (3, 32, 32) too
    dropout        the probability of dropping an activation, 0 for none; dropout_keep_ratio, the
                   later course's word, is 1 less that
    normalization  None, 'batchnorm' or 'layernorm'; use_batchnorm=True is the older way to say it
    activation     'relu', 'leaky_relu', 'sigmoid', 'tanh' or 'identity'
    Other arguments as in `Net`.
    """

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
        *,
        normalization=None,
        dropout_keep_ratio=None,
        activation="relu",
        loss="softmax",
    ):
        super().__init__(
            input_dim, weight_scale=weight_scale, reg=reg, loss=loss, dtype=dtype, seed=seed
        )
        if use_batchnorm and normalization not in (None, "batchnorm"):
            raise ValueError(
                f"FullyConnectedNet: use_batchnorm=True and normalization={normalization!r}; "
                "expected one of the two."
            )
        if dropout_keep_ratio is not None:
            if dropout:
                raise ValueError(
                    f"FullyConnectedNet: dropout={dropout} and "
                    f"dropout_keep_ratio={dropout_keep_ratio}; expected one of the two."
                )
            dropout = 1 - dropout_keep_ratio
        for width in self._widths("hidden_dims", hidden_dims):
            self._add_affine(width)
            self._add_normalization("batchnorm" if use_batchnorm else normalization)
            self._add_activation(activation)
            self._add_dropout(dropout)
        self._add_affine(num_classes)
