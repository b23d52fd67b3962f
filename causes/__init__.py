"""The causes of a wrong gradient: small functions from a Case to a Finding, or None.

    case        one wrong gradient, and the numbers that they look at
    places      another order, other axes, another sum
    ratios      a sign, a factor, a rounding
    paths       left out, or open where forward is closed
    norms       mean and variance
    steps       a recurrence that keeps what one step adds
    windows     assigned in place of added, or wrong at the border
    penalties   of a model

doctor.py has their table.
"""

__all__ = []
