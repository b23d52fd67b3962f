"""Comparisons: the same for any executor, resumable, and not undone by one failure."""

import concurrent.futures
import csv
import functools
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handgrad import Solver, compare
from handgrad.callbacks import Callback, EarlyStopping
from handgrad.compare import Comparison
from handgrad.models import TwoLayerNet

CALLS = []


def build(seed, rule="sgd", rate=0.1, fail=False, schedule=None):
    CALLS.append((seed, rule))
    if fail and seed == 1:
        raise RuntimeError("this one fails")
    rng = np.random.default_rng(7)
    y = np.arange(120) % 3
    X = (rng.standard_normal((120, 5)) + 3 * np.eye(3, 5)[y]).astype(np.float32)
    data = {"X_train": X[:60], "y_train": y[:60], "X_val": X[60:90], "y_val": y[60:90]}
    data |= {"X_test": X[90:], "y_test": y[90:]}
    return Solver(
        TwoLayerNet(5, 8, 3, weight_scale=0.1, seed=seed),
        data,
        update_rule=rule,
        optim_config={"learning_rate": rate},
        schedule=schedule,
        batch_size=20,
        num_epochs=4,
        verbose=True,
        seed=seed,
    )


def listing(seed, schedule, augment):
    """Takes a list of functions, and does nothing with it."""
    return build(seed, schedule=schedule)


SETTINGS = {"sgd": {"rule": "sgd"}, "adam": {"rule": "adam", "rate": 0.02}}


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        yield executor


def without_times(result):
    drop = {"epoch_seconds", "seconds"}
    return {key: {k: v for k, v in run.items() if k not in drop} for key, run in result.runs.items()}


def test_processes_and_threads_give_the_same(tmp_path, threads, capsys):
    one = compare(build, SETTINGS, seeds=2, folder=tmp_path / "a", executor=threads)
    two = compare(build, SETTINGS, seeds=2, folder=tmp_path / "b")
    assert without_times(one) == without_times(two)
    assert list(one.runs) == [("sgd", 0), ("sgd", 1), ("adam", 0), ("adam", 1)]
    assert capsys.readouterr().out == ""


def size(solver):
    return {"parameters": sum(p.size for p in solver.model.params.values()), "best": best(solver)}


def best(solver):
    return solver.check_accuracy(solver.X_val, solver.y_val) == solver.best_val_acc


def test_what_is_to_be_kept_is_in_the_run(tmp_path, threads):
    settings, common = {"sgd": SETTINGS["sgd"]}, dict(seeds=1, folder=tmp_path, executor=threads)
    first = compare(build, settings, keep=size, **common)
    assert first.runs["sgd", 0]["kept"] == {"parameters": 5 * 8 + 8 + 8 * 3 + 3, "best": True}
    assert without_times(compare(build, settings, keep=size, **common)) == without_times(first)
    assert len(CALLS) == 1
    assert compare(build, settings, keep=best, **common).runs["sgd", 0]["kept"] is True
    assert compare(build, settings, **common).runs["sgd", 0]["kept"] is None
    assert len(CALLS) == 3


def test_finished_runs_are_not_run_again(tmp_path, threads):
    first = compare(build, {"sgd": SETTINGS["sgd"]}, seeds=2, folder=tmp_path, executor=threads)
    assert len(CALLS) == 2
    both = compare(build, SETTINGS, seeds=3, folder=tmp_path, executor=threads)
    assert CALLS[2:] == [(2, "sgd"), (0, "adam"), (1, "adam"), (2, "adam")]
    assert both.runs["sgd", 0] == first.runs["sgd", 0]
    changed = {"sgd": {"rule": "sgd", "rate": 0.05}}
    compare(build, changed, seeds=1, folder=tmp_path, executor=threads)
    assert len(CALLS) == 7


def test_a_run_is_known_again_by_what_its_functions_are_called(tmp_path, threads):
    """Not by where they lie in memory, which differs from start to start."""

    def schedule():
        def halved(step, epoch, every):
            return 0.5 ** (epoch // every)

        return functools.partial(halved, every=2)

    def steps(X, *, then):
        return X

    for _ in range(2):
        listed = functools.partial(steps, then=[schedule(), (schedule(),)])
        given = {"schedule": schedule(), "augment": [listed]}
        compare(listing, {"a": given}, 1, folder=tmp_path, executor=threads)
    assert len(CALLS) == 1
    (path,) = tmp_path.glob("*.json")
    written = path.read_text()
    assert "halved" in written
    assert " at 0x" not in written


def test_one_failure_is_reported_and_not_the_end(tmp_path, threads):
    settings = {"good": {}, "bad": {"fail": True}}
    result = compare(build, settings, seeds=3, folder=tmp_path, executor=threads)
    assert list(result.failures) == [("bad", 1)]
    assert "failed: bad, seed 1: RuntimeError: this one fails" in result.table()
    assert (
        "<caption>failed: bad, seed 1: RuntimeError: this one fails</caption>" in result._repr_html_()
    )
    assert [row["runs"] for row in result.rows()] == [3, 2]
    CALLS.clear()
    compare(build, settings, seeds=3, folder=tmp_path, executor=threads)
    assert CALLS == [(1, "sgd")]


def test_an_unfinished_run_goes_on(tmp_path, threads, monkeypatch):
    """Broken off in its third epoch, it trains two more, and comes out as if never broken off."""
    module = importlib.import_module("handgrad.compare")
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    epochs = []

    def stop(solver):
        epochs.append(solver.epoch)
        if len(epochs) == 3:
            raise RuntimeError("the lights went out")
        return False

    def breaking(seed):
        solver = build(seed, "adam", 0.02)
        solver.callbacks.append(EarlyStopping(stop))
        return solver

    broken = compare(breaking, {"a": {}}, seeds=[5], folder=tmp_path, executor=threads)
    assert "the lights went out" in broken.failures["a", 5]
    done = compare(breaking, {"a": {}}, seeds=[5], folder=tmp_path, executor=threads)
    assert epochs == [1, 2, 3, 3, 4]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    rule = {"a": dict(rule="adam", rate=0.02)}
    whole = compare(build, rule, seeds=[5], folder=tmp_path / "whole", executor=threads)
    for key in ("loss_history", "val_acc_history", "test_acc"):
        assert done.runs["a", 5][key] == whole.runs["a", 5][key]


def test_a_run_that_is_told_to_stop_leaves_nothing_to_go_on_from(tmp_path, monkeypatch):
    """Else, broken off after its training, it would train an epoch more the next time."""
    module = importlib.import_module("handgrad.compare")
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    solver, path = build(0), tmp_path / "run.npz"
    saving = module.SaveNowAndThen(path)
    solver.stop_training = "enough."
    saving.on_epoch_end(solver)
    assert not path.exists()
    solver.stop_training = False
    saving.on_epoch_end(solver)
    assert path.exists()


def test_the_tables_say_what_was_measured(tmp_path, threads):
    result = compare(build, SETTINGS, seeds=3, folder=tmp_path, executor=threads, target=0.5)
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("sgd-*.json")]
    (row, _) = result.rows()
    tests = [run["test_acc"] for run in runs]
    assert row["test_acc"] == pytest.approx(np.mean(tests))
    assert row["spread"] == pytest.approx(np.std(tests, ddof=1))
    assert row["val_acc"] == pytest.approx(np.mean([max(run["val_acc_history"]) for run in runs]))
    assert 0 <= row["best_epoch"] <= 4
    assert row["to_target"] is not None
    (first, _) = csv.DictReader(io.StringIO(result.csv()))
    assert float(first["test_acc"]) == row["test_acc"]
    assert result.table().splitlines()[1].startswith("sgd ")
    assert result.markdown().splitlines()[1] == "|" + " --- |" * 8


def test_a_target_that_was_not_reached_has_no_time(tmp_path, threads):
    result = compare(
        build, {"sgd": {"rate": 1e-9}}, seeds=1, folder=tmp_path, executor=threads, target=0.99
    )
    assert result.rows()[0]["to_target"] is None


def test_a_target_of_zero_is_a_target():
    run = {"measure": "R squared", "val_acc_history": [-0.5, -0.1, 0.2], "epoch_seconds": [2.0, 3.0]}
    result = Comparison(["a"], {("a", 0): run | {"test_acc": None}}, {}, target=0.0)
    assert result.rows()[0]["to_target"] == 5.0


@pytest.mark.parametrize("seeds", [np.int64(2), np.arange(2), (0, 1)])
def test_seeds_may_be_numpys(tmp_path, threads, seeds):
    result = compare(build, {"sgd": SETTINGS["sgd"]}, seeds, folder=tmp_path, executor=threads)
    assert not result.failures
    assert list(result.runs) == [("sgd", 0), ("sgd", 1)]
    again = compare(build, {"sgd": SETTINGS["sgd"]}, 2, folder=tmp_path, executor=threads)
    assert again.runs == result.runs
    assert len(CALLS) == 2


def test_the_figure_has_bands(tmp_path, threads):
    result = compare(build, SETTINGS, seeds=2, folder=tmp_path, executor=threads)
    axes = result.figure().axes
    assert [a.get_title() for a in axes] == ["loss", "training accuracy", "validation accuracy"]
    for a in axes:
        assert [line.get_label() for line in a.lines] == ["sgd", "adam"]
        assert len(a.collections) == 2
    (legend,) = result.figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["sgd", "adam"]
    losses = [np.mean(result.runs["sgd", seed]["loss_history"][:3]) for seed in (0, 1)]
    assert axes[0].lines[0].get_ydata()[0] == pytest.approx(np.mean(losses))


def test_nothing_to_compare(tmp_path):
    with pytest.raises(ValueError, match="0 settings and 2 seeds"):
        compare(build, {}, seeds=2, folder=tmp_path)


# ---------------------------------------------------------------------------- nothing lost

ONE = {"sgd": SETTINGS["sgd"]}

DAMAGED = {
    "cut short": lambda text: text[:-30],
    "empty": lambda text: "",
    "no dict": lambda text: "[1, 2]",
    "a dict of nothing": lambda text: "{}",
    "no accuracies": lambda text: json.dumps(json.loads(text) | {"val_acc_history": None}),
    "accuracies that are words": lambda text: json.dumps(json.loads(text) | {"val_acc_history": ["x"]}),
    "a word": lambda text: json.dumps(json.loads(text) | {"test_acc": "good"}),
    "no steps": lambda text: json.dumps(json.loads(text) | {"iterations_per_epoch": 0}),
    "a huge time": lambda text: json.dumps(json.loads(text) | {"epoch_seconds": [10**400]}),
    "an endless time": lambda text: json.dumps(json.loads(text) | {"seconds": float("inf")}),
    "nested": lambda text: "[" * 100_000,
    "no text": lambda text: "\udcff",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_run_is_set_aside_and_run_again(tmp_path, threads, kind):
    first = compare(build, SETTINGS, seeds=2, folder=tmp_path, executor=threads)
    (path,) = tmp_path.glob("sgd-seed1-*.json")
    text = DAMAGED[kind](path.read_text())
    path.write_text(text, errors="surrogateescape")
    CALLS.clear()
    again = compare(build, SETTINGS, seeds=2, folder=tmp_path, executor=threads)
    assert CALLS == [(1, "sgd")]
    assert without_times(again) == without_times(first)
    aside = tmp_path / f"{path.name}.damaged"
    assert aside.read_text(errors="surrogateescape") == text
    (line,) = (line for line in again.table().splitlines() if line.startswith("damaged: "))
    assert f"{path}: not a finished run" in line
    assert f"kept as {aside.name}" in line
    assert line in again.markdown()
    assert "damaged" not in compare(build, SETTINGS, 2, folder=tmp_path, executor=threads).table()


def test_a_damaged_checkpoint_is_set_aside_and_the_run_begins_anew(tmp_path, threads):
    first = compare(build, ONE, seeds=1, folder=tmp_path, executor=threads)
    (path,) = tmp_path.glob("*.json")
    path.unlink()
    begun = path.with_suffix(".npz")
    begun.write_bytes(b"half a checkpoint")
    again = compare(build, ONE, seeds=1, folder=tmp_path, executor=threads)
    assert without_times(again) == without_times(first)
    assert f"damaged: {begun}: not a whole checkpoint" in again.table()
    assert {p.name for p in tmp_path.iterdir()} == {path.name, f"{begun.name}.damaged"}
    assert "damaged" not in json.loads(path.read_text())


def test_a_run_that_cannot_be_read_is_not_the_end(tmp_path, threads):
    compare(build, ONE, seeds=1, folder=tmp_path, executor=threads)
    (path,) = tmp_path.glob("*.json")
    path.unlink()
    path.mkdir()
    result = compare(build, ONE, seeds=2, folder=tmp_path, executor=threads)
    assert list(result.runs) == [("sgd", 1)]
    assert "failed: sgd, seed 0: IsADirectoryError" in result.table()


def test_a_full_disk_is_reported_with_the_file(tmp_path, threads, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = compare(build, ONE, seeds=1, folder=tmp_path, executor=threads)
    assert "failed: sgd, seed 0: OSError" in result.table()
    assert "No space left on device: '" in result.table()
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import os, sys, time
from handgrad import compare
from handgrad.callbacks import Callback

sys.path.insert(0, {tests!r})
from test_compare import build

class Slow(Callback):
    def on_epoch_end(self, solver):
        os.write(1, b"begun\\n")
        time.sleep(60)

def slowly(seed):
    solver = build(seed)
    solver.callbacks.append(Slow())
    return solver

compare(slowly, {{"a": {{}}}}, 3, folder=sys.argv[1], progress=False)
"""


def test_two_comparisons_in_one_folder(tmp_path, threads):
    """The second is refused. When the first is killed, its processes end and give the folder free."""
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "begun\n"
            with pytest.raises(BlockingIOError, match="in use by another handgrad"):
                compare(build, ONE, seeds=1, folder=tmp_path, executor=threads)
        finally:
            first.kill()
        while first.stdout.read():  # until the last of its processes has ended
            pass
    result = compare(build, ONE, seeds=1, folder=tmp_path, executor=threads)
    assert list(result.runs) == [("sgd", 0)]


# ---------------------------------------------------------------------------- other machines


class DieOnce(Callback):
    """Kills its process in the third epoch, unless one has died so before; notes each epoch."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_epoch_end(self, solver):
        note = self.folder / f"{solver.seed}-{solver.epoch}"
        note.write_text(note.read_text() + "x" if note.exists() else "x")
        if solver.seed == 1 and note.name == "1-3" and note.read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)


def dying(seed, notes):
    importlib.import_module("handgrad.compare").SAVE_EVERY = 0.0  # in the worker's process
    solver = build(seed)
    solver.callbacks.append(DieOnce(notes))
    return solver


def test_a_lost_process_costs_its_run_the_last_minute_only(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    result = compare(dying, {"a": {"notes": str(notes)}}, 4, folder=tmp_path / "runs")
    whole = compare(build, {"a": {}}, 4, folder=tmp_path / "whole")
    assert result.failures == {}
    for key, run in whole.runs.items():
        assert result.runs[key]["loss_history"] == run["loss_history"]
    counts = {path.name: len(path.read_text()) for path in notes.iterdir()}
    assert counts == {f"{seed}-{epoch}": 1 for seed in range(4) for epoch in range(1, 5)} | {"1-3": 2}
    assert {path.suffix for path in (tmp_path / "runs").iterdir()} == {".json"}


class Elsewhere(concurrent.futures.ThreadPoolExecutor):
    """A machine that does not see the caller's disk: paths lead into a folder that is not there."""

    def __init__(self):
        super().__init__(1)

    def submit(self, function, build, seed, given, path, keep):
        return super().submit(function, build, seed, given, Path("/not there", path.name), keep)


def test_results_come_home_where_disks_are_not_shared(tmp_path, threads, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.setattr(importlib.import_module("handgrad.compare"), "SAVE_EVERY", 0.0)
    with Elsewhere() as far:
        there = compare(build, SETTINGS, 2, folder=tmp_path / "home", executor=far)
    CALLS.clear()
    home = compare(build, SETTINGS, 2, folder=tmp_path / "home", executor=threads)
    assert CALLS == []
    assert home.runs == there.runs
    assert list(elsewhere.iterdir()) == []


def test_an_unfinished_run_elsewhere_goes_on_there(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(importlib.import_module("handgrad.compare"), "SAVE_EVERY", 0.0)
    epochs = []

    def breaking(seed):
        solver = build(seed)
        solver.callbacks.append(lambda solver: epochs.append(solver.epoch))
        solver.callbacks.append(EarlyStopping(lambda solver: 1 / (len(epochs) - 2) and False))
        return solver

    with Elsewhere() as far:
        broken = compare(breaking, {"a": {}}, 1, folder=tmp_path / "home", executor=far)
        assert "ZeroDivisionError" in broken.failures["a", 0]
        done = compare(breaking, {"a": {}}, 1, folder=tmp_path / "home", executor=far)
    assert epochs == [1, 2, 2, 3, 4]
    assert list(done.runs) == [("a", 0)]


def test_a_relative_folder_is_the_callers(tmp_path, monkeypatch):
    """A worker on another machine has a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    given = []

    class Seen(Elsewhere):
        def submit(self, function, build, seed, given_, path, keep):
            given.append(path)
            return super().submit(function, build, seed, given_, path, keep)

    with Seen() as far:
        compare(build, ONE, 1, folder="runs", executor=far)
    assert given[0].parent == tmp_path / "runs"
