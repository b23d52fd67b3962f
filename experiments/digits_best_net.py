"""Digits: the best net, on X alone and on X and Xvalid."""

import functools

import numpy as np
from handgrad.augment import distort
from handgrad.models import ConvNet

from . import digits
from .study import Study, main, warmed_cosine

MOVED_AND_BENT = functools.partial(
    distort, pixels=1, degrees=10, resize=(0.9, 1.1), stretch=(0.9, 1.1), strength=4
)
NET = dict(
    model=ConvNet,
    filters=(32, "pool", 64, "pool", 128, "pool"),
    hidden_dims=(128,),
    normalization="batchnorm",
    dropout=0.5,
    learning_rate=0.05,
    schedule=warmed_cosine(2400),
    augment=MOVED_AND_BENT,
)


@functools.cache
def with_validation_images():
    """X and Xvalid to train on, and nothing to choose by: the last parameters are taken."""
    data = dict(digits.load())
    for key in ("X", "y"):
        data[f"{key}_train"] = np.concatenate([data[f"{key}_train"], data.pop(f"{key}_val")])
    return data


STUDY = Study(
    "digits_best_net",
    "Digits: the best net",
    """Three convolutions of 3x3 (32, 64, 128), each with batch normalisation and pooled, 128 hidden
units, dropout 0.5; every image is moved, turned, scaled and bent anew each time; 2400 steps of
momentum at batch 50, the learning rate up to 0.05 and down along a cosine. Of two nets tried this
one had the better validation accuracy. The public system has 99.70 % once, after 200 epochs on X.""",
    digits.build,
    {
        "trained on X": dict(**NET, num_epochs=24),
        "trained on X and Xvalid": dict(**NET, num_epochs=12, data=with_validation_images),
    },
    reported={"trained on X": "99.70"},
    quick=dict(digits.QUICK, augment=None),
    seeds=10,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
