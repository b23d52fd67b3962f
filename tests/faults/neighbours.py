"""Neighbours: others in the same folder or process; helpers that freeze, die or talk nonsense."""

import contextlib
import os
import pickle
import signal
import subprocess
import threading
import time
import warnings
from unittest import mock

import numpy as np
import threadpoolctl
from handgrad import Solver
from handgrad.engine import helpers as engine_helpers
from handgrad.engine import workers as engine_workers
from handgrad.engine.workers import workers
from handgrad.models import Affine, AvgPool, BatchNorm, Conv, Dropout, Net

from . import attack
from .kill import Victim, expected, what_is_left

# ---------------------------------------------------------------------------- in one folder


def refused(rng, folder, kind, moments):
    """While one is at work a second one is refused; the first ends as if it had been alone."""
    first = Victim(kind, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first.wait_for("step", int(rng.integers(1, moments)))
    os.kill(first.process.pid, signal.SIGSTOP)  # it does not end before the second one begins
    second = Victim(kind, folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    error = second.end()
    os.kill(first.process.pid, signal.SIGCONT)
    assert not first.end(), "the first one was disturbed"
    assert second.process.returncode != 0
    assert f"{folder / 'run'} is in use by another handgrad" in error
    assert what_is_left(folder / "run") == expected(kind)


@attack(
    "Of two trainings in one run folder the second is refused, and the first is not disturbed",
    long=20,
    short=0,
)
def two_trainings(rng, folder):
    refused(rng, folder, "train", 10)


@attack(
    "Of two comparisons in one folder the second is refused, and the first is not disturbed",
    long=20,
    short=0,
)
def two_comparisons(rng, folder):
    refused(rng, folder, "compare", 100)


# ---------------------------------------------------------------------------- in one process


def a_training(seed, count):
    """A Solver of one of three nets, which has not trained; `count` workers do not change its bits."""
    rng = np.random.default_rng(seed)
    images = [
        Conv(3, 3, pad=1),
        "relu",
        *[[Dropout(0.3)], [BatchNorm()], []][seed % 3],
        AvgPool(2),
        Affine(3),
    ]
    X, y = rng.standard_normal((150, 1, 12, 12)).astype(np.float32), np.arange(150) % 3
    settings = dict(
        update_rule="adam", batch_size=50, num_epochs=2, seed=0, verbose=False, workers=count
    )
    return Solver(Net(images, (1, 12, 12), seed=0), {"X_train": X, "y_train": y}, **settings)


def result_of(solver):
    solver.train()
    return solver.loss_history, {name: p.tobytes() for name, p in solver.model.params.items()}


def blas_threads():
    return [
        info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"
    ]


@attack(
    "Trainings in several threads give the bits that each gives alone, and BLAS keeps its threads",
    long=100,
    short=2,
)
def threads(rng, folder):
    before, seeds = blas_threads(), rng.integers(99, size=int(rng.integers(2, 5))).tolist()
    alone = [result_of(a_training(seed, 1)) for seed in seeds]
    solvers = [a_training(seed, int(rng.integers(1, 4))) for seed in seeds]
    found = [None] * len(seeds)

    def work(k):
        found[k] = result_of(solvers[k])

    started = [threading.Thread(target=work, args=(k,)) for k in range(len(seeds))]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert found == alone
    assert blas_threads() == before


@attack(
    "A process forked amid a training's work computes the same bits, and so does its parent",
    long=100,
    short=2,
)
def forked(rng, folder):
    solver = a_training(int(rng.integers(99)), 2)
    X, y = solver.X_train, solver.y_train
    expected, _ = solver.model.loss(X, y)
    solver.model.step = 0
    with workers(int(rng.integers(1, 4))), at_once(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 dislikes forks beside threads
        for _ in range(int(rng.integers(1, 4))):
            assert solver.model.loss(X, y)[0] == expected
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                os._exit(0 if solver.model.loss(X, y)[0] == expected else 3)
            os._exit(4)
        assert solver.model.loss(X, y)[0] == expected
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert solver.model.loss(X, y)[0] == expected


# ---------------------------------------------------------------------------- helpers


WITH_HELPERS = (0, 2, 3, 5)  # seeds of nets without batch norm, which needs the whole batch


@contextlib.contextmanager
def at_once(deadline=(60.0, 60.0)):
    """Helpers are started with the first batch, and never rest."""
    with (
        mock.patch.object(engine_workers, "PATIENCE", 0.0),
        mock.patch.object(engine_helpers, "BACK_OFF", 0),
        mock.patch.object(engine_helpers, "DEADLINE", deadline),
    ):
        yield


def trained_with_helpers(seed, count, disturb=None):
    """What a training with helpers leaves, and how many they were. disturb(process) is called for each
    helper, in a thread of its own, when it has been started.
    """
    started, start = [], engine_helpers._started

    def watched(*args):
        started.append(start(*args))
        if disturb is not None:
            threading.Thread(target=disturb, args=(started[-1],), daemon=True).start()
        return started[-1]

    with mock.patch.object(engine_helpers, "_started", watched), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a helper process is lost
        solver = a_training(seed, count)
        solver.num_epochs = 150  # long enough for helpers to start
        found = result_of(solver)
    assert all(process.poll() is not None for process in started), "a helper is left"
    return found, len(started)


def undisturbed(seed):
    solver = a_training(seed, 1)
    solver.num_epochs = 150
    return result_of(solver)


@attack("Helpers that are frozen, slowed down or killed change nothing but the time", long=60, short=1)
def disturbed_helpers(rng, folder):
    kind, delay = str(rng.choice(["SIGSTOP", "SIGKILL", "pulses"])), float(rng.uniform(0, 0.6))
    seed, count = int(rng.choice(WITH_HELPERS)), int(rng.integers(2, 4))

    def disturb(process):
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            for _ in range(10 if kind == "pulses" else 0):
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(0.02)
                os.kill(process.pid, signal.SIGCONT)
                time.sleep(0.01)
            if kind != "pulses":
                os.kill(process.pid, getattr(signal, kind))

    with at_once(deadline=(0.3, 2.0)):
        found, started = trained_with_helpers(seed, count, disturb)
    assert started
    assert found == undisturbed(seed)
    return kind


LIES = {
    "no pickle": lambda raw: b"\0\1nonsense",
    "half a message": lambda raw: raw[: len(raw) // 2],
    "nothing": lambda raw: b"",
    "an unknown class": lambda raw: b"cno_such_module\nno_such_class\n.",
    "a place beyond the memory": lambda raw: pickle.dumps([(2**40, (3,), "<f4", (4,))]),
    "a place that is none": lambda raw: pickle.dumps([("here", "there")]),
}


def lie(kind, number):
    """In a helper: spoil its answer of this number."""
    from multiprocessing.connection import Connection

    honest, left = Connection.send_bytes, [number]

    def send_bytes(connection, raw):
        left[0] -= 1
        honest(connection, LIES[kind](raw) if left[0] < 0 else raw)

    Connection.send_bytes = send_bytes


@attack("A helper whose answer is no answer is given up, and the bits are the same", long=60, short=0)
def lying_helpers(rng, folder):
    kind, number, popen = str(rng.choice(list(LIES))), int(rng.integers(0, 8)), subprocess.Popen
    seed, count = int(rng.choice(WITH_HELPERS)), int(rng.integers(2, 4))

    def start_a_liar(command, **options):
        lying = f"from {__package__} import neighbours; neighbours.lie({kind!r}, {number})\n"
        return popen([*command[:-1], lying + command[-1]], **options)

    with at_once(), mock.patch.object(engine_helpers.subprocess, "Popen", start_a_liar):
        found, started = trained_with_helpers(seed, count)
    assert started
    assert found == undisturbed(seed)
    return kind
