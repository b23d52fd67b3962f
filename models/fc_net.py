"""Fully connected nets."""

from .descriptions import Affine, BatchNorm, Dropout, LayerNorm
from .net import Net

__all__ = ["FullyConnectedNet", "TwoLayerNet"]

NORMALIZATIONS = {None: [], "batchnorm": [BatchNorm()], "layernorm": [LayerNorm()]}


class TwoLayerNet(Net):
    """affine - activation - affine - loss. `common`: loss, dtype and seed as in `Net`."""

    def __init__(
        self,
        input_dim=3 * 32 * 32,
        hidden_dim=100,
        num_classes=10,
        weight_scale=1e-3,
        reg=0.0,
        *,
        activation="relu",
        **common,
    ):
        layers = [Affine(hidden_dim), activation, Affine(num_classes)]
        super().__init__(layers, input_dim, weight_scale=weight_scale, reg=reg, **common)


class FullyConnectedNet(Net):
    """{affine - [normalisation] - activation - [dropout]} x (L - 1) - affine - loss.

    hidden_dims    the widths of the hidden layers
    input_dim      numbers an example: an image is flattened, so 3 * 32 * 32 takes (3, 32, 32) too
    dropout        the probability of dropping an activation, 0 for none; dropout_keep_ratio, the
                   later course's word, is 1 - dropout
    normalization  None, 'batchnorm' or 'layernorm'; use_batchnorm=True is the older way to say it
    activation     'relu', 'leaky_relu', 'sigmoid', 'tanh' or 'identity'
    common         loss, as in `Net`
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
        dtype="float32",
        seed=None,
        *,
        normalization=None,
        dropout_keep_ratio=None,
        activation="relu",
        **common,
    ):
        if use_batchnorm and normalization not in (None, "batchnorm"):
            raise ValueError(
                f"FullyConnectedNet: use_batchnorm=True and normalization={normalization!r}; "
                "expected one of the two."
            )
        if dropout_keep_ratio is not None and dropout:
            raise ValueError(
                f"FullyConnectedNet: dropout={dropout} and dropout_keep_ratio={dropout_keep_ratio}; "
                "expected one of the two."
            )
        dropout = dropout if dropout_keep_ratio is None else 1 - dropout_keep_ratio
        normalization = "batchnorm" if use_batchnorm else normalization
        layers = hidden_layers("FullyConnectedNet", hidden_dims, normalization, activation, dropout)
        layers.append(Affine(num_classes))
        super().__init__(
            layers, input_dim, weight_scale=weight_scale, reg=reg, dtype=dtype, seed=seed, **common
        )


def hidden_layers(who, widths, normalization, activation, dropout):
    """[affine, normalisation, activation, dropout] for each width."""
    return [
        layer
        for width in widths_of(who, "hidden_dims", widths)
        for layer in (
            Affine(width),
            *normalized(who, normalization),
            activation,
            *([Dropout(dropout)] if dropout else []),
        )
    ]


def normalized(who, normalization):
    """The description of a normalisation by its name, in a list; an empty list for None."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"{who}: normalization = {normalization!r}, expected one of {tuple(NORMALIZATIONS)}."
        )
    return NORMALIZATIONS[normalization]


def widths_of(who, name, widths):
    """The widths, or a ValueError if they are not a list."""
    if not hasattr(widths, "__iter__") or isinstance(widths, str):
        raise ValueError(f"{who}: {name} = {widths!r}, expected a list of widths.")
    return widths
