"""The workloads: which nets, layers and update rules are timed, and on which data."""

import os
from dataclasses import dataclass, field

import numpy as np
from handgrad.data_utils import load_cifar10, load_mnist

VGG = (32, 32, "pool", 64, 64, "pool", 128, "pool")
NAMES = {
    "lenet5": "LeNet-5",
    "fc100x5": "six dense layers",
    "two_layer": "TwoLayerNet",
    "three_layer_conv": "the course's ConvNet",
    "vgg": "a small VGG",
}


@dataclass(frozen=True)
class Workload:
    """What one row of the tables times.

    label  its name on the command line
    kind   'train', 'predict', 'layer' or 'rule'
    net    a key of NAMES, the name of a layer, or what a rule updates
    peers  the libraries to compare with
    shape  of a layer: x, w and pad
    """

    label: str
    kind: str
    net: str
    batch: int = 0
    rule: str = "sgd_momentum"
    peers: tuple = ("torch",)
    shape: dict = field(default_factory=dict)

    @property
    def title(self):
        """The workload in words."""
        if self.kind == "layer":
            return f"{self.net}, " + ", ".join(f"{key} {size}" for key, size in self.shape.items())
        if self.kind == "rule":
            return f"{self.rule}, {self.net}"
        if self.kind == "predict":
            return f"{NAMES[self.net]}, prediction of {self.batch}"
        return f"{NAMES[self.net]}, batch {self.batch}" + (", Adam" if self.rule == "adam" else "")


TRAIN = [
    Workload("a1", "train", "lenet5", 64),
    Workload("a2", "train", "lenet5", 64, "adam"),
    Workload("a3", "train", "lenet5", 256),
    Workload("a4", "train", "lenet5", 256, "adam"),
    Workload("b", "train", "fc100x5", 100, peers=("torch", "sklearn")),
    Workload("c", "train", "two_layer", 100),
    Workload("d", "train", "three_layer_conv", 50),
    Workload("e", "train", "vgg", 64),
]
PREDICT = [Workload(f"f {net} {batch}", "predict", net, batch) for net in NAMES for batch in (1, 256)]


def layer(label, net, shape):
    return Workload(f"g {label}", "layer", net, shape=shape)


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
    Workload(f"g {rule}", "rule", "a million parameters", rule=rule)
    for rule in ("sgd", "sgd_momentum", "nesterov_momentum", "rmsprop", "adam", "adamw")
]
WORKLOADS = {w.label: w for w in (*TRAIN, *PREDICT, *LAYERS, *RULES)}

MULTIPLY_ADDS = {  # one image, one forward pass
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
    """Floating-point operations for one image.

    A prediction takes the forward pass. A training step takes three times as many, but for the first
    layer's dx, which is not computed.
    """
    forward = 2 * MULTIPLY_ADDS[workload.net]
    return forward if workload.kind == "predict" else 3 * forward - 2 * FIRST_LAYER[workload.net]


REAL = bool(os.environ.get("HANDGRAD_DATA"))  # on noise PyTorch takes up to twice as long


def images(net):
    """uint8 images and labels: real ones if HANDGRAD_DATA is set, else noise of the same shape."""
    mnist = net == "lenet5"
    if REAL:
        data = load_mnist() if mnist else load_cifar10()
        return data["X_train"].copy(), data["y_train"]  # a copy: PyTorch wants a writable array
    rng = np.random.default_rng(0)
    N, shape = (55000, (1, 28, 28)) if mnist else (49000, (3, 32, 32))
    return rng.integers(256, size=(N, *shape), dtype=np.uint8), rng.integers(10, size=N)
