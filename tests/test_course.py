"""The course's notebooks in small: their calls, in their idiom, with the numbers that they print."""

import numpy as np
import pytest
from handgrad import Solver
from handgrad.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    rel_error,
)
from handgrad.layer_utils import affine_relu_backward, affine_relu_forward
from handgrad.layers import (
    batchnorm_forward,
    conv_forward_fast,
    conv_forward_naive,
    max_pool_forward_fast,
    max_pool_forward_naive,
)
from handgrad.models import FullyConnectedNet, ThreeLayerConvNet


@pytest.mark.parametrize("conv", [conv_forward_naive, conv_forward_fast])
def test_convolution(conv):
    x = np.linspace(-0.1, 0.5, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, num=3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
    out, _ = conv(x, w, np.linspace(-0.1, 0.2, num=3), {"stride": 2, "pad": 1})
    first = [
        [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
        [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
        [[0.50813986, 0.54309974], [0.64082444, 0.67101435]],
    ]
    assert out.shape == (2, 3, 2, 2)
    assert rel_error(out[0], np.array(first)) < 1e-7


@pytest.mark.parametrize("pool", [max_pool_forward_naive, max_pool_forward_fast])
def test_pooling(pool):
    x = np.linspace(-0.3, 0.4, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    out, _ = pool(x, {"pool_width": 2, "pool_height": 2, "stride": 2})
    assert (
        rel_error(out[0, 0], np.array([[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]])) < 1e-7
    )
    assert out[1, 2, 1, 1] == pytest.approx(0.4)


def test_a_sandwich_is_checked_by_its_caller():
    rng = np.random.default_rng(231)
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((12, 10)), rng.standard_normal(10)
    dout = rng.standard_normal((2, 10))
    _, cache = affine_relu_forward(x, w, b)
    dx, dw, db = affine_relu_backward(dout, cache)
    for array, grad in ((x, dx), (w, dw), (b, db)):
        numeric = eval_numerical_gradient_array(lambda _: affine_relu_forward(x, w, b)[0], array, dout)
        assert rel_error(numeric, grad) < 1e-8


def test_batchnorm_remembers_in_the_callers_dict():
    rng = np.random.default_rng(231)
    W1, W2 = rng.standard_normal((50, 50)), rng.standard_normal((50, 3))
    bn_param = {"mode": "train"}
    for _ in range(50):
        a = np.maximum(0, rng.standard_normal((200, 50)) @ W1) @ W2
        batchnorm_forward(a, np.ones(3), np.zeros(3), bn_param)
    bn_param["mode"] = "test"
    a = np.maximum(0, rng.standard_normal((200, 50)) @ W1) @ W2
    normed, _ = batchnorm_forward(a, np.ones(3), np.zeros(3), bn_param)
    assert np.abs(normed.mean(axis=0)).max() < 0.3
    assert np.abs(normed.std(axis=0) - 1).max() < 0.2


def test_a_whole_net_with_dropout_and_a_seed():
    rng = np.random.default_rng(231)
    X, y = rng.standard_normal((2, 15)), rng.integers(10, size=2)
    model = FullyConnectedNet(
        [20, 30], input_dim=15, num_classes=10, weight_scale=5e-2, dtype=np.float64,
        dropout_keep_ratio=0.75, normalization="batchnorm", seed=123,
    )  # fmt: skip
    _, grads = model.loss(X, y)
    f = lambda _: model.loss(X, y)[0]  # noqa: E731
    for name in ("W1", "gamma2", "W3"):
        numeric = eval_numerical_gradient(f, model.params[name], verbose=False, h=1e-5)
        np.testing.assert_allclose(grads[name], numeric, rtol=1e-4, atol=1e-7)


def test_the_conv_net_starts_at_the_log_of_the_classes_and_over_fits():
    rng = np.random.default_rng(231)
    data = {f"X_{part}": rng.standard_normal((20, 3, 16, 16)) for part in ("train", "val")}
    data |= {f"y_{part}": rng.integers(10, size=20) for part in ("train", "val")}
    model = ThreeLayerConvNet((3, 16, 16), num_filters=8, weight_scale=1e-3, seed=0)
    assert model.loss(data["X_train"], data["y_train"])[0] == pytest.approx(np.log(10), abs=1e-3)
    solver = Solver(
        ThreeLayerConvNet((3, 16, 16), num_filters=8, weight_scale=1e-2, seed=0),
        data, num_epochs=25, batch_size=10, update_rule="adam",
        optim_config={"learning_rate": 1e-2}, verbose=False, print_every=1, seed=0,
    )  # fmt: skip
    solver.train()
    assert solver.train_acc_history[-1] == 1
    predicted = np.argmax(solver.model.loss(data["X_val"]), axis=1)
    assert (predicted == data["y_val"]).mean() == solver.best_val_acc
