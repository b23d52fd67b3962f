"""scikit-learn's side: MLPClassifier, for the net of six dense layers."""

import numpy as np
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from .workloads import images


def session(threads):
    return threadpool_limits(threads, user_api="blas")


def build(workload):
    """One round is one call of partial_fit, which takes its images once, in mini-batches."""
    images_, labels = images(workload.net)
    net = MLPClassifier(
        [100] * 5,
        solver="sgd",
        momentum=0.9,
        learning_rate_init=1e-3,
        alpha=0,
        batch_size=workload.batch,
    )
    rng = np.random.default_rng(0)
    classes = np.arange(10)

    def run(steps):
        index = np.resize(rng.permutation(len(images_)), steps * workload.batch)
        X = images_[index].reshape(len(index), -1).astype(np.float32)
        X -= np.float32(100)
        X /= np.float32(70)
        net.partial_fit(X, labels[index], classes=classes)

    return run
