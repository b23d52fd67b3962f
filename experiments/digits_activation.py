"""Digits: activation functions."""

from . import digits
from .study import Study, main

NET = dict(hidden_dims=(100, 100), num_epochs=60)

STUDY = Study(
    "digits_activation",
    "Digits: activation functions",
    """Two hidden layers of 100, 60 epochs of momentum at the same learning rate for all. With the
identity the net is a linear one, however many layers it has.""",
    digits.build,
    {
        name: dict(**NET, activation=name)
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "identity")
    },
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
