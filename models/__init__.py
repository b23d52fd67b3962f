"""The nets, the descriptions that they are built from, and a table of the named ones."""

from .captioning import CaptioningRNN
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
    Residual,
    Sigmoid,
    Tanh,
)
from .fc_net import FullyConnectedNet, TwoLayerNet
from .finetune import refit_last_layer
from .init import INITIALIZERS
from .language import CELLS, GPT, LanguageModel, SequenceClassifier, WordModel
from .net import LOSSES, Net
from .saving import load
from .sequence_layers import (
    GELU,
    GRU,
    LSTM,
    RNN,
    Conv1D,
    Embedding,
    LastStep,
    Positions,
    RMSNorm,
    SelfAttention,
    TemporalAffine,
    TransformerBlock,
    WordScores,
)

MODELS = {
    "TwoLayerNet": TwoLayerNet,
    "FullyConnectedNet": FullyConnectedNet,
    "LeNet5": LeNet5,
    "ThreeLayerConvNet": ThreeLayerConvNet,
    "ConvNet": ConvNet,
}
SEQUENCE_MODELS = {
    "LanguageModel": LanguageModel,
    "GPT": GPT,
    "SequenceClassifier": SequenceClassifier,
    "WordModel": WordModel,
}

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "GELU",
    "GPT",
    "GRU",
    "INITIALIZERS",
    "LOSSES",
    "LSTM",
    "MODELS",
    "POOLS",
    "RNN",
    "SEQUENCE_MODELS",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "CaptioningRNN",
    "Conv",
    "Conv1D",
    "ConvNet",
    "Dropout",
    "Embedding",
    "FullyConnectedNet",
    "GroupNorm",
    "LanguageModel",
    "LastStep",
    "LayerNorm",
    "LeNet5",
    "LeakyReLU",
    "MaxPool",
    "Net",
    "Pair",
    "Positions",
    "RMSNorm",
    "ReLU",
    "Residual",
    "SelfAttention",
    "SequenceClassifier",
    "Sigmoid",
    "Tanh",
    "TemporalAffine",
    "ThreeLayerConvNet",
    "TransformerBlock",
    "TwoLayerNet",
    "WordModel",
    "WordScores",
    "load",
    "refit_last_layer",
]
