"""What is timed: nets, layers and rules by name; what a side builds from a row is its own affair."""

import os
from dataclasses import dataclass, field

import numpy as np
from handgrad.data_utils import load_cifar10, load_mnist

VGG = (32, 32, "pool", 64, 64, "pool", 128, "pool")


@dataclass(frozen=True)
class Workload:
    """A row of the table: what it is, what is asked of it, and how much of it makes a round."""

    label: str
    kind: str  # 'train', 'predict', 'layer' or 'rule'
    net: str
    batch: int = 0
    rule: str = "sgd_momentum"
    goal: float = 0.0  # the peer's time over ours that is asked for; 0 for none
    peers: tuple = ("torch",)
    shape: dict = field(default_factory=dict)


def train(label, net, batch, rule, goal, peers=("torch",)):
    return Workload(label, "train", net, batch, rule, goal, peers)


TRAIN = [
    train("a1", "lenet5", 64, "sgd_momentum", 2.0),
    train("a2", "lenet5", 64, "adam", 2.0),
    train("a3", "lenet5", 256, "sgd_momentum", 1.5),
    train("a4", "lenet5", 256, "adam", 1.5),
    train("b", "fc100x5", 100, "sgd_momentum", 1.3, ("torch", "sklearn")),
    train("c", "two_layer", 100, "sgd_momentum", 1.3),
    train("d", "three_layer_conv", 50, "sgd_momentum", 1.3),
    train("e", "vgg", 64, "sgd_momentum", 0.8),
]
PREDICT = [
    Workload(f"f {net} {batch}", "predict", net, batch, goal=1.0)
    for net in ("lenet5", "fc100x5", "two_layer", "three_layer_conv", "vgg")
    for batch in (1, 256)
]


def layer(label, net, shape):
    return Workload(f"g {label}", "layer", net, shape=shape, goal=0.7)


LAYERS = [
    layer("conv lenet 1", "conv", dict(x=(64, 1, 28, 28), w=(6, 1, 5, 5), pad=2)),
    layer("conv lenet 2", "conv", dict(x=(64, 6, 14, 14), w=(16, 6, 5, 5), pad=0)),
    layer("conv 7x7", "conv", dict(x=(50, 3, 32, 32), w=(32, 3, 7, 7), pad=3)),
    layer("conv vgg 1", "conv", dict(x=(64, 3, 32, 32), w=(32, 3, 3, 3), pad=1)),
    layer("conv vgg 2", "conv", dict(x=(64, 32, 32, 32), w=(32, 32, 3, 3), pad=1)),
    layer("conv vgg 4", "conv", dict(x=(64, 64, 16, 16), w=(64, 64, 3, 3), pad=1)),
    layer("conv vgg 5", "conv", dict(x=(64, 64, 8, 8), w=(128, 64, 3, 3), pad=1)),
    layer("max_pool", "max_pool", dict(x=(64, 32, 32, 32))),
    layer("relu", "relu", dict(x=(64, 32, 32, 32))),
    layer("spatial_batchnorm", "spatial_batchnorm", dict(x=(64, 32, 32, 32))),
    layer("affine 3072x100", "affine", dict(x=(100, 3072), w=(3072, 100))),
    layer("affine 100x100", "affine", dict(x=(100, 100), w=(100, 100))),
    layer("softmax_loss", "softmax_loss", dict(x=(100, 10))),
]
RULES = [
    Workload(f"g {rule}", "rule", "1e6 parameters", rule=rule, goal=0.7)
    for rule in ("sgd", "sgd_momentum", "nesterov_momentum", "rmsprop", "adam", "adamw")
]
WORKLOADS = {w.label: w for w in (*TRAIN, *PREDICT, *LAYERS, *RULES)}

MULTIPLY_ADDS = {  # of one image, one forward pass
    "lenet5": 6 * 25 * 784 + 16 * 150 * 100 + 400 * 120 + 120 * 84 + 840,
    "fc100x5": 3072 * 100 + 4 * 100 * 100 + 1000,
    "two_layer": 3072 * 100 + 1000,
    "three_layer_conv": 32 * 147 * 1024 + 8192 * 100 + 1000,
    "vgg": (27 * 32 + 288 * 32) * 1024 + (288 * 64 + 576 * 64) * 256 + 576 * 128 * 64 + 20480,
}
FIRST_LAYER = {
    "lenet5": 6 * 25 * 784,
    "fc100x5": 307200,
    "two_layer": 307200,
    "three_layer_conv": 32 * 147 * 1024,
    "vgg": 27 * 32 * 1024,
}


def flops(workload):
    """Of one image: forward alone to predict; thrice that to train, less dx of the first layer."""
    forward = 2 * MULTIPLY_ADDS[workload.net]
    return forward if workload.kind == "predict" else 3 * forward - 2 * FIRST_LAYER[workload.net]


REAL = bool(os.environ.get("HANDGRAD_DATA"))  # noise takes PyTorch up to twice as long


def images(net):
    """uint8 images and labels: the real ones if HANDGRAD_DATA has them, else noise of their shape."""
    mnist = net == "lenet5"
    if REAL:
        data = load_mnist() if mnist else load_cifar10()
        return data["X_train"].copy(), data["y_train"]  # a copy: PyTorch wants to own what it wraps
    rng = np.random.default_rng(0)
    N, shape = (55000, (1, 28, 28)) if mnist else (49000, (3, 32, 32))
    return rng.integers(256, size=(N, *shape), dtype=np.uint8), rng.integers(10, size=N)
