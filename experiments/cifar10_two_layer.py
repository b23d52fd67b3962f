"""CIFAR-10: the course's two-layer net."""

import functools

from handgrad.models import TwoLayerNet

from . import cifar10
from .study import Study, build, main

STUDY = Study(
    "cifar10_two_layer",
    "CIFAR-10: the two-layer net",
    """100 hidden units, L2 of 0.1, plain descent at 1e-3 that falls by 0.8 an epoch, 10 epochs at
batch 100: the report's settings. All 10,000 test images, where the report has the first 1000.""",
    build,
    {
        "two layers": dict(
            model=functools.partial(TwoLayerNet, reg=0.1),
            learning_rate=1e-3,
            lr_decay=0.8,
            num_epochs=10,
            data=cifar10.load_as_the_course,
        )
    },
    reported={"two layers": "52.2"},
    quick=cifar10.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
