"""What all tests share: real data if the machine has it, a fixed hypothesis profile."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import scipy.io

hypothesis.settings.register_profile(
    "handgrad", deadline=None, max_examples=60, derandomize=True, database=None
)
hypothesis.settings.load_profile("handgrad")


@pytest.fixture(scope="session")
def real_data():
    """The folder with MNIST, CIFAR-10 and digits.mat; skips, and says so, where there is none."""
    folder = os.environ.get("HANDGRAD_DATA")
    if not folder or not Path(folder, "digits.mat").exists():
        pytest.skip(
            "needs real data: set HANDGRAD_DATA to the folder that holds mnist/, digits.mat ..."
        )
    return Path(folder)


@pytest.fixture
def rng():
    return np.random.default_rng(231)


@pytest.fixture
def blobs():
    """A small problem that any net can learn: three clouds of points in five dimensions."""
    rng = np.random.default_rng(7)
    y = np.arange(150) % 3
    X = (rng.standard_normal((150, 5)) + 3 * np.eye(3, 5)[y]).astype(np.float32)
    return {"X_train": X[:100], "y_train": y[:100], "X_val": X[100:], "y_val": y[100:]}


@pytest.fixture
def data_dir(tmp_path):
    """digits.mat with 40 images of stripes that are easy to tell apart."""
    y = np.arange(40) % 10
    X = np.zeros((40, 16, 16), np.uint8)
    X[np.arange(40), y] = 255
    content = {"X": X, "y": y + 1, "Xvalid": X, "yvalid": y + 1, "Xtest": X, "ytest": y + 1}
    folder = tmp_path / "data"
    folder.mkdir()
    shaped = {k: v.reshape(40, -1).astype(np.uint8) for k, v in content.items()}
    scipy.io.savemat(folder / "digits.mat", shaped)
    return str(folder)
