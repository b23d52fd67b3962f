"""Where every random number of a run comes from: its seed, a purpose, and a place in the run.

Nothing is drawn from a stream that goes on: each draw has a generator of its own, made from
(seed, purpose, place). So a run that is stopped and resumed, or spread over threads, draws what an
uninterrupted one draws, and there is no state to save but the seed.
"""

import numpy as np

PURPOSES = ("initialisation", "dropout", "shuffle", "augmentation", "accuracy", "data")


def new_seed():
    """A seed from the operating system's entropy, for a run that was given none."""
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])


def sequence(seed, purpose, *place):
    """The SeedSequence of a purpose at a place, such as an epoch or a step."""
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *place))


def generator(seed, purpose, *place):
    """The generator of a purpose at a place."""
    return np.random.default_rng(sequence(seed, purpose, *place))
