"""What the studies of whole CIFAR-10 share: its images, and a net as a Solver."""

import functools

from handgrad import Solver
from handgrad.data_utils import load_cifar10

QUICK = dict(num_epochs=1, num_training=256)


@functools.cache
def load(num_training=None):
    """49,000 images to train, 1000 to choose by, 10,000 to test; with a number, that many of each."""
    data = load_cifar10()
    cut = {key: data[key][:num_training] for key in data if key != "transform"}
    return {**data, **cut}


def build(seed, model, learning_rate, num_training=None, steps=None, data=load, **options):
    """model: called with the seed. options: of the Solver."""
    return Solver(
        model(seed=seed),
        data(num_training),
        optim_config={"learning_rate": learning_rate},
        seed=seed,
        **options,
    )
