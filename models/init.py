"""Initial weights, and a table of the ways to draw them.

    weights = initializer(rng, shape, fan_in, fan_out)

fan_in and fan_out count the numbers that go into one output and the outputs that one input reaches.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..engine.errors import check_range, look_up

__all__ = ["INITIALIZERS", "Draw", "kaiming", "xavier"]


def xavier(rng, shape, fan_in, fan_out):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, shape)


def kaiming(rng, shape, fan_in, fan_out):
    """Normal with deviation sqrt(2 / fan_in) (He et al. 2015)."""
    return rng.standard_normal(shape) * math.sqrt(2 / fan_in)


INITIALIZERS = {"xavier": xavier, "kaiming": kaiming}


@dataclass(frozen=True)
class Draw:
    """Draws initial weights: `draw(shape, fan_in, fan_out)`.

    scale  the deviation of normal weights, a name in INITIALIZERS, or a function like theirs
    rng    the generator
    dtype  of the net's parameters
    """

    scale: float | str
    rng: np.random.Generator
    dtype: type

    def __call__(self, shape, fan_in, fan_out):
        if isinstance(self.scale, str) or callable(self.scale):
            named = isinstance(self.scale, str)
            initializer = (
                look_up("Net", INITIALIZERS, self.scale, "weight_scale") if named else self.scale
            )
            return initializer(self.rng, shape, fan_in, fan_out)
        check_range("Net", "weight_scale", self.scale, 0, math.inf)
        return self.scale * self.rng.standard_normal(shape)
