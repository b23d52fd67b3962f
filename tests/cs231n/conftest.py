"""A notebook in small: a fresh namespace, in which cells run after `use`."""

import pickle
import sys

import numpy as np
import pytest
from handgrad import cs231n

SHARED = ("cs231n", "imageio", "google", "scipy.misc")  # what `use` puts into sys.modules


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """notebook(year, ...) gives run(cell), which returns the namespace."""
    monkeypatch.chdir(tmp_path)
    before, state = set(sys.modules), np.random.get_state()
    monkeypatch.setattr(cs231n, "TOLD", set())

    def opened(year, **settings):
        cs231n.use(year, **settings)
        namespace = {}

        def run(cell):
            exec(compile(cell, "cell", "exec"), namespace)
            return namespace

        return run

    yield opened
    for name in set(sys.modules) - before:
        if name.startswith(SHARED):
            del sys.modules[name]
    np.random.set_state(state)


@pytest.fixture
def small_cifar(tmp_path):
    """cs231n/datasets beside the notebook, with 60 images in each file of CIFAR-10."""
    folder = tmp_path / "cs231n" / "datasets" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        batch = {"data": rng.integers(256, size=(60, 3072), dtype=np.uint8)}
        batch["labels"] = [int(label) for label in rng.integers(10, size=60)]
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    return folder
