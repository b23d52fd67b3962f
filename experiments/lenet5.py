"""What the studies of LeNet-5 on MNIST share: plain SGD on all 60,000 images, as the report has it."""

import functools

from handgrad.data_utils import load_mnist
from handgrad.models import LeNet5

from . import study

QUICK = dict(num_epochs=1, num_training=256)


@functools.cache
def load(num_training=None):
    """All 60,000 to train. There is no validation set: the report's runs end with their last epoch."""
    return study.first(load_mnist(num_validation=0), num_training)


def build(seed, learning_rate, batch_size, num_epochs=10, num_training=None, **options):
    """learning_rate is the report's: that of a gradient summed over the batch."""
    return study.build(
        seed,
        functools.partial(LeNet5, **options),
        learning_rate * batch_size,
        load,
        num_training,
        batch_size=batch_size,
        num_epochs=num_epochs,
    )
