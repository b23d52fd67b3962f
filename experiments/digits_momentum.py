"""Digits: does momentum help?"""

from . import digits
from .study import Study, main

STUDY = Study(
    "digits_momentum",
    "Digits: momentum",
    """One hidden layer of 100, 40 epochs, the same learning rate with and without momentum. The report
says that momentum makes the loss smoother; what it does here is to make the steps ten times as
long, so that the last row gives plain descent the learning rate times ten: with it the two are
alike.""",
    digits.build,
    {
        "without, 0.02": dict(update_rule="sgd", learning_rate=0.02, num_epochs=40),
        "momentum 0.9, 0.02": dict(update_rule="sgd_momentum", learning_rate=0.02, num_epochs=40),
        "Nesterov 0.9, 0.02": dict(update_rule="nesterov_momentum", learning_rate=0.02, num_epochs=40),
        "without, 0.2": dict(update_rule="sgd", learning_rate=0.2, num_epochs=40),
    },
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
