"""One net trained by several processes of mpiexec: the same bits for any number, one end for all."""

import re

import numpy as np
import pytest
from handgrad.cli import main

pytest.importorskip("mpi4py")

SCRIPT = """
import hashlib, os, signal, sys
import numpy as np
from handgrad import Solver
from handgrad.engine import ranks
from handgrad.models import ConvNet, FullyConnectedNet, LeNet5
from mpi4py import MPI

NETS = {
    "lenet": lambda: LeNet5((1, 12, 12), 3, activation="relu", seed=0),
    "batchnorm": lambda: ConvNet(
        (4, "pool", 5), (8,), (1, 12, 12), 3, normalization="batchnorm", dropout=0.3, seed=0
    ),
    "dense": lambda: FullyConnectedNet(
        [300, 200], 144, 3, normalization="batchnorm", dropout=0.2, weight_scale="kaiming", seed=0
    ),
}
comm = MPI.COMM_WORLD
rng = np.random.default_rng(5)
y = np.arange(331) % 3
X = rng.standard_normal((331, 1, 12, 12)).astype(np.float32)
X[np.arange(331), 0, y] += 2
data = {"X_train": X[:250], "y_train": y[:250], "X_val": X[250:], "y_val": y[250:]}


def trained(net, **settings):
    given = dict(update_rule="adam", batch_size=70, num_epochs=1, verbose=False, seed=0) | settings
    solver = Solver(NETS[net](), data, comm=comm, **given)
    solver.train()
    return solver
"""

BITS = """
def marked(solver):
    arrays = [*solver.model.params.values(), *solver.model.state.values()]
    histories = repr((solver.loss_history, solver.train_acc_history, solver.val_acc_history))
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays) + histories.encode()).hexdigest()


for net, small, clip_norm in (
    ("lenet", 1 << 20, None),
    ("lenet", 1 << 20, 0.1),
    ("batchnorm", 1 << 20, None),
    ("dense", 1 << 20, None),
    ("dense", 0, None),
):
    ranks.SMALL = small  # bytes up to which blocks travel at once, and not by slices
    marks = comm.gather(marked(trained(net, workers=int(sys.argv[1]), clip_norm=clip_norm)))
    if comm.rank == 0:
        assert len(set(marks)) == 1
        print(net, marks[0])
"""

TROUBLE = """
def trouble(solver):
    if solver.epoch == 2 and comm.rank == 1:
        if sys.argv[1] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] == "raise":
            raise RuntimeError("this rank fails")
        sys.exit(3)


settings = {"num_epochs": 9, "callbacks": [trouble], "checkpoint_name": sys.argv[2]}
if sys.argv[1] == "differ":
    settings["batch_size"] = 70 - comm.rank
if sys.argv[1] == "diverge":
    settings |= {"update_rule": "sgd", "optim_config": {"learning_rate": 1e30}, "callbacks": ()}
trained("dense", verbose=True, print_every=0, **settings)
"""


def test_the_bits_are_the_same_for_any_number_of_processes_and_threads(mpiexec, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + BITS)
    said = set()
    for n, threads in ((1, 2), (2, 2), (3, 1), (4, 1)):
        job = mpiexec(n, script, threads)
        assert (job.returncode, job.stderr) == (0, "")
        assert len(job.stdout.splitlines()) == 5
        said.update(job.stdout.splitlines())
    assert len(said) == 4  # one for each net, and one where the gradients of all ranks are clipped


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (
            "raise",
            "RuntimeError: this rank fails.*handgrad: rank 1 of 3: RuntimeError ends all processes",
        ),
        ("exit", r"handgrad: rank 1 of 3: SystemExit\(3\) ends all processes"),
        ("differ", "Solver: batch_size is 6[89] in rank [12] of 3, but 70 in rank 0"),
        (
            "diverge",
            "DivergenceError: Solver: the loss is .*handgrad: rank 0 of 3: DivergenceError ends",
        ),
    ],
)
def test_trouble_of_one_ends_all(mpiexec, tmp_path, trouble, message):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + TROUBLE)
    job = mpiexec(3, script, trouble, tmp_path / "run")
    assert job.returncode != 0
    assert re.search(message, job.stderr, re.DOTALL), job.stderr


def test_a_killed_process_ends_all_and_the_checkpoint_is_whole(mpiexec, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + TROUBLE)
    job = mpiexec(3, script, "kill", tmp_path / "run")
    assert job.returncode != 0
    (line,) = (line for line in job.stderr.splitlines() if line.startswith("handgrad: "))
    assert re.fullmatch(r"handgrad: rank 1 of 3 \(process \d+ on .*\) is lost, and so all end.", line)
    with np.load(tmp_path / "run.npz") as checkpoint:
        assert set(checkpoint["loss_history"].shape) <= {4, 8}


def on_digits(data_dir):
    model = ["--model", "TwoLayerNet", "--data", "digits.mat", "--weight-scale", "kaiming"]
    return ["-m", "handgrad", "train", *model, "--data-dir", data_dir, "--batch-size", "10"]


def test_the_command_goes_on_with_another_number(mpiexec, data_dir, tmp_path):
    """Four processes for an epoch, then three, then one without mpiexec: as two without a break."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = [*on_digits(data_dir), "--quiet"]
    jobs = [
        mpiexec(2, *run, "--epochs", 3, "--out", whole),
        mpiexec(4, *run, "--epochs", 1, "--out", parts),
        mpiexec(3, "-m", "handgrad", "train", "--resume", parts, "--epochs", 2, "--quiet"),
    ]
    for job in jobs:
        assert (job.returncode, job.stderr) == (0, "")
        assert job.stdout.count("test accuracy: ") == 1
    assert main(["train", "--resume", str(parts), "--epochs", "3", "--quiet"]) == 0
    with np.load(whole / "checkpoint.npz") as a, np.load(parts / "checkpoint.npz") as b:
        for name in a.files:
            if name != "meta":  # holds seconds
                np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("wrong", [["--learning-rate", "1e30"], ["--data-dir", "/nowhere"]])
def test_a_mistake_is_told_once(mpiexec, data_dir, tmp_path, wrong):
    job = mpiexec(3, *on_digits(data_dir), "--out", tmp_path / "run", *wrong)
    assert job.returncode == 2
    (line,) = (line for line in job.stderr.splitlines() if line.startswith("handgrad: "))
    assert line.startswith("handgrad: rank 0 of 3: ")
