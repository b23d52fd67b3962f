"""handgrad's side: for each workload a function that takes some steps of it."""

import numpy as np
from handgrad import Solver, layers
from handgrad.callbacks import Callback
from handgrad.data_utils import standardize
from handgrad.engine.workers import workers
from handgrad.models import ConvNet, FullyConnectedNet, LeNet5, ThreeLayerConvNet, TwoLayerNet
from handgrad.optim import UPDATE_RULES

from .workloads import VGG, images

NETS = {
    "lenet5": lambda: LeNet5(seed=0),
    "fc100x5": lambda: FullyConnectedNet([100] * 5, seed=0),
    "two_layer": lambda: TwoLayerNet(seed=0),
    "three_layer_conv": lambda: ThreeLayerConvNet(seed=0),
    "vgg": lambda: ConvNet(VGG, (), normalization="batchnorm", seed=0),
}


def session(threads):
    return workers(threads)


def build(workload):
    makers = {"train": _train, "predict": _predict, "layer": _layer, "rule": _rule}
    return makers[workload.kind](workload)


def _transform(X):
    return standardize(X, 100.0, 70.0)


class _StopAfter(Callback):
    """Stops the training after some steps. The next call of `train` goes on from there."""

    left = 0

    def on_step_end(self, solver):
        self.left -= 1
        if self.left == 0:
            solver.stop_training = True


def _train(workload):
    X, y = images(workload.net)
    data = {"X_train": X, "y_train": y, "transform": _transform}
    stop = _StopAfter()
    solver = Solver(
        NETS[workload.net](),
        data,
        update_rule=workload.rule,
        optim_config={"learning_rate": 1e-3},
        batch_size=workload.batch,
        num_epochs=10**6,
        num_train_samples=1,
        callbacks=[stop],
        verbose=False,
        seed=0,
    )

    def run(steps):
        stop.left = steps
        solver.train()

    return run


def _predict(workload):
    model = NETS[workload.net]()
    X = _transform(images(workload.net)[0][: workload.batch])

    def run(steps):
        for _ in range(steps):
            model.loss(X)

    return run


def _layer(workload):
    rng = np.random.default_rng(0)
    draw = lambda shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    x = draw(workload.shape["x"])
    if workload.net == "softmax_loss":
        y = rng.integers(10, size=len(x))

        def loss_and_gradient(steps):
            for _ in range(steps):
                layers.softmax_loss(x, y)

        return loss_and_gradient
    if x.ndim == 4:  # in a net images have the batch innermost in memory
        x = np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    forward = getattr(layers, f"{workload.net}_forward")
    backward = getattr(layers, f"{workload.net}_backward")
    args = {
        "conv": lambda: (
            draw(workload.shape["w"]),
            draw(workload.shape["w"][:1]),
            {"pad": workload.shape["pad"]},
        ),
        "affine": lambda: (draw(workload.shape["w"]), draw(workload.shape["w"][1:])),
        "max_pool": lambda: ({"pool_height": 2, "pool_width": 2, "stride": 2},),
        "relu": lambda: (),
        "spatial_batchnorm": lambda: (
            np.ones(x.shape[1], x.dtype),
            np.zeros(x.shape[1], x.dtype),
            {"mode": "train"},
        ),
    }[workload.net]()
    dout = np.array(forward(x, *args)[0], order="K")

    def run(steps):
        for _ in range(steps):
            _, cache = forward(x, *args)
            backward(dout, cache)

    return run


def _rule(workload):
    rng = np.random.default_rng(0)
    w, dw = rng.standard_normal((2, 1000, 1000)).astype(np.float32)
    state = {"w": w, "config": {"learning_rate": 1e-3}}
    rule = UPDATE_RULES[workload.rule]

    def run(steps):
        for _ in range(steps):
            state["w"], state["config"] = rule(state["w"], dw, state["config"])

    return run
