"""The course's Solver: its batches, its lines, its patience."""

import numpy as np
import pytest
from handgrad import solver
from handgrad.cs231n.training import Solver
from handgrad.models import TwoLayerNet


class Counting:
    """A model that notes down its batches; the examples are their own numbers."""

    def __init__(self, losses=()):
        self.params, self.batches, self.asked = {"W1": np.ones(2)}, [], []
        self.losses = iter(losses)

    def loss(self, X, y=None):
        if y is None:
            self.asked.append(X[:, 0].tolist())
            return np.tile(self.params["W1"], (len(X), 1))
        self.batches.append(X[:, 0].tolist())
        return next(self.losses, 1.0), {"W1": np.ones(2)}


def data(N=10, val=4):
    X = np.arange(N, dtype=float)[:, None]
    return {
        "X_train": X, "y_train": np.zeros(N, int), "X_val": X[:val], "y_val": np.zeros(val, int),
    }  # fmt: skip


@pytest.mark.parametrize("samples", [5, 10, 1000, None])
def test_batches_are_numpys(capsys, samples):
    """In the course's order: a batch, and after the first and at each epoch's end the examples whose
    accuracy is measured, if these are not all.
    """
    model = Counting()
    run = Solver(model, data(), batch_size=3, num_epochs=2, num_train_samples=samples, print_every=2)
    model.asked.clear()
    np.random.seed(231)
    run.train()
    rng, batches, asked = np.random.RandomState(231), [], []
    for step in range(6):
        batches.append(rng.choice(10, 3).tolist())
        if step in (0, 2, 5):
            drawn = rng.choice(10, 5).tolist() if samples == 5 else list(range(10))
            asked += [drawn, [0, 1, 2, 3]]
    assert model.batches == batches
    assert model.asked == asked
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(")")[0] for line in lines] == [
        "(Iteration 1 / 6", "(Epoch 0 / 2", "(Iteration 3 / 6", "(Epoch 1 / 2", "(Iteration 5 / 6",
        "(Epoch 2 / 2",
    ]  # fmt: skip


def test_a_batch_may_be_larger_than_the_data():
    run = Solver(Counting(), data(), batch_size=25, num_epochs=3, verbose=False)
    run.train()
    assert [len(batch) for batch in run.model.batches] == [25, 25, 25]


def test_a_loss_that_is_not_finite_is_said_once_and_training_goes_on(capsys):
    run = Solver(Counting([1.0, np.nan, np.nan]), data(), batch_size=5, num_epochs=2)
    run.train()
    said = capsys.readouterr().out
    assert said.count("the loss is nan at iteration 2") == 1
    assert said.count("learning rate") == 1
    np.testing.assert_array_equal(run.loss_history, [1, np.nan, np.nan, 1])
    assert len(run.val_acc_history) == 3


def test_a_net_that_diverges_ends_with_its_best_parameters():
    rng = np.random.default_rng(0)
    X, y = 100 * rng.standard_normal((40, 6)), np.arange(40) % 3
    model = TwoLayerNet(6, 8, 3, weight_scale=1.0, seed=0)
    run = Solver(
        model, {"X_train": X, "y_train": y, "X_val": X, "y_val": y}, num_epochs=4, batch_size=20,
        optim_config={"learning_rate": 1e30}, verbose=False,
    )  # fmt: skip
    run.train()
    assert not np.isfinite(run.loss_history[-1])
    assert run.best_val_acc == max(run.val_acc_history)
    assert len(run.loss_history) == 8


def test_a_model_from_a_cell(notebook):
    """One of the student's own, made of the course's layers, as solutions write it."""
    cell = notebook(2019)("""
from cs231n.layers import *
from cs231n.layer_utils import *
from cs231n.solver import Solver

class MyNet(object):
  def __init__(self, sizes=(4, 30, 3)):
    self.bn_param, self.dropout_param = {'mode': 'train'}, {'mode': 'train', 'p': 0.9}
    self.params = {'gamma': np.ones(sizes[1]), 'beta': np.zeros(sizes[1])}
    for i in (1, 2):
      self.params['W%d' % i] = 0.1 * np.random.randn(sizes[i - 1], sizes[i])
      self.params['b%d' % i] = np.zeros(sizes[i])
  def loss(self, X, y=None):
    p = self.params
    self.bn_param['mode'] = self.dropout_param['mode'] = 'test' if y is None else 'train'
    h, first = affine_bn_relu_forward(X, p['W1'], p['b1'], p['gamma'], p['beta'], self.bn_param)
    h, dropped = dropout_forward(h, self.dropout_param)
    scores, second = affine_forward(h, p['W2'], p['b2'])
    if y is None:
      return scores
    loss, dout = softmax_loss(scores, y)
    dh, dW2, db2 = affine_backward(dout, second)
    dx, dW1, db1, dgamma, dbeta = affine_bn_relu_backward(dropout_backward(dh, dropped), first)
    return loss, {'W1': dW1, 'b1': db1, 'W2': dW2, 'b2': db2, 'gamma': dgamma, 'beta': dbeta}

np.random.seed(231)
X, y = np.random.randn(60, 4), np.arange(60) % 3
X[np.arange(60), y] += 3
solver = Solver(MyNet(), {'X_train': X, 'y_train': y, 'X_val': X, 'y_val': y}, num_epochs=15,
                batch_size=20, update_rule='adam', optim_config={'learning_rate': 1e-2}, verbose=False)
solver.train()
""")
    assert cell["solver"].best_val_acc > 0.95


def test_keywords_are_the_courses():
    with pytest.raises(TypeError, match="expected optim_config={'learning_rate': 1}"):
        Solver(Counting(), data(), learning_rate=1)
    with pytest.raises(TypeError, match="unknown keyword arguments \\['seed'\\]"):
        Solver(Counting(), data(), seed=1)


def test_handgrads_solver_is_as_it_was():
    run = solver.Solver(Counting([np.nan]), data(), batch_size=5, verbose=False, seed=0)
    with pytest.raises(solver.DivergenceError):
        run.train()
