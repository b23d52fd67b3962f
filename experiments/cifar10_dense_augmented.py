"""CIFAR-10: a net without convolutions on moved and mirrored images."""

import functools

from handgrad.augment import compose, crop, flip, views
from handgrad.data_utils import whitening
from handgrad.models import FullyConnectedNet
from handgrad.vis_utils import show_augmented

from . import cifar10
from .study import Study, build, main, warmed_cosine

COMPONENTS = 512
EPOCHS = 50
MOVED = compose(flip, functools.partial(crop, pad=2))


@functools.cache
def load_whitened(num_training=None):
    """Bytes, which become 512 uncorrelated numbers when a batch needs them."""
    data = cifar10.load(num_training)
    return {**data, "transform": whitening(data["X_train"], COMPONENTS, eps=0.1)}


def before_and_after():
    return show_augmented(cifar10.load()["X_train"][:5], MOVED, versions=9)


NET = dict(
    model=functools.partial(
        FullyConnectedNet,
        [1024, 1024],
        input_dim=COMPONENTS,
        dropout=0.1,
        normalization="batchnorm",
        weight_scale="kaiming",
    ),
    update_rule="adam",
    learning_rate=2e-3,
    schedule=warmed_cosine(EPOCHS * 383),
    batch_size=128,
    num_epochs=EPOCHS,
    augment=MOVED,
    views=views(pixels=1),
    data=load_whitened,
)

STUDY = Study(
    "cifar10_dense_augmented",
    "CIFAR-10: no convolutions, augmented",
    """Two hidden layers of 1024 with batch normalisation and dropout 0.1 on the 512 largest principal
components, whitened; every image is mirrored by chance and moved by up to 2 pixels each time it is
seen; Adam at batch 128, the learning rate up to 2e-3 and down along a cosine. To predict, the scores
of ten views are added up: the image, moved by a pixel each way, and the mirror images of the five.""",
    build,
    {"two hidden layers": NET},
    quick=dict(**cifar10.QUICK, model=functools.partial(FullyConnectedNet, [50]), data=cifar10.load),
    seeds=3,
    picture=before_and_after,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
