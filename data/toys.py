"""Small problems made by the program: points in the plane."""

import numpy as np

from ..engine.randomness import generator

__all__ = ["spiral"]


def spiral(num_points=100, num_classes=3, seed=0):
    """The course's spiral: one arm of points for each class; no straight line separates the arms.

    Returns X (num_points * num_classes, 2) float32 with coordinates from -1 to 1, and y, the number
    of the arm, from 0. Source: cs231n, "Putting it together: minimal neural network case study".
    """
    rng = generator(seed, "data")
    X = np.empty((num_classes, num_points, 2), np.float32)
    for arm in range(num_classes):
        r = np.linspace(0, 1, num_points)
        t = np.linspace(4 * arm, 4 * (arm + 1), num_points) + 0.2 * rng.standard_normal(num_points)
        X[arm] = np.stack([r * np.sin(t), r * np.cos(t)], axis=1)
    return X.reshape(-1, 2), np.repeat(np.arange(num_classes), num_points)
