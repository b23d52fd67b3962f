"""What targets are taken for, and what is said of those that do not fit."""

import re

import numpy as np
import pytest
from handgrad import Solver
from handgrad.engine.targets import checked_kind, kind_of
from handgrad.models import Affine, Net

LABELS, ROWS = np.array([2, 0]), np.eye(3)[[2, 0]]
KINDS = [  # y, the shape of the scores, kind
    (LABELS, (2, 3), "labels"),
    (LABELS.astype(np.uint8), (2, 3), "labels"),
    (np.zeros((2, 4), int), (2, 4, 7), "labels"),
    (LABELS, (2, 1), "labels"),
    (ROWS, (2, 3), "one-hot"),
    (ROWS.astype(int), (2, 3), "one-hot"),
    (ROWS.astype(bool), (2, 3), "one-hot"),
    (np.eye(7)[np.zeros((2, 4), int)], (2, 4, 7), "one-hot"),
    (2 * ROWS, (2, 3), "numbers"),
    (ROWS + np.eye(3)[[0, 1]], (2, 3), "numbers"),
    (0 * ROWS, (2, 3), "numbers"),
    (np.array([[1, 0, 0], [1, 0.5, 0]]), (2, 3), "numbers"),
    (np.array([[1.0], [1.0]]), (2, 1), "numbers"),
    (np.array([1.0, 2.5]), (2, 1), "numbers"),
    (np.array([1.0, 2.5]), (2, 3), None),
    (LABELS[:, None], (2, 3), None),
    (np.array(["cat", "dog"]), (2, 3), None),
    (ROWS * 1j, (2, 3), None),
]


@pytest.mark.parametrize(("y", "shape", "kind"), KINDS)
def test_kinds(y, shape, kind):
    assert kind_of(y, shape) == kind
    if kind:
        assert checked_kind("Net", "y", y, shape) == kind


REFUSALS = [  # y, the shape of the scores, whether numbers are learned, message
    (
        np.array([0.5, 1.0]),
        (2, 3),
        False,
        "Net: y has dtype float64 and is not one-hot, but the loss learns classes; expected integers "
        "(2,) as labels, or one-hot rows (2, 3). To learn numbers, take loss='mse'.",
    ),
    (
        ROWS / 2,
        (2, 3),
        False,
        "Net: y has dtype float64 and is not one-hot, but the loss learns classes",
    ),
    (
        np.array([1.0, 2.0]),
        (2, 3),
        False,
        "Net: y has dtype float64, expected integers; try y.astype(int).",
    ),
    (np.array([True, False]), (2, 3), False, "Net: y has dtype bool, expected integers; try y.astype"),
    (
        LABELS[:, None],
        (2, 3),
        False,
        "Net: y has shape (2, 1), expected integers (2,) as labels, or one-hot rows (2, 3); "
        "try y[..., 0].",
    ),
    (
        np.array([0.5, 1.0]),
        (2, 3),
        True,
        "Net: y has shape (2,), expected numbers (2, 3), integers (2,) as labels, or one-hot rows "
        "(2, 3); a net for one number has 1 output.",
    ),
    (np.zeros((2, 4)), (2, 3), True, "Net: y has shape (2, 4), expected numbers (2, 3), integers (2,)"),
    (
        np.array(["cat", "dog"]),
        (2, 3),
        False,
        "Net: y has dtype <U3, expected integers (2,) as labels, or one-hot rows (2, 3); if it names "
        "classes, try names, y = np.unique(y, return_inverse=True).",
    ),
]


@pytest.mark.parametrize(("y", "shape", "takes_numbers", "message"), REFUSALS)
def test_refusals(y, shape, takes_numbers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        checked_kind("Net", "y", y, shape, takes_numbers)


@pytest.mark.parametrize("loss", ["softmax", "svm"])
def test_nets_and_solvers_refuse_numbers_for_classes(loss):
    model, X, y = Net([Affine(3)], 2, loss=loss), np.ones((4, 2)), np.array([0.5, 1, 2, 3])
    with pytest.raises(
        ValueError, match=r"^Net.loss: y has dtype .* To learn numbers, take loss='mse'"
    ):
        model.loss(X, y)
    with pytest.raises(ValueError, match=r"^Solver: y_train has dtype .* take loss='mse'"):
        Solver(model, {"X_train": X, "y_train": y}, batch_size=2)


OF_BOTH = [  # loss, outputs, y_train, y_val, message
    (
        "mse",
        1,
        [3, 1, 2, 5],
        None,
        r"y_train\[0\] = 3, but the model has 1 classes.*y_train.astype\(float\)",
    ),
    ("mse", 1, [1.5, 1, 2, 5], [0], "the targets are {'train': 'numbers', 'val': 'labels'}"),
    ("mse", 2, [0, 1, 1, 0], [[0.5, 0.5]], "the targets are {'train': 'labels', 'val': 'numbers'}"),
    ("mse", 1, [1.5, np.nan, 2, 5], None, r"y_train\[1\] holds NaN or infinity"),
    (
        "softmax",
        1,
        [0, 1, 1, 0],
        None,
        r"y_train\[1\] = 1, but the model has 1 classes.* A net needs an output for each class\.$",
    ),
    ("softmax", 2, [0, 1, 1, 2], None, r"y_train\[3\] = 2, but the model has 2 classes"),
]


@pytest.mark.parametrize(("loss", "outputs", "train", "val", "message"), OF_BOTH)
def test_the_solver_names_the_set_and_the_place(loss, outputs, train, val, message):
    data = {"X_train": np.ones((4, 2)), "y_train": np.array(train)}
    if val is not None:
        data |= {"X_val": np.ones((1, 2)), "y_val": np.array(val)}
    with pytest.raises(ValueError, match=message):
        Solver(Net([Affine(outputs)], 2, loss=loss), data, batch_size=2)


def test_a_small_set_of_numbers_may_look_one_hot():
    data = {"X_train": np.ones((2, 2)), "y_train": np.array([[0.5, 1], [0, 2]])}
    data |= {"X_val": np.ones((1, 2)), "y_val": np.array([[0.0, 1]])}
    solver = Solver(Net([Affine(2)], 2, loss="mse"), data, batch_size=1)
    assert solver.measure.label == "R2"
    assert solver.check_accuracy(data["X_val"], data["y_val"]) == 0.0
