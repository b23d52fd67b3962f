"""Every model's gradients by complex step, the documents' known values, and what models refuse."""

import functools
import math
import re

import numpy as np
import pytest
from handgrad import Solver
from handgrad.gradient_check import check_model, eval_numerical_gradient, rel_error
from handgrad.layers import softmax_loss
from handgrad.models import (
    ACTIVATIONS,
    LOSSES,
    MODELS,
    Affine,
    AvgPool,
    BatchNorm,
    Conv,
    ConvNet,
    Dropout,
    FullyConnectedNet,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    LeNet5,
    MaxPool,
    Net,
    Pair,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
    ThreeLayerConvNet,
    TwoLayerNet,
    refit_last_layer,
)

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


def test_each_dropout_layer_draws_its_own_mask():
    masks = []

    def seen_forward(x):
        masks.append(x == 0)
        return x, None

    seen = (seen_forward, lambda dout, cache: dout)
    to_ones = (lambda x: (np.ones_like(x), None), lambda dout, cache: dout)
    layers = [Dropout(0.5), seen, to_ones, Dropout(0.5), seen]
    net = Net([*layers, Affine(2)], 50, seed=0)
    masks.clear()
    net.loss(np.ones((4, 50)), np.zeros(4, int))
    first, second = masks
    assert 0.2 < np.mean(first != second) < 0.8


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


def doubled_forward(x):
    return 2 * x, None


def doubled_backward(dout, cache):
    return 2 * dout


def scaled_forward(x, w, factor):
    """w scales each feature."""
    return factor * x * w, (x, w, factor)


def scaled_backward(dout, cache):
    x, w, factor = cache
    return factor * dout * w, factor * (dout * x).sum(axis=0)


def ones_and_a_bit(shape, rng):
    return {"W": 1 + rng.random(shape)}


def noisy_forward(x, param):
    """Noise in training, drawn from the seed of the pass."""
    noise = np.random.default_rng(param["seed"]).random(x.shape) if param["mode"] == "train" else 0
    return x + noise.astype(x.dtype) if param["mode"] == "train" else x, None


def noisy_backward(dout, cache):
    return dout


NETS = {  # layers, the shape of an example
    "images": ([Conv(2), "tanh", AvgPool(3, stride=1, pad=1), Affine(4)], (1, 6, 6)),
    "everything": (
        [
            *(Conv(4, 3, stride=2, pad=1), BatchNorm(), ReLU(), MaxPool(2, stride=1)),
            *(Conv(6, 3, pad="same"), GroupNorm(3), LeakyReLU(0.2)),
            *(Affine(7), LayerNorm(), Sigmoid(), Dropout(0.3), Affine(5), Tanh(), Affine(4)),
        ],
        (2, 9, 8),
    ),
    "own pairs": (
        [
            Affine(6),
            (doubled_forward, doubled_backward),
            Pair(scaled_forward, scaled_backward, params=ones_and_a_bit, settings=(0.5,)),
            Pair(noisy_forward, noisy_backward, settings=({"mode": "test", "seed": None},)),
            Affine(4),
        ],
        (5,),
    ),
    "one layer": ([Affine(4)], (3,)),
    "pool first": ([MaxPool(2), ReLU(), BatchNorm(), Affine(4)], (2, 6, 6)),
}


@pytest.mark.parametrize("name", NETS)
class TestNetsFromLists:
    def test_every_gradient_by_complex_step(self, name):
        layers, shape = NETS[name]
        report = check_model(Net(layers, shape, reg=0.3, seed=0), *batch(shape))
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error <= 1e-10

    def test_the_shapes_that_summary_promises_are_delivered(self, name, capsys):
        layers, shape = NETS[name]
        model = Net(layers, shape, seed=0)
        x = np.zeros((5, *shape), np.float32)
        for k, (_, promised, _) in enumerate(model._rows):
            x, _ = model._chain.forward(x, range(k, k + 1))
            if model.layers[k] is model._chain.layers[k]:  # else it changed places with a pool
                assert x.shape[1:] == promised
        model.summary()
        assert capsys.readouterr().out == f"{model!r}\n"

    def test_a_description_builds_any_number_of_nets(self, name):
        layers, shape = NETS[name]
        X, y = batch(shape)
        one, other = Net(layers, shape, seed=0), Net(layers, shape, seed=0)
        for _ in range(2):
            one.loss(X, y)
        assert one.loss(X, y)[0] == other.loss(X, y)[0]


def test_parameters_are_numbered_by_kind():
    model = Net(*NETS["own pairs"], seed=0)
    assert list(model.params) == ["W1", "b1", "W2", "W3", "b2"]


def test_what_a_net_shows():
    model = Net([Conv(6, 5, pad=2), "relu", MaxPool(2), Affine(10)], (1, 28, 28), seed=0)
    assert repr(model).splitlines() == [
        "Net: an example is (1, 28, 28)",
        "   layer                 output       parameters  multiplications",
        "1  conv 6 of 5x5, pad 2  (6, 28, 28)         156          117,600",
        "2  relu                  (6, 28, 28)           -                -",
        "3  max pool 2x2          (6, 14, 14)           -                -",
        "4  affine 10             (10,)            11,770           11,760",
        "   in all                                 11,926          129,360",
    ]


def test_each_step_has_its_own_seed_for_a_pair_of_ones_own():
    model = Net(*NETS["own pairs"], seed=0)
    X, y = batch((5,))
    first = model.loss(X, y)[0]
    assert model.loss(X, y)[0] == first
    model.step = 1
    assert model.loss(X, y)[0] != first
    assert model.loss(X).tolist() == model.loss(X).tolist()


def unused_backward(dout, cache):
    raise AssertionError("nothing below this layer learns")


def test_the_way_back_ends_at_the_first_layer_with_parameters():
    model = Net([(doubled_forward, unused_backward), Affine(4)], 5, seed=0)
    loss, grads = model.loss(*batch((5,)))
    assert np.isfinite(loss)
    assert grads.keys() == {"W1", "b1"}


def moody_forward(x, param):
    return x, param["mode"]


def test_a_description_is_not_written_to():
    param = {"mode": "unknown"}
    pair = Pair(moody_forward, noisy_backward, settings=(param,))
    model = Net([pair, Affine(4)], 5, seed=0)
    model.loss(*batch((5,)))
    assert param == {"mode": "unknown"}
    assert model.layers[0].settings == ({"mode": "train"},)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.pop("running_mean1"),
        lambda s: s.update(running_mean1=np.zeros(3)),
        lambda s: s.update(running_mean9=np.zeros(6)),
        lambda s: s.pop("step"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(spoil):
    model = Net([Affine(6), BatchNorm(), Affine(4)], 5, seed=0)
    model.loss(*batch((5,)))
    before, wrong = model.state, model.state
    spoil(wrong)
    with pytest.raises(ValueError, match=r"Net.state: came with shapes .*, expected"):
        model.state = wrong
    for key, value in model.state.items():
        np.testing.assert_array_equal(value, before[key])


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
    (
        lambda: FullyConnectedNet([100, 0]),
        "layer 3: Affine: width = 0, expected a whole number from 1 up",
    ),
    (lambda: ConvNet(filters=("32",)), "layer 1: Conv: filters = '32', expected a whole number"),
    (lambda: Net(["relu", 10], 5), "layers holds 10, expected a description such as Affine(10)"),
    (lambda: Net([ReLU], 5), "expected a description such as Affine(10) or ReLU()"),
    (lambda: Net(["rleu"], 5), "Did you mean 'relu'?"),
    (lambda: Net([Affine(5), MaxPool(2)], 5), "layer 2: MaxPool: an example has shape (5,) here"),
    (lambda: Net([GroupNorm(2)], (3, 4, 4)), "layer 1: spatial_groupnorm_forward: G = 2"),
    (lambda: Net([Pair(doubled_forward, 3)], 5), "backward = 3, expected a function"),
    (lambda: Net([], 5), "layers is [], expected a list of layers, not empty"),
    (lambda: Net(["identity"], 5), "layers is ['identity'], expected a list of layers, not empty"),
    (lambda: Net([Residual(["identity"]), Affine(2)], 5), "layers is ['identity'], expected a list"),
    (lambda: Net([Affine(True)], 5), "Affine: width = True, expected a whole number from 1 up"),
    (lambda: Net([Affine(2)], 5, weight_scale=None), "weight_scale = None, expected a number"),
    (lambda: Net([Affine(2)], 5, weight_scale=float("nan")), "weight_scale = nan, expected a number"),
    (lambda: Net([Affine(2)], 5, dtype="flaot32"), "dtype = 'flaot32', expected floats, such as"),
    (lambda: Net(Affine(5), 5), "expected a list of layers"),
    (lambda: Net([Affine(5)], 0), "input_dim = 0"),
    (lambda: Net([Affine(5)], (3, 32, 32, 3)), "input_dim = (3, 32, 32, 3)"),
    (lambda: FullyConnectedNet([5], activation="rleu"), "Did you mean 'relu'?"),
    (lambda: LeNet5(pool="mean"), "unknown pool 'mean'; expected one of ['avg', 'max']"),
    (lambda: LeNet5(loss="softmx"), "Did you mean 'softmax'?"),
    (lambda: LeNet5(weight_scale="xaver"), "Did you mean 'xavier'?"),
    (lambda: LeNet5(input_dim=(1, 8, 8)), "layer 4: conv_forward: a window of (5, 5) does not fit"),
    (lambda: ConvNet(filter_size=4), "layer 1: Conv: size = 4 with pad = 'same', expected an odd"),
    (lambda: ConvNet(normalization="layernorm"), "images take BatchNorm"),
    (lambda: LeNet5().loss(np.zeros((2, 784))), "X has shape (2, 784), expected (N, 1, 28, 28)"),
    (lambda: LeNet5().loss(np.zeros((2, 1, 28, 28)), np.array([3, 10])), "y holds the label 10"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_models_pool_before_an_activation_that_never_falls():
    def names(layers):
        return [layer.forward.__name__ for layer in layers[:3]]

    written = ["conv_forward", "relu_forward", "max_pool_forward"]
    assert names(LeNet5().layers) == written
    assert names(LeNet5()._chain.layers) == ["conv_forward", "max_pool_forward", "relu_forward"]
    assert [layer.number for layer in LeNet5()._chain.layers[:4]] == [1, 3, 2, 4]
    written = ["conv_forward", "relu_forward", "avg_pool_forward"]
    assert names(LeNet5(pool="avg")._chain.layers) == written


def test_pooling_stays_behind_an_activation_that_falls():
    """max(f(a), f(b)) is not f(max(a, b)) for a slope below 0."""
    layers = [Conv(2), LeakyReLU(-0.5), MaxPool(2), Affine(4)]
    model = Net(layers, (1, 6, 6), dtype=float, seed=0)
    X, _ = batch((1, 6, 6))
    np.testing.assert_allclose(model.loss(X), layers_by_hand(model, X), rtol=1e-12)


def layers_by_hand(model, x):
    """The layers as they are written, one after the other."""
    for layer in model.layers:
        x, _ = layer.forward(x, *(model.params[name] for name in layer.names), *layer.settings)
    return x


def test_a_parameter_of_a_wrong_shape_names_the_layer():
    model = LeNet5(seed=0)
    model.params["W2"] = np.zeros((16, 5, 5, 5))
    with pytest.raises(ValueError, match=r"LeNet5, layer 4: conv_forward: x .* has C = 6, but w"):
        model.loss(np.zeros((2, 1, 28, 28)))


def test_a_batch_norm_of_a_wrong_shape_names_the_layer():
    model = ConvNet((4,), (), (1, 6, 6), 3, normalization="batchnorm", seed=0)
    model.params["gamma1"] = np.ones(5)
    with pytest.raises(ValueError, match=r"ConvNet, layer 2: spatial_batchnorm_forward: .* 4 features"):
        model.loss(np.zeros((2, 1, 6, 6)), np.zeros(2, int))


@pytest.mark.parametrize("model", MODELS.values())
def test_an_unknown_keyword_suggests_the_near_one(model):
    with pytest.raises(TypeError, match=rf"{model.__name__}: unknown .* Did you mean 'num_classes'"):
        model(*[[5]] * (model is FullyConnectedNet), num_class=3)


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


DOUBLED = Pair(doubled_forward, doubled_backward)


@pytest.mark.parametrize("last", [[ReLU()], [DOUBLED], [Residual([ReLU(), Affine(4)])]])
def test_refit_needs_an_affine_layer_at_the_end(last):
    model = Net([Affine(4), *last], (1, 5, 5), seed=0)
    with pytest.raises(ValueError, match="refit_last_layer: .*, expected a net that ends with Affine"):
        refit_last_layer(model, np.zeros((3, 1, 5, 5)), np.arange(3))


@pytest.mark.parametrize(("N", "labels"), [(60, 0), (60, 2), (0, 0)])
def test_refit_needs_a_label_for_each_example(N, labels):
    X, _ = batch((12,), N=60)
    with pytest.raises(ValueError, match=rf"X has {N} examples and y the shape \({labels},\)"):
        refit_last_layer(FullyConnectedNet([9], 12, 4), X[:N], np.zeros(labels, int))


def test_a_loss_of_ones_own():
    model = FullyConnectedNet(**{**FC, "loss": functools.partial(softmax_loss, smoothing=0.2)})
    check_model(model, *batch((12,))).require()


# ---------------------------------------------------------------------------- what it predicts


@pytest.mark.parametrize("size", [1, 7, 100])
def test_predictions_by_batches(size):
    model = Net([Affine(6), ReLU(), Affine(4)], 12, dtype=np.float64, seed=0)
    X, _ = batch((12,), N=23)
    scores = model.loss(X)
    predicted = model.predict(X, batch_size=size)
    assert predicted.dtype.kind == "i"
    np.testing.assert_array_equal(predicted, scores.argmax(axis=1))
    shares = np.array([[math.exp(s) / sum(map(math.exp, row)) for s in row] for row in scores])
    np.testing.assert_allclose(model.predict_proba(X, batch_size=size), shares, rtol=1e-12)
    assert model.predict(X[:0]).shape == (0,)
    assert model.predict_proba(X[:0]).shape == (0, 4)


def test_predict_needs_no_memory_for_the_whole_set():
    sizes = []

    def forward(x):
        sizes.append(len(x))
        return x, None

    model = Net([Pair(forward, lambda dout, cache: dout), Affine(3)], 4, seed=0)
    model.predict(np.zeros((50, 4), np.uint8), batch_size=20)
    model.predict_proba(np.zeros((50, 4)))
    assert sizes[1:] == [20, 20, 10, 50]  # the first when it was built


def test_probabilities_do_not_overflow():
    model = Net([Affine(2)], 1, dtype=np.float64, seed=0)
    model.params |= {"W1": np.array([[1e3, -1e3]]), "b1": np.zeros(2)}
    np.testing.assert_array_equal(
        model.predict_proba([[1.0], [-1.0], [0.0]]), [[1, 0], [0, 1], [0.5] * 2]
    )


def test_a_net_says_what_it_has_learned():
    X, y = batch((12,))
    model = Net([Affine(4)], 12, loss="mse", seed=0)
    assert model.predict(X).shape == (5,)  # classes, before it is known
    model.loss(X, 0.3 * np.eye(4)[y])
    np.testing.assert_array_equal(model.predict(X), model.loss(X))
    model.loss(X[:1], np.eye(4)[:1])  # a batch of numbers that looks one-hot
    assert model.predict(X).shape == (5, 4)
    model.loss(X, y)
    np.testing.assert_array_equal(model.predict(X), model.loss(X).argmax(axis=1))
    one = Net([Affine(1)], 12, loss="mse", seed=0)
    np.testing.assert_array_equal(one.predict(X), one.loss(X)[:, 0])


def test_gradients_of_numbers_by_complex_step():
    X, _ = batch((12,))
    y = np.random.default_rng(1).standard_normal((5, 3))
    check_model(Net([Affine(6), Tanh(), Affine(3)], 12, loss="mse", seed=0), X, y).require()
    check_model(Net([Affine(6), Tanh(), Affine(1)], 12, loss="mse", seed=0), X, y[:, 0]).require()


WRONG_CALLS = [
    (
        dict(loss="mse"),
        "predict_proba",
        {},
        "Net.predict_proba: the loss is mse_loss, whose scores are no",
    ),
    (
        dict(loss="svm"),
        "predict_proba",
        {},
        "the loss is svm_loss, .* expected a net with loss='softmax'",
    ),
    ({}, "predict", {"batch_size": 0}, "Net.predict: batch_size = 0, expected a whole number from 1"),
    ({}, "predict", {"X": np.zeros(12)}, r"Net.predict: X has shape \(12,\), .* try X\[None\]"),
    (
        {},
        "predict_proba",
        {"X": np.zeros((2, 3))},
        r"predict_proba: X has shape \(2, 3\), expected \(N, 12\)",
    ),
    ({}, "predict", {"X": [["a"] * 12]}, "Net.predict: X has dtype <U1, expected numbers"),
    ({}, "predict_proba", {"batch_size": 2.5}, "Net.predict_proba: batch_size = 2.5, expected a whole"),
]


@pytest.mark.parametrize(("settings", "method", "given", "message"), WRONG_CALLS)
def test_wrong_calls_to_predict(settings, method, given, message):
    model = Net([Affine(4)], 12, **settings)
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(**{"X": np.zeros((2, 12)), **given})


def test_layers_of_a_branch_stand_further_in():
    net = Net([Affine(3), Residual([ReLU(), Affine(3)]), ReLU(), Affine(2)], 3, seed=0)
    cells = [line[:21].rstrip() for line in str(net).splitlines()[2:-1]]
    assert cells == ["1  affine 3", "2    relu", "3    affine 3 (added)", "4  relu", "5  affine 2"]


def test_in_a_notebook_a_net_is_a_table():
    model = Net([Affine(6), Pair(lambda x: (x, None), lambda dout, cache: dout), Affine(4)], 12)
    page = model._repr_html_()
    assert page.startswith(
        "<table><caption>Net: an example is (12,)</caption><thead><tr><th></th><th>layer"
    )
    assert "<td>1</td><td>affine 6</td><td>(6,)</td><td>78</td><td>72</td>" in page
    assert "<td>&lt;lambda&gt;</td>" in page
    assert page.count("<tr>") == len(repr(model).splitlines()) - 1 == 5


def test_an_interrupted_prediction_leaves_all_as_it_was(blobs):
    """Also in the middle of a training with batch norm and dropout, which goes on bit for bit."""
    runs = []
    for interrupted in (False, True):
        calls = []

        def forward(x, calls=calls):
            calls.append(1)
            if len(calls) == fails_at:  # noqa: B023 - as it is then
                raise KeyboardInterrupt
            return x, None

        fails_at = None
        layers = [
            Affine(8),
            BatchNorm(),
            ReLU(),
            Dropout(0.3),
            (forward, lambda dout, _: dout),
            Affine(3),
        ]
        model = Net(layers, 5, seed=0)
        solver = Solver(model, blobs, batch_size=20, num_epochs=3, verbose=False, seed=0)
        for _ in solver.epochs():
            if interrupted:
                for predict in (model.predict, model.predict_proba, solver.predict):
                    fails_at = len(calls) + 2
                    with pytest.raises(KeyboardInterrupt):
                        predict(blobs["X_train"], batch_size=30)
        runs.append((solver.loss_history, model.predict_proba(blobs["X_val"]).tolist()))
    assert runs[0] == runs[1]
