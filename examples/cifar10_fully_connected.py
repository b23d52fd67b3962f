"""Fully connected nets on CIFAR-10, with the settings that the course's students report.

    python examples/cifar10_fully_connected.py two-layer
    python examples/cifar10_fully_connected.py best

Needs CIFAR-10 (`handgrad download cifar10`, or HANDGRAD_DATA). Each run has a seed of its own; the
parameters are the best on 1000 validation images; the test is all 10,000 test images, once.
"""

import argparse

import numpy as np
from handgrad import Solver
from handgrad.data_utils import get_CIFAR10_data
from handgrad.models import FullyConnectedNet, TwoLayerNet


def two_layer(data, seed):
    """Reported: 0.522 of the test images."""
    model = TwoLayerNet(reg=0.1, seed=seed)
    rate = {"learning_rate": 1e-3}
    return Solver(model, data, optim_config=rate, lr_decay=0.8, num_epochs=10, print_every=0, seed=seed)


def best(data, seed):
    """Reported: 0.548 of the test images."""
    model = FullyConnectedNet(
        [600, 500, 400, 300, 200, 100],
        dropout=0.25,
        use_batchnorm=True,
        reg=1e-2,
        weight_scale=2e-2,
        seed=seed,
    )
    rate = {"learning_rate": 3.1e-4}
    return Solver(
        model,
        data,
        update_rule="adam",
        optim_config=rate,
        lr_decay=0.9,
        num_epochs=30,
        print_every=0,
        seed=seed,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("net", choices=("two-layer", "best"))
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    data = get_CIFAR10_data(num_test=10000)
    accuracies = []
    for seed in range(args.seeds):
        solver = {"two-layer": two_layer, "best": best}[args.net](data, seed)
        solver.train()
        accuracies.append(solver.check_accuracy(data["X_test"], data["y_test"]))
        print(f"seed {seed}: test accuracy {accuracies[-1]:.4f}", flush=True)
    spread = np.std(accuracies, ddof=1) if args.seeds > 1 else float("nan")
    print(f"{args.net}: {np.mean(accuracies):.4f}, deviation {spread:.4f} over {args.seeds} seeds")


if __name__ == "__main__":
    main()
