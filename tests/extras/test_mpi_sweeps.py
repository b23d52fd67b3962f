"""Comparisons by the processes of mpiexec."""

import json

import pytest

pytest.importorskip("mpi4py")

SCRIPT = """
import sys
import numpy as np
from handgrad import Solver, compare
from handgrad.models import TwoLayerNet
from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor


def build(seed, rate):
    if rate > 1 and seed == 2:
        raise RuntimeError("this one fails")
    rng = np.random.default_rng(7)
    y = np.arange(90) % 3
    X = (rng.standard_normal((90, 5)) + 3 * np.eye(3, 5)[y]).astype(np.float32)
    data = {"X_train": X[:60], "y_train": y[:60], "X_val": X[60:], "y_val": y[60:]}
    model = TwoLayerNet(5, 8, 3, weight_scale=0.1, seed=seed)
    settings = dict(optim_config={"learning_rate": rate}, batch_size=20, num_epochs=2)
    return Solver(model, data, **settings, verbose=False, seed=seed)


def rank(_):
    return MPI.COMM_WORLD.rank


if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        settings = {"slow": {"rate": 0.01}, "fast": {"rate": 2.0}}
        result = compare(build, settings, 3, folder=sys.argv[1], executor=executor, progress=False)
        print(result.table())
        print(set(executor.map(rank, range(20))) <= {1, 2})
"""


def test_the_pool_of_mpi4py(mpiexec, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    job = mpiexec(3, "-m", "mpi4py.futures", script, tmp_path / "runs")
    assert (job.returncode, job.stderr) == (0, "")
    *_, failed, elsewhere = job.stdout.splitlines()
    assert failed == "failed: fast, seed 2: RuntimeError: this one fails"
    assert elsewhere == "True"
    runs = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")]
    assert len(runs) == 5


@pytest.mark.parametrize("how", [(), ("-m", "mpi4py.futures")])
def test_the_command(mpiexec, data_dir, tmp_path, how):
    run = ["--model", "TwoLayerNet", "--data", "digits.mat", "--data-dir", data_dir, "--epochs", "2"]
    command = ["compare", "--vary", "update-rule", "sgd", "adam", "--seeds", "2", "--batch-size", "10"]
    job = mpiexec(3, *how, "-m", "handgrad", *command, *run, "--on", "mpi", "--out", tmp_path / "out")
    assert (job.returncode, job.stderr) == (0, "")
    assert job.stdout.count("folder: ") == 1  # one process prints
    assert "update-rule adam  2 " in job.stdout
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == 4


def test_one_process_is_too_few(mpiexec, tmp_path):
    command = ["compare", "--vary", "seed", "1", "--on", "mpi", "--out", tmp_path / "out"]
    job = mpiexec(1, "-m", "handgrad", *command)
    assert job.returncode == 2
    assert job.stderr == "handgrad: --on mpi: one process came, expected `mpiexec -n 4 handgrad ...`.\n"
