"""Time: many trainings in one process, and one with many steps. Nothing may grow.

A case is one training more, or a thousand steps more of the same one. Memory, threads, open files and
processes are compared with those after the first cases.
"""

import functools
import os
import threading
from pathlib import Path

import numpy as np
from handgrad import Solver
from handgrad.data_utils import spiral
from handgrad.models import FullyConnectedNet

from . import attack
from .neighbours import a_training, at_once

WARM = 4  # cases after which nothing may grow
GROWTH = 32 << 20  # bytes: what an allocator may leave in pieces, and the history of 100,000 steps
measured = {}  # {attack: the levels after the case WARM}


def levels():
    """Bytes of memory, threads, open files, children."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return (
        pages * os.sysconf("SC_PAGESIZE"),
        threading.active_count(),
        len(list(Path("/proc/self/fd").iterdir())),
        len(children),
    )


def check_levels(name):
    """Compare with the levels that were measured first; the first WARM calls only count."""
    calls, first = measured.get(name, (0, None))
    now = levels()
    if calls >= WARM:
        first = first or now
        assert now[0] <= first[0] + GROWTH, f"memory grew from {first[0]:,} to {now[0]:,} bytes"
        assert now[1:] == first[1:], f"threads, open files, children: {first[1:]} before, {now[1:]} now"
    measured[name] = calls + 1, first


@attack(
    "500 trainings in one process leave memory, threads, open files and processes as they were",
    long=500,
    short=10,
)
def trainings(rng, folder):
    with at_once():
        solver = a_training(int(rng.integers(99)), int(rng.integers(1, 4)))
        solver.num_epochs = 5
        solver.train()
    solver.save_checkpoint(folder / "run.npz")
    solver.load_checkpoint(folder / "run.npz")
    check_levels("trainings")


@functools.cache
def a_long_training():
    X, y = spiral(100)
    model = FullyConnectedNet([8], 2, 3, weight_scale="kaiming", seed=0)
    data = {"X_train": X, "y_train": y, "X_val": X[::3], "y_val": y[::3]}
    settings = dict(update_rule="adam", batch_size=6, verbose=False, workers=1, seed=0, num_epochs=0)
    return Solver(model, data, **settings)


@attack("A training of 100,000 steps: memory, threads and open files stay level", long=400, short=8)
def steps(rng, folder):
    solver = a_long_training()
    solver.num_epochs += 5
    solver.train()
    assert np.isfinite(solver.loss_history[-1])
    check_levels("steps")
    return "times 250 steps"
