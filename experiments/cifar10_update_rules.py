"""CIFAR-10: four update rules on 4000 images."""

import functools

from handgrad.data_utils import get_CIFAR10_data
from handgrad.models import FullyConnectedNet

from .study import Study, build, main


@functools.cache
def load(num_training, num_test=10000):
    return get_CIFAR10_data(num_training=num_training, num_test=num_test)


NET = dict(
    model=functools.partial(FullyConnectedNet, [100] * 5, weight_scale=5e-2),
    data=load,
    num_training=4000,
    num_epochs=5,
)

STUDY = Study(
    "cifar10_update_rules",
    "CIFAR-10: four update rules on 4000 images",
    """Five hidden layers of 100, 5 epochs at batch 100, each rule with the course's learning rate.
Accuracies are low because there are 200 steps and 4000 images; what counts is the order. All
10,000 test images.""",
    build,
    {
        "sgd, 1e-2": dict(**NET, update_rule="sgd", learning_rate=1e-2),
        "sgd_momentum, 1e-2": dict(**NET, update_rule="sgd_momentum", learning_rate=1e-2),
        "rmsprop, 1e-4": dict(**NET, update_rule="rmsprop", learning_rate=1e-4),
        "adam, 1e-3": dict(**NET, update_rule="adam", learning_rate=1e-3),
    },
    quick=dict(num_epochs=1, num_training=400, data=functools.partial(load, num_test=500)),
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
