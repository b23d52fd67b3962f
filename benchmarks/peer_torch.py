"""PyTorch's side: the same nets on the same data, in eager mode, written in the usual way."""

import contextlib
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .workloads import VGG, images


def session(threads):
    torch.set_num_threads(threads)
    return contextlib.nullcontext()


def _conv_stack():
    stack, C = [], 3
    for f in VGG:
        if f == "pool":
            stack.append(nn.MaxPool2d(2))
        else:
            stack += [nn.Conv2d(C, f, 3, padding=1), nn.BatchNorm2d(f), nn.ReLU()]
            C = f
    return nn.Sequential(*stack, nn.Flatten(), nn.Linear(2048, 10))


def _dense(*widths):
    stack = [nn.Flatten()]
    for D, M in itertools.pairwise(widths):
        stack += [nn.Linear(D, M), nn.ReLU()]
    return nn.Sequential(*stack[:-1])


def _lenet():
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        ),
    )


def _three():
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 7, padding=3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8192, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


NETS = {
    "lenet5": _lenet,
    "fc100x5": lambda: _dense(3072, *[100] * 5, 10),
    "two_layer": lambda: _dense(3072, 100, 10),
    "three_layer_conv": _three,
    "vgg": _conv_stack,
}
RULES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
    "nesterov_momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
}


def build(workload):
    torch.manual_seed(0)
    makers = {"train": _train, "predict": _predict, "layer": _layer, "rule": _rule}
    return makers[workload.kind](workload)


def _transform(X):
    return X.float().sub_(100.0).div_(70.0)


def _train(workload):
    images_, labels = images(workload.net)
    X, y = torch.from_numpy(images_), torch.from_numpy(labels)
    net = NETS[workload.net]()
    optimizer = RULES[workload.rule](net.parameters())
    rng = np.random.default_rng(0)

    def batches():
        while True:
            order = torch.from_numpy(rng.permutation(len(X)))
            yield from order.split(workload.batch)

    source = batches()

    def run(steps):
        for _ in range(steps):
            index = next(source)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(_transform(X[index])), y[index])
            loss.backward()
            optimizer.step()
            loss.item()

    return run


def _predict(workload):
    net = NETS[workload.net]().eval()
    X = _transform(torch.from_numpy(images(workload.net)[0][: workload.batch].copy()))

    @torch.inference_mode()
    def run(steps):
        for _ in range(steps):
            net(X)

    return run


def _layer(workload):
    x = torch.randn(workload.shape["x"], requires_grad=True)
    if workload.net == "softmax_loss":
        y = torch.randint(10, (len(x),))

        def loss_and_gradient(steps):
            for _ in range(steps):
                torch.autograd.grad(F.cross_entropy(x, y), x)

        return loss_and_gradient
    w = workload.shape.get("w")
    layer = {
        "conv": lambda: nn.Conv2d(w[1], w[0], w[2], padding=workload.shape["pad"]),
        "affine": lambda: nn.Linear(*w),
        "max_pool": lambda: nn.MaxPool2d(2),
        "relu": nn.ReLU,
        "spatial_batchnorm": lambda: nn.BatchNorm2d(x.shape[1]),
    }[workload.net]()
    inputs = [x, *layer.parameters()]
    dout = torch.randn_like(layer(x)).contiguous()

    def run(steps):
        for _ in range(steps):
            torch.autograd.grad(layer(x), inputs, dout)

    return run


def _rule(workload):
    p = nn.Parameter(torch.randn(1000, 1000))
    p.grad = torch.randn(1000, 1000)
    optimizer = RULES[workload.rule]([p])

    def run(steps):
        for _ in range(steps):
            optimizer.step()

    return run
