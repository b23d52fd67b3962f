"""Helpers change nothing but the time either, and are gone when the work is, however it ended."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from handgrad import Solver, layers
from handgrad.engine import helpers as engine_helpers
from handgrad.engine import passes
from handgrad.engine import workers as engine_workers
from handgrad.engine.workers import workers
from handgrad.models import Affine, AvgPool, Conv, ConvNet, Dropout, LanguageModel, LeNet5, Net, Pair

no_helpers = not engine_helpers.helpers_available()
pytestmark = pytest.mark.skipif(no_helpers, reason="this system starts no helpers")


def dropout_net(loss="softmax", seed=0):
    """Dropout among the layers of images, which no ready-made model has."""
    layers = [Conv(3, 3, pad=1), "leaky_relu", Dropout(0.3), Conv(9, 3), AvgPool(2), Affine(3)]
    return Net(layers, (1, 12, 12), weight_scale="xavier", reg=0.1, loss=loss, seed=seed)


def with_an_array_among_its_settings():
    model = dropout_net()
    model.layers[0].settings[0]["pad"] = np.array([1, 1])
    return model


NETS = {
    "lenet": lambda: LeNet5((1, 12, 12), 3, seed=0),
    "dropout": dropout_net,
    "array": with_an_array_among_its_settings,
    "convnet": lambda: ConvNet((4, "pool"), (8,), (1, 12, 12), 3, dropout=0.3, seed=0),
}


MADE = []  # the helpers of this test


def remembering(make):
    def made(helper):
        make(helper)
        MADE.append(helper)

    return made


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Helpers are started with the first batch and never rest; none outlives the test. `turn` counts
    how often one was sent something.
    """
    monkeypatch.setattr(engine_workers, "PATIENCE", 0.0)
    monkeypatch.setattr(engine_helpers, "BACK_OFF", 0)
    started, start, send = [], engine_helpers._started, engine_helpers.Helper.send

    def counted(helper, *args):
        helper.turn += 1
        send(helper, *args)

    monkeypatch.setattr(engine_helpers.Helper, "turn", 0, raising=False)
    monkeypatch.setattr(engine_helpers.Helper, "send", counted)

    def watched(*args):
        started.append(start(*args))
        return started[-1]

    MADE.clear()
    monkeypatch.setattr(engine_helpers.Helper, "__init__", remembering(engine_helpers.Helper.__init__))

    monkeypatch.setattr(engine_helpers, "_started", watched)
    yield started
    assert all(process.returncode is not None for process in started)


def images(N=150):
    rng = np.random.default_rng(5)
    y = np.arange(N) % 3
    X = rng.standard_normal((N, 1, 12, 12)).astype(np.float32)
    X[np.arange(N), 0, y] += 2
    return {"X_train": X, "y_train": y}


def solver(model, count, **settings):
    settings = dict(update_rule="adam", batch_size=70, num_epochs=3, verbose=False, seed=0) | settings
    return Solver(model, images(), workers=count, **settings)


def helpers(patience=30):
    """The helpers of the running session, once they stand ready."""
    end = time.monotonic() + patience
    while not all(helper.ready for helper in MADE):
        assert time.monotonic() < end
        time.sleep(0.01)
    return MADE


def trained(model, count, each_epoch=lambda model: None, **settings):
    """The solver, and how often its helpers began a batch."""
    run, turns = solver(model, count, **settings), 0
    for _ in run.epochs():
        turns = sum(helper.turn for helper in helpers())
        each_epoch(model)
    return run, turns


def assert_same(one, other):
    assert other.loss_history == one.loss_history
    for name, p in one.model.params.items():
        np.testing.assert_array_equal(other.model.params[name], p)


@pytest.mark.parametrize(("count", "streams"), [(2, 10), (3, 140)])
def test_the_same_bits_with_helpers_when_states_are_carried(count, streams):
    runs = []
    for workers_ in (1, count):
        model = LanguageModel(9, 12, depth=2, dropout=0.2, streams=streams, seed=0)
        X = np.random.default_rng(5).integers(9, size=(3 * streams, 7))
        settings = dict(sampling="sequential", batch_size=streams, num_epochs=3, verbose=False, seed=0)
        run = Solver(model, {"X_train": X, "y_train": X[:, ::-1]}, workers=workers_, **settings)
        for _ in run.epochs():
            assert len(helpers()) == workers_ - 1
        runs.append(run)
    assert sum(helper.turn for helper in MADE) > 0
    assert_same(*runs)
    for key, states in runs[0].model.state.items():
        np.testing.assert_array_equal(runs[1].model.state[key], states)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("count", "batch_size"), [(2, 70), (2, 150), (3, 150), (4, 70)])
def test_the_same_bits_with_helpers(net, count, batch_size):
    alone, none = trained(NETS[net](), 1, batch_size=batch_size)
    helped, turns = trained(NETS[net](), count, batch_size=batch_size)
    assert none == 0
    assert turns > 0
    assert_same(alone, helped)


def test_where_the_system_has_no_files_in_memory(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    alone, _ = trained(NETS["lenet"](), 1)
    helped, turns = trained(NETS["lenet"](), 2)
    assert turns > 0
    assert_same(alone, helped)


def test_a_backward_of_the_users_own_stays_here():
    def backward(dout, cache):
        return layers.relu_backward(dout, cache)

    def net():
        own = Pair(layers.relu_forward, backward, by_example=True)
        return Net([Conv(3, 3), own, AvgPool(2), Affine(3)], (1, 12, 12), seed=0)

    alone, _ = trained(net(), 1)
    helped, turns = trained(net(), 2)
    assert turns == 0
    assert_same(alone, helped)


def test_changes_on_the_way_reach_them():
    def less_dropout(model):
        model.layers[2].settings[0]["p"] /= 2
        model.params["W1"] = model.params["W1"] * np.float32(0.9)

    alone, _ = trained(dropout_net(), 1, less_dropout)
    helped, turns = trained(dropout_net(), 2, less_dropout)
    assert turns > 0
    assert_same(alone, helped)


@pytest.mark.parametrize("other", [lambda: dropout_net(seed=1), dropout_net, NETS["lenet"]])
def test_two_nets_in_turn(other):
    """A helper is told about a net only where it does not know it: another seed is another net."""
    data = images()
    X, y = data["X_train"], data["y_train"]

    def losses(count):
        nets, found = (dropout_net(), other()), []
        nets[1].params["W1"] = nets[1].params["W1"] * np.float32(1.5)
        with workers(count):
            nets[0].loss(X, y)
            turns = sum(helper.turn for helper in helpers())
            for step in range(3):
                for net in nets:
                    net.step = step
                    loss, grads = net.loss(X, y)
                    found.append((loss, *(grads[name].tobytes() for name in grads)))
            turns = sum(helper.turn for helper in helpers()) - turns
        return found, turns

    alone, none = losses(1)
    helped, turns = losses(2)
    assert (none, turns) == (0, 6)
    assert helped == alone


@pytest.mark.parametrize("when", ["between batches", "at work"])
def test_a_helper_that_is_killed_is_done_without(when):
    killed = []

    def kill():
        if not killed:
            killed.extend(helpers())
            os.kill(killed[0]._process.pid, signal.SIGKILL)

    def hooked(*args):
        if when == "at work" and MADE[0].turn > 2:
            kill()
        return turn(*args)

    def train(run):
        for _ in run.epochs():
            kill() if when == "between batches" else killed or helpers()

    alone, _ = trained(dropout_net(), 1)
    model = dropout_net()
    turn, model._chain.turn = model._chain.turn, hooked
    helped = solver(model, 2)
    with pytest.warns(RuntimeWarning, match=r"a helper process is lost \(exit code -9"):
        train(helped)
    assert killed
    assert_same(alone, helped)


def test_one_that_is_late_is_not_asked_for_a_while(monkeypatch):
    model, data = NETS["lenet"](), images()
    X, y = data["X_train"], data["y_train"]
    with workers(2):
        model.loss(X, y)
        (helper,) = helpers()
        expected, _ = model.loss(X, y)
        assert helper.turn == 1
        monkeypatch.setattr(engine_helpers, "BACK_OFF", 1000)
        os.kill(helper._process.pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (helper._process.pid, signal.SIGCONT)).start()
        assert model.loss(X, y)[0] == expected
        assert helper.turn == 2
        assert model.loss(X, y)[0] == expected
        assert helper.turn == 2
        helper._rests_until = 0.0
        assert model.loss(X, y)[0] == expected
        assert helper.turn == 3


def test_one_that_is_frozen_is_given_up_at_the_deadline(monkeypatch):
    """SIGSTOP: the caller does its share, and goes on without it."""
    model, data = NETS["lenet"](), images()
    X, y = data["X_train"], data["y_train"]
    with workers(2):
        model.loss(X, y)
        (helper,) = helpers()
        expected, _ = model.loss(X, y)
        pid = helper._process.pid
        monkeypatch.setattr(engine_helpers, "DEADLINE", (0.3, 1.0))
        os.kill(pid, signal.SIGSTOP)
        with pytest.warns(RuntimeWarning, match="no answer within 0.3 seconds"):
            assert model.loss(X, y)[0] == expected
        assert not running(pid)
        assert model.loss(X, y)[0] == expected


def test_a_layers_own_message_arrives():
    def spoil(model):
        model.params["W2"] = np.zeros((16, 5, 5, 5), np.float32)

    with pytest.raises(ValueError, match=r"LeNet5, layer 4: conv_forward: x .* has C = 6"):
        trained(NETS["lenet"](), 2, spoil)


def test_an_error_in_a_helpers_part_is_raised_in_the_caller():
    model, X, y = NETS["lenet"](), images()["X_train"][:64], images()["y_train"][:64]
    with workers(2):
        model.loss(X, y)
        helpers()
        first, _ = model.loss(X, y)
        X[40:] = 3e38  # only a helper meets these
        with np.errstate(over="raise", invalid="ignore"), pytest.raises(FloatingPointError):
            model.loss(X, y)
        again, _ = model.loss(images()["X_train"][:64], y)
    assert again == first


NO_ANSWERS = {
    "no pickle": b"nonsense",
    "cut short": pickle.dumps([1, 2])[:-4],
    "an unknown class": b"cno_such_module\nno_such_class\n.",
    "a place beyond the memory": pickle.dumps([(2**40, (3,), "<f4", (4,))]),
    "a place that is none": pickle.dumps([("here", "there")]),
}


@pytest.mark.parametrize("raw", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_one_whose_answer_is_none_is_given_up(monkeypatch, raw):
    model, data = NETS["lenet"](), images()
    X, y = data["X_train"], data["y_train"]
    with workers(2):
        model.loss(X, y)
        (helper,) = helpers()
        expected, _ = model.loss(X, y)
        ours, theirs = multiprocessing.Pipe()
        theirs.send_bytes(raw)
        helper._connection.close()
        monkeypatch.setattr(helper, "_connection", ours)
        with pytest.warns(RuntimeWarning, match="a helper process is lost"):
            assert model.loss(X, y)[0] == expected
        assert model.loss(X, y)[0] == expected
        theirs.close()


def test_the_keyboard_ends_them_and_training_goes_on_afterwards():
    interrupted, model = [], dropout_net()

    def hooked(*args):
        if MADE[0].turn == 3 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return turn(*args)

    def train(run):
        for _ in run.epochs():
            helpers()

    turn, model._chain.turn = model._chain.turn, hooked
    run = solver(model, 2)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert interrupted
    run.train()
    assert run.epoch == 3
    assert np.all(np.isfinite(run.loss_history))


def check_interruption(model, name, function, helper, expected):
    """It arrives and ends the helper at work: an answer that nobody waited for would be taken for the
    next one.
    """
    data = images()
    X, y = data["X_train"], data["y_train"]
    setattr(model._chain, name, function)
    with pytest.raises(KeyboardInterrupt):
        model.loss(X, y)
    delattr(model._chain, name)
    assert not helper.ready
    assert model.loss(X[:50], y[:50])[0] == expected


def test_in_the_middle_of_their_work_too():
    model, data = NETS["lenet"](), images()
    X, y = data["X_train"], data["y_train"]

    def interrupted(*args):
        raise KeyboardInterrupt

    with workers(2):
        expected, _ = model.loss(X[:50], y[:50])
        (helper,) = helpers()
        check_interruption(model, "forward", interrupted, helper, expected)


def test_whoever_is_at_work_is_ended_even_if_another_failed_before(monkeypatch):
    model, data = NETS["lenet"](), images()
    X, y = data["X_train"], data["y_train"]

    turn = model._chain.turn

    def interrupted(x, y, layers, start, share):
        if start:  # the first one's, which it lost
            raise KeyboardInterrupt
        return turn(x, y, layers, start, share)

    with workers(3):
        model.loss(X, y)
        first, second = helpers()
        expected, _ = model.loss(X[:50], y[:50])
        receive = first.receive
        monkeypatch.setattr(first, "receive", lambda: receive() and None)
        check_interruption(model, "turn", interrupted, second, expected)


def test_the_keyboard_reaches_the_caller_only():
    with workers(2):
        NETS["lenet"]().loss(images()["X_train"], images()["y_train"])
        (helper,) = helpers()
        assert os.getpgid(helper._process.pid) != os.getpgrp()


def test_they_do_not_outlive_a_caller_that_is_killed(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import os, signal, sys\n"
        "from test_helpers import *\n"
        "engine_workers.PATIENCE = 0.0\n"
        "engine_helpers.Helper.__init__ = remembering(engine_helpers.Helper.__init__)\n"
        "for _ in solver(NETS['lenet'](), 2).epochs():\n"
        "    print(helpers()[0]._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, end = int(done.stdout), time.monotonic() + 30
    while running(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def running(pid):
    """Is there such a process, other than as an entry that nobody has read?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    entry = Path(f"/proc/{pid}/stat")
    return not (entry.exists() and entry.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def own_forward(x):
    return x * 1, None


def own_backward(dout, cache):
    return dout * 1


def with_own_layer():
    own = Pair(own_forward, own_backward, by_example=True)
    return Net([Conv(3), own, AvgPool(2), Affine(3)], (1, 12, 12), seed=0)


@pytest.mark.parametrize(
    "case",
    [
        "own layers",
        "own loss",
        "large parts",
        "many parameters",
        "batch norm",
        "one worker",
        "no system",
    ],
)
def test_where_threads_do_without_helpers(case, monkeypatch, at_once):
    if case == "large parts":
        monkeypatch.setattr(passes, "SMALL_PART", 100)
    if case == "many parameters":
        monkeypatch.setattr(passes, "FEW_PARAMETERS", 100)
    if case == "no system":
        monkeypatch.setattr(engine_workers, "helpers_available", lambda: False)
    model = {
        "own layers": with_own_layer,
        "own loss": lambda: dropout_net(lambda scores, y: layers.softmax_loss(scores, y)),
        "batch norm": lambda: ConvNet((4,), (), (1, 12, 12), 3, normalization="batchnorm", seed=0),
    }.get(case, NETS["lenet"])()
    trained(model, 1 if case == "one worker" else 2)
    assert at_once == []


def test_short_work_starts_none(monkeypatch, at_once):
    monkeypatch.setattr(engine_workers, "PATIENCE", 1e6)
    trained(NETS["lenet"](), 2)
    assert at_once == []


def test_where_none_can_be_started_threads_do_the_work(monkeypatch):
    def refused(*args):
        raise OSError("no more processes")

    monkeypatch.setattr(engine_helpers, "_started", refused)
    run, turns = trained(NETS["lenet"](), 2)
    assert (run.epoch, turns) == (3, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_does_not_use_its_parents_session():
    with workers(2):
        NETS["lenet"]().loss(images()["X_train"], images()["y_train"])
        fork = multiprocessing.get_context("fork").Process(target=check_no_session)
        fork.start()
        fork.join(60)
    assert fork.exitcode == 0


def check_no_session():
    assert engine_workers._current() is None
    run, _ = trained(NETS["lenet"](), 2)
    assert run.epoch == 3


# ---------------------------------------------------------------------------- what passes through


ARRAYS = {
    "rows": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "images, batch innermost": np.arange(120, dtype="f").reshape(5, 2, 3, 4).transpose(3, 1, 0, 2),
    "a slice": np.arange(120, dtype="f").reshape(5, 2, 3, 4).transpose(3, 1, 0, 2)[1:3],
    "backwards": np.arange(12)[::-1],
    "one number": np.array(3.5),
    "nothing": np.empty((0, 3, 2), np.float32),
    "complex": np.array([1 + 2j, 3j]),
    "truth": np.array([True, False]),
    "longdouble": np.array([1, 3], np.longdouble) / 3,
}


@pytest.fixture
def shelf(tmp_path):
    with open(tmp_path / "memory", "w+b") as file:
        file.truncate(2 * engine_helpers.SHELF)
        yield engine_helpers.Shelf(file.fileno(), 0)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_they_were(name, shelf):
    a = ARRAYS[name]
    (b, others), c = engine_helpers.unpacked(engine_helpers.packed([(a, {"k": a}), 7], shelf), shelf)
    assert c == 7
    for back in (b, others["k"]):
        assert (back.dtype, back.shape) == (a.dtype, a.shape)
        np.testing.assert_array_equal(back, a)
        assert not a.size or back.strides == np.empty_like(a).strides
        assert not np.shares_memory(back, a)


def test_arrays_lie_apart(shelf):
    a, b = (shelf.get(shelf.put(np.full(5, k))) for k in (1, 2))
    assert a.tolist() == [1] * 5
    assert b.tolist() == [2] * 5


def test_a_full_shelf_refuses(shelf, monkeypatch):
    monkeypatch.setattr(engine_helpers, "SHELF", 1000)
    shelf.put(np.zeros(100))
    with pytest.raises(ValueError, match="does not fit"):
        shelf.put(np.zeros(100))
    shelf.clear()
    shelf.put(np.zeros(100))
