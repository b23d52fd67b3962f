"""Comparisons on a dask cluster of two processes."""

import concurrent.futures
import os
import signal

import numpy as np
import pytest
from handgrad import Solver, compare
from handgrad.callbacks import Callback
from handgrad.cli import main
from handgrad.models import TwoLayerNet

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    quiet = dict(dashboard_address=None, worker_dashboard_address=None, silence_logs=50)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster:
        yield cluster


@pytest.fixture
def executor(cluster):
    with distributed.Client(cluster) as client:
        yield client.get_executor(pure=False)


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        yield executor


def builders(notes):
    """`build`, and `dying`, whose run with seed 1 kills its worker once. Dask sends both by value."""

    def build(seed, rate=0.1):
        if rate > 1 and seed == 2:
            raise RuntimeError("this one fails")
        rng = np.random.default_rng(7)
        y = np.arange(90) % 3
        X = (rng.standard_normal((90, 5)) + 3 * np.eye(3, 5)[y]).astype(np.float32)
        data = {"X_train": X[:60], "y_train": y[:60], "X_val": X[60:], "y_val": y[60:]}
        model = TwoLayerNet(5, 8, 3, weight_scale=0.1, seed=seed)
        settings = dict(optim_config={"learning_rate": rate}, batch_size=20, num_epochs=4)
        return Solver(model, data, **settings, verbose=False, seed=seed)

    class DieOnce(Callback):
        def on_epoch_end(self, solver):
            note = notes / f"{solver.seed}-{solver.epoch}"
            note.write_text(note.read_text() + "x" if note.exists() else "x")
            if note.name == "1-3" and note.read_text() == "x":
                os.kill(os.getpid(), signal.SIGKILL)

    def dying(seed):
        import importlib

        importlib.import_module("handgrad.compare").SAVE_EVERY = 0.0  # in the worker's process
        solver = build(seed)
        solver.callbacks.append(DieOnce())
        return solver

    return build, dying


def losses(result):
    return {key: run["loss_history"] for key, run in result.runs.items()}


def test_a_cluster_gives_what_this_machine_gives(tmp_path, executor, threads):
    build, _ = builders(tmp_path)
    settings = {"slow": {"rate": 0.01}, "fast": {"rate": 2.0}}
    far = compare(build, settings, 3, folder=tmp_path / "far", executor=executor)
    near = compare(build, settings, 3, folder=tmp_path / "near", executor=threads)
    assert losses(far) == losses(near)
    assert len(far.runs) == len(list((tmp_path / "far").glob("*.json"))) == 5
    assert far.failures == {("fast", 2): "RuntimeError: this one fails"}


def test_a_lost_worker_costs_its_run_the_last_minute_only(tmp_path, executor, threads):
    notes = tmp_path / "notes"
    notes.mkdir()
    build, dying = builders(notes)
    result = compare(dying, {"a": {}}, 4, folder=tmp_path / "runs", executor=executor)
    whole = compare(build, {"a": {}}, 4, folder=tmp_path / "whole", executor=threads)
    assert result.failures == {}
    assert losses(result) == losses(whole)
    counts = {path.name: len(path.read_text()) for path in notes.iterdir()}
    assert counts == {f"{seed}-{epoch}": 1 for seed in range(4) for epoch in range(1, 5)} | {"1-3": 2}


def test_the_command(data_dir, tmp_path, cluster, capsys):
    where = cluster.scheduler_address.replace("tcp://", "dask://")
    run = ["--model", "TwoLayerNet", "--data", "digits.mat", "--data-dir", data_dir, "--epochs", "2"]
    command = ["compare", "--vary", "update-rule", "sgd", "adam", "--seeds", "2", "--batch-size", "10"]
    assert main([*command, *run, "--on", where, "--out", str(tmp_path / "out")]) == 0
    assert "update-rule adam  2 " in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == 4
