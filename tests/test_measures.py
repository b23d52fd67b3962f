"""Measures by hand, over batches as over the whole, and in a Solver: regression and one-hot classes."""

import functools
import re

import numpy as np
import pytest
from handgrad import Solver, compare, vis_utils
from handgrad.layers import mse_loss, softmax_loss
from handgrad.measures import ACCURACY, BITS, MEASURES, R_SQUARED
from handgrad.models import Affine, Net, ReLU
from handgrad.recurrent import word_softmax_loss
from handgrad.solver import DivergenceError
from handgrad.stopping import patience

SCORES = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
ROWS = [  # measure, scores, targets, values
    (ACCURACY, SCORES, np.array([1, 1, 1]), {"acc": 2 / 3}),
    (ACCURACY, SCORES, np.eye(2)[[1, 0, 1]], {"acc": 1.0}),
    (ACCURACY, np.eye(3)[[[0, 1], [2, 2]]], np.array([[0, 1], [2, 0]]), {"acc": 0.75}),
    # mean 2.5, deviations 2.25 + 0.25 + 0.25 + 2.25 = 5, one squared error of 1
    (R_SQUARED, np.array([[1.0], [2], [3], [5]]), np.array([1, 2, 3, 4]), {"R2": 0.8, "rmse": 0.5}),
    # outputs with R2 of 0.8 and 0; squared errors 1 + 5 of eight entries
    (
        R_SQUARED,
        np.array([[1.0, 2.5], [2, 2.5], [3, 2.5], [5, 2.5]]),
        np.array([[1.0, 1], [2, 2], [3, 3], [4, 4]]),
        {"R2": 0.4, "rmse": 0.75**0.5},
    ),
    (R_SQUARED, np.array([[0.1], [0.1]]), np.array([0.1, 0.1]), {"R2": 1.0, "rmse": 0.0}),
    (R_SQUARED, np.array([[3.1], [0.1]]), np.array([0.1] * 2), {"R2": 0.0, "rmse": 4.5**0.5}),
]


@pytest.mark.parametrize(("measure", "scores", "y", "expected"), ROWS)
def test_by_hand_and_over_batches(measure, scores, y, expected):
    for size in (1, 2, 4):
        parts = [slice(k, k + size) for k in range(0, len(y), size)]
        total = sum(measure.sums(scores[part], y[part]) for part in parts)
        assert measure.values(total, y) == pytest.approx(expected)
    assert next(iter(expected)) == measure.label


@pytest.mark.parametrize(
    ("measure", "y", "message"),
    [
        (ACCURACY, np.array([[0], [1], [1]]), r"try y\[..., 0\]"),
        (ACCURACY, np.array([0, 1]), r"y has shape \(2,\), expected"),
        (BITS, np.array([0, 1]), r"y has shape \(2,\) and dtype int64, expected words \(3,\)"),
        (BITS, np.eye(2)[[0, 1, 1]], r"y has shape \(3, 2\) and dtype float64, expected words \(3,\)"),
        (R_SQUARED, np.ones(3), r"y has shape \(3,\), expected numbers \(3, 2\)"),
        (R_SQUARED, np.ones((2, 3)), r"y has shape \(2, 3\), expected numbers \(3, 2\)"),
    ],
)
def test_targets_that_do_not_fit_are_not_measured(measure, y, message):
    with pytest.raises(ValueError, match=message):
        measure.sums(SCORES, y)


@pytest.mark.parametrize("measure", [ACCURACY, BITS])
def test_a_score_that_is_nan_is_no_class(measure):
    scores = np.array([[1.0, 2.0], [np.nan, 0.0]])
    with pytest.raises(ValueError, match="predict: the scores of an example are NaN"):
        measure.decide(scores)
    assert measure.decide(scores[:1]).tolist() == [1]


def test_nets_predict_no_class_for_nan():
    net = Net([Affine(3), ReLU(), Affine(2)], 2, seed=0)
    X = np.array([[1.0, 2.0], [np.nan, 0.0]])
    data = {"X_train": X[:1], "y_train": np.array([1])}
    for model in (net, Solver(net, data, batch_size=1, verbose=False)):
        with pytest.raises(ValueError, match="predict: the scores of an example are NaN"):
            model.predict(X)


def test_a_large_mean_costs_no_digits():
    y = 1e8 + np.array([0.0, 1, 2, 3])
    scores = y[:, None] + np.eye(4)[:, 3:]
    assert R_SQUARED.values(R_SQUARED.sums(scores, y), y)["R2"] == pytest.approx(0.8)


@pytest.mark.parametrize("measure", MEASURES.values())
def test_every_value_is_better_than_the_worst_and_none_than_the_ideal(measure):
    assert measure.is_better(0.0, than=measure.worst)
    assert not measure.is_better(0.0, than=measure.ideal)
    assert not measure.is_better(measure.ideal, than=measure.ideal)
    assert not measure.is_better(float("nan"), than=measure.worst)


# ---------------------------------------------------------------------------- regression


def line(N=60, K=1, D=3):
    """Linear data with noise: X, y (N, K), and what least squares predicts."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N, D))
    y = X @ rng.standard_normal((D, K)) + 4 + 0.3 * rng.standard_normal((N, K))
    rows = np.column_stack([X, np.ones(N)])
    return X, y, rows @ np.linalg.lstsq(rows, y, rcond=None)[0]


def regress(X, y, layers=None, loss="mse", val=True, **settings):
    K = 1 if y.ndim == 1 else y.shape[1]
    model = Net(layers or [Affine(K)], X.shape[1], loss=loss, dtype=np.float64, seed=0)
    options = dict(optim_config={"learning_rate": 0.2}, batch_size=len(X), num_epochs=200)
    data = {"X_train": X, "y_train": y, "X_val": X[:20], "y_val": y[:20]}
    data = data if val else {"X_train": X, "y_train": y}
    return Solver(model, data, verbose=False, seed=0, num_train_samples=None, **options | settings)


@pytest.mark.parametrize(("K", "flat"), [(1, True), (1, False), (3, False)])
def test_an_affine_net_learns_what_least_squares_finds(K, flat):
    X, y, fitted = line(K=K)
    y, fitted = (y[:, 0], fitted[:, 0]) if flat else (y, fitted)
    solver = regress(X, y, optim_config={"learning_rate": 0.2 * K}, val=False)
    solver.train()
    one = fitted[:, 0] if K == 1 and not flat else fitted
    np.testing.assert_allclose(solver.predict(X, batch_size=7), one, atol=1e-6)
    np.testing.assert_allclose(solver.model.predict(X, batch_size=7), one, atol=1e-6)
    errors, y2 = (y - fitted).reshape(-1, K), y.reshape(-1, K)
    r2 = np.mean(1 - (errors**2).mean(axis=0) / y2.var(axis=0))
    assert solver.check_accuracy(X, y) == pytest.approx(r2)
    assert solver.measured == pytest.approx({"R2": r2, "rmse": np.sqrt(np.mean(errors**2))})
    assert solver.train_acc_history[-1] == pytest.approx(r2)


def test_what_is_printed_and_kept(capsys):
    X, y, _ = line()
    solver = regress(X, y[:, 0], num_epochs=2, print_every=0)
    solver.verbose = True
    solver.train()
    train, val = solver.train_acc_history, solver.val_acc_history
    lines = [f"(Epoch {e} / 2) train R2: {train[e]:f}; val_R2: {val[e]:f}" for e in range(3)]
    assert capsys.readouterr().out.splitlines() == lines
    record = solver.history[-1]
    assert (record["train_acc"], record["val_acc"]) == (train[-1], val[-1])
    assert record["train_rmse"] == pytest.approx(solver.model.loss(X, y)[0] ** 0.5)
    assert "<th>train_R2</th>" in solver._repr_html_()
    assert "<th>val_rmse</th>" in solver._repr_html_()
    solver.check_accuracy(X[:20], y[:20])
    assert solver.measured["rmse"] == record["val_rmse"]


def test_a_negative_r_squared_can_be_the_best():
    X, y, _ = line()
    solver = regress(X, y[:, 0] + 1000, num_epochs=1, optim_config={"learning_rate": 1e-6})
    solver.train()
    assert solver.best_val_acc == max(solver.val_acc_history) < -1
    assert solver.best_params


def test_regression_resumes_bit_for_bit(tmp_path):
    X, y, _ = line()
    whole, first, second = (regress(X, y, num_epochs=e, batch_size=16) for e in (4, 2, 4))
    whole.train()
    first.train()
    first.save_checkpoint(tmp_path / "run.npz")
    second.load_checkpoint(tmp_path / "run.npz")
    second.train()
    assert second.loss_history == whole.loss_history
    drop = lambda history: [{**record, "seconds": 0} for record in history]  # noqa: E731
    assert drop(second.history) == drop(whole.history)
    assert second.best_val_acc == whole.best_val_acc


def test_divergence_blames_targets_that_are_not_scaled():
    X, y, _ = line()
    solver = regress(X, 1e6 * y[:, 0], optim_config={"learning_rate": 10.0})
    with pytest.raises(
        DivergenceError, match=r"learning rate of 10: .*, or scale the targets, which go"
    ):
        solver.train()


def test_a_loss_of_ones_own_gets_numbers_as_the_scores_are():
    """Else (N, 1) - (N,) would be (N, N)."""
    shapes = []

    def huber(scores, y):
        shapes.append((scores.shape, y.shape))
        error = np.clip(scores - y, -1, 1)
        return float(np.mean(error * (scores - y - error / 2))), error / error.size

    X, y, _ = line()
    solver = regress(X, y[:, 0], [Affine(8), ReLU(), Affine(1)], huber, batch_size=20, num_epochs=200)
    solver.train()
    assert set(shapes) == {((20, 1), (20, 1))}
    assert solver.train_acc_history[-1] > 0.9


# ---------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    "loss", ["softmax", "svm", "mse", functools.partial(softmax_loss, smoothing=0.1)]
)
@pytest.mark.parametrize("dtype", [float, int, bool])
def test_one_hot_rows_are_labels(blobs, loss, dtype):
    rows = {k: np.eye(3, dtype=dtype)[v] if k[0] == "y" else v for k, v in blobs.items()}
    runs = []
    for data in (blobs, rows):
        model = Net([Affine(8), ReLU(), Affine(3)], 5, loss=loss, seed=0)
        runs.append(Solver(model, data, batch_size=20, num_epochs=3, verbose=False, seed=0))
        runs[-1].train()
    assert runs[0].loss_history == runs[1].loss_history
    assert runs[0].val_acc_history == runs[1].val_acc_history
    assert runs[1].measure is ACCURACY
    assert "train_rmse" not in runs[1].history[0]
    np.testing.assert_array_equal(runs[1].predict(blobs["X_val"]), runs[0].predict(blobs["X_val"]))


def test_labels_with_mse_keep_their_meaning(blobs):
    X, y = blobs["X_train"], blobs["y_train"]
    model = Net([Affine(3)], 5, loss="mse", seed=0)
    scores, one_hot = model.loss(X), np.eye(3)[y]
    assert model.loss(X, y)[0] == model.loss(X, one_hot)[0] == mse_loss(scores, y)[0]
    assert model.loss(X, y)[0] == pytest.approx(np.mean((scores - one_hot) ** 2))


# ---------------------------------------------------------------------------- where it is shown


def test_pictures_and_stops_say_what_is_measured():
    X, y, _ = line()
    stop = functools.partial(patience, epochs=1)
    solver = regress(X, y, num_epochs=50, stop=stop, optim_config={"learning_rate": 1e-30})
    said = []
    solver.say = said.append
    solver.train()
    assert said[-1] == "Stopped after epoch 1: no better validation R squared for 1 epochs."
    assert vis_utils.plot_curves(solver).axes[1].get_title() == "R squared"


def build(seed, rate):
    X, y, _ = line()
    solver = regress(X, y, num_epochs=3, optim_config={"learning_rate": rate})
    solver.data |= {"X_test": X[30:], "y_test": y[30:]}
    return solver


def test_a_comparison_says_what_is_measured(tmp_path, capsys):
    result = compare(build, {"a": {"rate": 0.2}}, seeds=1, folder=tmp_path)
    assert result.measure is R_SQUARED
    assert re.match("setting  runs  test R squared", result.table())
    assert "| test R squared |" in result.markdown()
    page = result._repr_html_()
    assert "<th>test R squared</th>" in page
    assert f"<td>{result.rows()[0]['test_acc']:.4g}</td>" in page
    titles = [axes.get_title() for axes in result.figure().axes]
    assert titles == ["loss", "training R squared", "validation R squared"]


# ---------------------------------------------------------------------------- words


def test_bits_a_word_by_hand():
    """Two words with probability 1/2 and 1/8, and one that does not count: (1 + 3) / 2 bits."""
    p = np.array([[[1 / 2, 1 / 2], [1 / 8, 7 / 8], [0.9, 0.1]]])
    y = np.array([[1, 0, -1]])
    values = BITS.values(BITS.sums(np.log(p) + 3, y), y)
    assert values["bits"] == pytest.approx(2)
    assert values["nats"] == pytest.approx(2 * np.log(2))
    assert values["perplexity"] == pytest.approx(4)
    assert values["acc"] == 0
    assert BITS.is_better(1.5, than=2.0)
    assert not BITS.is_better(np.nan, than=BITS.worst)


def test_bits_are_those_of_the_loss(rng):
    scores, y = rng.standard_normal((3, 4, 5)), rng.integers(-1, 5, size=(3, 4))
    total = sum(BITS.sums(scores[n : n + 1], y[n : n + 1]) for n in range(3))
    assert BITS.values(total, y)["nats"] == pytest.approx(word_softmax_loss(scores, y)[0])
