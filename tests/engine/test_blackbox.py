"""What a black box sees of the code in it: writing, memory between calls, chance."""

import numpy as np
import pytest
from handgrad import layers as L
from handgrad.engine.blackbox import LayerBox, LossBox, ModelBox

X, W = np.arange(1.0, 7).reshape(3, 2), np.array([[1.0, -2.0], [0.5, 3.0]])


def product(x, w):
    return x @ w, (x, w)


def right(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout


def writes_x(x, w):
    x[0] = 0
    return product(x, w)


def writes_labels(x, y):
    y[0] += 1
    return x * y[:, None], (x, y)


def writes_dout(dout, cache):
    dout[:] = 0
    return right(dout, cache)


def writes_w_in_backward(dout, cache):
    grads = right(dout, cache)
    cache[1][:] = 0
    return grads


STEPS = []


def draws(dout, cache):
    dx, dw = right(dout, cache)
    STEPS.append(1)
    return dx, dw * len(STEPS)


def empties_its_cache(dout, cache):
    x, w = cache
    grads = dout @ w[0].T, x[0].T @ dout
    w[0] = w[0] * 2
    return grads


def boxed(x, w):
    return x @ w, ([x.copy()], [w.copy()])


LAST = []


def global_w(x, w):
    LAST[:] = [w]
    return x @ w, x


def uses_global_w(dout, x):
    return dout @ LAST[0].T, x.T @ dout


def global_size(x, w):
    LAST[:] = [len(x)]
    return x @ w / len(x), (x, w)


def uses_global_size(dout, cache):
    dx, dw = right(dout, cache)
    return dx / LAST[0], dw / LAST[0]


@pytest.mark.parametrize(
    ("forward", "backward", "facts"),
    [
        (product, right, []),
        (writes_x, right, [("x", "input changed")]),
        (product, writes_dout, [("dout", "input changed")]),
        (product, writes_w_in_backward, [("w", "input changed")]),
        (boxed, empties_its_cache, [("x", "input changed")]),
        (product, draws, [("w", "random")]),
        (global_w, uses_global_w, [("x", "stale")]),
        (global_size, uses_global_size, [("x", "stale"), ("w", "stale")]),
    ],
)
def test_breaches_of_the_contract(forward, backward, facts):
    x, w = X.copy(), W.copy()
    found = LayerBox(forward, backward, (x, w)).facts()
    assert [(f.array, f.cause) for f in found] == facts
    np.testing.assert_array_equal(x, X)  # what is written to are copies
    np.testing.assert_array_equal(w, W)


def test_integers_and_dicts_among_the_arguments():
    y, param = np.array([1, 2, 3]), {"calls": []}

    def forward(x, y, param):
        param["calls"].append(1)
        return writes_labels(x, y)

    box = LayerBox(forward, lambda dout, cache: dout * cache[1][:, None], (X, y, param))
    assert [(f.array, f.cause) for f in box.facts()] == [("y", "input changed")]
    assert "changed 1 of the 3 entries of y, e.g. at (0,): 1 became 2" in box.facts()[0].evidence
    assert param == {"calls": []}


def test_a_loss_that_writes():
    def loss(x, y):
        x -= 1
        return np.sum(x), np.ones_like(x)

    assert [(f.array, f.cause) for f in LossBox(loss, X, np.arange(3)).facts()] == [
        ("x", "input changed")
    ]


class Model:
    def __init__(self):
        self.params = {"W": W.astype(np.float32), "b": np.zeros(2)}

    def loss(self, X, y):
        X -= 1
        return np.sum(self.params["W"]) + np.sum(self.params["b"]), {
            "W": np.ones((2, 2)),
            "b": np.ones(2),
        }


def test_a_model_is_looked_at_in_float64_with_its_constant_parameters_moved():
    x, y = X.copy(), np.arange(3)
    box = ModelBox(Model(), x, y)
    np.testing.assert_array_equal(box.point["W"], W)
    assert box.point["W"].dtype == np.float64
    assert 0 < np.abs(box.point["b"]).max() < 0.1
    assert [(f.array, f.cause) for f in box.facts()] == [("X", "input changed")]
    np.testing.assert_array_equal(x, X)


def test_functions_of_one_layer_and_a_users_own_are_taken():
    x = np.ones((2, 3))
    LayerBox(L.batchnorm_forward, L.batchnorm_backward_alt, (x, x[0], x[0], {"mode": "train"}))
    LayerBox(lambda x: (x, x), L.relu_backward, (x,))
