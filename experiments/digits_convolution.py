"""Digits: a convolution as the first layer, and three."""

import functools

from handgrad.augment import distort
from handgrad.models import ConvNet

from . import digits
from .study import Study, main

MLP = dict(hidden_dims=(32, 32, 64, 64, 32, 16))
ONE = dict(model=ConvNet, filters=(32, "pool"), filter_size=5, pool_size=3, num_epochs=40)
THREE = dict(
    model=ConvNet, filters=(16, "pool", 32, "pool", 64, "pool"), hidden_dims=(128,), dropout=0.5
)
MOVED = functools.partial(distort, pixels=1, degrees=10, resize=(0.9, 1.1), stretch=(0.9, 1.1))

STUDY = Study(
    "digits_convolution",
    "Digits: convolutions",
    """A convolution of 32 filters of 5x5 with max pooling of 3 in front of the net of the second
report; and the public system's three convolutions of 3x3 (16, 32, 64), each pooled, with 128
hidden units and dropout 0.5, without and with images that are moved, turned and scaled.""",
    digits.build,
    {
        "one convolution and [32, 32, 64, 64, 32, 16]": dict(**ONE, **MLP),
        "three convolutions": dict(**THREE, num_epochs=60),
        "three convolutions, augmented": dict(**THREE, num_epochs=60, augment=MOVED),
    },
    reported={
        "one convolution and [32, 32, 64, 64, 32, 16]": "97.9",
        "three convolutions": "99.40",
        "three convolutions, augmented": "99.70 (200 epochs, once)",
    },
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
