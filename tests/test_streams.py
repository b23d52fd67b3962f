"""Truncated backpropagation through time: long texts window by window, with states that are carried."""

import concurrent.futures
import functools
import re

import numpy as np
import pytest
from handgrad import Solver
from handgrad.callbacks import Callback
from handgrad.compare import compare
from handgrad.data_utils import streams
from handgrad.engine.ranks import Single
from handgrad.gradient_check import check_model
from handgrad.layers import softmax_loss
from handgrad.lr_finder import find_learning_rate
from handgrad.models import (
    GPT,
    GRU,
    LSTM,
    RNN,
    BatchNorm,
    Conv1D,
    Embedding,
    LanguageModel,
    Net,
    Residual,
    SequenceClassifier,
    TemporalAffine,
    load,
)

V, B, T = 5, 3, 4
CELLS = ["rnn", "lstm", "gru"]


def text(length=1 + 6 * B * T, seed=1):
    return np.random.default_rng(seed).integers(V, size=length)


def model(cell="lstm", count=B, **settings):
    settings = dict(cell=cell, hidden_dim=6, wordvec_dim=4, weight_scale=0.7, seed=0) | settings
    return LanguageModel(V, streams=count, **settings)


def given_states(net, seed=5):
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(a.shape) for k, a in net.carried.items()}


def same(one, other):
    assert list(one) == list(other)
    for name, a in one.items():
        np.testing.assert_array_equal(a, other[name])


# ---------------------------------------------------------------------------- the mathematics


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def one_step(cell, x, h, c, p, k):
    """The course's formulas for one sequence: h and c after a step of cell number k."""
    H = len(h)
    if cell == "rnn":
        return np.tanh(x @ p[f"Wx{k}"] + h @ p[f"Wh{k}"] + p[f"b{k}"]), c
    if cell == "lstm":
        i, f, o, g = (x @ p[f"Wx{k}"] + h @ p[f"Wh{k}"] + p[f"b{k}"]).reshape(4, H)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    a, u = x @ p[f"Wx{k}"] + p[f"bx{k}"], h @ p[f"Wh{k}"] + p[f"bh{k}"]
    r, z = sigmoid(a[:H] + u[:H]), sigmoid(a[H : 2 * H] + u[H : 2 * H])
    return (1 - z) * np.tanh(a[2 * H :] + r * u[2 * H :]) + z * h, c


def loss_by_hand(cell, depth, p, X, y, states):
    """The loss of a window by plain loops, and the states after it; states: {(n, k): (h, c)}."""
    states, total = dict(states), 0
    for n, t in np.ndindex(X.shape):
        x = p["W1"][X[n, t]]
        for k in range(1, depth + 1):
            states[n, k] = one_step(cell, x, *states[n, k], p, k)
            x = states[n, k][0]
        scores = x @ p["W2"] + p[f"b{depth + 1 if cell != 'gru' else 1}"]
        total += np.log(np.exp(scores).sum()) - scores[y[n, t]]
    return total / X.size, states


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradients_are_those_of_a_loop_that_hands_the_state_on(cell, depth, rng):
    """Three windows. The loop's gradient is by complex step, with the given state held fast."""
    net = model(cell, depth=depth, dtype=np.float64)
    states = {(n, k): (np.zeros(6), np.zeros(6)) for n in range(B) for k in (1, 2)}
    X, y = streams(text(), B, T)
    for window in range(3):
        rows = slice(window * B, (window + 1) * B)
        loss, grads = net.loss(X[rows], y[rows])
        by_hand = functools.partial(loss_by_hand, cell, depth, X=X[rows], y=y[rows], states=states)
        expected, states = by_hand(p=net.params)
        assert loss == pytest.approx(expected, rel=1e-13)
        for name, p in net.params.items():
            for at in (tuple(rng.integers(p.shape)) for _ in range(3)):
                moved = p.astype(complex)
                moved[at] += 1e-30j
                derivative = by_hand(p=net.params | {name: moved})[0].imag / 1e-30
                assert grads[name][at] == pytest.approx(derivative, rel=1e-9, abs=1e-13)
        net.carried = net.left


@pytest.mark.parametrize("cell", CELLS)
class TestEveryCell:
    def test_every_gradient_by_complex_step_from_a_given_state(self, cell):
        net = model(cell, depth=2, dropout=0.2, reg=0.1)
        X, y = streams(text(), B, T)
        at_rest = net.loss(X[:B], y[:B])[0]
        net.carried = given_states(net)
        assert net.loss(X[:B], y[:B])[0] != at_rest
        report = check_model(net, X[:B], y[:B], entries=8)
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error <= 1e-10

    def test_windows_one_after_the_other_leave_what_the_whole_text_leaves(self, cell):
        short, long = (model(cell, depth=2, dtype=np.float64) for _ in range(2))
        X, y = streams(text(), B, T)
        losses = []
        for k in range(0, len(X), B):
            losses.append(short.loss(X[k : k + B], y[k : k + B])[0])
            short.carried = short.left
        X, y = streams(text(), B, 6 * T)
        assert long.loss(X, y)[0] == pytest.approx(np.mean(losses), rel=1e-13)
        for k, states in long.left.items():
            np.testing.assert_allclose(short.carried[k], states, rtol=1e-12)

    def test_loss_changes_no_result_of_the_next_one(self, cell):
        net = model(cell)
        X, y = streams(text(), B, T)
        first, second = (net.loss(X[:B], y[:B]) for _ in range(2))
        assert first[0] == second[0]
        same(first[1], second[1])
        same(net.carried, net.at_rest())

    def test_evaluation_and_generating_begin_at_rest(self, cell):
        net, other = model(cell), model(cell, count=None)
        net.carried = given_states(net)
        X = streams(text(), B, T)[0]
        for some in (X[:B], X[:2]):
            np.testing.assert_array_equal(net.loss(some), other.loss(some))
        np.testing.assert_array_equal(net.generate(X[0], 9, seed=0), other.generate(X[0], 9, seed=0))
        same(net.carried, given_states(net))

    def test_a_file_keeps_what_is_carried(self, cell, tmp_path):
        net = model(cell)
        net.carried = given_states(net)
        again = load(net.save(tmp_path / "net"))
        same(again.carried, net.carried)
        X, y = streams(text(), B, T)
        assert again.loss(X[:B], y[:B])[0] == net.loss(X[:B], y[:B])[0]

    def test_a_batch_of_one(self, cell):
        one, two = (model(cell, count=count, dtype=np.float64) for count in (1, 2))
        X, y = streams(text(), 1, T)
        for k in range(3):
            twice = [np.repeat(a[k : k + 1], 2, axis=0) for a in (X, y)]
            assert one.loss(X[k : k + 1], y[k : k + 1])[0] == pytest.approx(two.loss(*twice)[0])
            one.carried, two.carried = one.left, two.left


def test_numbers_can_be_learned_in_streams_too():
    net = Net([RNN(4), TemporalAffine(2)], (T, 2), loss="mse", streams=2, seed=0, weight_scale=0.5)
    X = np.random.default_rng(0).standard_normal((2, T, 2))
    net.carried = given_states(net)
    assert check_model(net, X, X[:, ::-1]).require().error <= 1e-10


# ---------------------------------------------------------------------------- training


def remembered(blocks, seed=0):
    """A text of blocks 'a22a', a 0 or 1 by chance: whoever reads the second '2' and goes on has to
    remember what came before it.
    """
    a = np.random.default_rng(seed).integers(2, size=blocks)
    return np.stack([a, 0 * a + 2, 0 * a + 2, a], axis=1).ravel()


@pytest.mark.parametrize(("count", "low", "high"), [(8, 0, 0.23), (None, 0.3, 0.5)])
def test_what_the_window_before_said_can_be_learned_only_with_its_state(count, low, high):
    """Windows of two steps, 'a2' and '2a'. Of four words the first of a block cannot be known, which
    costs log(2) / 4 = 0.17 nats; who forgets at the border pays as much again for the last one.
    """
    X, y = streams(np.append(remembered(8 * 40), 0), 8, 2)
    net = LanguageModel(3, 16, cell="rnn", weight_scale=1.0, streams=count, seed=0)
    rule = dict(update_rule="adam", optim_config={"learning_rate": 0.05}, num_epochs=3)
    data = {"X_train": X, "y_train": y}
    rule |= dict(batch_size=8, sampling="sequential", workers=1)
    solver = Solver(net, data, **rule, verbose=False, seed=0)
    solver.train()
    assert low < np.mean(solver.loss_history[-80:]) < high


class Notes(Callback):
    """Saves after some steps; keeps what is carried."""

    def __init__(self, path=None, at=()):
        self.path, self.at, self.seen = path, at, []

    def on_step_end(self, solver):
        self.seen.append({k: a.copy() for k, a in solver.model.carried.items()})
        if solver.iteration in self.at:
            solver.save_checkpoint(f"{self.path}{solver.iteration}.npz")


def training(notes=(), workers=1, count=8, **settings):
    X, y = streams(text(1 + 5 * 8 * T), 8, T)
    data = {"X_train": X, "y_train": y, "X_val": X[:9], "y_val": y[:9]}
    rule = dict(update_rule="adam", optim_config={"learning_rate": 0.05}, clip_norm=1.0)
    given = dict(batch_size=8, sampling="sequential", num_epochs=3, verbose=False, seed=0) | settings
    net = model(count=count, depth=2, dropout=0.2)
    return Solver(net, data, **rule, **given, callbacks=notes, workers=workers)


def assert_same_training(one, other):
    assert one.loss_history == other.loss_history
    assert one.val_acc_history == other.val_acc_history
    same(one.model.params, other.model.params)
    same(one.model.state, other.model.state)


def test_the_solver_carries_within_an_epoch_and_begins_each_at_rest():
    notes = Notes()
    solver = training([notes])
    net, (X, y) = solver.model, (solver.X_train, solver.y_train)
    begins = []
    loss = net.loss
    net.loss = lambda *batch: (
        begins.append((net.carried, batch)) if batch[1:] else None,
        loss(*batch),
    )[1]
    solver.train()
    assert len(begins) == 15
    for step, (carried, batch) in enumerate(begins):
        same(carried, notes.seen[step - 1] if step % 5 else net.at_rest())
        rows = slice(step % 5 * 8, (step % 5 + 1) * 8)
        np.testing.assert_array_equal(batch, [X[rows], y[rows]])
    assert all(np.any(a) for states in notes.seen for a in states.values())


def test_resumed_in_the_middle_of_an_epoch(tmp_path):
    whole = training()
    whole.train()
    training([Notes(tmp_path / "at", at=(5, 7, 14))]).train()
    for at in (5, 7, 14):
        resumed = training()
        resumed.load_checkpoint(tmp_path / f"at{at}.npz")
        assert resumed.iteration == at
        resumed.train()
        assert_same_training(resumed, whole)


@pytest.mark.parametrize("late", [False, True])
def test_broken_off_in_any_step_and_gone_on(late):
    whole = training()
    whole.train()
    solver = training()
    loss, left = solver.model.loss, [4, 4, 1, 2]

    def breaking(*batch):
        result = loss(*batch) if late or not batch[1:] else None
        if batch[1:] and left:
            left[0] -= 1
            if left[0] < 0:
                del left[0]
                raise KeyboardInterrupt
        return loss(*batch) if result is None else result

    solver.model.loss = breaking
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            solver.train()
    solver.train()
    assert_same_training(solver, whole)


def test_a_checkpoint_of_other_streams_is_refused(tmp_path):
    training([Notes(tmp_path / "at", at=(5,))]).train()
    plain = training(count=None)
    with pytest.raises(ValueError, match="state holds .*carried2.*, expected"):
        plain.load_checkpoint(tmp_path / "at5.npz")


def test_any_number_of_workers_gives_the_same_bits():
    runs = [training(workers=count) for count in (1, 2, 3)]
    for run in runs:
        run.train()
        assert_same_training(run, runs[0])


def build(seed, cell):
    X, y = streams(text(), B, T)
    data = {"X_train": X, "y_train": y, "X_val": X[:4], "y_val": y[:4], "X_test": X, "y_test": y}
    return Solver(model(cell), data, batch_size=B, sampling="sequential", num_epochs=2, seed=seed)


def test_compare_and_the_range_test_take_streams(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        settings = {cell: {"cell": cell} for cell in CELLS}
        result = compare(build, settings, seeds=1, folder=tmp_path, executor=pool, progress=False)
    assert not result.failures
    assert len(result.runs) == 3
    alone = build(0, "gru")
    alone.verbose = False
    alone.train()
    assert result.runs["gru", 0]["loss_history"] == alone.loss_history
    net, data = alone.model, alone.data
    before = net.state
    find_learning_rate(net, data, batch_size=B, sampling="sequential", seed=0)
    same(net.state, before)


# ---------------------------------------------------------------------------- errors


def own_loss(x, y):
    return softmax_loss(x.reshape(-1, V), y.ravel())


def solve(net, N=12, **settings):
    X, y = text(N * T).reshape(N, T), text(N * T).reshape(N, T)
    settings = dict(batch_size=B, sampling="sequential") | settings
    return Solver(net, {"X_train": X, "y_train": y}, **settings)


ERRORS = [
    (
        lambda: GPT(V, T, 6, 1, 2, streams=B),
        "GPT, layer 2: position_embedding_forward cannot go on from a carried state; expected",
    ),
    (
        lambda: SequenceClassifier(T, V, vocab_size=V, streams=B),
        "SequenceClassifier, layer 3: last_step_forward cannot go on from a carried state",
    ),
    (
        lambda: Net([Conv1D(3, pad=1), GRU(3)], (T, 2), streams=B),
        "Net, layer 1: conv1d_forward cannot go on from a carried state",
    ),
    (
        lambda: Net([Embedding(V, 3), TemporalAffine(V)], T, streams=B),
        "Net: no layer has a state to be carried; expected streams=None, or an RNN, LSTM or GRU",
    ),
    (
        lambda: model(loss=own_loss),
        "LanguageModel: states cannot be carried from batch to batch, because a layer needs the whole",
    ),
    (
        lambda: Net([Residual([BatchNorm()]), LSTM(3)], 4, streams=B),
        "Net, layer 2: LSTM: an example has shape (4,) here",
    ),
    (lambda: model(count=0), "LanguageModel: streams = 0, expected a whole number from 1 up"),
    (
        lambda: model().loss(text(8).reshape(2, 4), text(8).reshape(2, 4)),
        "LanguageModel.loss: X has 2 sequences, but the net carries the states of 3 streams;",
    ),
    (
        lambda: solve(model(), sampling="permutation"),
        "but sampling = 'permutation', batch_size = 3 and there are 12 training examples; expected",
    ),
    (lambda: solve(model(), batch_size=4), "but sampling = 'sequential', batch_size = 4 and there"),
    (
        lambda: solve(model(), N=11),
        "there are 11 training examples; expected 'sequential', 3 and a mult",
    ),
    (
        lambda: solve(model(), comm=Single()),
        "LanguageModel: processes cannot share a batch, because the net carries states from batch to",
    ),
    (lambda: setattr(model(), "state", model(count=4).state), "LanguageModel.state: came with shapes"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
