"""Digits: initialisations, and a learning rate that is halved."""

import functools

from handgrad.optim import halving

from . import digits
from .study import Study, main

NET = dict(hidden_dims=(100, 100, 100), num_epochs=60)
HALVED = dict(schedule=functools.partial(halving, every=15))

STUDY = Study(
    "digits_initialisation",
    "Digits: initialisation, and a learning rate halved every 15 epochs",
    """Three hidden layers of 100, 60 epochs of momentum. Weights from N(0, 1) make scores so large that
the first steps kill most ReLUs, or the run stops with a loss that is not finite at this learning
rate; they get 0.0002.""",
    digits.build,
    {
        "N(0, 1), 0.0002": dict(**NET, weight_scale=1.0, learning_rate=2e-4),
        "N(0, 0.01)": dict(**NET, weight_scale=0.01),
        "Xavier": dict(**NET, weight_scale="xavier"),
        "Kaiming": dict(**NET, weight_scale="kaiming"),
        "Xavier, halved": dict(**NET, **HALVED, weight_scale="xavier"),
        "Kaiming, halved": dict(**NET, **HALVED, weight_scale="kaiming"),
    },
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
