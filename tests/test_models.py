"""Every model's gradients by complex step, the documents' known values, and what models refuse."""

import functools
import re

import numpy as np
import pytest
from handgrad import layers as L
from handgrad.gradient_check import check_model, eval_numerical_gradient, rel_error
from handgrad.layers import softmax_loss
from handgrad.models import (
    MODELS,
    ConvNet,
    FullyConnectedNet,
    LeNet5,
    Net,
    ThreeLayerConvNet,
    TwoLayerNet,
    refit_last_layer,
)
from handgrad.models.net import ACTIVATIONS, LOSSES

FC = dict(hidden_dims=[7, 6], input_dim=12, num_classes=4, weight_scale="xavier", seed=1)
CNN = dict(input_dim=(2, 8, 8), num_classes=4, seed=1)
ROWS = [  # model, settings, shape of an example
    (
        TwoLayerNet,
        dict(input_dim=12, hidden_dim=7, num_classes=4, weight_scale=0.3, reg=0.7, seed=1),
        (12,),
    ),
    (
        TwoLayerNet,
        dict(input_dim=12, hidden_dim=7, num_classes=4, weight_scale=0.3, loss="svm", seed=1),
        (12,),
    ),
    *((FullyConnectedNet, dict(FC, activation=name), (12,)) for name in ACTIVATIONS),
    *((FullyConnectedNet, dict(FC, loss=name), (12,)) for name in LOSSES),
    (FullyConnectedNet, dict(FC, use_batchnorm=True, reg=0.3), (3, 2, 2)),
    (FullyConnectedNet, dict(FC, normalization="layernorm", dropout=0.4), (12,)),
    (FullyConnectedNet, dict(FC, normalization="batchnorm", dropout=0.4, dtype=np.float64), (12,)),
    (FullyConnectedNet, dict(FC, hidden_dims=[]), (12,)),
    (LeNet5, dict(CNN, input_dim=(1, 16, 16)), (1, 16, 16)),
    (LeNet5, dict(CNN, input_dim=(1, 16, 16), activation="sigmoid", pool="avg"), (1, 16, 16)),
    (
        ThreeLayerConvNet,
        dict(CNN, num_filters=3, filter_size=5, hidden_dim=6, weight_scale=0.3),
        (2, 8, 8),
    ),
    (ConvNet, dict(CNN, filters=(3, "pool", 4), hidden_dims=(5,), reg=0.2), (2, 8, 8)),
    (
        ConvNet,
        dict(
            CNN,
            filters=(3, 4, "pool"),
            hidden_dims=(6, 5),
            normalization="batchnorm",
            dropout=0.3,
            pool="avg",
        ),
        (2, 8, 8),
    ),
    (
        ConvNet,
        dict(CNN, filters=(3, "pool"), pool_size=3, pool_stride=2, hidden_dims=(), filter_size=5),
        (2, 8, 8),
    ),
]
IDS = [f"{row[0].__name__}-{n}" for n, row in enumerate(ROWS)]


def batch(shape, N=5):
    rng = np.random.default_rng(3)
    return rng.standard_normal((N, *shape)), np.arange(N) % 4


def test_every_model_has_a_row():
    assert {row[0] for row in ROWS} == set(MODELS.values())


@pytest.mark.parametrize(("model", "settings", "shape"), ROWS, ids=IDS)
class TestEveryModel:
    def test_every_gradient_by_complex_step(self, model, settings, shape):
        report = check_model(model(**settings), *batch(shape))
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error <= 1e-10

    def test_dtype_and_purity(self, model, settings, shape):
        net = model(**{**settings, "dtype": np.float32})
        X, y = batch(shape)
        X.flags.writeable = False
        before = {name: p.copy() for name, p in net.params.items()}
        loss, grads = net.loss(X, y)
        assert list(grads) == list(net.params)
        assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
        assert net.loss(X).dtype == np.float32
        assert np.shape(loss) == ()
        for name, p in net.params.items():
            np.testing.assert_array_equal(p, before[name])
            assert grads[name].shape == p.shape

    def test_a_seed_repeats_and_another_differs(self, model, settings, shape):
        X, y = batch(shape)
        one, same = model(**settings), model(**settings)
        other = model(**{**settings, "seed": 2})
        assert one.loss(X, y)[0] == same.loss(X, y)[0] == one.loss(X, y)[0]
        assert one.loss(X, y)[0] != other.loss(X, y)[0]
        free = model(**{**settings, "seed": None})
        assert free.seed != model(**{**settings, "seed": None}).seed

    def test_scores_promised_are_delivered(self, model, settings, shape):
        net = model(**settings)
        assert net.loss(batch(shape)[0]).shape == (5, 4)
        assert net.loss(np.zeros((0, *shape))).shape == (0, 4)
        assert net.loss(np.zeros((1, *shape), np.uint8)).shape == (1, 4)

    def test_examples_of_a_wrong_shape_are_refused(self, model, settings, shape):
        with pytest.raises(
            ValueError, match=rf"{model.__name__}.loss: X has shape \(2, 5\), expected \(N,"
        ):
            model(**settings).loss(np.zeros((2, 5)))


def test_two_layer_net_known_values():
    D, H, C, N = 5, 50, 7, 3
    model = TwoLayerNet(input_dim=D, hidden_dim=H, num_classes=C, weight_scale=1e-3, seed=0)
    assert abs(model.params["W1"].std() - 1e-3) < 1e-4
    assert np.all(model.params["b1"] == 0)
    model.params["W1"] = np.linspace(-0.7, 0.3, num=D * H).reshape(D, H)
    model.params["b1"] = np.linspace(-0.1, 0.9, num=H)
    model.params["W2"] = np.linspace(-0.3, 0.4, num=H * C).reshape(H, C)
    model.params["b2"] = np.linspace(-0.9, 0.1, num=C)
    X = np.linspace(-5.5, 4.5, num=N * D).reshape(D, N).T
    scores = model.loss(X)
    assert scores[0, 0] == pytest.approx(11.53165108, abs=5e-9)
    assert scores[2, 6] == pytest.approx(16.2846319, abs=5e-8)
    y = np.array([0, 5, 1])
    assert model.loss(X, y)[0] == pytest.approx(3.4702243556, abs=5e-11)
    model.reg = 1.0
    assert model.loss(X, y)[0] == pytest.approx(26.5948426952, abs=5e-11)


def test_gradients_in_the_documents_own_way():
    """FullyConnectedNet as the notebooks check it: central differences, errors about 1e-7."""
    rng = np.random.default_rng(231)
    X, y = rng.standard_normal((2, 15)), rng.integers(10, size=2)
    for reg in (0, 3.14):
        model = FullyConnectedNet(
            [20, 30], input_dim=15, num_classes=10, reg=reg, weight_scale=5e-2, dtype=np.float64, seed=0
        )
        loss, grads = model.loss(X, y)
        if reg == 0:
            assert loss == pytest.approx(2.3026, abs=0.05)
        for name in grads:
            numeric = eval_numerical_gradient(lambda _, m=model: m.loss(X, y)[0], model.params[name])
            assert rel_error(numeric, grads[name]) < 1e-5


@pytest.mark.parametrize("hidden_dims", [[9], [9, 8, 7]])
def test_penalty_counts_weights_only(hidden_dims):
    options = dict(FC, hidden_dims=hidden_dims, normalization="batchnorm", dtype=np.float64)
    X, y = batch((12,))
    bare, penal = FullyConnectedNet(**options), FullyConnectedNet(**options, reg=0.5)
    for p in (*bare.params.values(), *penal.params.values()):
        p += 0.25
    squares = sum(np.sum(w * w) for name, w in bare.params.items() if name.startswith("W"))
    assert penal.loss(X, y)[0] - bare.loss(X, y)[0] == pytest.approx(0.25 * squares)


def test_parameters_are_read_live():
    model = TwoLayerNet(4, 5, 3, seed=0)
    X = np.ones((2, 4))
    before = model.loss(X)
    model.params["b2"] = model.params["b2"] + 1
    np.testing.assert_allclose(model.loss(X), before + 1, rtol=1e-6)


def test_dropout_masks_change_with_the_step_and_without_a_seed():
    X, y = batch((12,))
    model = FullyConnectedNet(**FC, dropout=0.5)
    first = model.loss(X, y)[0]
    assert model.loss(X, y)[0] == first
    model.step = 1
    assert model.loss(X, y)[0] != first
    free = FullyConnectedNet(**{**FC, "seed": None}, dropout=0.5)
    assert free.loss(X, y)[0] != free.loss(X, y)[0]
    assert free.loss(X).tolist() == free.loss(X).tolist()


def test_the_later_courses_word_for_dropout():
    keep = FullyConnectedNet(**FC, dropout_keep_ratio=0.75)
    drop = FullyConnectedNet(**FC, dropout=0.25)
    assert keep.loss(*batch((12,)))[0] == drop.loss(*batch((12,)))[0]
    assert len(FullyConnectedNet(**FC, dropout_keep_ratio=1).layers) == 5


def test_state_goes_back_where_it_came_from():
    X, y = batch((12,))
    model = FullyConnectedNet(**FC, normalization="batchnorm", dropout=0.5)
    model.loss(X, y)
    state, scores = model.state, model.loss(X)
    model.step = 5
    model.loss(2 * X, y)
    assert np.any(model.loss(X) != scores)
    model.state = state
    np.testing.assert_array_equal(model.loss(X), scores)
    assert model.step == 0


def test_lenet_is_lenet():
    shapes = {name: p.shape for name, p in LeNet5().params.items()}
    assert shapes["W1"] == (6, 1, 5, 5)
    assert shapes["W2"] == (16, 6, 5, 5)
    assert [shapes[f"W{k}"] for k in (3, 4, 5)] == [(400, 120), (120, 84), (84, 10)]
    assert sum(p.size for p in LeNet5().params.values()) == 61706


@pytest.mark.parametrize(
    ("scale", "deviation"), [("xavier", (2 / 1000) ** 0.5), ("kaiming", 0.05), (0.3, 0.3)]
)
def test_initialisation(scale, deviation):
    w = TwoLayerNet(800, 200, weight_scale=scale, seed=0).params["W1"]
    assert w.std() == pytest.approx(deviation, rel=0.02)
    assert abs(w.mean()) < 0.01 * deviation * 10


def test_initialisation_counts_a_convolutions_fan():
    w = ConvNet((200,), (), (8, 5, 5), filter_size=5, seed=0).params["W1"]
    assert w.std() == pytest.approx((2 / (8 * 25)) ** 0.5, rel=0.02)


def test_a_stranger_can_build_a_net_of_his_own():
    class Tiny(Net):
        def __init__(self):
            super().__init__((1, 6, 6), weight_scale="kaiming", reg=0, loss="svm", dtype=float, seed=0)
            self._add_conv(2, 3, pad=0)
            self._add_activation("tanh")
            self._add_pool("avg", 3, stride=1, pad=1)
            self._add_affine(4)

    check_model(Tiny(), *batch((1, 6, 6))).require()


ERRORS = [
    (lambda: FullyConnectedNet([5], dropout=1), "p is the probability of dropping"),
    (
        lambda: FullyConnectedNet([5], normalization="batchnrm"),
        "expected one of (None, 'batchnorm', 'layernorm')",
    ),
    (
        lambda: FullyConnectedNet([5], use_batchnorm=True, normalization="layernorm"),
        "expected one of the two",
    ),
    (lambda: FullyConnectedNet([5], dropout=0.2, dropout_keep_ratio=0.8), "expected one of the two"),
    (lambda: FullyConnectedNet(100), "hidden_dims = 100, expected a list of widths"),
    (lambda: FullyConnectedNet([100, 0]), "hidden_dims holds 0, expected whole numbers from 1 up"),
    (lambda: ConvNet(filters=("32",)), "filters holds '32'"),
    (lambda: FullyConnectedNet([5], activation="rleu"), "Did you mean 'relu'?"),
    (lambda: LeNet5(pool="mean"), "unknown pool 'mean'; expected one of ['avg', 'max']"),
    (lambda: LeNet5(loss="softmx"), "Did you mean 'softmax'?"),
    (lambda: LeNet5(weight_scale="xaver"), "Did you mean 'xavier'?"),
    (lambda: LeNet5(input_dim=(1, 8, 8)), "too small for"),
    (lambda: ConvNet(filter_size=4), "filter_size = 4, expected an odd number"),
    (lambda: ConvNet(normalization="layernorm"), "images take 'batchnorm'"),
    (lambda: LeNet5().loss(np.zeros((2, 784))), "X has shape (2, 784), expected (N, 1, 28, 28)"),
    (lambda: LeNet5().loss(np.zeros((2, 1, 28, 28)), np.array([3, 10])), "y holds the label 10"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_models_pool_before_an_activation_that_never_falls():
    names = [layer.forward.__name__ for layer in LeNet5().layers[:3]]
    assert names == ["conv_forward", "max_pool_forward", "relu_forward"]
    names = [layer.forward.__name__ for layer in LeNet5(pool="avg").layers[:3]]
    assert names == ["conv_forward", "relu_forward", "avg_pool_forward"]


def test_a_parameter_of_a_wrong_shape_names_the_layer():
    model = LeNet5(seed=0)
    model.params["W2"] = np.zeros((16, 5, 5, 5))
    with pytest.raises(ValueError, match=r"LeNet5, layer 4: conv_forward: x .* has C = 6, but w"):
        model.loss(np.zeros((2, 1, 28, 28)))


def test_a_batch_norm_of_a_wrong_shape_names_the_layer():
    model = ConvNet((4,), (), (1, 6, 6), 3, normalization="batchnorm", seed=0)
    model.params["gamma1"] = np.ones(5)
    with pytest.raises(ValueError, match=r"ConvNet, layer 2: batchnorm_parts_forward: .* 4 features"):
        model.loss(np.zeros((2, 1, 6, 6)), np.zeros(2, int))


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_refit_last_layer_is_the_least_squares_solution(ridge):
    X, _ = batch((12,), N=60)
    y = np.random.default_rng(0).integers(4, size=60)
    model = FullyConnectedNet([9, 6], 12, 4, weight_scale="kaiming", dtype=np.float64, seed=0)
    before = {name: p.copy() for name, p in model.params.items()}
    H, targets = model.features(X), np.eye(4)[y]

    def objective():
        W, b = model.params["W3"], model.params["b3"]
        return np.sum((H @ W + b - targets) ** 2) + ridge * np.sum(W**2)

    first = objective()
    refit_last_layer(model, X, y, ridge)
    best = objective()
    assert best < first
    rng = np.random.default_rng(1)
    for _ in range(20):  # a minimum: no step from it leads down
        W, b = model.params["W3"], model.params["b3"]
        model.params["W3"] = W + 1e-3 * rng.standard_normal(W.shape)
        model.params["b3"] = b + 1e-3 * rng.standard_normal(b.shape)
        assert objective() > best
        model.params["W3"], model.params["b3"] = W, b
    for name in ("W1", "b1", "W2", "b2"):
        np.testing.assert_array_equal(model.params[name], before[name])


def test_refit_with_dependent_activations_and_its_error():
    model = FullyConnectedNet([9], 12, 4, weight_scale="kaiming", seed=0)
    model.params["W1"][:, 4:] = model.params["W1"][:, :1]  # six columns alike
    X, _ = batch((12,), N=60)
    refit_last_layer(model, X, np.arange(60) % 4)
    assert np.all(np.isfinite(model.params["W2"]))
    assert np.abs(model.params["W2"]).max() < 10
    assert model.params["W2"].dtype == np.float32
    with pytest.raises(ValueError, match="ridge = -1"):
        refit_last_layer(model, X, np.arange(60) % 4, ridge=-1)


def test_a_loss_of_ones_own():
    model = FullyConnectedNet(**{**FC, "loss": functools.partial(softmax_loss, smoothing=0.2)})
    check_model(model, *batch((12,))).require()


def test_a_prediction_asks_pooling_for_no_cache(rng, monkeypatch):
    """Only the way back needs to know where the largest entries are."""
    model = LeNet5((1, 12, 12), 3, seed=0)
    X, made = rng.standard_normal((4, 1, 12, 12)), []
    original = L._max_along

    def watched(*args):
        out, cache = original(*args)
        made.append(cache[0] is not None)
        return out, cache

    monkeypatch.setattr(L, "_max_along", watched)
    model.loss(X)
    assert made == [False] * 4
    model.loss(X, np.array([0, 1, 2, 0]))
    assert made[4:] == [True] * 4
