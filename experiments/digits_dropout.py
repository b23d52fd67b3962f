"""Digits: dropout against none."""

from . import digits
from .study import Study, main

STUDY = Study(
    "digits_dropout",
    "Digits: dropout",
    """Two hidden layers of 400, 100 epochs; p is the probability of dropping an activation. One public
system has 96.00 % without dropout and 96.70 % with it, another found dropout harmful on a small
net.""",
    digits.build,
    {f"p = {p}": dict(hidden_dims=(400, 400), dropout=p) for p in (0, 0.2, 0.5)},
    reported={"p = 0": "96.00", "p = 0.5": "96.70"},
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
