"""The nets, the descriptions that they are built from, and a table of the named ones."""

from .cnn import ConvNet, LeNet5, ThreeLayerConvNet
from .descriptions import (
    ACTIVATIONS,
    POOLS,
    Affine,
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool,
    Pair,
    ReLU,
    Sigmoid,
    Tanh,
)
from .fc_net import FullyConnectedNet, TwoLayerNet
from .finetune import refit_last_layer
from .init import INITIALIZERS
from .net import LOSSES, Net
from .saving import load

MODELS = {
    "TwoLayerNet": TwoLayerNet,
    "FullyConnectedNet": FullyConnectedNet,
    "LeNet5": LeNet5,
    "ThreeLayerConvNet": ThreeLayerConvNet,
    "ConvNet": ConvNet,
}

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LOSSES",
    "MODELS",
    "POOLS",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "ConvNet",
    "Dropout",
    "FullyConnectedNet",
    "GroupNorm",
    "LayerNorm",
    "LeNet5",
    "LeakyReLU",
    "MaxPool",
    "Net",
    "Pair",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "ThreeLayerConvNet",
    "TwoLayerNet",
    "load",
    "refit_last_layer",
]
