"""CIFAR-10: a small convolutional net."""

import functools

from handgrad.augment import compose, crop, flip, views
from handgrad.models import ConvNet

from . import cifar10
from .study import Study, build, main, warmed_cosine

EPOCHS = 24

STUDY = Study(
    "cifar10_convnet",
    "CIFAR-10: a convolutional net",
    """Three convolutions of 3x3 (32, 64, 128), each with batch normalisation and pooled, and 128 hidden
units; images are mirrored by chance and moved by up to 4 pixels; Nesterov momentum at batch 64, the
learning rate up to 0.05 and down along a cosine, L2 of 1e-4; ten views to predict.""",
    build,
    {
        "three convolutions": dict(
            model=functools.partial(
                ConvNet,
                (32, "pool", 64, "pool", 128, "pool"),
                (128,),
                normalization="batchnorm",
                reg=1e-4,
            ),
            update_rule="nesterov_momentum",
            learning_rate=0.05,
            schedule=warmed_cosine(EPOCHS * 766),
            batch_size=64,
            num_epochs=EPOCHS,
            augment=compose(flip, functools.partial(crop, pad=4)),
            views=views(pixels=1),
            data=cifar10.load,
        )
    },
    quick=dict(**cifar10.QUICK, views=None),
    seeds=3,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
