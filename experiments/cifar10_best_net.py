"""CIFAR-10: the report's best net."""

import functools

from handgrad.models import FullyConnectedNet

from . import cifar10
from .study import Study, build, main

STUDY = Study(
    "cifar10_best_net",
    "CIFAR-10: six hidden layers, batch norm, dropout",
    """Hidden layers of 600, 500, 400, 300, 200 and 100 with batch normalisation and dropout 0.25, L2 of
1e-2, Adam at 3.1e-4 that falls by 0.9 an epoch, 30 epochs at batch 100: the report's settings,
without augmentation. All 10,000 test images, where the report has the first 1000.""",
    build,
    {
        "six hidden layers": dict(
            model=functools.partial(
                FullyConnectedNet,
                [600, 500, 400, 300, 200, 100],
                dropout=0.25,
                normalization="batchnorm",
                reg=1e-2,
                weight_scale=2e-2,
            ),
            update_rule="adam",
            learning_rate=3.1e-4,
            lr_decay=0.9,
            num_epochs=30,
            data=cifar10.load_as_the_course,
        )
    },
    reported={"six hidden layers": "54.8"},
    quick=cifar10.QUICK,
    seeds=3,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
