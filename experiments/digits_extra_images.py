"""Digits: the second report's best net, without and with extra images."""

import functools

import numpy as np
from handgrad.augment import compose, shift, stretch
from handgrad.models import ConvNet
from handgrad.optim import step_decay

from . import digits
from .study import Study, main

NET = dict(
    model=ConvNet,
    filter_size=5,
    pool_size=3,
    hidden_dims=(32, 32, 64, 64, 32, 16),
    activation="leaky_relu",
    batch_size=8,
    learning_rate=0.001,
    schedule=functools.partial(step_decay, every=5000, factor=0.9),
    validate_every=2500,
)
SQUEEZED = compose(functools.partial(stretch, low=0.7, high=1.0), functools.partial(shift, pixels=2))


@functools.cache
def with_extra_images():
    """Each training image once more, stretched to 70 to 100 % of its height and width, and shifted."""
    data = digits.load()
    extra = SQUEEZED(data["X_train"], np.random.default_rng(0))
    return {
        **data,
        "X_train": np.concatenate([data["X_train"], extra]),
        "y_train": np.concatenate([data["y_train"]] * 2),
    }


STUDY = Study(
    "digits_extra_images",
    "Digits: the second report's best net",
    """A convolution of 5x5, max pooling of 3, and the net of six layers, in the report's own setting:
batches of 8, momentum 0.9, a learning rate of 1e-3 that is multiplied by 0.9 every 5000 batches,
Leaky ReLU, 50,000 batches; then with 5000 extra images, drawn once.""",
    digits.build,
    {
        "32 filters": dict(**NET, filters=(32, "pool"), num_epochs=80),
        "32 filters, extra images": dict(
            **NET, filters=(32, "pool"), num_epochs=40, data=with_extra_images
        ),
    },
    reported={"32 filters": "97.9", "32 filters, extra images": "98.1"},
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
