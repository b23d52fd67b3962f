"""CIFAR-10: 50 images learned by heart."""

import functools

from handgrad.models import FullyConnectedNet

from . import cifar10
from .study import Column, Study, build, main


def fitted(run):
    """The accuracy on the training images after the last epoch, in per cent."""
    return 100 * run["train_acc_history"][-1]


def net(depth, weight_scale):
    return functools.partial(FullyConnectedNet, [100] * (depth - 1), weight_scale=weight_scale)


SHORT = dict(num_training=50, batch_size=25, num_epochs=20, data=cifar10.load_as_the_course)

STUDY = Study(
    "cifar10_overfitting",
    "CIFAR-10: 50 images learned by heart",
    """The course's test of a net and its gradients: hidden layers of 100, plain descent, 20 epochs on
50 images. The accuracies in the table are on these 50; on others they mean nothing.""",
    build,
    {
        "three layers": dict(**SHORT, model=net(3, 1e-2), learning_rate=1e-2),
        "five layers": dict(**SHORT, model=net(5, 5e-2), learning_rate=1e-2),
    },
    reported={"three layers": "100", "five layers": "100"},
    quick=dict(num_epochs=2),
    measured=Column("%", fitted),
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
