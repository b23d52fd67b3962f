"""Small problems made by the program: points in the plane, and sequences whose answer is known."""

import numpy as np

from ..engine.randomness import generator

__all__ = ["adding_problem", "parity", "reversal", "spiral"]


def spiral(num_points=100, num_classes=3, seed=0):
    """The course's spiral: one arm of points for each class; no straight line separates the arms.

    Returns X (num_points * num_classes, 2) float32 with coordinates from -1 to 1, and y, the number
    of the arm, from 0. The same seed draws the same points. Source: cs231n, "Putting it together:
    minimal neural network case study".
    """
    rng = generator(seed, "data")
    X = np.empty((num_classes, num_points, 2), np.float32)
    for arm in range(num_classes):
        r = np.linspace(0, 1, num_points)
        t = np.linspace(4 * arm, 4 * (arm + 1), num_points) + 0.2 * rng.standard_normal(num_points)
        X[arm] = np.stack([r * np.sin(t), r * np.cos(t)], axis=1)
    return X.reshape(-1, 2), np.repeat(np.arange(num_classes), num_points)


def adding_problem(num_sequences, length, seed=0):
    """Two numbers of a long sequence are to be added (Hochreiter & Schmidhuber 1997): a test of memory.

    num_sequences is N.  length: steps, at least 2.  seed: the same one draws the same sequences.
    Returns X (N, length, 2) float32, at each step a number in [0, 1) and a mark, which is 1 at two
    steps, one in each half, and else 0; and y (N,) float32, the sum of the two marked numbers. Who
    always answers 1 has a mean squared error of 1/6.
    """
    if length < 2:
        raise ValueError(f"adding_problem: length = {length}, expected 2 or more.")
    rng, rows = generator(seed, "data"), np.arange(num_sequences)
    X = np.zeros((num_sequences, length, 2), np.float32)
    X[..., 0] = rng.random((num_sequences, length))
    for low, high in ((0, length // 2), (length // 2, length)):
        X[rows, rng.integers(low, high, num_sequences), 1] = 1
    return X, (X[..., 0] * X[..., 1]).sum(axis=1)


def parity(num_sequences, length, seed=0):
    """Whether the number of ones so far is odd, at each step: X and y (N, length), words 0 and 1.

    num_sequences is N.  seed: the same one draws the same sequences.
    """
    X = generator(seed, "data").integers(2, size=(num_sequences, length))
    return X, X.cumsum(axis=1) % 2


def reversal(num_sequences, length, vocab_size=10, seed=0):
    """A sequence is to be said backwards: a test of attention.

    num_sequences is N.  seed: the same one draws the same sequences.
    Returns X and y (N, 2 * length), the words of a language model: X is the sequence, a mark (the word
    vocab_size), and the answer without its last word. y is -1 until the mark, and from there on the
    answer. So a model has vocab_size + 1 words.
    """
    words = generator(seed, "data").integers(vocab_size, size=(num_sequences, length))
    mark = np.full((num_sequences, 1), vocab_size)
    answer = words[:, ::-1]
    X = np.concatenate([words, mark, answer[:, :-1]], axis=1)
    return X, np.concatenate([np.full((num_sequences, length), -1), answer], axis=1)
