"""What kill.py kills: `python -m tests.faults.victim KIND FOLDER`. Started again, it goes on.

A line on stdout names each moment as it begins, so that the killer can choose one.
"""

import functools
import os
import sys
from pathlib import Path

import numpy as np
from handgrad import Solver, cli
from handgrad.compare import SaveNowAndThen, compare
from handgrad.engine import checkpoints, helpers, workers
from handgrad.models import Affine, AvgPool, BatchNorm, Conv, Dropout, Net

__all__ = ["KINDS", "build"]


def announce(owner, name, word):
    """Print the word whenever the function begins. What is announced already stays as it is."""
    original = getattr(owner, name)
    if hasattr(original, "original"):
        return

    def announced(*args, **kwargs):
        os.write(1, f"{word}\n".encode())
        return original(*args, **kwargs)

    announced.original = original
    setattr(owner, name, announced)


def announce_all():
    announce(Solver, "_step", "step")
    announce(checkpoints, "write_archive", "write")
    announce(helpers.Helper, "receive", "answer")
    announce(cli.train, "_report", "report")


def train(folder, batch_size=2):
    """`handgrad train`, or --resume if there is a checkpoint."""
    run = folder / "run"
    options = [
        "--data",
        "digits.mat",
        "--data-dir",
        folder,
        "--batch-size",
        batch_size,
        "--epochs",
        "5",
        "--quiet",
    ]
    options += ["--model", "FullyConnectedNet", "--hidden-dims", "8", "--normalization", "batchnorm"]
    if (run / "checkpoint.npz").exists():
        return cli.main(["train", "--resume", str(run), "--quiet"])
    return cli.main(["train", *map(str, options), "--dropout", "0.2", "--out", str(run)])


def train_with_helpers(folder):
    """A net that helper processes take parts of, which are there from the first batch on."""
    workers.PATIENCE, helpers.BACK_OFF = 0.0, 0
    model = Net([Conv(3, 3, pad=1), "relu", Dropout(0.3), AvgPool(2), Affine(3)], (1, 12, 12), seed=0)
    rng, path = np.random.default_rng(5), folder / "run" / "checkpoint"
    X, y = rng.standard_normal((300, 1, 12, 12)).astype(np.float32), np.arange(300) % 3
    data, settings = (
        {"X_train": X, "y_train": y},
        dict(update_rule="adam", batch_size=50, num_epochs=25),
    )
    solver = Solver(model, data, **settings, checkpoint_name=path, verbose=False, workers=2, seed=0)
    if path.with_suffix(".npz").exists():
        solver.load_checkpoint(path.with_suffix(".npz"))
    solver.train()


def build(seed, update_rule):
    announce_all()  # also where the process was not forked
    SaveNowAndThen.__init__.__globals__["SAVE_EVERY"] = 0.0
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((60, 5)).astype(np.float32), np.arange(60) % 3
    model = Net([Affine(6), BatchNorm(), "relu", Affine(3)], 5, seed=seed)
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y, "X_test": X, "y_test": y}
    settings = dict(update_rule=update_rule, batch_size=10, num_epochs=20, seed=seed)
    return Solver(model, data, **settings, verbose=False)


def compare_two(folder):
    """Four runs in two processes."""
    settings = {rule: {"update_rule": rule} for rule in ("sgd", "adam")}
    assert not compare(build, settings, 2, folder=folder / "run", progress=False).failures


KINDS = {
    "train": train,
    "helpers": train_with_helpers,
    "compare": compare_two,
    "ranks": functools.partial(train, batch_size=10),
}

if __name__ == "__main__":
    announce_all()
    sys.exit(KINDS[sys.argv[1]](Path(sys.argv[2])))
