"""What the studies of all CIFAR-10 share: its images."""

import functools

from handgrad.data_utils import get_CIFAR10_data, load_cifar10

from .study import first

QUICK = dict(num_epochs=1, num_training=256)


@functools.cache
def load(num_training=None):
    """Bytes: 49,000 images to train, 1000 to choose by, 10,000 to test; or the first so many each."""
    return first(load_cifar10(), num_training)


@functools.cache
def load_as_the_course(num_training=None):
    """The same images as floats from 0 to 255 less the mean image of those to train."""
    return get_CIFAR10_data(num_training or 49000, num_test=num_training or 10000)
