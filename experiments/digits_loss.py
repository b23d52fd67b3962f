"""Digits: mean squared error against softmax."""

from . import digits
from .study import Study, main

NET = dict(hidden_dims=(32, 32, 64, 64, 32, 16), activation="leaky_relu")
MSE = dict(loss="mse", learning_rate=0.1)  # its gradient is smaller by a factor of the classes

STUDY = Study(
    "digits_loss",
    "Digits: mean squared error against softmax",
    """The nets of the second report, with Leaky ReLU, He initialisation and momentum: one hidden layer
of 10, and [32, 32, 64, 64, 32, 16]. The squared error is the mean over examples and classes of
the difference to one-hot targets. Learning rates: 0.1 for it, 0.02 for softmax.""",
    digits.build,
    {
        "[10], squared error": dict(hidden_dims=(10,), activation="leaky_relu", **MSE),
        "[10], softmax": dict(hidden_dims=(10,), activation="leaky_relu"),
        "six layers, squared error": dict(**NET, **MSE),
        "six layers, softmax": NET,
        "six layers, softmax, dropout 0.2": dict(**NET, dropout=0.2),
    },
    reported={
        "[10], squared error": "90.3",
        "six layers, squared error": "95.0",
        "six layers, softmax": "93.1",
        "six layers, softmax, dropout 0.2": "93.7",
    },
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
