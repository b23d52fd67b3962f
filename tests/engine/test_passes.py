"""A batch in parts gives what the batch at once gives, and the same bits for any number of workers."""

import functools

import numpy as np
import pytest
from handgrad import Solver
from handgrad.engine import passes
from handgrad.engine.workers import workers
from handgrad.layers import relu_backward, relu_forward, softmax_loss
from handgrad.models import (
    LOSSES,
    Affine,
    BatchNorm,
    Conv,
    ConvNet,
    FullyConnectedNet,
    LeNet5,
    MaxPool,
    Net,
    Pair,
    TwoLayerNet,
)

NETS = {
    "lenet": lambda: LeNet5((1, 12, 12), 3, activation="relu", seed=0),
    "dropout": lambda: FullyConnectedNet([20, 10], 144, 3, dropout=0.4, weight_scale="kaiming", seed=0),
    "batchnorm": lambda: ConvNet(
        (4, "pool", 5), (8,), (1, 12, 12), 3, normalization="batchnorm", dropout=0.3, seed=0
    ),
    "own pair": lambda: Net(
        [Conv(4), (relu_forward, relu_backward), BatchNorm(), MaxPool(2), Affine(3)],
        (1, 12, 12),
        seed=0,
    ),
    "layernorm": lambda: FullyConnectedNet(
        [20], 144, 3, normalization="layernorm", weight_scale="kaiming", reg=0.1, seed=0
    ),
}


def images(N=150):
    rng = np.random.default_rng(5)
    y = np.arange(N) % 3
    X = rng.standard_normal((N, 1, 12, 12)).astype(np.float32)
    X[np.arange(N), 0, y] += 2
    return {"X_train": X[:100], "y_train": y[:100], "X_val": X[100:], "y_val": y[100:]}


@pytest.mark.parametrize("net", NETS)
def test_the_same_bits_for_any_number_of_workers(net):
    runs = []
    for count in (1, 2, 4):
        solver = Solver(
            NETS[net](), images(), update_rule="adam", batch_size=70, num_epochs=3, verbose=False,
            workers=count, seed=0,
        )  # fmt: skip
        solver.train()
        runs.append(solver)
    for other in runs[1:]:
        assert other.loss_history == runs[0].loss_history
        assert other.val_acc_history == runs[0].val_acc_history
        for name, p in runs[0].model.params.items():
            np.testing.assert_array_equal(other.model.params[name], p)


def at_once(model):
    """The model, which takes its batches whole from now on."""
    model._passes._parts = lambda N: [slice(0, N)]
    return model


def without_dropout(model):
    """A mask belongs to its part, so that parts and whole have different ones."""
    for setting in (s for layer in model.layers for s in layer.settings):
        if isinstance(setting, dict) and "p" in setting:
            setting["p"] = 0.0
    return model


@pytest.mark.parametrize("net", [name for name in NETS if name != "dropout"])
def test_parts_add_up_to_the_whole(net):
    """In float64, batch norm included."""
    data = images()
    models = [without_dropout(NETS[net]()) for _ in range(2)]
    for model in models:
        model.params = {name: p.astype(np.float64) for name, p in model.params.items()}
    parts, whole = models[0], at_once(models[1])
    X, y = data["X_train"][:99], data["y_train"][:99]
    (loss, grads), (whole_loss, whole_grads) = parts.loss(X, y), whole.loss(X, y)
    assert len(parts._passes._parts(99)) > 1 or len(parts.input_dim) == 1
    assert loss == pytest.approx(whole_loss, rel=1e-12)
    largest = max(np.abs(g).max() for g in whole_grads.values())
    for name, grad in whole_grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-9, atol=1e-13 * largest)
    np.testing.assert_allclose(
        parts.loss(data["X_val"]), whole.loss(data["X_val"]), rtol=1e-6, atol=1e-6
    )
    for key, value in whole.state.items():
        np.testing.assert_allclose(parts.state[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("loss", [*LOSSES, functools.partial(softmax_loss, smoothing=0.2)])
def test_every_loss_is_a_mean_over_the_parts(loss, few, monkeypatch):
    """Two parts of 16 and 17, to the loss by themselves or as one batch from the affine layer on."""
    monkeypatch.setattr(passes, "FEW_PARAMETERS", few)
    data = images()
    models = [LeNet5((1, 12, 12), 3, loss=loss, dtype=np.float64, seed=0) for _ in range(2)]
    assert len(models[0]._passes._cut) == (1 if few else 2)
    X, y = data["X_train"][:33], data["y_train"][:33]
    (loss, grads), (whole_loss, whole_grads) = models[0].loss(X, y), at_once(models[1]).loss(X, y)
    assert loss == pytest.approx(whole_loss, rel=1e-12)
    for name, grad in whole_grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-9, atol=1e-12)


def sum_loss(scores, y):
    """A loss that is not a mean over the examples."""
    loss, dscores = softmax_loss(scores, y)
    return len(y) * loss, len(y) * dscores


def test_a_loss_of_the_users_own_sees_the_whole_batch():
    data = images()
    X, y = data["X_train"][:40], data["y_train"][:40]
    own, usual = (
        LeNet5((1, 12, 12), 3, loss=loss, dtype=float, seed=0) for loss in (sum_loss, "softmax")
    )
    (loss, grads), (mean, mean_grads) = own.loss(X, y), usual.loss(X, y)
    assert loss == pytest.approx(40 * mean, rel=1e-12)
    for name, grad in mean_grads.items():
        np.testing.assert_allclose(grads[name], 40 * grad, rtol=1e-9, atol=1e-12)


def shown(model, cut=True):
    stages = model._passes._cut if cut else model._passes._uncut
    return [(stage.sees, list(stage.layers)) for stage in stages]


def centred_forward(x):
    """Each feature less its mean over the batch."""
    return x - x.mean(axis=0), None


def centred_backward(dout, cache):
    return dout - dout.mean(axis=0)


@pytest.mark.parametrize(
    ("model", "stages"),
    [
        (NETS["lenet"], [("parts", list(range(11)))]),
        (
            lambda: ConvNet((4, "pool"), (8,), (1, 12, 12), 3, normalization="batchnorm"),
            [
                ("parts", [0]),
                ("together", [1]),
                ("parts", [2, 3]),
                ("whole", [4, 5, 6, 7]),
            ],
        ),
        (
            lambda: Net([Conv(4), BatchNorm()], (1, 12, 12)),
            [("parts", [0]), ("together", [1]), ("whole", [])],
        ),
        (
            lambda: Net([Affine(4), "relu", Affine(3)], (1, 12, 12), loss=sum_loss),
            [("whole", [0]), ("whole", [1, 2])],
        ),
        (
            lambda: Net([Pair(centred_forward, centred_backward), Conv(2), Affine(3)], (1, 12, 12)),
            [("whole", [0]), ("parts", [1]), ("whole", [2])],
        ),
        (
            lambda: Net(
                [Pair(relu_forward, relu_backward, by_example=True), Conv(2), Affine(3)], (1, 12, 12)
            ),
            [("parts", [0, 1, 2])],
        ),
    ],
)
def test_stages(model, stages):
    assert shown(model()) == stages


def test_a_batch_of_rows_or_of_few_images_is_not_cut():
    assert shown(TwoLayerNet(5, 4, 3), cut=False) == [("whole", [0]), ("whole", [1, 2])]
    assert TwoLayerNet(5, 4, 3)._passes._parts(1000) == [slice(0, 1000)]
    assert LeNet5()._passes._parts(15) == [slice(0, 15)]
    assert LeNet5()._passes._parts(16) == [slice(0, 8), slice(8, 16)]
    assert [p.stop - p.start for p in LeNet5()._passes._parts(200)] == [50] * 4


def test_a_layer_that_mixes_examples_sees_the_whole_batch():
    """The default for a pair of the user's own, which may do anything."""
    data, pair = images(), Pair(centred_forward, centred_backward)
    model = Net([Conv(2), pair, Affine(3)], (1, 12, 12), dtype=float, seed=0)
    other = at_once(Net([Conv(2), pair, Affine(3)], (1, 12, 12), dtype=float, seed=0))
    X, y = data["X_train"], data["y_train"]
    with workers(2):
        (loss, grads), (whole_loss, whole_grads) = model.loss(X, y), other.loss(X, y)
    assert loss == pytest.approx(whole_loss, rel=1e-13)
    for name, grad in whole_grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("N", [0, 1, 7])
@pytest.mark.parametrize("net", NETS)
def test_small_batches(net, N):
    data = images()
    loss, grads = NETS[net]().loss(data["X_train"][:N], data["y_train"][:N])
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(g)) for g in grads.values())


def test_a_layers_own_message_arrives_from_a_part():
    model = NETS["lenet"]()
    model.params["W2"] = np.zeros((16, 5, 5, 5), np.float32)
    data = images()
    with workers(2), pytest.raises(ValueError, match=r"LeNet5, layer 4: conv_forward: x .* has C = 6"):
        model.loss(data["X_train"], data["y_train"])


def test_the_keyboard_stops_it_and_the_model_stays_usable():
    model, data = NETS["lenet"](), images()
    turn = model._chain.turn

    def interrupted(x, y, layers, start, share):
        if start == 0:
            raise KeyboardInterrupt
        return turn(x, y, layers, start, share)

    model._chain.turn = interrupted
    with workers(2), pytest.raises(KeyboardInterrupt):
        model.loss(data["X_train"], data["y_train"])
    del model._chain.turn
    assert np.isfinite(model.loss(data["X_train"], data["y_train"])[0])


def test_arrays_keep_the_batch_innermost_on_their_way():
    """From the first convolution to the flatten, there and back, no layer lays images anew."""
    model = LeNet5((1, 12, 12), 3, seed=0)
    chain, x = model._chain, np.zeros((8, 1, 12, 12), np.float32)
    caches = []
    for k in range(6):
        x, cache = chain.forward(x, range(k, k + 1))
        caches += cache
        assert x.strides[0] == x.itemsize, chain.layers[k].forward.__name__
    scores, head = chain.forward(x, range(6, 11))
    dout, _ = chain.backward(np.ones_like(scores), head, range(6, 11))
    for k in reversed(range(1, 6)):
        assert dout.strides[0] == dout.itemsize, chain.layers[k].backward.__name__
        dout, _ = chain.backward(dout, [caches[k]], range(k, k + 1))
