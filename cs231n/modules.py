"""Which names the course has where.

A module's names include those that it imports with a star, because the notebooks rely on them:
`from cs231n.classifiers.fc_net import *` brings the layers, too.
"""

import numpy as np

from .. import layers as L
from .. import optim, recurrent
from . import checking, data, layers, nets, pictures, replacing, training, windows

__all__ = ["namespaces"]

AS_THEY_ARE = (
    *("softmax_loss", "svm_loss"),
    *("batchnorm_forward", "batchnorm_backward", "batchnorm_backward_alt"),
    *("layernorm_forward", "layernorm_backward"),
    *("spatial_batchnorm_forward", "spatial_batchnorm_backward"),
    *("spatial_groupnorm_forward", "spatial_groupnorm_backward"),
)
STEPS = (
    *("rnn_step_forward", "rnn_step_backward", "rnn_forward", "rnn_backward"),
    *("lstm_step_forward", "lstm_step_backward", "lstm_forward", "lstm_backward"),
    *("word_embedding_forward", "word_embedding_backward"),
    *("temporal_affine_forward", "temporal_affine_backward", "temporal_softmax_loss"),
)
RULES = ("sgd", "sgd_momentum", "rmsprop", "adam")


def namespaces(year):
    """The modules of an edition, parents first: {name: what it holds}, None for a package."""
    numpy = {"np": np}
    slow = numpy | {name: getattr(L, name) for name in AS_THEY_ARE} | layers.of_edition(year)
    fast = numpy | _public(windows)
    for kind in ("fast", "im2col", "strides"):
        fast |= layers.named("conv_{}_" + kind, layers.PAIRS["conv"])
    for kind in ("fast", "im2col", "reshape"):
        fast |= layers.named("max_pool_{}_" + kind, layers.PAIRS["max_pool"])
    sandwiches = slow | fast | replacing.sandwiches(slow | fast)
    modules = {
        "cs231n": None,
        "cs231n.classifiers": None,
        "cs231n.layers": slow,
        "cs231n.im2col": numpy | _public(windows),
        "cs231n.fast_layers": fast,
        "cs231n.layer_utils": sandwiches,
        "cs231n.optim": numpy | {name: getattr(optim, name) for name in RULES},
        "cs231n.solver": numpy | {"Solver": training.Solver},
        "cs231n.gradient_check": numpy | _public(checking),
        "cs231n.data_utils": numpy | _public(data),
        "cs231n.vis_utils": numpy | _public(pictures),
        "cs231n.classifiers.fc_net": sandwiches | nets.fully_connected(year),
        "cs231n.classifiers.cnn": sandwiches | {"ThreeLayerConvNet": nets.ThreeLayerConvNet},
    }
    if year < 2025:  # later editions have it in PyTorch
        steps = numpy | {name: getattr(recurrent, name) for name in STEPS} | {"sigmoid": _sigmoid}
        modules["cs231n.rnn_layers"] = steps
        modules["cs231n.classifiers.rnn"] = slow | steps | {"CaptioningRNN": nets.CaptioningRNN}
    return modules


def _sigmoid(x):
    """1 / (1 + exp(-x)); no x overflows."""
    return L.sigmoid_forward(x)[0]


def _public(module):
    return {name: getattr(module, name) for name in module.__all__}
