"""Event files, read back by TensorBoard's own reader."""

import sys

import numpy as np
import pytest
from handgrad import Solver
from handgrad.callbacks import Callback, TensorBoard
from handgrad.models import Affine, Net

pytest.importorskip("tensorboardX")
event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's reader


def curves(folder):
    """{name: [(step, number), ...]} of all event files in a folder."""
    reader = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    names = reader.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in reader.Scalars(name)] for name in names}


def solver_of(data, callbacks, **more):
    settings = dict(lr_decay=0.5, batch_size=30, num_epochs=3, verbose=False, seed=0) | more
    return Solver(Net([Affine(3)], 5, seed=0), data, callbacks=callbacks, **settings)


def close_to(values):
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in values]  # they are float32 there


def test_losses_by_step_and_the_rest_by_epoch(blobs, tmp_path):
    solver = solver_of(blobs, [TensorBoard(tmp_path / "runs" / "one")])
    solver.train()
    read = curves(tmp_path / "runs" / "one")
    assert sorted(read) == ["learning_rate", "loss", "train_acc", "val_acc"]
    assert read["loss"] == close_to(enumerate(solver.loss_history, 1))
    assert len(read["loss"]) == 12
    assert read["val_acc"] == close_to(zip((4, 8, 12), solver.val_acc_history[1:], strict=True))
    assert read["learning_rate"] == close_to([(4, 1e-2), (8, 5e-3), (12, 2.5e-3)])


def test_every_so_many_steps_and_no_validation(blobs, tmp_path):
    data = {key: blobs[key] for key in ("X_train", "y_train")}
    solver_of(data, [TensorBoard(tmp_path, every=5)]).train()
    read = curves(tmp_path)
    assert [step for step, _ in read["loss"]] == [1, 6, 11]
    assert "val_acc" not in read


def test_regression_has_its_own_measures(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5))
    data = {"X_train": X, "y_train": X[:, 0], "X_val": X[:9], "y_val": X[:9, 0]}
    model = Net([Affine(1)], 5, loss="mse", seed=0)
    solver = Solver(
        model, data, callbacks=[TensorBoard(tmp_path)], verbose=False, seed=0, batch_size=30
    )
    solver.train()
    read = curves(tmp_path)
    assert {"train_rmse", "val_rmse"} < set(read)
    assert read["val_rmse"][-1][1] == pytest.approx(solver.history[-1]["val_rmse"], rel=1e-6)


class StopAfter(Callback):
    """Breaks the training off after a step, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, solver):
        if solver.iteration == self.step:
            self.step = None
            raise KeyboardInterrupt


def test_a_resumed_run_goes_on_in_its_curves(blobs, tmp_path):
    """A run is killed in its second epoch and resumed from the checkpoint of the first: each step is in
    the curves once, with the loss of an uninterrupted run."""
    whole = solver_of(blobs, [])
    whole.train()
    name = tmp_path / "checkpoint"
    killed = solver_of(blobs, [TensorBoard(tmp_path / "a"), StopAfter(6)], checkpoint_name=name)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert [step for step, _ in curves(tmp_path / "a")["loss"]] == [1, 2, 3, 4, 5, 6]
    resumed = solver_of(blobs, [TensorBoard(tmp_path / "a")], checkpoint_name=name)
    resumed.load_checkpoint(f"{name}.npz")
    resumed.train()
    read = curves(tmp_path / "a")
    assert read["loss"] == close_to(enumerate(whole.loss_history, 1))
    assert [step for step, _ in read["train_acc"]] == [4, 8, 12]


def test_trained_on_after_ctrl_c(blobs, tmp_path):
    solver = solver_of(blobs, [TensorBoard(tmp_path), StopAfter(6)])
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    solver.train()
    solver.num_epochs = 4
    solver.train()
    assert curves(tmp_path)["loss"] == close_to(enumerate(solver.loss_history, 1))
    assert len(solver.loss_history) == 16


def test_what_is_written_is_on_the_disk_at_once(blobs, tmp_path):
    """A process that is killed loses nothing: another reads all while the training goes on."""
    seen = []
    read = lambda solver: seen.append([len(curves(tmp_path)[n]) for n in ("loss", "train_acc")])  # noqa: E731
    solver_of(blobs, [TensorBoard(tmp_path), read]).train()
    assert seen == [[4, 1], [8, 2], [12, 3]]


def test_every_prefix_of_a_file_is_readable(blobs, tmp_path):
    """What a full disk or a kill leaves of a file still gives the steps before."""
    solver_of(blobs, [TensorBoard(tmp_path / "a")]).train()
    (file,) = (tmp_path / "a").iterdir()
    raw = file.read_bytes()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / file.name).write_bytes(raw[: len(raw) // 2])
    kept = curves(tmp_path / "b")["loss"]
    assert 0 < len(kept) < 12
    assert kept == curves(tmp_path / "a")["loss"][: len(kept)]


@pytest.mark.parametrize("every", [0, -1, 2.5, "all", None])
def test_every_must_be_a_whole_number(tmp_path, every):
    with pytest.raises(
        ValueError, match=f"TensorBoard: every = {every!r}, expected a whole number from 1"
    ):
        TensorBoard(tmp_path, every)


def test_a_file_in_place_of_the_folder(blobs, tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError, match="a"):
        solver_of(blobs, [TensorBoard(tmp_path / "a")]).train()


def test_without_tensorboardx_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboardX.*'handgrad\[tensorboard\]'"):
        TensorBoard(tmp_path)
