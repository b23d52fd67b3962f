"""Numbers: random layers and nets against their definitions, in any memory order and precision."""

import functools

import numpy as np
from handgrad import Solver
from handgrad import attention as A
from handgrad import layers as L
from handgrad import recurrent as R
from handgrad.engine.workers import workers
from handgrad.models import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool,
    Net,
    ReLU,
    Sigmoid,
    Tanh,
)

from . import attack, oracle

# How far a result may be from the oracle's, relative to the largest number that meets in it.
PRECISION = {np.float64: 1e-9, np.float32: 1e-4, np.float16: 2e-2}
SCALES = {
    np.float64: (1, 1, 1e-100, 1e-10, 1e10, 1e100),
    np.float32: (1, 1, 1e-12, 1e12),
    np.float16: (1,),
}


# ---------------------------------------------------------------------------- random arguments
# Each draws the arrays of a layer, its further arguments, and the oracle's function of the arrays.


def sizes(rng, n, low=1, high=6):
    return tuple(int(size) for size in rng.integers(low, high, n))


def batch_size(rng):
    return int(rng.choice([0, 1, 1, 2, 3, 5]))


def an_affine(rng, normal):
    shape, M = sizes(rng, rng.integers(1, 4)), int(rng.integers(1, 6))
    x = normal(batch_size(rng), *shape)
    return [x, normal(np.prod(shape), M), normal(M)], (), oracle.affine


def elementwise(function, *extra):
    def draw(rng, normal):
        x = normal(batch_size(rng), *sizes(rng, rng.integers(0, 4)))
        return [x], extra, lambda x: function(x, *extra)

    return draw


def a_dropout(rng, normal):
    """The mask is what the layer makes of ones."""
    x, p = normal(batch_size(rng), *sizes(rng, 2)), float(rng.uniform(0, 0.9))
    param = {"p": p, "mode": "train", "seed": int(rng.integers(99))}
    mask, _ = L.dropout_forward(np.ones(x.shape), param)
    assert np.all((mask == 0) | np.isclose(mask, 1 / (1 - p), rtol=1e-12))
    return [x], (param,), lambda x: x * mask


def a_batchnorm(dims, training):
    def draw(rng, normal):
        x = normal(batch_size(rng), *sizes(rng, dims - 1, 1, 5))
        gamma, beta, mean, eps = (
            *(normal(x.shape[1]) for _ in range(3)),
            float(10 ** rng.uniform(-6, -1)),
        )
        param = {"mode": "train" if training else "test", "eps": eps}
        if training:
            return [x, gamma, beta], (param,), functools.partial(oracle.batchnorm, eps=eps)
        fixed = {"mean": mean.astype(float), "variance": rng.uniform(0.1, 3, x.shape[1]), "eps": eps}
        param |= {"running_mean": fixed["mean"], "running_var": fixed["variance"]}
        return [x, gamma, beta], (param,), functools.partial(oracle.batchnorm_at_test, **fixed)

    return draw


def a_layernorm(rng, normal):
    x, eps = normal(batch_size(rng), *sizes(rng, 1, 2)), float(10 ** rng.uniform(-6, -1))
    arrays = [x, normal(x.shape[1]), normal(x.shape[1])]
    return arrays, ({"eps": eps},), functools.partial(oracle.layernorm, eps=eps)


def a_groupnorm(rng, normal):
    G, width = sizes(rng, 2, 1, 4)
    x, eps = normal(batch_size(rng), G * width, *sizes(rng, 2)), float(10 ** rng.uniform(-6, -1))
    arrays = [x, normal(G * width), normal(G * width)]
    return arrays, (G, {"eps": eps}), functools.partial(oracle.groupnorm, groups=G, eps=eps)


def a_conv(rng, normal):
    window, stride, pad = sizes(rng, 2, 1, 4), sizes(rng, 2, 1, 4), sizes(rng, 2, 0, 3)
    x, F = normal(batch_size(rng), *sizes(rng, 1), *sizes(rng, 2, 3, 8)), int(rng.integers(1, 5))
    arrays = [x, normal(F, x.shape[1], *window), normal(F)]
    function = functools.partial(oracle.conv, stride=stride, pad=pad)
    return arrays, ({"stride": stride, "pad": pad},), function


def a_pool(function):
    def draw(rng, normal):
        window, stride = sizes(rng, 2, 1, 4), sizes(rng, 2, 1, 4)
        pad = tuple(int(rng.integers(0, size // 2 + 1)) for size in window)
        x = normal(batch_size(rng), *sizes(rng, 1), *sizes(rng, 2, 3, 8))
        param = {"pool_height": window[0], "pool_width": window[1], "stride": stride, "pad": pad}
        return [x], (param,), functools.partial(function, window=window, stride=stride, pad=pad)

    return draw


def a_loss(function, **settings):
    def draw(rng, normal):
        x = normal(batch_size(rng), int(rng.integers(2, 6)))
        y = rng.integers(x.shape[1], size=len(x))
        return [x], (y, *settings.values()), lambda x: function(x, y, **settings)

    return draw


def a_recurrent(function, blocks, biases):
    def draw(rng, normal):
        T, D, H = sizes(rng, 3, 1, 5)
        x = normal(batch_size(rng), T, D)
        arrays = [x, normal(len(x), H), normal(D, blocks * H), normal(H, blocks * H)]
        return [*arrays, *(normal(blocks * H) for _ in range(biases))], (), function

    return draw


def an_affine_of_steps(rng, normal):
    T, D, M = sizes(rng, 3, 1, 5)
    return [normal(batch_size(rng), T, D), normal(D, M), normal(M)], (), oracle.affine_steps


def word_scores(rng, normal):
    T, D, V = sizes(rng, 3, 1, 5)
    return [normal(batch_size(rng), T, D), normal(V, D)], (), oracle.word_scores


def a_conv1d(rng, normal):
    D, F, K, stride = sizes(rng, 4, 1, 4)
    pad, x = int(rng.integers(3)), normal(batch_size(rng), int(rng.integers(3, 8)), D)
    settings = {"stride": stride, "pad": pad}
    return [x, normal(F, D, K), normal(F)], (settings,), functools.partial(oracle.conv1d, **settings)


def an_rmsnorm(rng, normal):
    x, eps = normal(batch_size(rng), *sizes(rng, 2)), float(10 ** rng.uniform(-6, -1))
    return [x, normal(x.shape[-1])], ({"eps": eps},), functools.partial(oracle.rmsnorm, eps=eps)


def a_softmax(rng, normal):
    return [normal(batch_size(rng), *sizes(rng, 2))], (), oracle.softmax_rows


def an_attention(rng, normal):
    N, causal, (T, more, E, D) = batch_size(rng), bool(rng.integers(2)), sizes(rng, 4, 1, 5)
    arrays = [normal(N, T, E), normal(N, T + more - 1, E), normal(N, T + more - 1, D)]
    return arrays, (None, causal), functools.partial(oracle.attention, causal=causal)


def a_multi_head(rng, normal):
    heads, width, T = sizes(rng, 3, 1, 4)
    D, param = heads * width, {"heads": heads, "causal": bool(rng.integers(2))}
    arrays = [normal(batch_size(rng), T, D), normal(D, 3 * D), normal(3 * D), normal(D, D), normal(D)]
    return arrays, (param,), functools.partial(oracle.multi_head_attention, **param)


def as_pair(loss):
    """A loss as a layer of one output."""
    return loss, lambda dout, dx: dout * dx


LAYERS = {
    "affine": (L.affine_forward, L.affine_backward, an_affine),
    "relu": (L.relu_forward, L.relu_backward, elementwise(oracle.relu)),
    "leaky relu": (L.leaky_relu_forward, L.leaky_relu_backward, elementwise(oracle.leaky_relu, 0.2)),
    "sigmoid": (L.sigmoid_forward, L.sigmoid_backward, elementwise(oracle.sigmoid)),
    "tanh": (L.tanh_forward, L.tanh_backward, elementwise(oracle.tanh)),
    "dropout": (L.dropout_forward, L.dropout_backward, a_dropout),
    "batchnorm": (L.batchnorm_forward, L.batchnorm_backward, a_batchnorm(2, True)),
    "batchnorm, test": (L.batchnorm_forward, L.batchnorm_backward, a_batchnorm(2, False)),
    "spatial batchnorm": (
        L.spatial_batchnorm_forward,
        L.spatial_batchnorm_backward,
        a_batchnorm(4, True),
    ),
    "spatial batchnorm, test": (
        L.spatial_batchnorm_forward,
        L.spatial_batchnorm_backward,
        a_batchnorm(4, False),
    ),
    "layernorm": (L.layernorm_forward, L.layernorm_backward, a_layernorm),
    "groupnorm": (L.spatial_groupnorm_forward, L.spatial_groupnorm_backward, a_groupnorm),
    "conv": (L.conv_forward, L.conv_backward, a_conv),
    "conv, naive": (L.conv_forward_naive, L.conv_backward_naive, a_conv),
    "max pool": (L.max_pool_forward, L.max_pool_backward, a_pool(oracle.max_pool)),
    "max pool, naive": (L.max_pool_forward_naive, L.max_pool_backward_naive, a_pool(oracle.max_pool)),
    "avg pool": (L.avg_pool_forward, L.avg_pool_backward, a_pool(oracle.avg_pool)),
    "softmax": (*as_pair(L.softmax_loss), a_loss(oracle.softmax)),
    "softmax, smoothed": (*as_pair(L.softmax_loss), a_loss(oracle.softmax, smoothing=0.1)),
    "svm": (*as_pair(L.svm_loss), a_loss(oracle.svm)),
    "mse": (*as_pair(L.mse_loss), a_loss(oracle.mse)),
    "affine at each step": (
        R.temporal_affine_forward,
        R.temporal_affine_backward,
        an_affine_of_steps,
    ),
    "word scores": (R.word_scores_forward, R.word_scores_backward, word_scores),
    "conv1d": (A.conv1d_forward, A.conv1d_backward, a_conv1d),
}
BENT = {  # curved everywhere: large numbers would saturate them
    "rnn": (R.rnn_forward, R.rnn_backward, a_recurrent(oracle.rnn, 1, 1)),
    "lstm": (R.lstm_forward, R.lstm_backward, a_recurrent(oracle.lstm, 4, 1)),
    "gru": (R.gru_forward, R.gru_backward, a_recurrent(oracle.gru, 3, 2)),
    "gelu": (A.gelu_forward, A.gelu_backward, elementwise(oracle.gelu_by_tanh)),
    "gelu, exact": (
        functools.partial(A.gelu_forward, approximate=False),
        A.gelu_backward,
        elementwise(oracle.gelu),
    ),
    "rmsnorm": (A.rmsnorm_forward, A.rmsnorm_backward, an_rmsnorm),
    "softmax of rows": (A.softmax_forward, A.softmax_backward, a_softmax),
    "attention": (
        A.scaled_dot_product_attention_forward,
        A.scaled_dot_product_attention_backward,
        an_attention,
    ),
    "multi-head attention": (
        A.multi_head_attention_forward,
        A.multi_head_attention_backward,
        a_multi_head,
    ),
}


def laid_out(rng, a):
    """The same numbers in a memory order drawn at random, not to be written to."""
    order = rng.permutation(a.ndim)
    laid = np.array(a.transpose(order), order="C").transpose(np.argsort(order))
    if a.ndim and rng.integers(2):  # every second number of a larger array, or backwards
        steps = rng.choice([-2, -1, 1, 2], a.ndim).tolist()
        room = np.zeros([abs(step) * n for step, n in zip(steps, a.shape, strict=True)], a.dtype)
        laid = room[tuple(slice(None, None, step) for step in steps)]
        laid[...] = a
    laid.flags.writeable = False
    return laid


# ---------------------------------------------------------------------------- layers


@attack(
    "A layer's output and gradients are those of its definition, to 1e-9 in float64, in any memory "
    "order; arguments are not written to",
    long=2000,
    short=150,
)
def layer(rng, folder):
    name = str(rng.choice([*LAYERS, *BENT]))
    forward, backward, draw = (LAYERS | BENT)[name]
    dtype = list(PRECISION)[rng.choice(3, p=[0.6, 0.3, 0.1])]
    scale = rng.choice(SCALES[dtype]) if name in LAYERS else 1
    drawn, settings, function = draw(rng, lambda *shape: rng.standard_normal(shape))
    drawn[0] = drawn[0] * scale
    arrays = [laid_out(rng, np.asarray(a, dtype)) for a in drawn]
    before = [a.tobytes() for a in arrays]
    out, cache = forward(*arrays, *settings)
    dout = laid_out(rng, np.asarray(rng.standard_normal(np.shape(out)), dtype))
    grads, again = (as_tuple(backward(dout, cache)) for _ in range(2))
    assert [a.tobytes() for a in arrays] == before
    assert [g.tobytes() for g in grads] == [g.tobytes() for g in again]
    assert out.dtype == dtype
    assert_close(out, function(*(a.astype(complex) for a in arrays)).real, PRECISION[dtype], name)
    for at, (a, grad) in enumerate(zip(arrays, grads, strict=True)):
        assert (grad.shape, grad.dtype) == (a.shape, a.dtype)
        for v in directions(rng, a.shape):
            moves = [v if k == at else np.zeros(b.shape) for k, b in enumerate(arrays)]
            terms = (
                grad.astype(float) * v,
                dout.astype(float) * oracle.derivative(function, arrays, moves),
            )
            least = cancelled(name, at, arrays, settings) * np.abs(dout).max(initial=0)
            if name == "multi-head attention":  # keys' biases have no gradient but rounding
                least = max(np.abs(g).max(initial=0).astype(float) for g in grads)
            assert_same_sum(*terms, least, PRECISION[dtype], f"{name}, argument {at}")
    return f"of {np.dtype(dtype)}"


NORMALISED = {  # the axes of x over which the means are taken
    "batchnorm": (0,),
    "spatial batchnorm": (0, 2, 3),
    "layernorm": (1,),
    "groupnorm": (2, 3, 4),
    "rmsnorm": (2,),
}


def cancelled(name, at, arrays, settings):
    """How much larger than dout the terms may be that cancel each other in a gradient."""
    sizes = [np.abs(a).max(initial=0).astype(float) for a in arrays]
    if name in ("sigmoid", "tanh", "softmax of rows"):  # 1 - out^2, where out comes close to 1
        return 1
    if name in ("rnn", "lstm", "gru"):  # the same, times what stands before the bend
        return max(sizes)
    if name == "attention" and at < 2:  # dp - sum(dp p), where p comes close to 1
        return sizes[1 - at] * sizes[2] * arrays[2].shape[2]
    if name not in NORMALISED or at or not arrays[0].size:
        return 0
    x = arrays[0].astype(float)
    if name == "groupnorm":
        x = x.reshape(len(x), settings[0], -1, *x.shape[2:])
    variance = (x * x).mean(axis=2) if name == "rmsnorm" else x.var(axis=NORMALISED[name])
    return sizes[1] / np.sqrt(variance.min() + settings[-1]["eps"])


def as_tuple(grads):
    return grads if isinstance(grads, tuple) else (grads,)


def directions(rng, shape):
    """All entries at once, and a few single ones."""
    yield rng.standard_normal(shape)
    for _ in range(min(5, np.prod(shape, dtype=int))):
        v = np.zeros(shape)
        v[tuple(rng.integers(shape))] = 1
        yield v


def assert_close(found, expected, precision, what):
    largest = np.abs(expected).max(initial=0)
    error = np.abs(found - expected).max(initial=0)
    assert error <= precision * largest, f"{what}: off by {error:.1e} of {largest:.1e}"


def assert_same_sum(one, other, least, precision, what):
    """Two sums that are equal but for rounding, which is relative to the largest term or to `least`."""
    largest = max(np.abs(one).max(initial=0), np.abs(other).max(initial=0), least)
    error = abs(one.sum() - other.sum())
    assert error <= precision * largest, f"{what}: off by {error:.1e} of {largest:.1e}"


# ---------------------------------------------------------------------------- nets


def a_net(rng):
    """Descriptions of layers at random, the shape of an example, and the oracle's function of the
    parameters' arrays in their order, which gives the scores.
    """
    images = bool(rng.choice(2))
    shape = (int(rng.integers(1, 4)), *sizes(rng, 2, 6, 10)) if images else sizes(rng, 1, 2, 9)
    described, functions = [], []

    def add(description, parameters, function):
        described.append(description)
        functions.append((parameters, function))

    channels = shape[0]
    for _ in range(rng.integers(1, 4) if images else 0):
        kind, F = rng.integers(4), int(rng.integers(1, 5))
        if kind < 2:
            add(Conv(F, 3, pad=1), 2, lambda x, w, b: oracle.conv(x, w, b, (1, 1), (1, 1)))
            channels = F
        elif kind == 2 and sum(isinstance(d, MaxPool | AvgPool) for d in described) < 2:
            pool, function = [(MaxPool, oracle.max_pool), (AvgPool, oracle.avg_pool)][rng.integers(2)]
            add(pool(2), 0, lambda x, f=function: f(x, (2, 2), (2, 2), (0, 0)))
        elif rng.integers(2):
            add(GroupNorm(channels), 2, lambda x, g, b: oracle.groupnorm(x, g, b, x.shape[1], 1e-5))
        else:
            add(BatchNorm(), 2, lambda x, g, b: oracle.batchnorm(x, g, b, 1e-5))
        add(*an_activation(rng))
    for _ in range(rng.integers(1, 3)):
        add(Affine(int(rng.integers(2, 7))), 2, oracle.affine)
        if rng.integers(2):
            add(*[(BatchNorm(), 2, batchnorm), (LayerNorm(), 2, layernorm)][rng.integers(2)])
        add(*an_activation(rng))
    add(Affine(4), 2, oracle.affine)

    def scores(x, arrays):
        rest = iter(arrays)
        for parameters, function in functions:
            x = function(x, *(next(rest) for _ in range(parameters)))
        return x

    return described, shape, scores


def batchnorm(x, gamma, beta):
    return oracle.batchnorm(x, gamma, beta, 1e-5)


def layernorm(x, gamma, beta):
    return oracle.layernorm(x, gamma, beta, 1e-5)


def an_activation(rng):
    table = [
        (ReLU(), 0, oracle.relu),
        (LeakyReLU(0.1), 0, lambda x: oracle.leaky_relu(x, 0.1)),
        (Sigmoid(), 0, oracle.sigmoid),
        (Tanh(), 0, oracle.tanh),
    ]
    return table[rng.integers(len(table))]


LOSSES = {"softmax": oracle.softmax, "svm": oracle.svm, "mse": oracle.mse}


@attack(
    "A net's loss and gradients are those of its layers' definitions, to 1e-9 in float64",
    long=200,
    short=12,
)
def net(rng, folder):
    described, shape, scores = a_net(rng)
    loss_name, reg = rng.choice(list(LOSSES)), float(rng.choice([0, 0.1]))
    model = Net(
        described, shape, loss=str(loss_name), reg=reg, dtype=np.float64, seed=int(rng.integers(99))
    )
    for p in model.params.values():
        p += 0.3 * rng.standard_normal(p.shape)
    N = int(rng.choice([1, 2, 17, 33]))
    X, y = rng.standard_normal((N, *shape)), rng.integers(4, size=N)

    def function(*arrays):
        weights = (a for name, a in zip(model.params, arrays, strict=True) if name.startswith("W"))
        penalty = 0.5 * reg * sum((w * w).sum() for w in weights)
        return LOSSES[loss_name](scores(X, arrays), y) + penalty

    with workers(int(rng.integers(1, 4))):
        loss, grads = model.loss(laid_out(rng, X), y)
    arrays = list(model.params.values())
    assert_close(loss, function(*arrays).real, 1e-9, "loss")
    scale = max(np.abs(g).max() for g in grads.values())
    for at, name in enumerate(model.params):
        for v in (rng.standard_normal(arrays[at].shape), *list(directions(rng, arrays[at].shape))[1:3]):
            moves = [v if k == at else np.zeros(a.shape) for k, a in enumerate(arrays)]
            error = abs((grads[name] * v).sum() - oracle.derivative(function, arrays, moves))
            assert error <= 1e-9 * scale * np.abs(v).max(), f"{name}: off by {error:.1e} of {scale:.1e}"
    return f"of {len(described)} layers"


# ---------------------------------------------------------------------------- runs in float32


@attack(
    "Along a training in float32 the gradients are those of float64, to 1e-3 of their norm",
    long=100,
    short=5,
)
def float32_run(rng, folder):
    described, shape, _ = a_net(rng)
    made = functools.partial(Net, described, shape, seed=int(rng.integers(99)))
    X = rng.standard_normal((60, *shape)).astype(np.float32)
    y = rng.integers(4, size=60)
    single, double = made(), made(dtype=np.float64)
    rule = str(rng.choice(["sgd", "adam", "rmsprop"]))
    solver = Solver(
        single,
        {"X_train": X, "y_train": y},
        update_rule=rule,
        batch_size=20,
        num_epochs=5,
        verbose=False,
        seed=0,
    )
    for _ in solver.epochs():
        double.params = {name: p.astype(np.float64) for name, p in single.params.items()}
        grads = [model.loss(X[:20], y[:20])[1] for model in (single, double)]
        flat = [np.concatenate([g.ravel() for g in named.values()]) for named in grads]
        error, norm = np.linalg.norm(flat[0] - flat[1]), np.linalg.norm(flat[1])
        assert error <= 1e-3 * norm, f"off by {error:.1e} of {norm:.1e}"
    return rule
