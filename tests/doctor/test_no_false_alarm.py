"""More than 200 right configurations: none of them may get a diagnosis other than a note on a kink."""

import itertools

import numpy as np
import pytest
from handgrad import attention as A
from handgrad import layer_utils as U
from handgrad import layers as L
from handgrad import recurrent as R
from handgrad.gradient_check import check_layer, check_loss, check_model
from handgrad.models import (
    Affine,
    AvgPool,
    BatchNorm,
    ConvNet,
    FullyConnectedNet,
    Net,
    ReLU,
    ThreeLayerConvNet,
    TwoLayerNet,
)

CASES = []


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def whole(shape, seed):
    """Whole numbers, with many zeros and ties."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(float)


def large(shape, seed):
    return 1e3 + 50 * normal(shape, seed)


def small(shape, seed):
    return 1e-4 * normal(shape, seed)


def single(shape, seed):
    return normal(shape, seed).astype(np.float32)


def right(name, forward, backward, shapes, *settings, kinds=(normal, single)):
    """Enter a pair, for each list of shapes and kind of numbers."""
    for shape_list, kind in itertools.product(shapes, kinds):
        arrays = [kind(shape, k) for k, shape in enumerate(shape_list)]
        row = (forward, backward, (*arrays, *settings))
        CASES.append(pytest.param(*row, id=f"{name}-{shape_list[0]}-{kind.__name__}"))


# ---------------------------------------------------------------------------- handgrad's layers

ALL = (normal, single, whole, large, small)
AFFINE = [
    [(4, 2, 3), (6, 5), (5,)],
    [(1, 6), (6, 1), (1,)],
    [(3, 3), (3, 3), (3,)],
    [(7, 1), (1, 4), (4,)],
]
right("affine", L.affine_forward, L.affine_backward, AFFINE, kinds=(normal, single, whole))
for act in ("relu", "leaky_relu", "sigmoid", "tanh"):
    pair = (getattr(L, f"{act}_forward"), getattr(L, f"{act}_backward"))
    right(act, *pair, [[(4, 5)], [(1,)], [(2, 3, 2, 2)]], kinds=(normal, whole, small))
for p, mode in itertools.product((0, 0.3, 0.9), ("train", "test")):
    param = {"p": p, "mode": mode, "seed": 1}
    right(
        f"dropout-{p}-{mode}",
        L.dropout_forward,
        L.dropout_backward,
        [[(5, 4)], [(1, 3)]],
        param,
        kinds=(normal,),
    )
NORM = [[(6, 4), (4,), (4,)], [(1, 4), (4,), (4,)], [(2, 3), (3,), (3,)], [(5, 1), (1,), (1,)]]
right("batchnorm", L.batchnorm_forward, L.batchnorm_backward, NORM, {"mode": "train"}, kinds=ALL)
right("batchnorm-test", L.batchnorm_forward, L.batchnorm_backward, NORM[:2], {"mode": "test"})
right("layernorm", L.layernorm_forward, L.layernorm_backward, NORM, {}, kinds=ALL)
IMAGES = [[(2, 4, 3, 3), (4,), (4,)], [(1, 2, 1, 5), (2,), (2,)]]
SBN = (L.spatial_batchnorm_forward, L.spatial_batchnorm_backward)
right("spatial_batchnorm", *SBN, IMAGES, {"mode": "train"}, kinds=(normal, whole, large))
GN = (L.spatial_groupnorm_forward, L.spatial_groupnorm_backward)
right("groupnorm", *GN, IMAGES, 2, {}, kinds=(normal, whole, large))
CONV = [[(2, 2, 5, 4), (3, 2, 3, 2), (3,)], [(1, 1, 3, 3), (1, 1, 3, 3), (1,)]]
for stride, pad in ((1, 0), (2, 1), ((2, 1), (1, 2))):
    pair, setting = (L.conv_forward, L.conv_backward), {"stride": stride, "pad": pad}
    right(f"conv-{stride}-{pad}", *pair, CONV, setting, kinds=(normal, single, whole))
right("conv_naive", L.conv_forward_naive, L.conv_backward_naive, CONV[:1], {"stride": 1, "pad": 1})
POOL = [[(2, 2, 5, 4)], [(1, 1, 3, 3)]]
for size, stride in ((2, 2), (3, 1), (1, 1)):
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    for name in ("max_pool", "avg_pool"):
        pair = (getattr(L, f"{name}_forward"), getattr(L, f"{name}_backward"))
        right(f"{name}-{size}-{stride}", *pair, POOL, param, kinds=(normal, whole))
NAIVE = (L.max_pool_forward_naive, L.max_pool_backward_naive)
right(
    "max_pool_naive",
    *NAIVE,
    POOL,
    {"pool_height": 2, "pool_width": 2, "stride": 1},
    kinds=(normal, whole),
)
right("affine_relu", U.affine_relu_forward, U.affine_relu_backward, AFFINE[:3], kinds=(normal, whole))
CRP = (U.conv_relu_pool_forward, U.conv_relu_pool_backward)
SETTINGS = ({"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2})
right("conv_relu_pool", *CRP, [[(2, 1, 4, 4), (2, 1, 3, 3), (2,)]], *SETTINGS, kinds=(normal, whole))


# ---------------------------------------------------------------------------- as students write them


def np_var_forward(x, gamma, beta, param):
    """np.var loses the imaginary part of a complex step without a word."""
    mean, var = np.mean(x, axis=0), np.var(x, axis=0)
    xhat = (x - mean) / np.sqrt(var + 1e-5)
    return gamma * xhat + beta, (x, gamma, mean, var, xhat)


def graph_backward(dout, cache):
    """Batch norm node by node."""
    x, gamma, mean, var, xhat = cache
    N = x.shape[0]
    dbeta, dgamma, dxhat = np.sum(dout, axis=0), np.sum(dout * xhat, axis=0), dout * gamma
    std = np.sqrt(var + 1e-5)
    dstd = -np.sum(dxhat * (x - mean), axis=0) / std**2
    dvar = 0.5 * dstd / std
    dx1 = dxhat / std + 2 * (x - mean) * dvar / N
    return dx1 - np.sum(dx1, axis=0) / N, dgamma, dbeta


right("np.var", np_var_forward, graph_backward, NORM, {}, kinds=(normal, single, whole))


def loop_relu_forward(x):
    out = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        out[index] = max(x[index], 0)
    return out, x


def loop_relu_backward(dout, cache):
    return np.where(cache >= 0, dout, 0)


right(
    "relu-loops", loop_relu_forward, loop_relu_backward, [[(3, 4)], [(2, 2, 2)]], kinds=(normal, whole)
)


def abs_forward(x):
    return np.abs(x), x


right("abs", abs_forward, lambda dout, x: dout * np.sign(x), [[(3, 4)]], kinds=(normal, whole))
right(
    "maximum",
    lambda x: (np.maximum(0, x), x),
    lambda dout, x: dout * (x > 0),
    [[(3, 4)], [(5,)]],
    kinds=(normal, whole),
)
right(
    "real",
    lambda x: (np.tanh(x.real), x),
    lambda dout, x: dout * (1 - np.tanh(x) ** 2),
    [[(3, 4)]],
)
right("identity", lambda x: (x, None), lambda dout, cache: dout, [[(3, 4)], [(2,)]])
right("sum", lambda x: (np.sum(x), x.shape), lambda dout, shape: dout * np.ones(shape), [[(3, 4)]])
right("one-tuple", lambda x: (x * x, x), lambda dout, x: (2 * dout * x,), [[(3, 4)]])
right(
    "residual",
    lambda x: (x + np.tanh(x), x),
    lambda dout, x: dout + dout * (1 - np.tanh(x) ** 2),
    [[(3, 4)], [(4, 4)]],
)
right(
    "sort",
    lambda x: (np.sort(x, axis=1), np.argsort(x, axis=1)),
    lambda dout, i: np.take_along_axis(dout, np.argsort(i, axis=1), axis=1),
    [[(3, 5)]],
)


def softmax_forward(x):
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    p = e / np.sum(e, axis=1, keepdims=True)
    return p, p


def softmax_backward(dout, p):
    return p * (dout - np.sum(dout * p, axis=1, keepdims=True))


right(
    "softmax", softmax_forward, softmax_backward, [[(3, 4)], [(1, 2)], [(4, 1)]], kinds=(normal, whole)
)


def global_dropout_forward(x, p, seed):
    np.random.seed(seed)  # noqa: NPY002  as in the course
    mask = (np.random.rand(*x.shape) < p) / p  # noqa: NPY002
    return x * mask, mask


right("dropout-global", global_dropout_forward, lambda dout, mask: dout * mask, [[(4, 5)]], 0.7, 3)


def embedding_forward(w, index):
    return w[index], (index, w.shape)


def embedding_backward(dout, cache):
    dw = np.zeros(cache[1])
    np.add.at(dw, cache[0], dout)
    return dw


right("embedding", embedding_forward, embedding_backward, [[(5, 3)]], np.array([0, 2, 2, 4, 2]))


def list_buffer_forward(x, w):
    return np.array([[float(row @ column) for column in w.T] for row in x]), (x, w)


right(
    "float()",
    list_buffer_forward,
    lambda dout, cache: (dout @ cache[1].T, cache[0].T @ dout),
    [[(3, 4), (4, 2)], [(2, 2), (2, 2)]],
)


# ---------------------------------------------------------------------------- extremes


def scaled(scale, offset=0.0):
    def kind(shape, seed):
        return offset * (len(shape) > 1) + scale * normal(shape, seed)

    kind.__name__ = f"{offset:g}+{scale:g}"
    return kind


SATURATED = (scaled(20), scaled(50), scaled(300), scaled(1e6))
right("softmax", softmax_forward, softmax_backward, [[(3, 4)]], kinds=SATURATED)
SDPA = (A.scaled_dot_product_attention_forward, A.scaled_dot_product_attention_backward)
right("attention", *SDPA, [3 * [(2, 2, 3, 4)]], kinds=(scaled(1e4), scaled(1e6), scaled(1e10)))
RNN = [[(2, 3, 4), (2, 3), (4, 3), (3, 3), (3,)]]
right("rnn", R.rnn_forward, R.rnn_backward, RNN, kinds=(normal, single, scaled(30), scaled(1e3)))
right("layernorm", L.layernorm_forward, L.layernorm_backward, NORM[:1], {}, kinds=(scaled(1, 1e8),))
right("np.var", np_var_forward, graph_backward, NORM[:1], {}, kinds=(scaled(1, 1e6), scaled(1, 1e8)))


def near_zero(scale):
    """Numbers above 0 that a step of 1e-5, or of 1e-7, leaves."""
    return lambda shape, seed: scale * (1 + np.random.default_rng(seed).random(shape))


POSITIVE = (near_zero(1), near_zero(1e-6), near_zero(1e-8))
right("log", lambda x: (np.log(x), x), lambda dout, x: dout / x, [[(3, 4)]], kinds=POSITIVE)
right("sqrt", lambda x: (np.sqrt(x),) * 2, lambda dout, r: dout / (2 * r), [[(3, 4)]], kinds=POSITIVE)


def loop_loss(x, y):
    """Example by example, with a float() that no complex step passes."""
    loss, dx = 0.0, np.zeros_like(x)
    for n in range(len(x)):
        e = np.exp(x[n] - max(x[n]))
        loss -= float(np.log(e[y[n]] / sum(e))) / len(x)
        dx[n] = e / sum(e) / len(x)
        dx[n, y[n]] -= 1 / len(x)
    return loss, dx


def log_of_p_loss(x, y):
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    p, own = e / np.sum(e, axis=1, keepdims=True), (np.arange(len(x)), y)
    dx = p.copy()
    dx[own] -= 1
    return -np.mean(np.log(p[own])), dx / len(x)


@pytest.mark.parametrize("loss", [loop_loss, log_of_p_loss, L.softmax_loss])
@pytest.mark.parametrize("scale", [5, 10, 20, 50, 300])
@pytest.mark.parametrize("wrong_class", [0, 1])
def test_a_right_loss_of_sure_scores(loss, scale, wrong_class):
    y = np.array([0, 1, 2, 0])
    x = -scale * np.ones((4, 3))
    x[np.arange(4), (y + wrong_class) % 3] = scale
    report = check_loss(loss, x, y).require()
    assert not report.diagnoses


def test_a_fault_at_sure_scores_is_found():
    def twice(x, y):
        loss, dx = log_of_p_loss(x, y)
        return loss, 2 * dx

    y = np.array([0, 1, 2, 0])
    x = 10.0 * np.eye(3)[y] + np.random.default_rng(0).random((4, 3))  # gradients of 1e-5
    for scale in (1, 1.5):  # and of 1e-7
        assert [d.cause for d in check_loss(twice, scale * x, y).diagnoses] == ["factor"]


def test_where_forward_is_not_finite_this_is_said():
    x = np.array([[0.0, 800.0]])
    with np.errstate(all="ignore"):
        (diagnosis,) = check_loss(log_of_p_loss, x, np.array([0])).diagnoses
    assert diagnosis.cause == "unknown"
    assert "not finite" in diagnosis.evidence


@pytest.mark.parametrize(("forward", "backward", "args"), CASES)
def test_a_right_pair_gets_no_diagnosis(forward, backward, args):
    report = check_layer(forward, backward, *args).require()
    assert {d.cause for d in report.diagnoses} <= {"kink"}


# ---------------------------------------------------------------------------- losses and models

LOSSES = [
    (loss, kind, shape)
    for loss in (L.softmax_loss, L.svm_loss, L.mse_loss)
    for kind in (normal, single, whole)
    for shape in ((5, 3), (1, 4), (3, 3))
]


@pytest.mark.parametrize(("loss", "kind", "shape"), LOSSES)
def test_a_right_loss_gets_no_diagnosis(loss, kind, shape):
    report = check_loss(loss, kind(shape, 0), np.arange(shape[0]) % shape[1]).require()
    assert {d.cause for d in report.diagnoses} <= {"kink"}


def dense(**settings):
    return lambda: FullyConnectedNet([6, 5], 4, 3, seed=0, weight_scale=0.5, **settings)


MODELS = [
    dense(),
    dense(reg=0.5),
    dense(dropout=0.4),
    dense(normalization="batchnorm", reg=0.1),
    dense(normalization="layernorm", activation="tanh"),
    dense(loss="svm"),
    dense(activation="leaky_relu", dtype="float64"),
    lambda: TwoLayerNet(4, 6, 3, seed=1),  # tiny weights, as in the course
    lambda: TwoLayerNet(4, 6, 3, seed=1, weight_scale=0),
]


class Absolute(TwoLayerNet):
    """An L1 penalty, whose abs breaks the complex step."""

    def loss(self, X, y=None):
        result = super().loss(X, y)
        if y is None:
            return result
        loss, grads = result
        loss += 0.01 * sum(np.sum(np.abs(p)) for p in self.params.values())
        return loss, {k: g + 0.01 * np.sign(self.params[k]) for k, g in grads.items()}


MODELS += [lambda: Absolute(4, 6, 3, seed=1), lambda: Absolute(4, 6, 3, seed=1, weight_scale=0.5)]


@pytest.mark.parametrize("N", [1, 6])
@pytest.mark.parametrize("kind", [normal, whole])
@pytest.mark.parametrize("model", MODELS)
def test_a_right_model_gets_no_diagnosis(model, kind, N):
    report = check_model(model(), kind((N, 4), 0), np.arange(N) % 3).require()
    assert {d.cause for d in report.diagnoses} <= {"kink"}


IMAGE_NETS = [
    lambda: ConvNet((2, "pool"), (4,), (1, 4, 4), 3, seed=0, normalization="batchnorm", dropout=0.2),
    lambda: Net(
        [BatchNorm(), AvgPool(2), (L.tanh_forward, L.tanh_backward), ReLU()], (3, 2, 2), seed=0
    ),
]


def test_a_net_of_images_without_colour():
    """Black borders and biases of 0 lie on relu's kink."""
    X = np.zeros((4, 1, 4, 4))
    X[:, :, 1:3, 1:3] = normal((4, 1, 2, 2), 0)
    report = check_model(IMAGE_NETS[0](), X, np.array([0, 1, 2, 0])).require()
    assert {d.cause for d in report.diagnoses} <= {"kink"}


def softplus_forward(x):
    """Its abs loses the imaginary part of a complex step."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), x


def softplus_backward(dout, x):
    return dout / (1 + np.exp(-x))


def pixels(shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 21, 31])
@pytest.mark.parametrize(
    ("scale", "kind"), [(1e-4, normal), (1e-3, normal), (0.5, normal), (0.01, pixels)]
)
def test_a_right_net_that_takes_no_complex_step(scale, kind, seed):
    """Gradients smaller than the rounding of short steps, and pixels, for which a step is long."""
    layers = [Affine(5), (softplus_forward, softplus_backward), Affine(3)]
    net = Net(layers, 4, seed=seed, weight_scale=scale)
    check_model(net, kind((6, 4), seed), np.array([0, 1, 2, 2, 1, 0])).require()


@pytest.mark.parametrize("seed", [12, 36])
def test_a_right_net_with_many_kinks_close_by(seed):
    """Tiny first weights, as in the course: steps of 1e-5 and longer cross kinks of relu and max."""
    net = ThreeLayerConvNet((3, 8, 8), 3, 3, 5, 4, seed=seed)
    check_model(net, normal((2, 3, 8, 8), seed), np.array([1, 2])).require()


def test_there_are_enough():
    assert len(CASES) + len(LOSSES) + 4 * len(MODELS) >= 200
