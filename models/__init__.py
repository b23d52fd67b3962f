"""The models, and a table of them."""

from .cnn import ConvNet, LeNet5, ThreeLayerConvNet
from .fc_net import FullyConnectedNet, TwoLayerNet
from .finetune import refit_last_layer
from .net import ACTIVATIONS, INITIALIZERS, LOSSES, POOLS, Net

MODELS = {
    "TwoLayerNet": TwoLayerNet,
    "FullyConnectedNet": FullyConnectedNet,
    "LeNet5": LeNet5,
    "ThreeLayerConvNet": ThreeLayerConvNet,
    "ConvNet": ConvNet,
}

__all__ = [
    *MODELS,
    "ACTIVATIONS",
    "INITIALIZERS",
    "LOSSES",
    "MODELS",
    "POOLS",
    "Net",
    "refit_last_layer",
]
