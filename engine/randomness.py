"""The random numbers of a run: each draw has a generator made of (seed, purpose, place).

There are no streams that go on. So a run that is stopped and resumed, or spread over threads, draws
what an uninterrupted run draws, and the seed is the only state to save.
"""

import numpy as np

__all__ = ["PURPOSES", "dropout_mask", "generator", "new_seed", "sequence"]

PURPOSES = ("initialisation", "dropout", "shuffle", "augmentation", "accuracy", "data", "words")


def new_seed():
    """A seed from the operating system's entropy, for a run that was given none."""
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])


def sequence(seed, purpose, *place):
    """The SeedSequence of a purpose at a place: an epoch, a step, a layer ..."""
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *place))


def generator(seed, purpose, *place):
    """The generator of a purpose at a place."""
    return np.random.default_rng(sequence(seed, purpose, *place))


def dropout_mask(shape, dtype, p, seed):
    """0 with probability p, else 1 / (1 - p). seed: as `np.random.default_rng` takes it."""
    draws = np.random.default_rng(seed).random(shape, np.float32)
    mask = (draws >= p).astype(dtype)
    mask *= 1 / (1 - p)
    return mask
