"""Digits: shifted, turned, scaled images."""

import functools

from handgrad.augment import distort, resize, rotate, shift
from handgrad.vis_utils import show_augmented

from . import digits
from .study import Study, main

NET = dict(hidden_dims=(400, 200), num_epochs=100)
ALL = functools.partial(
    distort, pixels=1, degrees=10, resize=(0.9, 1.1), stretch=(0.9, 1.1), strength=4
)


def before_and_after():
    """One digit of each class and seven draws of what the last row of the table does to it."""
    data = digits.load()
    first = [int((data["y_train"] == label).argmax()) for label in range(10)]
    return show_augmented(data["X_train"][first], ALL, versions=7)


STUDY = Study(
    "digits_augmentation",
    "Digits: augmentation",
    """Two hidden layers of 400 and 200, 100 epochs; every training image is drawn anew each time it is
seen, with bilinear interpolation. The first report names shift, rotation and resizing; the last
row does all, and bends the images. An MLP without convolution is to reach 97 %.""",
    digits.build,
    {
        "none": NET,
        "shift by up to 1 pixel": dict(**NET, augment=functools.partial(shift, pixels=1)),
        "rotate by up to 10 degrees": dict(**NET, augment=functools.partial(rotate, degrees=10)),
        "resize by 0.9 to 1.1": dict(**NET, augment=functools.partial(resize, low=0.9, high=1.1)),
        "all, and bent": dict(**NET, augment=ALL),
    },
    reported={"none": "96.00"},
    quick=digits.QUICK,
    picture=before_and_after,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
