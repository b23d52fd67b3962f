"""Ranks: the same bits for any number of them. Here threads stand for processes; see extras for MPI."""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from handgrad import Solver
from handgrad.engine import ranks as module
from handgrad.engine.parts import Parts
from handgrad.engine.ranks import Alone, Ranks, Share, Single, added, communicator, ranks_of
from handgrad.layers import relu_backward, relu_forward, softmax_loss
from handgrad.models import (
    GPT,
    Affine,
    BatchNorm,
    Conv,
    ConvNet,
    FullyConnectedNet,
    LeNet5,
    Net,
    Pair,
    Residual,
)


@pytest.fixture(autouse=True)
def errors_end_nothing(monkeypatch):
    """Here the ranks are threads of this process."""
    monkeypatch.setattr(module, "_end_all_by_errors", lambda comm: None)
    monkeypatch.setattr(module, "_witness", lambda comm: contextlib.nullcontext())


class Job:
    """A communicator whose ranks are threads; what MPI moves is laid on a table that all see."""

    def __init__(self, size):
        self.size, self.barrier, self.table = size, threading.Barrier(size, timeout=20), [None] * size

    def run(self, function):
        """[function(comm) for the comm of each rank], all at the same time."""
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(lambda rank: function(Comm(self, rank)), range(self.size)))


class Comm:
    def __init__(self, job, rank):
        self.job, self.rank = job, rank

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.job.size

    def allgather(self, value):
        self.job.table[self.rank] = pickle.dumps(value)
        self.job.barrier.wait()
        found = list(map(pickle.loads, self.job.table))
        self.job.barrier.wait()
        return found

    def bcast(self, value):
        return self.allgather(value)[0]

    def Allgatherv(self, send, receive):
        buffer, counts = receive
        pieces = self.allgather(send)
        assert [piece.size for piece in pieces] == list(counts)
        buffer.ravel()[:] = np.concatenate(pieces)

    def Alltoallv(self, send, receive):
        (given, sent), (buffer, counts) = send, receive
        pieces = [np.split(g, np.cumsum(s)[:-1])[self.rank] for g, s in self.allgather((given, sent))]
        assert [piece.size for piece in pieces] == list(counts)
        buffer.ravel()[:] = np.concatenate(pieces)


# ---------------------------------------------------------------------------- sums


def test_the_order_is_that_of_a_tree():
    """One after the other the last 1 would be left, ((1e20 + 1) - 1e20) + 1; in the tree none is."""
    terms = [np.array([t]) for t in (1e20, 1.0, -1e20, 1.0)]
    ((start, size, total),) = added([(k, 1, t) for k, t in enumerate(terms)])
    assert (start, size, total) == (0, 4, [0.0])


@pytest.mark.parametrize(
    ("parts", "blocks"),
    [
        (range(0, 8), [(0, 8)]),
        (range(2, 5), [(2, 2), (4, 1)]),
        (range(1, 8), [(1, 1), (2, 2), (4, 4)]),
        (range(3, 3), []),
        (range(5, 6), [(5, 1)]),
    ],
)
def test_blocks_end_where_the_tree_does(parts, blocks):
    assert [(a, b) for a, b, _ in added([(k, 1, 0) for k in parts])] == blocks


@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_a_sum_has_the_same_bits_for_any_number_of_ranks(count, small, monkeypatch):
    """Also for more ranks than parts, and with slices of unequal length."""
    monkeypatch.setattr(module, "SMALL", small)
    terms = np.random.default_rng(0).standard_normal((count, 3, 7)).astype(np.float32)
    level = list(terms)
    while len(level) > 1:  # the tree, level by level
        level = [a + b for a, b in zip(level[::2], level[1::2], strict=True)]

    def total(comm):
        ranks = Ranks(comm, None)
        share = Share(ranks, [slice(k, k + 1) for k in range(count)])
        return share.total([terms[part.start].copy() for part in share.mine])

    for size in (2, 3, 4, 7):
        for found in Job(size).run(total):
            np.testing.assert_array_equal(found, level[0], strict=True)
    np.testing.assert_array_equal(total(Single()), level[0], strict=True)


def test_dicts_travel_as_one_buffer():
    class Counted(Comm):
        calls = 0

        def Allgatherv(self, *args):
            Counted.calls += 1
            super().Allgatherv(*args)

    def totals(comm):
        share = Share(Ranks(Counted(comm.job, comm.rank), None), [slice(0, 1), slice(1, 2)])
        given = {"loss": np.float32(1.5), "W": np.ones((2, 3)), "b": np.ones(2, np.float16)}
        return share.totals([given])

    for found in Job(2).run(totals):
        assert (found["loss"], found["loss"].dtype) == (3.0, np.float32)
        np.testing.assert_array_equal(found["W"], np.full((2, 3), 2.0), strict=True)
        np.testing.assert_array_equal(found["b"], np.full(2, 2, np.float16), strict=True)
    assert Counted.calls == 2  # one for each rank


# ---------------------------------------------------------------------------- whole nets

NETS = {
    "lenet": lambda **more: LeNet5((1, 12, 12), 3, activation="relu", seed=0, **more),
    "batchnorm": lambda **more: ConvNet(
        (4, "pool", 5), (8,), (1, 12, 12), 3, normalization="batchnorm", seed=0, **more
    ),
    "dense": lambda **more: FullyConnectedNet(
        [20, 10], 144, 3, normalization="batchnorm", weight_scale="kaiming", reg=0.1, seed=0, **more
    ),
}


def images(N=150):
    rng = np.random.default_rng(5)
    y = np.arange(N) % 3
    X = rng.standard_normal((N, 1, 12, 12)).astype(np.float32)
    X[np.arange(N), 0, y] += 2
    return {"X_train": X[:100], "y_train": y[:100], "X_val": X[100:], "y_val": y[100:]}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("N", [1, 3, 70])
def test_shares_add_up_to_the_whole(net, N):
    """In float64: loss, gradients and running statistics of a batch that three ranks share."""
    data = images()
    X, y = data["X_train"][:N].astype(float), data["y_train"][:N]
    whole = NETS[net](dtype=float)
    whole._passes._parts = lambda N: [slice(0, N)]
    loss, grads = whole.loss(X, y)

    def shared(comm):
        model = NETS[net](dtype=float)
        ranks = Ranks(comm, model.shared_parts)
        batch = ranks.batch(lambda index, start: (X[index], y[index]), np.arange(N))
        return *model.loss(*batch), model.state

    largest = max(np.abs(grad).max() for grad in grads.values())
    for found, found_grads, state in Job(3).run(shared):
        assert found == pytest.approx(loss, rel=1e-12)
        for name, grad in grads.items():
            np.testing.assert_allclose(found_grads[name], grad, rtol=1e-9, atol=1e-12 * largest)
        for key, value in whole.state.items():
            np.testing.assert_allclose(state[key], value, rtol=1e-12)


def trained(comm, net, workers=None, **settings):
    given = dict(update_rule="adam", batch_size=70, num_epochs=2, verbose=False, seed=0) | settings
    solver = Solver(NETS[net](), images(), comm=comm, workers=workers, **given)
    solver.train()
    return solver


def moved(X, rng):
    return X + rng.standard_normal(X.shape, np.float32)


@pytest.mark.parametrize("net", NETS)
def test_training_has_the_same_bits_for_any_number_of_ranks_and_threads(net):
    first = trained(Single(), net, augment=moved)
    for size in (2, 3):
        for other in Job(size).run(lambda comm: trained(comm, net, comm.rank + 1, augment=moved)):
            assert other.loss_history == first.loss_history
            assert other.val_acc_history == first.val_acc_history
            for name, p in first.model.params.items():
                np.testing.assert_array_equal(other.model.params[name], p)
            for key, value in first.model.state.items():
                np.testing.assert_array_equal(other.model.state[key], value)


def test_all_begin_where_the_first_one_is(tmp_path):
    """With its seed, its first parameters, its checkpoint; and its clock."""
    path = tmp_path / "run"
    whole = trained(Single(), "lenet", num_epochs=3)
    Job(2).run(lambda comm: trained(comm, "lenet", num_epochs=1, checkpoint_name=path))

    def resumed(comm):
        model = LeNet5((1, 12, 12), 3, activation="relu", seed=comm.rank)
        settings = dict(update_rule="adam", batch_size=70, num_epochs=3, verbose=False)
        solver = Solver(model, images(), comm=comm, seed=None if comm.rank else 0, **settings)
        solver.load_checkpoint(f"{path}.npz" if comm.rank == 0 else "/not there.npz")
        solver.train()
        return solver

    solvers = Job(3).run(resumed)
    for solver in solvers:
        assert solver.seed == 0
        assert solver.loss_history == whole.loss_history
        assert solver.history == solvers[0].history
        for name, p in whole.model.params.items():
            np.testing.assert_array_equal(solver.model.params[name], p)


def test_the_first_one_decides_when_to_stop():
    def stop(comm):
        return lambda solver: comm.rank == 0 and solver.epoch == 2

    solvers = Job(2).run(lambda comm: trained(comm, "lenet", num_epochs=5, stop=stop(comm)))
    assert [solver.epoch for solver in solvers] == [2, 2]


def test_only_the_first_one_prints_and_saves(tmp_path, capsys):
    def train(comm):
        path = tmp_path / str(comm.rank)
        solver = trained(comm, "dense", verbose=True, print_every=0, checkpoint_name=path)
        solver.save_checkpoint(f"{path} by hand.npz")

    Job(2).run(train)
    first, *epochs = capsys.readouterr().out.splitlines()
    assert first == "2 processes train together."
    assert [line[:9] for line in epochs] == ["(Epoch 0 ", "(Epoch 1 ", "(Epoch 2 "]
    assert {path.name for path in tmp_path.iterdir()} == {"0.npz", "0 by hand.npz"}


def test_accuracy_is_measured_by_all():
    """In training; afterwards a rank may measure by itself."""
    data, seen = images(550), {0: 0, 1: 0}
    data |= {"X_train": data["X_val"], "y_train": data["y_val"]}

    def train(comm):
        def transform(X):
            seen[comm.rank] += len(X)
            return X

        given = data | {"transform": transform}
        solver = Solver(NETS["dense"](), given, comm=comm, num_epochs=1, batch_size=450, verbose=False)
        seen[comm.rank] = 0
        solver.train()
        return solver.check_accuracy(solver.X_val, solver.y_val) if comm.rank == 0 else None

    Job(2).run(train)
    batch, measured = 450, 2 * 2 * 450  # twice on two sets
    assert sum(seen.values()) == batch + measured + 450
    assert seen[1] == 225 + 2 * 2 * 200


def words(N=70, T=9):
    rng = np.random.default_rng(5)
    X = rng.integers(8, size=(N, T))
    y = np.roll(X, -1, axis=1)
    y[rng.random((N, T)) < 0.4] = -1  # do not count; parts have unequal numbers of those that do
    return X, y


def test_sequences_are_shared():
    """Words that do not count, and a table of words that is used twice: in float64."""
    X, y = words()
    make = lambda: GPT(8, context=9, width=12, depth=1, heads=2, dtype=float, seed=0)  # noqa: E731
    whole = make()
    whole._passes._parts = lambda N: [slice(0, N)]
    loss, grads = whole.loss(X, y)

    def shared(comm):
        model = make()
        ranks = Ranks(comm, model.shared_parts)
        return model.loss(*ranks.batch(lambda index, start: (X[index], y[index]), np.arange(len(X))))

    for size in (1, 3):
        for found, found_grads in Job(size).run(shared):
            assert found == pytest.approx(loss, rel=1e-12)
            for name, grad in grads.items():
                np.testing.assert_allclose(found_grads[name], grad, rtol=1e-8, atol=1e-13)


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 60}, "batch_size is 60 in rank 1 of 2, but 70 in rank 0"),
        ({"num_epochs": 3}, "num_epochs is 3 in rank 1 of 2, but 2 in rank 0"),
    ],
)
def test_ranks_with_other_settings_are_refused(settings, message):
    def train(comm):
        trained(comm, "dense", **(settings if comm.rank else {}))

    def gives_way(comm):
        with pytest.raises(ValueError, match=message):
            train(comm)
        comm.job.barrier.abort()

    def fails(comm):
        with pytest.raises((threading.BrokenBarrierError, ValueError)):
            train(comm)

    Job(2).run(lambda comm: (gives_way if comm.rank else fails)(comm))


def test_ranks_with_other_data_are_refused():
    data = images()
    solver = trained(Single(), "dense")
    facts = module._facts(solver)
    solver.y_train = data["y_train"][::-1]
    assert module._facts(solver)["the training data"] != facts["the training data"]


def sum_loss(scores, y):
    loss, dscores = softmax_loss(scores, y)
    return len(y) * loss, len(y) * dscores


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: Net([Conv(2), (relu_forward, relu_backward), Affine(3)], (1, 12, 12)),
            "layer 2 needs",
        ),
        (lambda: Net([Affine(3)], 144, loss=sum_loss), "a loss of your own"),
        (
            lambda: Net([Conv(1, 3, pad=1), Residual([BatchNorm(), "relu"]), Affine(3)], (1, 12, 12)),
            "layer 2 needs all of it at once",
        ),
        (lambda: type("Own", (), {})(), "Own cannot share a batch; expected a Net"),
    ],
)
def test_nets_that_need_the_whole_batch(model, message):
    with pytest.raises(ValueError, match=message):
        ranks_of(Single(), model(), 10)


def test_a_pair_by_example_is_shared():
    pair = Pair(relu_forward, relu_backward, by_example=True)
    assert ranks_of(Single(), Net([Conv(2), pair, Affine(3)], (1, 12, 12)), 10).size == 1


def test_more_processes_than_parts():
    class Five(Single):
        def Get_size(self):
            return 5

        def allgather(self, value):
            return [value] * 5

    with pytest.raises(ValueError, match="a batch of 64 examples has 4 parts, but 5 processes came"):
        ranks_of(Five(), NETS["lenet"](), 64)


@pytest.mark.parametrize(
    ("N", "of_images", "of_rows"),
    [
        (1, 1, 1),
        (2, 2, 2),
        (3, 2, 2),
        (7, 4, 4),
        (128, 4, 4),
        (129, 8, 4),
        (1000, 32, 8),
        (8192, 256, 64),
    ],
)
def test_parts_depend_on_the_batch_alone(N, of_images, of_rows):
    for net, count in (("lenet", of_images), ("dense", of_rows)):
        parts = NETS[net]().shared_parts(N)
        assert len(parts) == count
        assert np.concatenate([np.arange(N)[part] for part in parts]).tolist() == list(range(N))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1


# ---------------------------------------------------------------------------- how they are started


@pytest.fixture
def launched(monkeypatch):
    def launched(**environment):
        for name in (*module.LAUNCHED, "SLURM_STEP_NUM_TASKS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return launched


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, type(None)),
        ({"SLURM_STEP_NUM_TASKS": "1"}, type(None)),
        ({"PMI_SIZE": "1"}, Single),
        ({"OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}, Single),
    ],
)
def test_one_process_needs_no_mpi(launched, environment, kind):
    launched(**environment)
    assert type(communicator()) is kind


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_another_mpi_than_that_of_mpiexec(launched, name, monkeypatch):
    world = type("World", (), {"size": 1})
    monkeypatch.setattr(module, "need", lambda who, what, extra: type("MPI", (), {"COMM_WORLD": world}))
    launched(**{name: "4"})
    with pytest.raises(ValueError, match="4 processes were started, but mpi4py sees 1"):
        communicator()


def test_alone():
    ranks = ranks_of(None, object(), 10)
    assert isinstance(ranks, Alone)
    assert (ranks.map(abs, [-1, 2]), ranks.agreed(3), ranks.threads) == ([1, 2], 3, None)


def test_threads_are_shared_out(monkeypatch):
    """Four processors and two ranks on this machine; a third rank is elsewhere."""
    monkeypatch.setattr(module.platform, "node", lambda: "here")
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)

    def gathered(*where):
        return type("Gathered", (), {"allgather": lambda self, mine: list(where)})()

    both = ("here", {0, 1, 2, 3})
    assert module._threads(gathered(both, both, ("there", {0}))) == 2
    assert module._threads(gathered(("here", {0, 1}), ("here", {2, 3}))) == 2  # bound by mpiexec
    assert module._threads(gathered(*[both] * 9)) == 1


def test_parts_of_a_shared_batch_have_its_shape():
    share = Share(Ranks(Single(), None), [slice(0, 3), slice(3, 7)])
    share.mine = share.mine[:1]
    parts = Parts([np.zeros((3, 2))], share)
    assert (parts.shape, parts.size, len(parts.astype(np.float32))) == ((7, 2), 14, 7)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open of Linux")
def test_the_witness_names_a_rank_that_died_before_it_began():
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    ranks_there = [f"{os.getpid()}", "rank 0 of 2", f"{gone.pid}", "rank 1 of 2"]
    command = [sys.executable, "-I", "-S", "-c", module.WITNESS, *ranks_there]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "handgrad: rank 1 of 2 is lost, and so all end.\n")
