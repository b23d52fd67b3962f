"""The course's loaders, on small files."""

import shutil

import numpy as np
import pytest
from handgrad.cs231n import data


def test_a_batch_and_the_whole(small_cifar, notebook):
    cell = notebook(2019)("""
from cs231n.data_utils import *
X, y = load_CIFAR_batch('cs231n/datasets/cifar-10-batches-py/data_batch_2')
X_train, y_train, X_test, y_test = load_CIFAR10('cs231n/datasets/cifar-10-batches-py')
with open('cs231n/datasets/cifar-10-batches-py/data_batch_2', 'rb') as f:
    datadict = load_pickle(f)
""")
    X, raw = cell["X"], cell["datadict"]["data"]
    assert (X.shape, X.dtype, cell["y"].tolist()) == (
        (60, 32, 32, 3),
        float,
        cell["datadict"]["labels"],
    )
    np.testing.assert_array_equal(X[7, 3, 5], raw[7].reshape(3, 32, 32)[:, 3, 5])
    assert cell["X_train"].shape == (300, 32, 32, 3)
    np.testing.assert_array_equal(cell["X_train"][60:120], X)
    np.testing.assert_array_equal(cell["y_train"][60:120], cell["y"])
    assert (cell["X_test"].shape, cell["y_test"].shape) == ((60, 32, 32, 3), (60,))


def test_the_data_of_the_notebooks(small_cifar, notebook):
    cell = notebook(2021)("""
from cs231n.data_utils import get_CIFAR10_data, load_CIFAR10
data = get_CIFAR10_data(200, 80, 30)
plain = get_CIFAR10_data(num_training=200, num_validation=80, num_test=30, subtract_mean=False)
X_train, y_train, X_test, y_test = load_CIFAR10('cs231n/datasets/cifar-10-batches-py')
""")
    given, plain = cell["data"], cell["plain"]
    assert list(given) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
    mean = cell["X_train"][:200].mean(axis=0)
    for part, X in (("train", cell["X_train"][:200]), ("val", cell["X_train"][200:280]),
                    ("test", cell["X_test"][:30])):  # fmt: skip
        np.testing.assert_allclose(given[f"X_{part}"], (X - mean).transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(plain[f"X_{part}"], X.transpose(0, 3, 1, 2))
    assert given["X_val"].dtype == np.float64
    np.testing.assert_array_equal(given["y_val"], cell["y_train"][200:280])


def test_where_it_is_looked_for(small_cifar, notebook, tmp_path, monkeypatch):
    """Beside the notebook, else where handgrad looks; a folder that is named and is not there, too."""
    elsewhere = tmp_path / "elsewhere"
    shutil.move(small_cifar.parent, elsewhere)
    monkeypatch.setenv("HANDGRAD_DATA", str(elsewhere))
    run = notebook(2019)
    run("from cs231n.data_utils import *\ndata = get_CIFAR10_data(200, 80, 30)")
    cell = run("X, y, *test = load_CIFAR10('cs231n/datasets/cifar-10-batches-py')")
    assert len(cell["X"]) == 300
    with pytest.raises(FileNotFoundError, match="pictures"):
        run("load_CIFAR10('pictures')")
    monkeypatch.setenv("HANDGRAD_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="cifar10 is not in"):
        run("get_CIFAR10_data()")


def test_nets_are_saved_and_loaded(notebook, tmp_path):
    cell = notebook(2021)("""
from cs231n.classifiers.fc_net import *
from cs231n.classifiers.cnn import *
from cs231n.data_utils import load_models
import os
os.mkdir('saved')
two = FullyConnectedNet([5], 4, 3, dropout_keep_ratio=0.5, normalization='batchnorm')
three = ThreeLayerConvNet((1, 8, 8), 2, 3, 4, 3)
two.loss(np.random.randn(6, 4), np.arange(6) % 3)
two.save('saved/two')
three.save('saved/three.npz')
open('saved/README.txt', 'w').close()
models = load_models('saved')
""")
    rng = np.random.default_rng(0)
    assert sorted(cell["models"]) == ["three.npz", "two.npz"]
    for name, shape in (("two", (3, 4)), ("three", (3, 1, 8, 8))):
        X = rng.standard_normal(shape)
        np.testing.assert_array_equal(cell["models"][f"{name}.npz"].loss(X), cell[name].loss(X))


# ---------------------------------------------------------------------------- Tiny ImageNet


@pytest.fixture
def tiny_imagenet(tmp_path):
    """Two classes with two training images each, one of them grey; two to validate, one to test."""
    image = pytest.importorskip("PIL.Image")
    root, brightness = tmp_path / "tiny", iter(range(10, 200, 10))

    def put(folder, name, mode="RGB"):
        folder.mkdir(parents=True, exist_ok=True)
        color = next(brightness)
        image.new(mode, (4, 4), color if mode == "L" else (color, 0, 0)).save(folder / name, "PNG")

    for wnid, mode in (("n02", "RGB"), ("n01", "L")):
        for k in range(2):
            put(root / "train" / wnid / "images", f"{wnid}_{k}.JPEG", mode)
        rows = "".join(f"{wnid}_{k}.JPEG\t0\t0\t3\t3\n" for k in range(2))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(rows)
    for name in ("val_0.JPEG", "val_1.JPEG"):
        put(root / "val" / "images", name)
    put(root / "test" / "images", "test_0.JPEG")
    (root / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn01\t0\nval_0.JPEG\tn02\t0\n")
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tbee, honey bee\nn02\tox\nn03\tox cart\n")
    return root


def test_tiny_imagenet(tiny_imagenet):
    found = data.load_tiny_imagenet(tiny_imagenet, subtract_mean=False)
    assert found["class_names"] == [["ox"], ["bee", "honey bee"]]
    assert found["X_train"].shape == (4, 3, 4, 4)
    assert found["X_train"].dtype == np.float32
    assert found["X_train"][:, :, 0, 0].tolist() == [[10, 0, 0], [20, 0, 0], [30] * 3, [40] * 3]
    assert found["y_train"].tolist() == [0, 0, 1, 1]
    assert found["X_val"][:, 0, 0, 0].tolist() == [60, 50]  # in the order of the list
    assert found["y_val"].tolist() == [1, 0]
    assert found["X_test"][:, 0, 0, 0].tolist() == [70]
    assert found["y_test"] is None
    assert found["mean_image"][:, 0, 0].tolist() == [25, 17.5, 17.5]
    centred = data.load_tiny_imagenet(tiny_imagenet, dtype=float)
    np.testing.assert_allclose(centred["X_test"][0, :, 0, 0], [45, -17.5, -17.5])
    assert abs(centred["X_train"].mean()) < 1e-12


def test_tiny_imagenet_with_labels_to_test(tiny_imagenet):
    (tiny_imagenet / "test" / "test_annotations.txt").write_text("test_0.JPEG\tn01\n")
    assert data.load_tiny_imagenet(tiny_imagenet)["y_test"].tolist() == [1]
