"""Threads change nothing but the time: results, errors, interruptions and settings."""

import ctypes
import functools
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from handgrad import Solver
from handgrad.engine import workers as parallel
from handgrad.engine.workers import Ahead, run, workers
from handgrad.layers import softmax_loss
from handgrad.models import ConvNet, FullyConnectedNet, LeNet5, TwoLayerNet
from handgrad.models import net as nets
from handgrad.models.net import LOSSES

NETS = {
    "lenet": lambda: LeNet5((1, 12, 12), 3, activation="relu", seed=0),
    "dropout": lambda: FullyConnectedNet([20, 10], 144, 3, dropout=0.4, weight_scale="kaiming", seed=0),
    "batchnorm": lambda: ConvNet(
        (4, "pool", 5), (8,), (1, 12, 12), 3, normalization="batchnorm", dropout=0.3, seed=0
    ),
    "layernorm": lambda: FullyConnectedNet(
        [20], 144, 3, normalization="layernorm", weight_scale="kaiming", reg=0.1, seed=0
    ),
}


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    before = threading.active_count()
    yield
    assert threading.active_count() == before
    assert parallel._active is None


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


@pytest.mark.parametrize("net", [name for name in NETS if name != "dropout"])
def test_parts_add_up_to_the_whole(net):
    """In float64 the batch in parts gives what the batch at once gives, batch norm included."""
    data, models = images(), []
    for in_parts in (True, False):
        model = NETS[net]()
        model.params = {name: p.astype(np.float64) for name, p in model.params.items()}
        for layer in model.layers:
            if layer.param and "p" in layer.param:
                layer.param["p"] = 0.0  # a mask belongs to its part
        if not in_parts:
            model._parts = lambda N: [slice(0, N)]
        models.append((model, *model.loss(data["X_train"][:99], data["y_train"][:99])))
    (parts, loss, grads), (whole, whole_loss, whole_grads) = models
    assert len(parts._parts(99)) > 1 or len(parts.input_dim) == 1
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
    monkeypatch.setattr(nets, "FEW", few)
    data, found = images(), []
    for whole in (False, True):
        model = LeNet5((1, 12, 12), 3, loss=loss, dtype=np.float64, seed=0)
        if whole:
            model._parts = lambda N: [slice(0, N)]
        found.append(model.loss(data["X_train"][:33], data["y_train"][:33]))
    (loss, grads), (whole_loss, whole_grads) = found
    assert loss == pytest.approx(whole_loss, rel=1e-12)
    for name, grad in whole_grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-9, atol=1e-12)


def test_run_keeps_the_order_and_uses_the_threads():
    with workers(3):
        names = set()

        def slow(k):
            names.add(threading.current_thread().name)
            time.sleep(0.01)
            return k * k

        assert run(slow, range(7)) == [k * k for k in range(7)]
        assert len(names) == 3
    assert run(lambda k: k, []) == []


@pytest.mark.parametrize("where", [0, 1])
def test_the_first_error_is_raised_in_the_caller_when_all_have_ended(where):
    running = []

    def task(k):
        running.append(k)
        try:
            if k == where:
                raise ValueError(f"conv_forward: part {k}")
            time.sleep(0.05)
        finally:
            running.remove(k)

    with workers(2):
        with pytest.raises(ValueError, match=f"conv_forward: part {where}"):
            run(task, [0, 1])
        assert running == []
        assert run(lambda k: k, [1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("here", [True, False])
def test_after_an_error_no_part_is_begun_any_more(error, here):
    begun, both_at_work = [], threading.Barrier(2, timeout=10)

    def task(k):
        begun.append(k)
        if k < 2:
            both_at_work.wait()
        if k < 2 and (threading.current_thread() is threading.main_thread()) == here:
            raise error
        time.sleep(0.02)

    with workers(2), pytest.raises(error):
        run(task, range(100))
    assert len(begun) < 10


def test_a_layers_own_message_arrives_from_a_part():
    model = LeNet5((1, 12, 12), 3, seed=0)
    model.params["W2"] = np.zeros((16, 5, 5, 5), np.float32)
    data = images()
    with workers(2), pytest.raises(ValueError, match=r"LeNet5, layer 4: conv_forward: x .* has C = 6"):
        model.loss(data["X_train"], data["y_train"])


def test_the_keyboard_stops_it_and_the_model_stays_usable():
    model, data = NETS["lenet"](), images()
    solver = Solver(model, data, batch_size=50, num_epochs=1000, verbose=False, workers=2, seed=0)
    forward = model.forward_through

    def interrupted(stretch, x, mode, part):
        if solver.iteration >= 6 and mode == "train" and part.start == 0:
            raise KeyboardInterrupt
        return forward(stretch, x, mode, part)

    model.forward_through = interrupted
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    del model.forward_through
    assert solver.iteration == 6
    assert np.all(np.isfinite(model.loss(data["X_val"])))


def test_np_errstate_holds_in_the_threads():
    with workers(2), np.errstate(over="ignore"):
        run(lambda k: np.exp(np.full(3, 1e4)), [0, 1])
    with workers(2), np.errstate(over="raise"), pytest.raises(FloatingPointError):
        run(lambda k: np.exp(np.full(3, 1e4 * k)), [0, 1])


def by_whom():
    return threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize(
    ("threads", "runs", "here"),
    [(1, 2, True), (2, 0, True), (2, 1, False), (2, 2, False), (2, 3, True)],
)
def test_a_worker_makes_what_is_ahead_at_the_last_run(threads, runs, here):
    """Of a step with two runs; after the second it is made by whoever asks."""
    log, made = [], threading.Event()

    def function():
        log.append("ahead")
        made.set()
        return by_whom()

    with workers(threads):
        ahead = Ahead(function, runs)
        with ahead:
            for at in (1, 2):
                log.append(at)
                run(lambda k: time.sleep(0.01), [0, 1])
                made.wait(10 if at == runs and not here else 0.02)
        log.append("after")
        assert ahead.runs == (2 if threads > 1 else 0)
        run(lambda k: k, [0, 1])
        assert ahead.result() == here
    when = "after" if here else runs
    assert log.index("ahead") == log.index(when) + 1
    assert log.count("ahead") == 1


def test_what_is_ahead_is_part_of_a_worker_and_raises_where_its_result_is_wanted():
    def function():
        assert run(lambda k: by_whom(), [0, 1]) == [False, False]  # spreads nothing further
        return np.exp(np.full(3, 1e4, np.float32))

    with workers(2), np.errstate(over="raise"):
        ahead = Ahead(function, 1)
        with ahead:
            run(lambda k: k, [0, 1])
        with pytest.raises(FloatingPointError):
            ahead.result()


class Drawing:
    """A transform with a state of its own; it fails at a call if told so."""

    def __init__(self):
        self.rng, self.callers, self.fails = np.random.default_rng(3), [], 0

    def __call__(self, X):
        self.callers.append(by_whom())
        if len(self.callers) == self.fails:
            raise OSError("this batch cannot be read")
        return X.reshape(len(X), -1) + self.rng.standard_normal(X.shape[-1]).astype(np.float32)


def dense(threads, transform, **settings):
    """A net whose first layer is large enough to be shared."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((640, 2048)).astype(np.float32), np.arange(640) % 3
    data = {"X_train": X, "y_train": y, "X_val": X[:50], "y_val": y[:50], "transform": transform}
    model = TwoLayerNet(2048, 128, 3, seed=0)
    settings = {
        "batch_size": 128,
        "num_epochs": 2,
        "num_train_samples": 50,
        "verbose": False,
    } | settings
    return Solver(model, data, workers=threads, seed=0, **settings)


def augmented(X, rng):
    return X + rng.standard_normal(X.shape).astype(np.float32)


@pytest.mark.parametrize(
    # Of five batches an epoch the last three, unless validation comes first; none that is augmented.
    ("settings", "by_workers"),
    [({}, 6), ({"validate_every": 3}, 4), ({"augment": augmented}, 0)],
)
def test_batches_made_ahead_are_the_same_in_the_same_order(settings, by_workers):
    solvers = [dense(threads, Drawing(), **settings) for threads in (1, 2, 4)]
    for solver in solvers:
        solver.train()
    one, *others = (solver.data["transform"].callers for solver in solvers)
    assert all(one)
    for callers in others:
        assert len(callers) == len(one)
        assert callers.count(False) == by_workers
    for other in solvers[1:]:
        assert other.loss_history == solvers[0].loss_history
        for name, p in solvers[0].model.params.items():
            np.testing.assert_array_equal(other.model.params[name], p)


@pytest.mark.parametrize("fails", [1, 3, 5])
def test_a_batch_that_cannot_be_made_stops_training_at_its_own_step(fails):
    """And training goes on from there, with nothing left of what had been made ahead."""
    found = []
    for threads in (1, 2):
        transform = Drawing()
        solver = dense(threads, transform)
        transform.fails = len(transform.callers) + fails
        with pytest.raises(OSError, match="this batch cannot be read"):
            solver.train()
        steps = solver.iteration
        solver.train()
        found.append((steps, solver.loss_history))
    assert found[0] == found[1]


def blas_threads():
    return [
        info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"
    ]


def test_blas_is_put_back():
    before = blas_threads()
    with workers(2):
        assert set(blas_threads()) <= {1}
        with workers(1):
            assert parallel._active.count == 2
    assert blas_threads() == before

    def fails():
        with workers(2):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert blas_threads() == before


def test_it_works_where_no_blas_is_known_and_malloc_is_another(monkeypatch):
    class NotGlibc:
        def __init__(self, name):
            pass

    monkeypatch.setattr(ctypes, "CDLL", NotGlibc)
    monkeypatch.setattr(threadpoolctl, "threadpool_limits", threadpoolctl.threadpool_limits)
    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "info", lambda self: [], raising=True)
    solver = Solver(NETS["lenet"](), images(), batch_size=50, num_epochs=1, verbose=False, seed=0)
    solver.train()
    assert solver.epoch == 1


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_a_wrong_number_of_workers(count):
    with pytest.raises(ValueError, match="expected a whole number from 1 up"), workers(count):
        pass


def test_the_default_is_a_thread_a_processor():
    assert parallel.default_count() >= 1


# ---------------------------------------------------------------------------- no way back by accident


@pytest.fixture
def counted(monkeypatch):
    """Counts what a pass costs: windows made, bytes gathered into them, products of matrices."""
    from handgrad import layers
    from handgrad.engine import images as im2col

    counts = {"unfold": 0, "gathered": 0}
    unfold = im2col.unfold

    def counting(x, window, stride, pad):
        windows = unfold(x, window, stride, pad)
        counts["unfold"] += 1
        owner = windows
        while owner.base is not None:
            owner = owner.base
        counts["gathered"] += owner.nbytes
        return windows

    monkeypatch.setattr(layers, "unfold", counting)
    return counts


def test_a_convolution_gathers_along_the_filters_row_only(counted):
    """Classic im2col would copy HH times as many bytes; a fall back to it shows here."""
    from handgrad.layers import conv_backward, conv_forward

    x, w = np.zeros((8, 3, 20, 20), np.float32), np.zeros((4, 3, 5, 5), np.float32)
    out, cache = conv_forward(x, w, np.zeros(4, np.float32), {"pad": 2})
    assert counted["gathered"] == 4 * (20 + 4) * 5 * 3 * 20 * 8
    conv_backward(out, cache)
    assert counted["unfold"] == 1


@pytest.mark.parametrize("N", [16, 32, 64])
def test_rows_of_windows_keep_their_distance_in_memory(N):
    """Rows that begin at the same place of every 4096 bytes crowd each other out of the cache."""
    from handgrad.engine.images import stacks, unfold

    windows = unfold(np.zeros((N, 2, 5, 34), np.float32), (3, 3), (1, 1), (0, 0))
    _, _, gradients = next(stacks(np.zeros((3, 2, 32 * N), np.float32), 3, 2))
    for rows in (windows, gradients):
        assert rows.shape[2] * 4 % 2048 == 0
        assert rows.strides[1] % 1024 not in (0, 512)
        assert not rows.flags.writeable  # the blocks overlap


@pytest.mark.parametrize(
    ("param", "way"),
    [
        ({"pad": 1}, "fold_columns"),
        ({"stride": 2}, "fold"),
        ({"stride": (1, 2)}, "fold"),
        ({"pad": (3, 0)}, "fold"),  # beyond the filter
    ],
)
def test_dx_at_stride_1_is_a_convolution_and_one_sum(param, way, monkeypatch):
    from handgrad import layers

    ways = []
    for name in ("fold", "fold_columns"):
        original = getattr(layers, name)
        monkeypatch.setattr(layers, name, lambda *a, n=name, f=original: ways.append(n) or f(*a))
    x, w = np.zeros((2, 1, 6, 6), np.float32), np.zeros((4, 1, 3, 3), np.float32)
    layers.conv_backward(*layers.conv_forward(x, w, np.zeros(4, np.float32), param))
    assert ways == [way]


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_dx_multiplies_no_row_by_zeros(pad):
    """Each row of dout by each row of the filters once, but for those that lie on the frame."""
    from handgrad.engine.images import stacks

    F, H, HH = 2, 9, 5
    OH = H + 2 * pad - HH + 1
    found = list(stacks(np.zeros((OH, F, 1), np.float32), HH, HH - 1 - pad))
    onto_the_frame = pad * (pad + 1)
    assert sum(windows.shape[0] * windows.shape[1] for *_, windows in found) == F * (
        OH * HH - onto_the_frame
    )
    assert max(len(windows) for *_, windows in found) == OH - HH + 1


def test_arrays_keep_the_batch_innermost_on_their_way():
    """From the first convolution to the flatten, there and back, no layer lays images anew."""
    model = LeNet5((1, 12, 12), 3, seed=0)
    X = np.zeros((8, 1, 12, 12), np.float32)
    seen = []
    x = X
    for k, layer in enumerate(model.layers[:6]):
        arrays, settings = model._arguments(k, "train", slice(0, 8))
        x, cache = layer.forward(x, *arrays, *settings)
        seen.append((layer, cache, x))
        assert x.strides[0] == x.itemsize, layer.forward.__name__
    flat = model.params["W3"]
    from handgrad.layers import affine_backward, affine_forward

    out, cache = affine_forward(x, flat, model.params["b3"])
    dout = affine_backward(out, cache)[0]
    for layer, cache, _ in reversed(seen):
        assert dout.strides[0] == dout.itemsize, layer.backward.__name__
        dout = layer.backward(dout, cache)
        dout = dout[0] if isinstance(dout, tuple) else dout


def test_the_update_makes_nothing_large_on_the_way(monkeypatch):
    """A rule's temporaries are a block each: counted by what its formula is shown."""
    from handgrad import optim

    sizes = []
    original = np.multiply

    def watched(a, b, out=None):
        sizes.append(np.size(b))
        return original(a, b, out=out)

    monkeypatch.setattr(optim.np, "multiply", watched)
    optim.sgd(np.zeros(10**6, np.float32), np.zeros(10**6, np.float32))
    assert max(sizes) <= optim.BLOCK
    assert sum(sizes) == 10**6
